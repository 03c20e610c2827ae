//! From a source to a sink, without a buffer of one's own.

use crate::Cancelled;
use crate::runtime::Loop;
use futures_io::{AsyncRead, AsyncWrite};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Writes to `to` whatever comes from `from`, until that ends, and flushes. Returns how many bytes that were. It does not close `to`.
///
/// The loop lends the memory that is read to, and only what `to` does not take at once is kept: a thousand copies that wait need
/// no buffers, and a thousand that are busy use the same one, which stays in the cache.
///
/// ```
/// use antiphon::net::{TcpListener, TcpStream};
/// use antiphon::{copy, spawn};
/// use std::net::Shutdown;
///
/// antiphon::run(async {
///     let listener = TcpListener::bind("127.0.0.1:0").await?;
///     let address = listener.local_addr()?;
///     let echo = spawn(async move {
///         let (stream, _peer) = listener.accept().await?;
///         copy(&stream, &stream).await
///     });
///     let client = TcpStream::connect(address).await?;
///     client.write_all(b"there and back").await?;
///     client.shutdown(Shutdown::Write)?;
///     let mut echoed = [0; 14];
///     client.read_exact(&mut echoed).await?;
///     assert_eq!(&echoed, b"there and back");
///     assert_eq!(echo.await.unwrap(), 14);
///     Ok::<_, std::io::Error>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// What `from` or `to` fails with; [`WriteZero`](io::ErrorKind::WriteZero): `to` takes nothing any more. With
/// [`Cancelled`](crate::Cancelled) inside: the task was cancelled.
///
/// # Cancellation
/// Cancelled or dropped while it waits for `from`, it has written everything that it read. While it waits for `to`, what that had no
/// room for is lost.
pub async fn copy<R, W>(from: R, to: W) -> io::Result<u64>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut copying = Copying { from, to, copied: 0, left: Vec::new(), sent_of_left: 0, state: State::Idle };
    poll_fn(|context| match copying.poll(context) {
        // Sources and sinks of others know of no cancellation.
        Poll::Pending if crate::cancel::take_due() => Poll::Ready(Err(Cancelled.into())),
        outcome => outcome,
    })
    .await
}

struct Copying<R, W> {
    from: R,
    to: W,
    copied: u64,
    /// What was read while there was no room for it, and how much of it has left since.
    left: Vec<u8>,
    sent_of_left: usize,
    state: State,
}

#[derive(Copy, Clone, Eq, PartialEq)]
enum State {
    /// Everything that was read has been flushed.
    Idle,
    Unflushed,
    /// The source has ended.
    Ended,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Copying<R, W> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<u64>> {
        loop {
            ready!(self.poll_send_left(context))?;
            if self.state == State::Ended {
                ready!(Pin::new(&mut self.to).poll_flush(context))?;
                return Poll::Ready(Ok(self.copied));
            }
            if self.poll_pass_on(context)?.is_pending() {
                if self.left.is_empty() && self.state == State::Unflushed {
                    ready!(Pin::new(&mut self.to).poll_flush(context))?;
                    self.state = State::Idle;
                }
                return Poll::Pending;
            }
        }
    }

    /// Reads once, and writes as much of it as there is room for.
    fn poll_pass_on(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { from, to, left, .. } = self;
        let (read, written, outcome) = Loop::with_scratch(|scratch| {
            let read = match Pin::new(from).poll_read(context, scratch) {
                Poll::Ready(Ok(read)) => read,
                other => return (0, 0, other.map_ok(drop)),
            };
            let mut written = 0;
            while written < read {
                match poll_write(to, context, &scratch[written..read]) {
                    Poll::Ready(Ok(len)) => written += len,
                    other => {
                        *left = scratch[written..read].to_vec();
                        return (read, written, other.map_ok(drop));
                    }
                }
            }
            (read, written, Poll::Ready(Ok(())))
        });
        self.copied += written as u64;
        if read > 0 {
            self.state = State::Unflushed;
        } else if matches!(outcome, Poll::Ready(Ok(()))) {
            self.state = State::Ended;
        }
        outcome
    }

    fn poll_send_left(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent_of_left < self.left.len() {
            let len = ready!(poll_write(&mut self.to, context, &self.left[self.sent_of_left..]))?;
            self.sent_of_left += len;
            self.copied += len as u64;
        }
        if self.sent_of_left > 0 {
            (self.left, self.sent_of_left) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

/// Writes at least one byte.
fn poll_write<W>(to: &mut W, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>
where
    W: AsyncWrite + Unpin,
{
    match Pin::new(to).poll_write(context, bytes) {
        Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        outcome => outcome,
    }
}
