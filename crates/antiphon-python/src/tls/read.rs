//! Reading: records in, plaintext to the protocol.
//!
//! All records that are whole are opened in one round, straight into the object that the protocol gets: a `bytes` of the
//! right size, or the buffer of a `BufferedProtocol`.
//!
//! Source: CPython Lib/asyncio/sslproto.py (`buffer_updated`, `_do_read`, `_control_ssl_reading`).

use super::session::Outcome;
use super::transport::{Phase, Tls, TlsRef};
use crate::ffi::raise;
use crate::ffi::{Instance, NewBytes, Owned, Raised, Result, call};
use crate::names::names;
use crate::streams::feed::StreamsRef;
use crate::transport::protocol::Receiver;
use crate::transport::queue::bytes_of;
use crate::transport::read::Buffer;
use crate::transport::stream::{is, set};
use crate::work::{Kind, Work};

/// Answers of the TLS layer itself (alerts, key updates, handshakes of a renegotiation) that may wait for a peer that does
/// not read; beyond, nothing is read from it either. Data never comes near: one batch of it is smaller.
const MOST_UNSENT_BYTES: usize = 256 * 1024;

const FAILED: &str = "Fatal error on SSL protocol";

/// How a round of reading ended.
enum Round {
    /// All that is whole was read.
    Dry,
    /// There is more; go on at once.
    More,
    /// There is more; go on in the next turn.
    Later,
    /// The peer has said goodbye.
    Goodbye,
    /// OpenSSL or the protocol failed.
    Failed(Owned),
}

impl Instance<Tls> {
    /// Bytes of the network; [`Self::received`] follows.
    #[inline]
    pub fn feed(&self, bytes: &[u8]) -> Result<()> {
        if self.phase() == Phase::Unwrapped {
            return Ok(());
        }
        self.records.with(|records| records.arrived(bytes));
        match self.session.feed(bytes) {
            Ok(()) => Ok(()),
            Err(Raised) => self.raised(FAILED),
        }
    }

    /// Goes on with whatever waits for bytes of the peer.
    #[inline]
    pub fn received(&self) -> Result<()> {
        if is(&self.flags.delivering) {
            return Ok(());
        }
        match self.phase() {
            Phase::Handshake => self.do_handshake(),
            Phase::Shutdown => self.do_shutdown(),
            _ => self.go_on(),
        }
    }

    /// Data goes on, or its end.
    pub fn go_on(&self) -> Result<()> {
        match self.phase() {
            Phase::Wrapped => self.read_and_deliver(),
            Phase::Flushing => self.flush_and_shut_down(),
            _ => Ok(()),
        }
    }

    /// Delivers what has arrived, then sends what was written.
    #[inline]
    pub fn read_and_deliver(&self) -> Result<()> {
        if is(&self.flags.delivering) {
            return Ok(());
        }
        let end = self.deliver()?;
        match end {
            Round::Goodbye => self.goodbye_received()?,
            Round::Failed(exception) => {
                // The alert that tells the peer why, if OpenSSL has one.
                set(&self.flags.outgoing, true);
                self.pump()?;
                self.fatal_error(exception, FAILED)?;
            }
            Round::Later => self.queue_reading(),
            Round::Dry | Round::More => {}
        }
        self.pump()?;
        self.control_lower_reading()?;
        // The protocol may have closed while it was called.
        self.shut_down_if_flushed()
    }

    fn deliver(&self) -> Result<Round> {
        loop {
            let readable = matches!(self.phase(), Phase::Wrapped | Phase::Flushing)
                && !is(&self.flags.reading_paused)
                && !is(&self.flags.goodbye_received)
                && self.records.with(|records| records.may_be_read());
            let Some(receiver) = self.receiver().filter(|_| readable) else {
                return Ok(Round::Dry);
            };
            set(&self.flags.delivering, true);
            let round = match &receiver {
                Receiver::Data(method) => self.deliver_data(method),
                Receiver::Streams(streams) => self.deliver_to_streams(streams),
                Receiver::Missing => self.deliver_to_missing(),
                Receiver::Buffered { get_buffer, buffer_updated } => {
                    self.deliver_buffered(get_buffer, buffer_updated)
                }
                Receiver::Layer(upper) => self.deliver_to_layer(upper),
            };
            set(&self.flags.delivering, false);
            match round {
                Ok(Round::More) => {}
                Ok(round) => return Ok(round),
                // What leaves the loop is told apart by whoever ends the connection.
                Err(Raised) => {
                    return Ok(Round::Failed(raise::take().unwrap_or_else(Owned::none)));
                }
            }
        }
    }

    fn deliver_data(&self, method: &Owned) -> Result<Round> {
        let (data, round) = self.open_records()?;
        if let Some(data) = data {
            self.in_context(|| call(method, [&data]))?;
        }
        Ok(round)
    }

    /// Feeds a `StreamReader`.
    fn deliver_to_streams(&self, streams: &StreamsRef) -> Result<Round> {
        let (data, round) = self.open_records()?;
        if let Some(data) = data {
            streams.data_received(&data)?;
        }
        Ok(round)
    }

    /// The protocol had no `data_received` when it was set: it gets one more chance.
    #[cold]
    fn deliver_to_missing(&self) -> Result<Round> {
        let Some(protocol) = self.protocol_object() else {
            return Ok(Round::Dry);
        };
        self.deliver_data(&protocol.attr(&names().data_received)?)
    }

    fn deliver_to_layer(&self, upper: &TlsRef) -> Result<Round> {
        let (data, round) = self.open_records()?;
        if let Some(data) = data {
            upper.feed(bytes_of(&data))?;
            upper.received()?;
        }
        Ok(round)
    }

    /// Opens the only whole record, as a `bytes` object that OpenSSL's side makes.
    fn open_one(&self) -> Result<(Option<Owned>, Round)> {
        let room = self.records.with(|records| records.plain_bytes_at_most());
        let data = match self.session.read(room) {
            Outcome::Done(data) => data,
            Outcome::Again => return Ok((None, self.nothing_left())),
            Outcome::Failed(exception) => return Ok((None, Round::Failed(exception))),
        };
        let filled = bytes_of(&data).len();
        if filled == 0 {
            return Ok((None, Round::Goodbye));
        }
        if filled == room {
            return Ok((Some(data), self.full(0)));
        }
        self.records.with(|records| records.read(1));
        Ok((Some(data), Round::Dry))
    }

    /// Opens all whole records into one `bytes` object; `None` if they carry no data.
    fn open_records(&self) -> Result<(Option<Owned>, Round)> {
        if self.records.with(|records| records.whole()) == Some(1) {
            return self.open_one();
        }
        let data = NewBytes::with_room(self.records.with(|records| records.plain_bytes_at_most()))?;
        // SAFETY: the memory is ours alone, and `filled` bytes of it are written.
        let (data, filled, round) = unsafe {
            let (filled, round) = self.fill(data.start(), data.room());
            (data.finish(filled)?, filled, round)
        };
        Ok((if filled > 0 { Some(data) } else { None }, round))
    }

    /// Reads plaintext into the `room` bytes from `start` on until they are full or nothing whole is left.
    /// # Safety
    /// The memory is writable, and the caller's alone, during the call.
    unsafe fn fill(&self, start: *mut u8, room: usize) -> (usize, Round) {
        let whole = self.records.with(|records| records.whole());
        let (mut filled, mut count) = (0, 0);
        let round = loop {
            // SAFETY: within the caller's memory.
            match unsafe { self.session.read_into(start.add(filled), room - filled) } {
                Outcome::Done(0) => break Round::Goodbye,
                Outcome::Done(len) => {
                    filled += len;
                    if filled == room {
                        return (filled, self.full(count));
                    }
                    count += 1;
                    if whole == Some(count) {
                        break Round::Dry;
                    }
                }
                Outcome::Again => return (filled, self.nothing_left()),
                Outcome::Failed(exception) => break Round::Failed(exception),
            }
        };
        self.records.with(|records| records.read(count));
        (filled, round)
    }

    /// OpenSSL has opened all that was whole, and something that is no data, which may ask for an answer.
    fn nothing_left(&self) -> Round {
        set(&self.flags.outgoing, true);
        self.records.with(|records| records.all_read());
        Round::Dry
    }

    /// The room is full; `count` records were read to their ends, and one more perhaps not.
    fn full(&self, count: usize) -> Round {
        let left = match self.session.pending() {
            Ok(left) => left,
            Err(Raised) => {
                return Round::Failed(raise::take().unwrap_or_else(Owned::none));
            }
        };
        self.records.with(|records| {
            records.read(count + 1);
            if left > 0 {
                records.left_over(left);
            }
            if records.may_be_read() { Round::More } else { Round::Dry }
        })
    }

    fn deliver_buffered(&self, get_buffer: &Owned, buffer_updated: &Owned) -> Result<Round> {
        let hint = Owned::int(self.records.with(|records| records.plain_bytes_at_most()) as i64)?;
        let object = self.in_context(|| call(get_buffer, [&hint]))?;
        let buffer = Buffer::writable(&object)?;
        if buffer.len() == 0 {
            return Err(raise::runtime_error("get_buffer() returned an empty buffer"));
        }
        // SAFETY: the view holds the memory, which its owner has lent for this.
        let (filled, round) = unsafe { self.fill(buffer.start(), buffer.len()) };
        drop(buffer);
        if filled > 0 {
            let count = Owned::int(filled as i64)?;
            self.in_context(|| call(buffer_updated, [&count]))?;
        }
        // One buffer a turn, so that a small one does not keep the loop.
        Ok(if matches!(round, Round::More) { Round::Later } else { round })
    }

    /// Another round of reading in the next turn.
    pub fn queue_reading(&self) {
        if !is(&self.flags.reading_queued) {
            set(&self.flags.reading_queued, true);
            self.owner().push(Work::new(Kind::Readable, self.owned()));
        }
    }

    /// The work item of [`Self::queue_reading`].
    pub fn on_reading_queued(&self) -> Result<()> {
        set(&self.flags.reading_queued, false);
        self.received()
    }

    /// `pause_reading()`.
    pub fn pause_reading(&self) -> Result<()> {
        set(&self.flags.reading_paused, true);
        Ok(())
    }

    /// `resume_reading()`.
    pub fn resume_reading(&self) -> Result<()> {
        if is(&self.flags.reading_paused) {
            set(&self.flags.reading_paused, false);
            if self.phase() >= Phase::Wrapped {
                self.queue_reading();
            }
        }
        Ok(())
    }

    /// Stops the transport below while too much waits for the protocol, or for a peer that does not read.
    pub fn control_lower_reading(&self) -> Result<()> {
        let unread = self.records.with(|records| records.unread_bytes());
        let _ = self.incoming.must_pause(unread) || self.incoming.must_resume(unread);
        let Some(lower) = self.lower() else {
            return Ok(());
        };
        let pause = self.incoming.is_paused() || lower.queued_bytes()? > MOST_UNSENT_BYTES;
        if pause == is(&self.flags.lower_paused) {
            return Ok(());
        }
        set(&self.flags.lower_paused, pause);
        if pause { lower.pause_reading() } else { lower.resume_reading() }
    }
}
