//! What is raised in and by generators.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;

/// What a `yield` can raise, and what a generator can.
///
/// `E` is the program's own error; generators that raise none have [`Infallible`], the default.
///
/// ```
/// use antiphon_core::{BoxedGenerator, Exception, Generator, Step, Yielder};
///
/// let mut careful = BoxedGenerator::new(async |y: Yielder<'_, u32, (), &str>| match y.yield_(1).await {
///     Err(Exception::Error("retry")) => Ok("went on"),
///     Err(other) => Err(other),
///     Ok(()) => Ok("nothing happened"),
/// });
/// careful.next();
/// assert_eq!(careful.throw(Exception::Error("retry")), Step::Returned("went on"));
/// ```
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Exception<E = Infallible> {
    /// The generator is being closed: clean up and let it pass, or return.
    GeneratorExit,
    /// A rule of the protocol was broken.
    Protocol(ProtocolError),
    /// An error of the program.
    Error(E),
}

/// A rule of the protocol that was broken. Python raises `TypeError`, `ValueError` or `RuntimeError` with these words.
///
/// ```
/// use antiphon_core::{BoxedGenerator, Exception, Generator, ProtocolError, Step, Yielder};
///
/// let mut number = BoxedGenerator::new(async |y: Yielder<'_, i32, Option<i32>>| y.yield_(1).await);
/// assert_eq!(number.send(Some(5)), Step::Raised(Exception::Protocol(ProtocolError::JustStarted)));
/// ```
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A value was sent before the generator had come to its first `yield`.
    JustStarted,
    /// The generator was resumed by itself, directly or not.
    AlreadyExecuting,
    /// The generator yielded while it was being closed.
    IgnoredExit,
    /// The generator was resumed after its end: a `StopIteration` without a value.
    Finished,
    /// The generator let another one's [`Finished`](Self::Finished) pass, which would look like its own end (PEP 479).
    RaisedFinished,
    /// A value was sent to, but the delegate is an iterator.
    NotSendable,
    /// The generator yielded while another of its yields was not over.
    YieldPending,
    /// The generator awaited something that is neither a `yield` nor ready, so nothing would ever resume it.
    AwaitedForeign,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::JustStarted => "can't send a value to a just-started generator: call next first",
            Self::AlreadyExecuting => "generator already executing",
            Self::IgnoredExit => "generator ignored GeneratorExit",
            Self::Finished => "generator is finished",
            Self::RaisedFinished => "generator raised the end of another generator",
            Self::NotSendable => "an iterator takes no values: send none",
            Self::YieldPending => "generator yielded while another of its yields was not over",
            Self::AwaitedForeign => {
                "generator awaited a future that is not its own: use an async generator for that"
            }
        })
    }
}

impl Error for ProtocolError {}

impl<E: fmt::Display> fmt::Display for Exception<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GeneratorExit => f.write_str("generator exit"),
            Self::Protocol(error) => error.fmt(f),
            Self::Error(error) => error.fmt(f),
        }
    }
}

impl<E: Error + 'static> Error for Exception<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::GeneratorExit | Self::Protocol(_) => None,
            Self::Error(error) => error.source(),
        }
    }
}

impl<E> From<E> for Exception<E> {
    #[inline]
    fn from(error: E) -> Self {
        Self::Error(error)
    }
}
