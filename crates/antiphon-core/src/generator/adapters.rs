//! Generators from and to iterators and futures.

use crate::{Exception, Generator, ProtocolError, Resume, Sent, Step, StepOf};
use std::convert::Infallible;
use std::future::Future;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// The values that a generator yields, as an iterator; see [`values`].
///
/// An exception is the last item.
#[derive(Debug)]
pub struct Values<G: Generator> {
    /// `None` once it has ended.
    generator: Option<G>,
    returned: Option<G::Return>,
}

/// Iterates over what `generator` yields: Python's `for`. By value or, to go on with it later, by `&mut`.
///
/// ```
/// use antiphon_core::{Yielder, generator, values};
///
/// generator!(let mut squares = |y: Yielder<'_, u32>| async move {
///     for n in 1..4 {
///         y.yield_(n * n).await?;
///     }
///     Ok("all")
/// });
/// let mut values = values(&mut squares);
/// assert_eq!(values.by_ref().map(|value| value.unwrap()).sum::<u32>(), 14);
/// assert_eq!(values.returned(), Some("all"));
/// ```
#[must_use]
pub const fn values<G: Generator>(generator: G) -> Values<G> {
    Values { generator: Some(generator), returned: None }
}

impl<G: Generator> Values<G> {
    /// What the generator returned, if it has come to that.
    pub fn returned(self) -> Option<G::Return> {
        self.returned
    }
}

impl<G: Generator> Iterator for Values<G> {
    type Item = Result<G::Yield, Exception<G::Error>>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self.generator.as_mut()?.next() {
            Step::Yielded(value) => Some(Ok(value)),
            Step::Returned(value) => {
                self.generator = None;
                self.returned = Some(value);
                None
            }
            Step::Raised(exception) => {
                self.generator = None;
                Some(Err(exception))
            }
        }
    }
}

impl<G: Generator> FusedIterator for Values<G> {}

/// An iterator as a generator; see [`from_iter`].
#[derive(Clone, Debug)]
pub struct IterGenerator<I, S = (), E = Infallible> {
    values: I,
    protocol: PhantomData<fn(S, E)>,
}

/// A generator that yields what `values` has, for instance to delegate to.
///
/// It has no `send` and no `throw`, as Python's iterators: a value that is sent is refused
/// ([`ProtocolError::NotSendable`]), and an exception that is thrown comes back and changes nothing.
///
/// ```
/// use antiphon_core::{Generator, IterGenerator, Step, from_iter};
///
/// let mut letters: IterGenerator<_> = from_iter("ab".chars());
/// assert_eq!(letters.next(), Step::Yielded('a'));
/// assert_eq!(letters.next(), Step::Yielded('b'));
/// assert_eq!(letters.next(), Step::Returned(()));
/// ```
pub fn from_iter<I: IntoIterator, S, E>(values: I) -> IterGenerator<I::IntoIter, S, E> {
    IterGenerator { values: values.into_iter(), protocol: PhantomData }
}

impl<I: Iterator, S: Sent, E> Generator for IterGenerator<I, S, E> {
    type Yield = I::Item;
    type Sent = S;
    type Return = ();
    type Error = E;

    fn resume(&mut self, with: Resume<S, Exception<E>>) -> StepOf<Self> {
        match with {
            Resume::Send(value) if value.is_none() => {
                self.values.next().map_or(Step::Returned(()), Step::Yielded)
            }
            Resume::Send(_) => Step::Raised(Exception::Protocol(ProtocolError::NotSendable)),
            Resume::Throw(exception) => Step::Raised(exception),
            Resume::Close => Step::Raised(Exception::GeneratorExit),
        }
    }
}

/// A generator as a future; see [`into_future`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct GeneratorFuture<G> {
    generator: G,
}

/// A future that is ready with what `generator` returns. Each of its yields, which have no value, lets others run: asyncio's
/// coroutines before they had a syntax.
///
/// ```
/// use antiphon_core::{Yielder, generator, into_future};
/// use std::pin::pin;
/// use std::task::{Context, Poll, Waker};
///
/// generator!(let steps = |y: Yielder<'_, ()>| async move {
///     y.yield_(()).await?;
///     Ok(7)
/// });
/// let mut future = pin!(into_future(steps));
/// let context = &mut Context::from_waker(Waker::noop());
/// assert_eq!(future.as_mut().poll(context), Poll::Pending);
/// assert_eq!(future.as_mut().poll(context), Poll::Ready(Ok(7)));
/// # use std::future::Future;
/// ```
pub const fn into_future<G: Generator<Yield = ()>>(generator: G) -> GeneratorFuture<G> {
    GeneratorFuture { generator }
}

impl<G: Generator<Yield = ()> + Unpin> Future for GeneratorFuture<G> {
    type Output = Result<G::Return, Exception<G::Error>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.generator.next() {
            Step::Yielded(()) => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Step::Returned(value) => Poll::Ready(Ok(value)),
            Step::Raised(exception) => Poll::Ready(Err(exception)),
        }
    }
}

/// A future as a generator; see [`from_future`].
#[derive(Debug)]
pub struct FutureGenerator<F, E = Infallible> {
    /// `None` once it has ended.
    future: Option<F>,
    protocol: PhantomData<fn(E)>,
}

/// A generator that yields each time `future` is not ready, and returns its output: what `await` is made of in Python.
///
/// Whoever steps it polls: the future's wake-ups go nowhere. An exception that is thrown, and closing, drop the future.
///
/// ```
/// use antiphon_core::{FutureGenerator, Generator, Step, from_future};
///
/// let mut five: FutureGenerator<_> = from_future(Box::pin(async { 5 }));
/// assert_eq!(five.next(), Step::Returned(5));
/// ```
pub const fn from_future<F: Future + Unpin, E>(future: F) -> FutureGenerator<F, E> {
    FutureGenerator { future: Some(future), protocol: PhantomData }
}

impl<F: Future + Unpin, E> Generator for FutureGenerator<F, E> {
    type Yield = ();
    type Sent = ();
    type Return = F::Output;
    type Error = E;

    fn resume(&mut self, with: Resume<(), Exception<E>>) -> StepOf<Self> {
        let exception = match with {
            Resume::Send(()) => None,
            Resume::Throw(exception) => Some(exception),
            Resume::Close => Some(Exception::GeneratorExit),
        };
        if let Some(exception) = exception {
            self.future = None;
            return Step::Raised(exception);
        }
        // Taken out meanwhile, so that a future that panics is gone.
        let Some(mut future) = self.future.take() else {
            return Step::Raised(Exception::Protocol(ProtocolError::Finished));
        };
        match Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Step::Returned(value),
            Poll::Pending => {
                self.future = Some(future);
                Step::Yielded(())
            }
        }
    }
}
