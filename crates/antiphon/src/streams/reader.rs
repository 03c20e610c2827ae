//! Reading a stream by counts, lines and separators: the rules are [`antiphon_core::stream_buffer`]'s.

use super::{Lines, ReadError};
use crate::runtime::Loop;
use antiphon_core::stream_buffer::{Outcome, Search, StreamBuffer};
use futures_io::{AsyncBufRead, AsyncRead};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// `asyncio`'s, in bytes.
const DEFAULT_LIMIT: usize = 64 * 1024;

/// How much is asked of the source at once, in bytes.
const READ_BYTES: usize = 64 * 1024;

/// Reads from `R` what programs want to see whole: `asyncio.StreamReader`.
///
/// ```
/// use antiphon::{ReadError, StreamReader};
///
/// antiphon::run(async {
///     let mut reader = StreamReader::new(&b"GET /\r\nHost: x\r\n\r\nbody"[..]);
///     assert_eq!(reader.read_line().await?, b"GET /\r\n");
///     assert_eq!(reader.read_until(b": ").await?, b"Host: ");
///     assert_eq!(reader.read_until_any(&[b"\n\n", b"\r\n\r\n"]).await?, b"x\r\n\r\n");
///     assert_eq!(reader.read_exactly(2).await?, b"bo");
///     assert_eq!(reader.read_to_end().await?, b"dy");
///     assert!(reader.at_eof());
///     Ok::<_, ReadError>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It asks `R` only when it has not enough, so a peer that is not read from is held back by its own connection.
///
/// # Cancellation
/// Every read that is cancelled, or dropped halfway, leaves what has come to the next one.
pub struct StreamReader<R> {
    source: R,
    buffer: StreamBuffer<Rc<[u8]>>,
}

impl<R> StreamReader<R> {
    /// A reader with asyncio's limit of 64 KiB.
    pub fn new(source: R) -> Self {
        Self::with_limit(source, DEFAULT_LIMIT)
    }

    /// `limit`, in bytes, bounds what precedes a separator.
    pub fn with_limit(source: R, limit: usize) -> Self {
        Self { source, buffer: StreamBuffer::new(limit) }
    }

    /// Whether the stream has ended and everything was read.
    #[must_use]
    pub fn at_eof(&self) -> bool {
        self.buffer.is_at_end()
    }

    /// What it reads from. Reading there directly skips what has come already.
    pub const fn get_ref(&self) -> &R {
        &self.source
    }

    /// As [`get_ref`](Self::get_ref).
    pub const fn get_mut(&mut self) -> &mut R {
        &mut self.source
    }

    /// What it reads from, and what has come and was not read.
    pub fn into_parts(mut self) -> (R, Vec<u8>) {
        let rest = self.buffer.take_all().to_vec();
        (self.source, rest)
    }
}

impl<R: AsyncRead + Unpin> StreamReader<R> {
    /// What has come, at most `most` bytes; waits if nothing has. Empty: the end.
    ///
    /// # Errors
    /// [`ReadError::Io`], [`ReadError::Cancelled`].
    pub async fn read(&mut self, most: usize) -> Result<Vec<u8>, ReadError> {
        if most == 0 {
            return Ok(Vec::new());
        }
        if self.buffer.is_empty() && !self.buffer.is_ended() {
            return Ok(poll_fn(|context| self.poll_read_at_once(context, most)).await?);
        }
        match self.buffer.read(most) {
            Outcome::Ready(taken) => Ok(taken.to_vec()),
            _ => Ok(Vec::new()), // the end: there is something, or nothing will come
        }
    }

    /// Everything up to the end.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn read_to_end(&mut self) -> Result<Vec<u8>, ReadError> {
        while !self.buffer.is_ended() {
            self.fill().await?;
        }
        Ok(self.buffer.take_all().to_vec())
    }

    /// Exactly `count` bytes.
    ///
    /// # Errors
    /// [`ReadError::Incomplete`]: the stream ended before. As [`read`](Self::read).
    pub async fn read_exactly(&mut self, count: usize) -> Result<Vec<u8>, ReadError> {
        self.read_by(Some(count), |buffer| buffer.read_exactly(count)).await
    }

    /// A line, its `\n` included; what is left, at the end.
    ///
    /// # Errors
    /// [`ReadError::Overrun`]: it is longer than the limit; as much of it as has come is dropped. As [`read`](Self::read).
    pub async fn read_line(&mut self) -> Result<Vec<u8>, ReadError> {
        let mut newline = Search::new(b"\n").map_err(|_| ReadError::EmptySeparator)?;
        self.read_by(None, |buffer| buffer.read_line(&mut newline)).await
    }

    /// Everything up to `separator`, and the separator.
    ///
    /// # Errors
    /// [`ReadError::Incomplete`]: the stream ended before. [`ReadError::Overrun`]: the limit was passed; the reader still has
    /// everything. [`ReadError::EmptySeparator`]. As [`read`](Self::read).
    pub async fn read_until(&mut self, separator: &[u8]) -> Result<Vec<u8>, ReadError> {
        let mut search = Search::new(separator).map_err(|_| ReadError::EmptySeparator)?;
        self.read_by(None, |buffer| buffer.read_until(&mut search)).await
    }

    /// As [`read_until`](Self::read_until), up to whichever separator ends first.
    ///
    /// # Errors
    /// As [`read_until`](Self::read_until).
    pub async fn read_until_any(&mut self, separators: &[&[u8]]) -> Result<Vec<u8>, ReadError> {
        let search = Search::any(separators.iter().copied()).map_err(|_| ReadError::EmptySeparator)?;
        let mut search = search.ok_or(ReadError::EmptySeparator)?;
        self.read_by(None, |buffer| buffer.read_until(&mut search)).await
    }

    /// The lines as text, without their ends (`\n` or `\r\n`), as they come.
    ///
    /// ```
    /// use antiphon::StreamReader;
    ///
    /// antiphon::run(async {
    ///     let mut lines = StreamReader::new(&b"one\r\ntwo\nthree"[..]).lines();
    ///     let mut all = Vec::new();
    ///     while let Some(line) = lines.next().await {
    ///         all.push(line?);
    ///     }
    ///     assert_eq!(all, ["one", "two", "three"]);
    ///     Ok::<_, std::io::Error>(())
    /// })??;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn lines(self) -> Lines<R> {
        Lines::new(self)
    }

    async fn read_by(
        &mut self,
        expected: Option<usize>,
        mut read: impl FnMut(&mut StreamBuffer<Rc<[u8]>>) -> Outcome<Rc<[u8]>>,
    ) -> Result<Vec<u8>, ReadError> {
        loop {
            match read(&mut self.buffer) {
                Outcome::Ready(taken) => return Ok(taken.to_vec()),
                Outcome::Wait => self.fill().await?,
                Outcome::Incomplete(taken) => {
                    return Err(ReadError::Incomplete { partial: taken.to_vec(), expected });
                }
                Outcome::Overrun(overrun) => {
                    return Err(ReadError::Overrun { found: overrun.found, consumed: overrun.consumed });
                }
            }
        }
    }

    /// Waits for more, or the end.
    async fn fill(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_fill(context)).await
    }

    pub(super) fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (source, buffer) = (&mut self.source, &mut self.buffer);
        Loop::with_scratch(|scratch| {
            let len = ready!(Pin::new(source).poll_read(context, &mut scratch[..READ_BYTES]))?;
            match &scratch[..len] {
                [] => buffer.set_ended(true),
                bytes if buffer.append(bytes) => {}
                bytes => drop(buffer.feed(Rc::from(bytes))),
            }
            Poll::Ready(Ok(()))
        })
    }

    /// A read while nothing waits in the buffer: past it.
    fn poll_read_at_once(&mut self, context: &mut Context<'_>, most: usize) -> Poll<io::Result<Vec<u8>>> {
        let (source, buffer) = (&mut self.source, &mut self.buffer);
        Loop::with_scratch(|scratch| {
            let room = most.min(READ_BYTES);
            let len = ready!(Pin::new(source).poll_read(context, &mut scratch[..room]))?;
            if len == 0 {
                buffer.set_ended(true);
            }
            Poll::Ready(Ok(scratch[..len].to_vec()))
        })
    }

    pub(super) fn buffer(&mut self) -> &mut StreamBuffer<Rc<[u8]>> {
        &mut self.buffer
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for StreamReader<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.buffer.is_empty() {
            if self.buffer.is_ended() || buffer.is_empty() {
                return Poll::Ready(Ok(0));
            }
            return Pin::new(&mut self.source).poll_read(context, buffer);
        }
        let taken = self.buffer.take(buffer.len());
        let mut filled = 0;
        for part in taken.parts() {
            buffer[filled..filled + part.len()].copy_from_slice(part);
            filled += part.len();
        }
        Poll::Ready(Ok(filled))
    }
}

impl<R: AsyncRead + Unpin> AsyncBufRead for StreamReader<R> {
    fn poll_fill_buf(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let reader = self.get_mut();
        while reader.buffer.is_empty() && !reader.buffer.is_ended() {
            ready!(reader.poll_fill(context))?;
        }
        let first = reader.buffer.parts().find(|part| !part.is_empty());
        Poll::Ready(Ok(first.unwrap_or_default()))
    }

    fn consume(mut self: Pin<&mut Self>, count: usize) {
        drop(self.buffer.take(count));
    }
}

impl<R: fmt::Debug> fmt::Debug for StreamReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamReader")
            .field("source", &self.source)
            .field("buffered", &self.buffer.len())
            .finish_non_exhaustive()
    }
}
