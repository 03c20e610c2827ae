//! What reads fail with.

use crate::{Cancelled, Failure};
use std::error::Error;
use std::fmt;
use std::io;

/// What a [`StreamReader`](crate::StreamReader)'s reads fail with.
///
/// It becomes an [`io::Error`] by `?`, which has this inside.
///
/// ```
/// use antiphon::{ReadError, StreamReader};
///
/// antiphon::run(async {
///     let mut reader = StreamReader::new(&b"abc"[..]);
///     let Err(ReadError::Incomplete { partial, expected }) = reader.read_exactly(5).await else { panic!() };
///     assert_eq!((&partial[..], expected), (&b"abc"[..], Some(5)));
///     let mut reader = StreamReader::with_limit(&b"a long line"[..], 4);
///     assert!(matches!(reader.read_until(b"\n").await, Err(ReadError::Overrun { found: false, .. })));
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// The stream ended before: `asyncio.IncompleteReadError`.
    Incomplete {
        /// What came, which the reader no longer has.
        partial: Vec<u8>,
        /// How many bytes there should have been; `None`: up to a separator.
        expected: Option<usize>,
    },
    /// More bytes than the limit came without a separator: `asyncio.LimitOverrunError`.
    Overrun {
        /// Whether the separator is there, too far away.
        found: bool,
        /// Bytes that precede the separator, or cannot be a part of one. The reader still has them, but for
        /// [`read_line`](crate::StreamReader::read_line), which drops them.
        consumed: usize,
    },
    /// A separator without bytes.
    EmptySeparator,
    /// The task was cancelled; what came is the next read's.
    Cancelled,
    /// What the connection failed with.
    Io(io::Error),
}

impl Failure for ReadError {
    fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled)
    }
}

impl From<Cancelled> for ReadError {
    fn from(_: Cancelled) -> Self {
        Self::Cancelled
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        if error.is_cancelled() { Self::Cancelled } else { Self::Io(error) }
    }
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        let kind = match error {
            ReadError::Io(error) => return error,
            ReadError::Cancelled => return Cancelled.into(),
            ReadError::Incomplete { .. } => io::ErrorKind::UnexpectedEof,
            ReadError::Overrun { .. } => io::ErrorKind::InvalidData,
            ReadError::EmptySeparator => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Incomplete { partial, expected: Some(expected) } => {
                write!(f, "{} bytes read on a total of {expected} expected bytes", partial.len())
            }
            Self::Incomplete { partial, expected: None } => {
                write!(f, "{} bytes read, and the stream ended before the separator", partial.len())
            }
            Self::Overrun { found: true, .. } => {
                f.write_str("separator is found, but chunk is longer than limit")
            }
            Self::Overrun { found: false, .. } => {
                f.write_str("separator is not found, and chunk exceeds the limit")
            }
            Self::EmptySeparator => f.write_str("a separator has at least one byte"),
            Self::Cancelled => Cancelled.fmt(f),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl Error for ReadError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io(error) => error.source(),
            Self::Cancelled => Some(&Cancelled),
            _ => None,
        }
    }
}
