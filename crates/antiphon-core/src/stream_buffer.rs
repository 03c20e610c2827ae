//! What has arrived on a stream and was not read yet: the buffer of a `StreamReader` and every rule about it.
//!
//! Chunks stay as they came. A read that takes exactly one of them gives that very chunk; every other read gives its parts,
//! for the caller to join in one copy. Small chunks that pile up are joined here, so the memory in use is a small multiple of
//! the bytes that wait, however finely they were cut.
//!
//! The reading methods never wait: [`Outcome::Wait`] says that the caller has to, and to ask again once more has arrived.
//!
//! ```
//! use antiphon_core::stream_buffer::{Outcome, Search, StreamBuffer};
//!
//! let mut buffer: StreamBuffer<Vec<u8>> = StreamBuffer::new(64);
//! let mut newline = Search::new(b"\n").unwrap();
//! buffer.feed(b"GET / HT".to_vec());
//! assert!(matches!(buffer.read_line(&mut newline), Outcome::Wait));
//! buffer.feed(b"TP/1.1\r\nHost:".to_vec());
//! let Outcome::Ready(line) = buffer.read_line(&mut newline) else { panic!() };
//! assert_eq!(line.to_vec(), b"GET / HTTP/1.1\r\n");
//! ```
//!
//! Source: CPython Lib/asyncio/streams.py (`StreamReader`).

mod search;
mod taken;

use std::collections::VecDeque;

pub use search::{EmptySeparator, Search};
pub use taken::Taken;
use taken::{Part, Piece};

/// Chunks below this size are joined with what came before them, if that is open for it.
const JOINED_BYTES: usize = 2 * 1024;
/// A piece made of joined chunks is closed at this size.
const PIECE_BYTES: usize = 16 * 1024;

/// What a read came to.
#[derive(Debug)]
pub enum Outcome<C> {
    /// The bytes, which the buffer no longer has.
    Ready(Taken<C>),
    /// They are not all there: wait until more is fed, or the end, and ask again.
    Wait,
    /// The stream ended before; this is all that was left, and the buffer no longer has it.
    Incomplete(Taken<C>),
    /// More than the limit came without a separator.
    Overrun(Overrun<C>),
}

/// `LimitOverrunError` as data.
#[derive(Debug)]
pub struct Overrun<C> {
    /// Whether the separator is there, too far away.
    pub found: bool,
    /// Bytes that precede the separator, or that can't be part of one.
    pub consumed: usize,
    /// What a read that skips the overlong part has dropped; nothing where the data stays to be read again.
    pub discarded: Taken<C>,
}

/// Bytes that were fed and not read yet, in order.
///
/// `C` is a chunk: cheap to clone, and its bytes never change.
///
/// ```
/// use antiphon_core::stream_buffer::{Outcome, Search, StreamBuffer};
///
/// let mut buffer = StreamBuffer::new(8);
/// let mut newline = Search::new("\n").unwrap();
/// buffer.feed("one\nt");
/// let Outcome::Ready(line) = buffer.read_line(&mut newline) else { panic!() };
/// assert_eq!(line.to_vec(), b"one\n");
/// assert!(matches!(buffer.read_line(&mut newline), Outcome::Wait));
/// buffer.feed("wo, and much more than that");
/// assert!(buffer.must_pause(), "more than twice the limit waits");
/// assert!(matches!(buffer.read_until(&mut newline), Outcome::Overrun(_)));
/// let Outcome::Ready(word) = buffer.read_exactly(3) else { panic!() };
/// assert_eq!(word.to_vec(), b"two");
/// buffer.set_ended(true);
/// let Outcome::Incomplete(rest) = buffer.read_exactly(1000) else { panic!() };
/// assert_eq!(rest.to_vec(), b", and much more than that");
/// assert!(buffer.is_at_end());
/// ```
#[derive(Debug)]
pub struct StreamBuffer<C> {
    pieces: VecDeque<Piece<C>>,
    /// Bytes of the first piece that were taken.
    taken_of_first: usize,
    len: usize,
    /// Bytes that were ever taken: a search sees by it that its place is another one.
    taken_in_all: u64,
    limit: usize,
    eof: bool,
    paused: bool,
}

impl<C: AsRef<[u8]> + Clone> StreamBuffer<C> {
    /// An empty buffer. `limit`, in bytes, bounds what precedes a separator; at twice the limit its source is asked to pause.
    pub fn new(limit: usize) -> Self {
        Self {
            pieces: VecDeque::new(),
            taken_of_first: 0,
            len: 0,
            taken_in_all: 0,
            limit,
            eof: false,
            paused: false,
        }
    }

    /// Bytes that wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none wait.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The limit in bytes.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Sets the limit.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Whether the end was fed.
    #[inline]
    pub fn is_ended(&self) -> bool {
        self.eof
    }

    /// Nothing more will come. `false` takes that back.
    pub fn set_ended(&mut self, ended: bool) {
        self.eof = ended;
    }

    /// Whether the end was fed and everything before it read.
    #[inline]
    pub fn is_at_end(&self) -> bool {
        self.eof && self.len == 0
    }

    /// The bytes that wait, in order.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let mut skipped = self.taken_of_first;
        self.pieces.iter().map(move |piece| &piece.bytes()[std::mem::take(&mut skipped)..])
    }

    /// Appends a chunk. One whose bytes were copied comes back, for the caller to drop.
    #[inline]
    pub fn feed(&mut self, chunk: C) -> Option<C> {
        let len = chunk.as_ref().len();
        if len == 0 || self.append(chunk.as_ref()) {
            return Some(chunk);
        }
        self.len += len;
        self.pieces.push_back(Piece::Chunk(chunk));
        None
    }

    /// Appends a copy of `bytes` where that is better than a chunk of their own, and says whether it did.
    #[inline]
    pub fn append(&mut self, bytes: &[u8]) -> bool {
        if self.len == 0 || bytes.len() >= JOINED_BYTES {
            return false;
        }
        match self.pieces.back_mut() {
            Some(Piece::Joined(joined)) if joined.len() + bytes.len() <= PIECE_BYTES => {
                joined.extend_from_slice(bytes);
            }
            _ => self.pieces.push_back(Piece::Joined(bytes.to_vec())),
        }
        self.len += bytes.len();
        true
    }

    /// Whether the source was asked to pause.
    #[inline]
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Notes that the source was asked to pause, or to go on.
    pub fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Whether so much waits that the source is to be asked to pause.
    #[inline]
    pub fn must_pause(&self) -> bool {
        !self.paused && self.len > self.limit.saturating_mul(2)
    }

    /// True once when so much was read that a paused source is to go on.
    #[inline]
    pub fn must_resume(&mut self) -> bool {
        self.paused && self.len <= self.limit && std::mem::take(&mut self.paused)
    }

    /// True once when somebody is about to wait for a paused source, which would be for ever.
    #[inline]
    pub fn must_resume_to_wait(&mut self) -> bool {
        std::mem::take(&mut self.paused)
    }

    /// Takes `count` bytes, or all if there are fewer.
    pub fn take(&mut self, count: usize) -> Taken<C> {
        let mut left = count.min(self.len);
        self.len -= left;
        self.taken_in_all = self.taken_in_all.wrapping_add(left as u64);
        let mut taken = Taken::new();
        while left > 0 {
            let start = self.taken_of_first;
            let Some(first) = self.pieces.front() else {
                debug_assert!(false, "the pieces hold as many bytes as were counted");
                break;
            };
            let of_first = first.bytes().len() - start;
            if left < of_first {
                taken.push(first.part(start, start + left));
                self.taken_of_first += left;
                break;
            }
            left -= of_first;
            self.taken_of_first = 0;
            if let Some(first) = self.pieces.pop_front() {
                taken.push(Part::rest_of(first, start));
            }
        }
        taken
    }

    /// Takes everything.
    pub fn take_all(&mut self) -> Taken<C> {
        self.take(self.len)
    }

    /// At most `most` bytes, as soon as there are any; none at the end.
    #[inline]
    pub fn read(&mut self, most: usize) -> Outcome<C> {
        if self.len == 0 && !self.eof { Outcome::Wait } else { Outcome::Ready(self.take(most)) }
    }

    /// Exactly `count` bytes.
    #[inline]
    pub fn read_exactly(&mut self, count: usize) -> Outcome<C> {
        if self.len >= count {
            Outcome::Ready(self.take(count))
        } else if self.eof {
            Outcome::Incomplete(self.take_all())
        } else {
            Outcome::Wait
        }
    }

    /// Everything up to a separator and the separator itself. The search belongs to this one read: it remembers, over any
    /// number of calls, what it has looked through.
    pub fn read_until<S: AsRef<[u8]>>(&mut self, search: &mut Search<S>) -> Outcome<C> {
        if let Some((start, end)) = search.look(self) {
            if start > self.limit {
                return Outcome::Overrun(Overrun { found: true, consumed: start, discarded: Taken::new() });
            }
            return Outcome::Ready(self.take(end));
        }
        let consumed = (self.len + 1).saturating_sub(search.longest());
        if consumed > self.limit {
            Outcome::Overrun(Overrun { found: false, consumed, discarded: Taken::new() })
        } else if self.eof {
            Outcome::Incomplete(self.take_all())
        } else {
            Outcome::Wait
        }
    }

    /// A line, its newline included, or what is left at the end. One that is too long is dropped as far as it has come.
    pub fn read_line<S: AsRef<[u8]>>(&mut self, search: &mut Search<S>) -> Outcome<C> {
        match self.read_until(search) {
            Outcome::Incomplete(rest) => Outcome::Ready(rest),
            Outcome::Overrun(overrun) => {
                let dropped = if overrun.found { overrun.consumed + search.longest() } else { self.len };
                Outcome::Overrun(Overrun { discarded: self.take(dropped), ..overrun })
            }
            outcome => outcome,
        }
    }
}
