//! Writing without waiting, and waiting where too much has piled up.
//!
//! Bytes are offered to the sink at once. What it does not take is queued, and a task of the writer's own sends it, whether or not
//! anybody drains.

use super::write_queue::WriteQueue;
use crate::{Cancelled, Event, try_spawn};
use futures_io::AsyncWrite;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

/// asyncio's limits, in bytes: from here on [`drain`](StreamWriter::drain) waits, down to a quarter.
const HIGH_WATER: usize = 64 * 1024;

/// Writes to `W` without waiting, and tells when to wait: `asyncio.StreamWriter`.
///
/// ```
/// use antiphon::{StreamReader, StreamWriter, net::UnixStream};
///
/// antiphon::run(async {
///     let (ours, theirs) = UnixStream::pair()?;
///     let mut reader = StreamReader::new(theirs);
///     let writer = StreamWriter::new(ours);
///     writer.write(b"hello ")?;
///     writer.write_lines(&[b"wide ", b"world"])?;
///     writer.drain().await?; // waits only if much has piled up
///     writer.close();
///     writer.wait_closed().await?;
///     assert_eq!(reader.read_to_end().await?, b"hello wide world");
///     Ok::<_, std::io::Error>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Dropping it sends what is queued, and closes nothing: the peer is told when its connection is dropped.
///
/// Queued bytes leave only while the loop runs. What is queued when the main future ends is lost, as asyncio loses what a transport
/// has when `asyncio.run` ends: [`close`](Self::close) and [`wait_closed`](Self::wait_closed) before, or
/// [`drain`](Self::drain) with [limits](Self::set_limits) of zero.
pub struct StreamWriter<W: AsyncWrite + Unpin + 'static> {
    inner: Rc<Inner<W>>,
}

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum State {
    Open,
    /// Nothing more is taken; what is queued leaves, then the sink is closed.
    Closing,
    Closed,
}

struct Inner<W> {
    /// `None` once it is closed. Taken out while it is called, since it may be anybody's.
    sink: RefCell<Option<W>>,
    queue: RefCell<WriteQueue>,
    state: Cell<State>,
    /// What the sink failed with: its kind and its words.
    failure: RefCell<Option<(io::ErrorKind, String)>>,
    /// Whether the sending task is at work.
    sending: Cell<bool>,
    high_water: Cell<usize>,
    low_water: Cell<usize>,
    /// Set while little is queued.
    room: Event,
    closed: Event,
}

impl<W: AsyncWrite + Unpin + 'static> StreamWriter<W> {
    /// A writer to `sink`.
    pub fn new(sink: W) -> Self {
        let room = Event::new();
        room.set();
        let inner = Inner {
            sink: RefCell::new(Some(sink)),
            queue: RefCell::default(),
            state: Cell::new(State::Open),
            failure: RefCell::default(),
            sending: Cell::new(false),
            high_water: Cell::new(HIGH_WATER),
            low_water: Cell::new(HIGH_WATER / 4),
            room,
            closed: Event::new(),
        };
        Self { inner: Rc::new(inner) }
    }

    /// Sends `bytes`, now as far as there is room and the rest when there is.
    ///
    /// # Errors
    /// What the sink failed with, now or earlier; [`BrokenPipe`](io::ErrorKind::BrokenPipe): the writer was closed. With
    /// [`NoLoop`](crate::NoLoop) inside: no loop runs here.
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.write_lines(&[bytes])
    }

    /// As [`write`](Self::write), of several buffers: `writelines`.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_lines(&self, buffers: &[&[u8]]) -> io::Result<()> {
        let inner = &self.inner;
        inner.check()?;
        if inner.state.get() != State::Open {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the writer was closed"));
        }
        let mut sent = inner.send_at_once(buffers)?;
        let mut queue = inner.queue.borrow_mut();
        for buffer in buffers {
            let of_this = sent.min(buffer.len());
            sent -= of_this;
            queue.push(&buffer[of_this..]);
        }
        let len = queue.len();
        drop(queue);
        if len > inner.high_water.get() {
            inner.room.clear();
        }
        if len > 0 { inner.start_sending() } else { Ok(()) }
    }

    /// Waits, if more than the high-water mark is queued, until no more than the low-water mark is.
    ///
    /// # Errors
    /// What the sink failed with. With [`Cancelled`] inside: the task was cancelled; what is queued leaves all the same.
    pub async fn drain(&self) -> io::Result<()> {
        self.inner.check()?;
        self.inner.room.wait().await?;
        self.inner.check()
    }

    /// Takes no more; what is queued leaves, then the direction is closed and its peer told: `close`, or `write_eof` where the
    /// connection is still read from. [`wait_closed`](Self::wait_closed) tells when.
    pub fn close(&self) {
        let inner = &self.inner;
        if inner.state.get() != State::Open {
            return;
        }
        inner.state.set(State::Closing);
        if !inner.close_at_once() && inner.start_sending().is_err() {
            inner.end(None); // the loop has ended: nothing can leave
        }
    }

    /// Waits until everything has left after [`close`](Self::close).
    ///
    /// # Errors
    /// What the sink failed with. With [`Cancelled`] inside: the task was cancelled.
    pub async fn wait_closed(&self) -> io::Result<()> {
        self.inner.closed.wait().await?;
        self.inner.check()
    }

    /// Whether it was closed, or failed.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.inner.state.get() != State::Open
    }

    /// How many bytes are queued: `transport.get_write_buffer_size`.
    #[must_use]
    pub fn queued_len(&self) -> usize {
        self.inner.queue.borrow().len()
    }

    /// From how many queued bytes on [`drain`](Self::drain) waits, and down to how many:
    /// `transport.set_write_buffer_limits`. A `low` above `high` counts as `high`.
    pub fn set_limits(&self, high: usize, low: usize) {
        self.inner.high_water.set(high);
        self.inner.low_water.set(low.min(high));
        if self.queued_len() > high {
            self.inner.room.clear();
        }
    }
}

impl<W: AsyncWrite + Unpin + 'static> Inner<W> {
    fn check(&self) -> io::Result<()> {
        match &*self.failure.borrow() {
            Some((kind, words)) => Err(io::Error::new(*kind, words.clone())),
            None => Ok(()),
        }
    }

    /// Offers the sink `buffers` if nothing is queued before them; how many bytes it took.
    fn send_at_once(self: &Rc<Self>, buffers: &[&[u8]]) -> io::Result<usize> {
        // Waiting is not this call's business, so neither is a cancellation.
        if self.sending.get() || !self.queue.borrow().is_empty() || crate::cancel::is_due() {
            return Ok(0);
        }
        let mut context = Context::from_waker(Waker::noop());
        let sent = self.with_sink(|mut sink| {
            let sent = match buffers {
                [only] => sink.as_mut().poll_write(&mut context, only),
                buffers => {
                    let slices: Vec<_> = buffers.iter().map(|buffer| IoSlice::new(buffer)).collect();
                    sink.as_mut().poll_write_vectored(&mut context, &slices)
                }
            };
            let flushed = match sent {
                Poll::Ready(Ok(1..)) => sink.poll_flush(&mut context),
                _ => Poll::Ready(Ok(())),
            };
            (sent, flushed)
        });
        let (sent, flushed) = match sent {
            Some(outcome) => outcome,
            None => return Ok(0),
        };
        if let Poll::Ready(Err(error)) = flushed {
            return Err(self.fail(error));
        }
        if flushed.is_pending() {
            self.start_sending()?; // which flushes
        }
        match sent {
            Poll::Pending => Ok(0),
            Poll::Ready(Ok(len)) => Ok(len),
            Poll::Ready(Err(error)) => Err(self.fail(error)),
        }
    }

    /// Closes the sink if nothing is left to send; whether that was possible.
    fn close_at_once(&self) -> bool {
        if self.sending.get() || !self.queue.borrow().is_empty() || crate::cancel::is_due() {
            return false;
        }
        let mut context = Context::from_waker(Waker::noop());
        let closed = self.with_sink(|mut sink| match sink.as_mut().poll_flush(&mut context) {
            Poll::Ready(Ok(())) => sink.poll_close(&mut context),
            flushed => flushed,
        });
        match closed {
            Some(Poll::Ready(Ok(()))) => self.end(None),
            Some(Poll::Ready(Err(error))) => drop(self.fail(error)),
            Some(Poll::Pending) | None => return false,
        }
        true
    }

    /// Calls the sink, unless it is being called.
    fn with_sink<T>(&self, call: impl FnOnce(Pin<&mut W>) -> T) -> Option<T> {
        let mut sink = self.sink.try_borrow_mut().ok()?.take()?;
        let outcome = call(Pin::new(&mut sink));
        if self.state.get() == State::Closed {
            drop(sink);
        } else {
            *self.sink.borrow_mut() = Some(sink);
        }
        Some(outcome)
    }

    /// Lets a task send what is queued, unless one does.
    fn start_sending(self: &Rc<Self>) -> io::Result<()> {
        if self.sending.replace(true) {
            return Ok(());
        }
        let inner = Rc::clone(self);
        let sending = Sending(Rc::clone(self));
        let task = try_spawn(async move {
            let _sending = sending;
            let outcome = poll_fn(|context| inner.poll_send(context)).await;
            if let Err(error) = outcome {
                inner.fail(error);
            } else if inner.state.get() == State::Closing {
                inner.end(None);
            }
            Ok::<(), Cancelled>(())
        })?;
        task.set_name("stream writer");
        Ok(())
    }

    /// Sends what is queued; with the writer closed, closes the sink.
    fn poll_send(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let closing = self.state.get() != State::Open;
            let queued = self.queue.borrow().len();
            if queued == 0 {
                let flushed = self.with_sink(|mut sink| match sink.as_mut().poll_flush(context) {
                    Poll::Ready(Ok(())) if closing => sink.poll_close(context),
                    flushed => flushed,
                });
                ready!(flushed.unwrap_or(Poll::Ready(Ok(()))))?;
                if self.queue.borrow().is_empty() && closing == (self.state.get() != State::Open) {
                    self.sending.set(false);
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            let queue = std::mem::take(&mut *self.queue.borrow_mut());
            let sent =
                self.with_sink(|sink| queue.with_slices(|slices| sink.poll_write_vectored(context, slices)));
            self.put_back(queue);
            match ready!(sent.unwrap_or(Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                len => self.queue.borrow_mut().advance(len),
            }
            if self.queue.borrow().len() <= self.low_water.get() {
                self.room.set();
            }
        }
    }

    /// The queue was taken out while the sink was called; what was written meanwhile comes behind it.
    fn put_back(&self, mut queue: WriteQueue) {
        let mut place = self.queue.borrow_mut();
        if !place.is_empty() {
            place.with_slices(|slices| slices.iter().for_each(|slice| queue.push(slice)));
        }
        *place = queue;
    }

    /// The sink failed; the error to give to the caller.
    fn fail(&self, error: io::Error) -> io::Error {
        self.end(Some((error.kind(), error.to_string())));
        error
    }

    /// Nothing leaves any more.
    fn end(&self, failure: Option<(io::ErrorKind, String)>) {
        self.state.set(State::Closed);
        if failure.is_some() {
            *self.failure.borrow_mut() = failure;
        }
        self.queue.borrow_mut().clear();
        let sink = self.sink.try_borrow_mut().ok().and_then(|mut sink| sink.take());
        drop(sink);
        self.room.set();
        self.closed.set();
    }
}

/// The sending task: whoever drops it halfway, as a loop that ends, says so.
struct Sending<W: AsyncWrite + Unpin + 'static>(Rc<Inner<W>>);

impl<W: AsyncWrite + Unpin + 'static> Drop for Sending<W> {
    fn drop(&mut self) {
        if self.0.sending.replace(false) && self.0.state.get() != State::Closed {
            self.0.end(Some((io::ErrorKind::BrokenPipe, "the loop ended before everything was sent".into())));
        }
    }
}

impl<W: AsyncWrite + Unpin + 'static> fmt::Debug for StreamWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamWriter")
            .field("state", &self.inner.state.get())
            .field("queued", &self.queued_len())
            .finish_non_exhaustive()
    }
}
