//! Lines as text.

use super::{ReadError, StreamReader};
use antiphon_core::stream_buffer::{Outcome, Search};
use futures_core::Stream;
use futures_io::AsyncRead;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// The lines of a [`StreamReader`]; see [`StreamReader::lines`].
///
/// ```
/// use antiphon::StreamReader;
///
/// antiphon::run(async {
///     let mut lines = StreamReader::new(&b"head\nbody"[..]).lines();
///     assert_eq!(lines.next().await.unwrap()?, "head");
///     let mut reader = lines.into_inner();
///     assert_eq!(reader.read_to_end().await.unwrap(), b"body");
///     Ok::<_, std::io::Error>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Lines<R> {
    reader: StreamReader<R>,
    newline: Option<Search<&'static [u8]>>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(reader: StreamReader<R>) -> Self {
        Self { reader, newline: Search::new(&b"\n"[..]).ok() }
    }

    /// The next line; `None` at the end.
    ///
    /// # Errors
    /// As [`StreamReader::read_line`]; [`InvalidData`](io::ErrorKind::InvalidData): the line is not UTF-8.
    pub async fn next(&mut self) -> Option<io::Result<String>> {
        poll_fn(|context| self.poll_line(context)).await
    }

    /// The reader, with what has come behind the last line.
    pub fn into_inner(self) -> StreamReader<R> {
        self.reader
    }

    fn poll_line(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<String>>> {
        let Some(newline) = &mut self.newline else { return Poll::Ready(None) };
        loop {
            match self.reader.buffer().read_line(newline) {
                Outcome::Ready(line) if line.is_empty() => return Poll::Ready(None),
                Outcome::Ready(line) | Outcome::Incomplete(line) => {
                    return Poll::Ready(Some(text_of(line.to_vec())));
                }
                Outcome::Overrun(overrun) => {
                    let error = ReadError::Overrun { found: overrun.found, consumed: overrun.consumed };
                    return Poll::Ready(Some(Err(error.into())));
                }
                Outcome::Wait => {
                    if let Err(error) = ready!(self.reader.poll_fill(context)) {
                        return Poll::Ready(Some(Err(error)));
                    }
                }
            }
        }
    }
}

fn text_of(mut line: Vec<u8>) -> io::Result<String> {
    if line.ends_with(b"\n") {
        line.pop();
        if line.ends_with(b"\r") {
            line.pop();
        }
    }
    String::from_utf8(line).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

impl<R: AsyncRead + Unpin> Stream for Lines<R> {
    type Item = io::Result<String>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_line(context)
    }
}

impl<R: fmt::Debug> fmt::Debug for Lines<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").field("reader", &self.reader).finish_non_exhaustive()
    }
}
