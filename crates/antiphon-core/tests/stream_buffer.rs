//! The stream buffer beside a plain model of it: one vector of bytes, and asyncio's own loops over that.
//!
//! Source: CPython Lib/asyncio/streams.py, 3.13.

use antiphon_core::stream_buffer::{Outcome, Search, StreamBuffer};
use proptest::prelude::*;

/// What a read came to, in either.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Ready(Vec<u8>),
    Wait,
    Incomplete(Vec<u8>),
    Overrun { found: bool, consumed: usize },
}

fn seen<C: AsRef<[u8]> + Clone>(outcome: Outcome<C>) -> Seen {
    match outcome {
        Outcome::Ready(taken) => Seen::Ready(taken.to_vec()),
        Outcome::Wait => Seen::Wait,
        Outcome::Incomplete(taken) => Seen::Incomplete(taken.to_vec()),
        Outcome::Overrun(overrun) => Seen::Overrun { found: overrun.found, consumed: overrun.consumed },
    }
}

/// asyncio's reader, as slow as it can be.
struct Model {
    bytes: Vec<u8>,
    limit: usize,
    eof: bool,
    paused: bool,
}

impl Model {
    fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit, eof: false, paused: false }
    }

    fn feed(&mut self, bytes: &[u8]) -> bool {
        self.bytes.extend_from_slice(bytes);
        if !bytes.is_empty() && !self.paused && self.bytes.len() > 2 * self.limit {
            self.paused = true;
            return true;
        }
        false
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let count = count.min(self.bytes.len());
        self.bytes.drain(..count).collect()
    }

    fn read(&mut self, most: usize) -> Seen {
        if self.bytes.is_empty() && !self.eof { Seen::Wait } else { Seen::Ready(self.take(most)) }
    }

    fn read_exactly(&mut self, count: usize) -> Seen {
        if self.bytes.len() >= count {
            Seen::Ready(self.take(count))
        } else if self.eof {
            Seen::Incomplete(self.take(usize::MAX))
        } else {
            Seen::Wait
        }
    }

    fn find(&self, separator: &[u8], offset: usize) -> Option<usize> {
        (offset..=self.bytes.len().checked_sub(separator.len())?)
            .find(|start| self.bytes[*start..].starts_with(separator))
    }

    /// One round of `readuntil`'s loop; `offset` is its variable of that name.
    fn read_until(&mut self, separators: &[Vec<u8>], offset: &mut usize) -> Seen {
        let mut separators = separators.to_vec();
        separators.sort_by_key(Vec::len);
        let (shortest, longest) = (separators[0].len(), separators[separators.len() - 1].len());
        if self.bytes.len() >= *offset + shortest {
            let mut best: Option<(usize, usize)> = None;
            for separator in &separators {
                if let Some(start) = self.find(separator, *offset) {
                    let end = start + separator.len();
                    if best.is_none_or(|(_, other)| end < other) {
                        best = Some((start, end));
                    }
                }
            }
            if let Some((start, end)) = best {
                if start > self.limit {
                    return Seen::Overrun { found: true, consumed: start };
                }
                return Seen::Ready(self.take(end));
            }
            *offset = (self.bytes.len() + 1).saturating_sub(longest);
            if *offset > self.limit {
                return Seen::Overrun { found: false, consumed: *offset };
            }
        }
        if self.eof { Seen::Incomplete(self.take(usize::MAX)) } else { Seen::Wait }
    }

    fn read_line(&mut self, offset: &mut usize) -> Seen {
        match self.read_until(&[b"\n".to_vec()], offset) {
            Seen::Incomplete(rest) => Seen::Ready(rest),
            Seen::Overrun { found, consumed } => {
                if self.bytes[consumed..].starts_with(b"\n") {
                    self.take(consumed + 1);
                } else {
                    self.bytes.clear();
                }
                Seen::Overrun { found, consumed }
            }
            other => other,
        }
    }
}

#[derive(Debug, Clone)]
enum Call {
    Read(usize),
    Exactly(usize),
    Until(Vec<Vec<u8>>),
    Line,
}

#[derive(Debug, Clone)]
enum Event {
    Feed(Vec<u8>),
    End,
    Call(Call),
}

/// Few letters, so that separators overlap each other and themselves.
fn letters(longest: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(b"ab\n".to_vec()), 0..longest)
}

fn calls() -> impl Strategy<Value = Call> {
    let separator = prop::collection::vec(prop::sample::select(b"ab\n".to_vec()), 1..6);
    prop_oneof![
        (1usize..40).prop_map(Call::Read),
        (1usize..60).prop_map(Call::Exactly),
        prop::collection::vec(separator, 1..4).prop_map(Call::Until),
        Just(Call::Line),
    ]
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => letters(12).prop_map(Event::Feed),
        1 => Just(Event::End),
        5 => calls().prop_map(Event::Call),
    ];
    prop::collection::vec(event, 0..60)
}

/// A call under way, in both.
struct Pending {
    call: Call,
    search: Search<Vec<u8>>,
    offset: usize,
}

impl Pending {
    fn new(call: Call) -> Self {
        let search = match &call {
            Call::Until(separators) => Search::any(separators.clone()).unwrap().unwrap(),
            _ => Search::new(b"\n".to_vec()).unwrap(),
        };
        Self { call, search, offset: 0 }
    }

    fn step(&mut self, buffer: &mut StreamBuffer<Vec<u8>>, model: &mut Model) -> (Seen, Seen) {
        match &self.call {
            Call::Read(most) => (seen(buffer.read(*most)), model.read(*most)),
            Call::Exactly(count) => (seen(buffer.read_exactly(*count)), model.read_exactly(*count)),
            Call::Until(separators) => {
                (seen(buffer.read_until(&mut self.search)), model.read_until(separators, &mut self.offset))
            }
            Call::Line => (seen(buffer.read_line(&mut self.search)), model.read_line(&mut self.offset)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Any history of feeding and reading gives what asyncio's reader gives, and asks for the same pauses.
    #[test]
    fn histories_agree_with_the_model(limit in 1usize..20, events in events()) {
        let mut buffer: StreamBuffer<Vec<u8>> = StreamBuffer::new(limit);
        let mut model = Model::new(limit);
        let mut pending: Option<Pending> = None;
        for event in events {
            match event {
                Event::Feed(bytes) => {
                    if model.eof { continue; }
                    let paused = model.feed(&bytes);
                    let was_empty = bytes.is_empty();
                    drop(buffer.feed(bytes));
                    prop_assert_eq!(buffer.must_pause() && !was_empty, paused);
                    if paused { buffer.set_paused(true); }
                }
                Event::End => { model.eof = true; buffer.set_ended(true); }
                Event::Call(call) => {
                    if pending.is_none() { pending = Some(Pending::new(call)); }
                }
            }
            if let Some(mut call) = pending.take() {
                let (ours, theirs) = call.step(&mut buffer, &mut model);
                prop_assert_eq!(&ours, &theirs);
                if ours == Seen::Wait {
                    prop_assert_eq!(buffer.must_resume_to_wait(), std::mem::take(&mut model.paused));
                    pending = Some(call);
                } else {
                    let resumes = model.paused && model.bytes.len() <= model.limit;
                    model.paused &= !resumes;
                    prop_assert_eq!(buffer.must_resume(), resumes);
                }
            }
            prop_assert_eq!(buffer.parts().flatten().copied().collect::<Vec<_>>(), model.bytes.clone());
            prop_assert_eq!(buffer.len(), model.bytes.len());
            prop_assert_eq!(buffer.is_at_end(), model.eof && model.bytes.is_empty());
        }
    }

    /// However finely data is cut, it does not take much more memory than it has bytes.
    #[test]
    fn pieces_are_few(cuts in prop::collection::vec(1usize..3000, 1..300)) {
        let mut buffer: StreamBuffer<Vec<u8>> = StreamBuffer::new(1 << 20);
        let mut len = 0;
        for cut in cuts {
            drop(buffer.feed(vec![b'x'; cut]));
            len += cut;
        }
        prop_assert_eq!(buffer.len(), len);
        prop_assert!(buffer.parts().count() <= 3 + 2 * len / 2048, "{} for {len}", buffer.parts().count());
    }
}

/// Every way to cut a text in three gives the same lines, words and errors.
#[test]
fn every_split_gives_the_same() {
    let text = b"aab\r\n\r\r\n--aa--aab\r\naaaab";
    let separators: [&[&[u8]]; 6] =
        [&[b"\n"], &[b"\r\n"], &[b"\r\n\r\r\n"], &[b"aab", b"ab"], &[b"--aab", b"-a", b"\r"], &[b"aaab"]];
    for separators in separators {
        let whole = split_by(&[text], separators);
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let pieces = [&text[..first], &text[first..second], &text[second..]];
                assert_eq!(
                    split_by(&pieces, separators),
                    whole,
                    "{separators:?} cut at {first} and {second}"
                );
            }
        }
    }
}

fn split_by(pieces: &[&[u8]], separators: &[&[u8]]) -> Vec<Seen> {
    let mut buffer: StreamBuffer<Vec<u8>> = StreamBuffer::new(64);
    let mut results = Vec::new();
    let mut pieces = pieces.iter();
    loop {
        let mut search = Search::any(separators.iter().copied()).unwrap().unwrap();
        loop {
            match seen(buffer.read_until(&mut search)) {
                Seen::Wait => match pieces.next() {
                    Some(piece) => drop(buffer.feed(piece.to_vec())),
                    None => buffer.set_ended(true),
                },
                Seen::Incomplete(rest) => {
                    results.push(Seen::Incomplete(rest));
                    return results;
                }
                other => {
                    results.push(other);
                    break;
                }
            }
        }
    }
}

/// A chunk whose copies can be told from it.
#[derive(Clone, Debug)]
struct Counted(std::rc::Rc<Vec<u8>>);

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[test]
fn a_read_of_all_that_came_gives_the_chunk_itself() {
    let mut buffer = StreamBuffer::new(64);
    let chunk = Counted(std::rc::Rc::new(b"whole".to_vec()));
    assert!(buffer.feed(chunk.clone()).is_none());
    let Outcome::Ready(taken) = buffer.read(100) else { panic!("there is data") };
    assert!(std::rc::Rc::ptr_eq(&taken.into_chunk().expect("one chunk, whole").0, &chunk.0));
    drop(buffer.feed(chunk.clone()));
    let Outcome::Ready(taken) = buffer.read_exactly(2) else { panic!("there is data") };
    assert_eq!(taken.into_chunk().expect_err("part of a chunk").to_vec(), b"wh");
    let Outcome::Ready(taken) = buffer.read_exactly(3) else { panic!("there is data") };
    assert_eq!(taken.into_chunk().expect_err("the other part").to_vec(), b"ole");
    assert_eq!(std::rc::Rc::strong_count(&chunk.0), 1);
}

#[test]
fn a_copied_chunk_comes_back() {
    let mut buffer = StreamBuffer::new(64);
    assert!(buffer.feed(b"a".to_vec()).is_none());
    assert_eq!(buffer.feed(b"b".to_vec()), Some(b"b".to_vec()));
    assert_eq!(buffer.feed(Vec::new()), Some(Vec::new()));
    assert!(buffer.append(b"c"));
    assert!(!buffer.append(&[0; 4096]), "large chunks stay as they are");
    assert_eq!(buffer.take_all().to_vec(), b"abc");
    assert!(!buffer.append(b"d"), "the first chunk may be read whole");
}

/// The search goes on where it stopped: bytes that were looked through are not looked at again.
#[test]
fn a_search_in_many_small_chunks_is_linear() {
    #[derive(Clone)]
    struct Watched<'a>(&'a [u8], &'a std::cell::Cell<usize>);
    impl AsRef<[u8]> for Watched<'_> {
        fn as_ref(&self) -> &[u8] {
            self.1.set(self.1.get() + 1);
            self.0
        }
    }
    let looks = std::cell::Cell::new(0);
    let bytes = [b'-'; 3000];
    let mut search = Search::new([b'-'; 3000 * 32 + 1]).expect("not empty");
    let mut buffer = StreamBuffer::new(usize::MAX);
    for _ in 0..32 {
        let _ = buffer.feed(Watched(&bytes, &looks));
        assert!(matches!(buffer.read_until(&mut search), Outcome::Wait));
    }
    // Each piece is asked for its bytes a few times in each round (to skip it), never read again.
    assert!(looks.get() < 32 * 32 * 2, "{}", looks.get());
    let _ = buffer.feed(Watched(b"-", &looks));
    assert!(matches!(buffer.read_until(&mut search), Outcome::Ready(_)));
}

/// Who reads in another's wait changes where that one's search is.
#[test]
fn a_search_starts_over_when_somebody_else_has_read() {
    let mut buffer: StreamBuffer<Vec<u8>> = StreamBuffer::new(64);
    let mut search = Search::new(b"end").expect("not empty");
    drop(buffer.feed(b"some text, en".to_vec()));
    assert!(matches!(buffer.read_until(&mut search), Outcome::Wait));
    let _ = buffer.read_exactly(13);
    drop(buffer.feed(b"d and the end".to_vec()));
    let Outcome::Ready(taken) = buffer.read_until(&mut search) else { panic!("it is there") };
    assert_eq!(taken.to_vec(), b"d and the end");
}

#[test]
fn separators_need_bytes() {
    assert!(Search::new(b"").is_err());
    assert!(Search::<&[u8]>::any([&b"a"[..], b""]).is_err());
    assert!(Search::<&[u8]>::any([]).expect("none of them is empty").is_none());
}
