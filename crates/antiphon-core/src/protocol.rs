//! The coroutine protocol: what goes into a suspended computation, what comes out, and the rules in between.
//!
//! ```text
//!            Resume::Send(value), Throw(exception), Close
//!   caller ────────────────────────────────────────────────▶ generator
//!          ◀────────────────────────────────────────────────
//!            Step::Yielded(value), Returned(value), Raised(exception)
//! ```
//!
//! Python's words and rules hold. What Python says by raising `StopIteration(value)` is [`Step::Returned`], once; whoever
//! steps on gets [`ProtocolError::Finished`] every time. `None`, which `next` sends, is whatever [`Sent::none`] says.
//!
//! Source: PEP 342, PEP 380, PEP 479; CPython Objects/genobject.c.

mod exception;

pub use exception::{Exception, ProtocolError};

use crate::generator::Delegation;

/// What a suspended computation is resumed with.
///
/// ```
/// use antiphon_core::{BoxedGenerator, Exception, Generator, Resume, Step, Yielder};
///
/// let mut echo = BoxedGenerator::new(async |y: Yielder<'_, i32, Option<i32>>| {
///     let sent = y.yield_(0).await?;
///     y.yield_(sent.unwrap_or(0) * 2).await?;
///     Ok::<_, Exception>(())
/// });
/// assert_eq!(echo.next(), Step::Yielded(0));
/// assert_eq!(echo.resume(Resume::Send(Some(21))), Step::Yielded(42));
/// assert_eq!(echo.resume(Resume::Close), Step::Raised(Exception::GeneratorExit));
/// ```
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Resume<S, E> {
    /// The `yield` has this value.
    Send(S),
    /// The `yield` raises this.
    Throw(E),
    /// The `yield` raises [`Exception::GeneratorExit`], and yielding once more is an error.
    Close,
}

/// What a resumed computation came to.
///
/// ```
/// use antiphon_core::{BoxedGenerator, Exception, Generator, Step, Yielder};
///
/// let mut one = BoxedGenerator::new(async |y: Yielder<'_, i32>| {
///     y.yield_(1).await?;
///     Ok::<_, Exception>("end")
/// });
/// assert_eq!(one.next().yielded(), Some(1));
/// assert_eq!(one.next(), Step::Returned("end"));
/// assert_eq!(one.next().yielded(), None);
/// ```
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Step<Y, R, E> {
    /// It yielded, and can be resumed.
    Yielded(Y),
    /// It returned: the value of Python's `StopIteration`.
    Returned(R),
    /// It raised. Also the answer to a [`Resume`] that the rules refuse.
    Raised(E),
}

impl<Y, R, E> Step<Y, R, E> {
    /// The yielded value, if there is one.
    pub fn yielded(self) -> Option<Y> {
        match self {
            Self::Yielded(value) => Some(value),
            _ => None,
        }
    }
}

/// Values that can be sent into a generator: one of them stands for Python's `None`.
///
/// A caller that has nothing to say (`next`, a loop, a delegation that begins) sends that one.
pub trait Sent: Sized {
    /// What `next` sends.
    fn none() -> Self;
    /// Whether this is what `next` sends.
    fn is_none(&self) -> bool;
}

impl Sent for () {
    #[inline]
    fn none() -> Self {}
    #[inline]
    fn is_none(&self) -> bool {
        true
    }
}

impl<T> Sent for Option<T> {
    #[inline]
    fn none() -> Self {
        None
    }
    #[inline]
    fn is_none(&self) -> bool {
        Self::is_none(self)
    }
}

/// [`Step`] of a generator `G`.
pub type StepOf<G> =
    Step<<G as Generator>::Yield, <G as Generator>::Return, Exception<<G as Generator>::Error>>;

/// [`Delegation`] of a generator `G`.
#[doc(hidden)]
pub type DelegationOf<G> = Delegation<
    <G as Generator>::Yield,
    <G as Generator>::Sent,
    <G as Generator>::Return,
    <G as Generator>::Error,
>;

/// A computation that yields: `collections.abc.Generator`.
///
/// Implemented by [`StackGenerator`](crate::StackGenerator), [`BoxedGenerator`](crate::BoxedGenerator), adapters, and
/// anything else that keeps the rules: it never panics, whatever it is resumed with and however often.
///
/// ```
/// use antiphon_core::{Exception, Generator, ProtocolError, Step, Yielder, generator};
///
/// /// The average of what it is sent.
/// async fn average(y: Yielder<'_, f64, Option<f64>>) -> Result<f64, Exception> {
///     let (mut sum, mut count, mut average) = (0.0, 0.0, 0.0);
///     while let Some(term) = y.yield_(average).await? {
///         sum += term;
///         count += 1.0;
///         average = sum / count;
///     }
///     Ok(average)
/// }
///
/// generator!(let mut terms = average);
/// assert_eq!(terms.next(), Step::Yielded(0.0));
/// assert_eq!(terms.send(Some(10.0)), Step::Yielded(10.0));
/// assert_eq!(terms.send(Some(5.0)), Step::Yielded(7.5));
/// assert_eq!(terms.send(None), Step::Returned(7.5));
/// assert_eq!(terms.next(), Step::Raised(Exception::Protocol(ProtocolError::Finished)));
/// ```
pub trait Generator {
    /// What it yields.
    type Yield;
    /// What can be sent to it.
    type Sent: Sent;
    /// What it returns.
    type Return;
    /// What can be thrown into it, and what it raises, beside what the protocol itself raises.
    type Error;

    /// Resumes it.
    ///
    /// A generator that was closed answers [`Resume::Close`] with its returned value or with
    /// [`Exception::GeneratorExit`].
    fn resume(&mut self, with: Resume<Self::Sent, Exception<Self::Error>>) -> StepOf<Self>;

    /// Resumes it with nothing.
    #[inline(always)]
    fn next(&mut self) -> StepOf<Self> {
        self.resume(Resume::Send(Sent::none()))
    }

    /// Resumes it with a value.
    ///
    /// A generator that has not begun has no `yield` to give the value to: it raises [`ProtocolError::JustStarted`], and
    /// stays as it was, unless the value is [none](Sent::is_none).
    #[inline(always)]
    fn send(&mut self, value: Self::Sent) -> StepOf<Self> {
        self.resume(Resume::Send(value))
    }

    /// Raises `exception` at the `yield` where it waits.
    ///
    /// A generator that has not begun is finished by it, and one that is finished raises it back.
    #[inline]
    fn throw(&mut self, exception: Exception<Self::Error>) -> StepOf<Self> {
        self.resume(Resume::Throw(exception))
    }

    /// Ends it: raises [`Exception::GeneratorExit`] where it waits, so that it can clean up.
    ///
    /// Returns what it returned, if it did; `None` if it let the exception pass, had not begun, or was finished.
    ///
    /// # Errors
    /// [`ProtocolError::IgnoredExit`]: it yielded instead. Anything else: it raised that.
    fn close(&mut self) -> Result<Option<Self::Return>, Exception<Self::Error>> {
        match self.resume(Resume::Close) {
            Step::Returned(value) => Ok(Some(value)),
            Step::Raised(Exception::GeneratorExit) => Ok(None),
            Step::Raised(exception) => Err(exception),
            Step::Yielded(_) => Err(Exception::Protocol(ProtocolError::IgnoredExit)),
        }
    }

    /// The generator as something that a delegating generator's driver can resume directly, at any depth.
    #[doc(hidden)]
    fn into_delegation(self) -> Result<DelegationOf<Self>, Self>
    where
        Self: Sized,
    {
        Err(self)
    }
}

impl<G: Generator + ?Sized> Generator for &mut G {
    type Yield = G::Yield;
    type Sent = G::Sent;
    type Return = G::Return;
    type Error = G::Error;

    #[inline]
    fn resume(&mut self, with: Resume<Self::Sent, Exception<Self::Error>>) -> StepOf<Self> {
        (**self).resume(with)
    }
}
