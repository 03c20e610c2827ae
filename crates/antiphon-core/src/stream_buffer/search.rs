//! The search for separators in bytes that arrive bit by bit.
//!
//! Every byte is looked at once for each separator, also where one is cut in two by the ends of chunks or begins inside of a
//! vain attempt: the matcher of Knuth, Morris and Pratt carries its place over the cut.
//!
//! Source: Knuth, Morris, Pratt, "Fast Pattern Matching in Strings", SIAM J. Comput. 6 (1977).

use super::StreamBuffer;

/// A separator without bytes, which every position would match.
#[derive(Debug, Copy, Clone, Eq, PartialEq)]
pub struct EmptySeparator;

/// One separator, and how much of it the bytes looked at so far end with.
#[derive(Debug, Clone)]
struct Matcher<S> {
    separator: S,
    /// For each length that may match: the length of the longest shorter beginning that also is its end. Empty for separators
    /// of one byte.
    shorter: Vec<usize>,
    matched: usize,
}

/// The search for the first of some separators during one read.
///
/// ```
/// use antiphon_core::stream_buffer::{Outcome, Search, StreamBuffer};
///
/// let mut buffer = StreamBuffer::new(100);
/// buffer.feed("one;two\n");
/// let mut either = Search::any(["\n", ";"]).unwrap().unwrap();
/// let Outcome::Ready(first) = buffer.read_until(&mut either) else { panic!() };
/// assert_eq!(first.to_vec(), b"one;");
/// assert!(Search::new("").is_err(), "a separator has bytes");
/// ```
#[derive(Debug, Clone)]
pub struct Search<S> {
    /// The shortest; of two that end at the same byte, it is the one that matched.
    first: Matcher<S>,
    /// The others, the shorter ones first.
    others: Vec<Matcher<S>>,
    /// Bytes looked through from the buffer's beginning on.
    scanned: usize,
    /// How many bytes had been taken from the buffer then.
    taken_in_all: u64,
}

impl<S: AsRef<[u8]>> Matcher<S> {
    fn new(separator: S) -> Result<Self, EmptySeparator> {
        let bytes = separator.as_ref();
        if bytes.is_empty() {
            return Err(EmptySeparator);
        }
        let shorter = if bytes.len() == 1 { Vec::new() } else { borders(bytes) };
        Ok(Self { separator, shorter, matched: 0 })
    }

    fn len(&self) -> usize {
        self.separator.as_ref().len()
    }

    /// Goes on with `bytes`; where in them the first match ends.
    fn scan(&mut self, bytes: &[u8]) -> Option<usize> {
        let separator = self.separator.as_ref();
        if separator.len() == 1 {
            return position(bytes, separator[0]).map(|place| place + 1);
        }
        let mut place = 0;
        while place < bytes.len() {
            if self.matched == 0 {
                place += position(&bytes[place..], separator[0])?;
                self.matched = 1;
                place += 1;
                continue;
            }
            while self.matched > 0 && separator[self.matched] != bytes[place] {
                self.matched = self.shorter[self.matched];
            }
            if separator[self.matched] == bytes[place] {
                self.matched += 1;
            }
            place += 1;
            if self.matched == separator.len() {
                return Some(place);
            }
        }
        None
    }
}

/// For each length of a beginning of `pattern`: the longest shorter beginning that also ends it.
fn borders(pattern: &[u8]) -> Vec<usize> {
    let mut borders = vec![0; pattern.len()];
    let mut border = 0;
    for len in 1..pattern.len() - 1 {
        while border > 0 && pattern[border] != pattern[len] {
            border = borders[border];
        }
        if pattern[border] == pattern[len] {
            border += 1;
        }
        borders[len + 1] = border;
    }
    borders
}

/// Where `wanted` is first. The standard library keeps its own search to itself; the compiler makes vector instructions of
/// comparisons of whole blocks.
fn position(bytes: &[u8], wanted: u8) -> Option<usize> {
    const BLOCK: usize = 32;
    let blocks = bytes.chunks_exact(BLOCK);
    let rest = blocks.remainder();
    for (index, block) in blocks.enumerate() {
        if block.iter().fold(false, |found, byte| found | (*byte == wanted)) {
            return block.iter().position(|byte| *byte == wanted).map(|place| index * BLOCK + place);
        }
    }
    rest.iter().position(|byte| *byte == wanted).map(|place| bytes.len() - rest.len() + place)
}

impl<S: AsRef<[u8]>> Search<S> {
    /// A search for one separator.
    ///
    /// # Errors
    /// It has no bytes.
    pub fn new(separator: S) -> Result<Self, EmptySeparator> {
        Ok(Self { first: Matcher::new(separator)?, others: Vec::new(), scanned: 0, taken_in_all: 0 })
    }

    /// A search for whichever of `separators` ends first; `None` if there are none.
    ///
    /// # Errors
    /// One of them has no bytes.
    pub fn any(separators: impl IntoIterator<Item = S>) -> Result<Option<Self>, EmptySeparator> {
        let mut matchers = separators.into_iter().map(Matcher::new).collect::<Result<Vec<_>, _>>()?;
        matchers.sort_by_key(Matcher::len);
        let mut matchers = matchers.into_iter();
        Ok(matchers.next().map(|first| Self {
            first,
            others: matchers.collect(),
            scanned: 0,
            taken_in_all: 0,
        }))
    }

    /// The longest separator's length.
    pub(super) fn longest(&self) -> usize {
        self.others.last().unwrap_or(&self.first).len()
    }

    /// Looks through what has arrived since the last time; where the first match begins and ends.
    pub(super) fn look<C: AsRef<[u8]> + Clone>(
        &mut self,
        buffer: &StreamBuffer<C>,
    ) -> Option<(usize, usize)> {
        if self.taken_in_all != buffer.taken_in_all || self.scanned > buffer.len {
            self.start_over(buffer.taken_in_all);
        }
        let mut skipped = self.scanned;
        for part in buffer.parts() {
            if skipped >= part.len() {
                skipped -= part.len();
                continue;
            }
            let fresh = &part[std::mem::take(&mut skipped)..];
            if let Some((len, end)) = self.scan(fresh) {
                let end = self.scanned + end;
                // Asked again, the same data gives the same answer.
                self.start_over(buffer.taken_in_all);
                return Some((end - len, end));
            }
            self.scanned += fresh.len();
        }
        None
    }

    /// Somebody else has read meanwhile, or this is the beginning.
    fn start_over(&mut self, taken_in_all: u64) {
        self.scanned = 0;
        self.taken_in_all = taken_in_all;
        self.first.matched = 0;
        self.others.iter_mut().for_each(|matcher| matcher.matched = 0);
    }

    /// The length of the separator that matched first, and where in `bytes` it ends.
    fn scan(&mut self, bytes: &[u8]) -> Option<(usize, usize)> {
        let mut found = None;
        let mut within = bytes;
        for matcher in std::iter::once(&mut self.first).chain(&mut self.others) {
            if let Some(end) = matcher.scan(within) {
                found = Some((matcher.len(), end));
                // The next ones have to end before this.
                within = &bytes[..end - 1];
            }
        }
        found
    }
}
