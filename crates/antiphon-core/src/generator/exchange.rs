//! What a generator's body and its driver share, and what the body sees of it.

use crate::generator::delegation::{Request, YieldFrom};
use crate::{Exception, Generator, ProtocolError, Sent, Step};
use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// What a `yield` is resumed with: a value that was sent, or an exception that was thrown.
pub(crate) type Answer<S, E> = Result<S, Exception<E>>;

/// The cell between a generator's body and its driver, for what is yielded and what is sent.
///
/// [`generator!`](macro@crate::generator) makes it where it is needed.
///
/// ```
/// use antiphon_core::{Exception, Exchange, Generator, StackGenerator, Step};
/// use std::pin::pin;
///
/// let exchange = Exchange::<u32>::new();
/// let y = exchange.yielder();
/// let body = pin!(async move {
///     y.yield_(1).await?;
///     Ok::<_, Exception>("end")
/// });
/// let mut generator = StackGenerator::new(&exchange, body);
/// assert_eq!(generator.next(), Step::Yielded(1));
/// assert_eq!(generator.next(), Step::Returned("end"));
/// ```
pub struct Exchange<Y, S = (), E = Infallible> {
    /// One for both directions, for resuming costs as much as it stores. [`Slot::Resumed`] is put there as the yielded value is
    /// taken, and the body leaves it there: most resumes store nothing else.
    slot: Cell<Slot<Y, S, E>>,
}

/// What is on its way, in one direction or the other.
pub(crate) enum Slot<Y, S, E> {
    /// Nothing: no `yield` is resumed before the driver says so.
    Empty,
    /// To the driver: a yielded value.
    Yielded(Y),
    /// To the body: its `yield` is resumed with nothing.
    Resumed,
    /// To the body: what else its `yield` is resumed with.
    Answered(Answer<S, E>),
    /// To the driver: a delegate that is to be run before the body goes on.
    Requested(Box<Request<Y, S, E>>),
    /// To the driver: the body has yielded twice at once.
    Clash,
}

impl<Y, S, E> Exchange<Y, S, E> {
    /// An empty cell.
    #[must_use]
    pub const fn new() -> Self {
        Self { slot: Cell::new(Slot::Empty) }
    }

    /// The body's side.
    #[inline]
    #[must_use]
    pub const fn yielder(&self) -> Yielder<'_, Y, S, E> {
        Yielder { exchange: self }
    }

    /// Calls `body` with the yielder: a closure passed to it needs no types for its argument.
    #[doc(hidden)]
    #[inline]
    pub fn call<'a, R, B>(&'a self, body: impl FnOnce(Yielder<'a, Y, S, E>) -> B) -> B
    where
        B: Future<Output = Result<R, Exception<E>>>,
    {
        body(self.yielder())
    }

    /// What the slot says. It is taken out and put back for that, which compiles to a look where `Y` is small.
    #[inline(always)]
    fn sees<T>(&self, see: impl FnOnce(&Slot<Y, S, E>) -> T) -> T {
        let slot = self.slot.replace(Slot::Empty);
        let seen = see(&slot);
        std::mem::forget(self.slot.replace(slot));
        seen
    }

    /// To the driver, if there is room.
    #[inline(always)]
    fn post_yielded(&self, value: Y) {
        if self.sees(|place| matches!(place, Slot::Empty | Slot::Resumed)) || self.make_room() {
            std::mem::forget(self.slot.replace(Slot::Yielded(value))); // nothing, and no destructor for it
        }
    }

    /// Drops an answer that nobody awaited. Whatever is on its way to the driver stays there, as a clash: then there is no room.
    #[cold]
    #[inline(never)]
    fn make_room(&self) -> bool {
        let former = self.slot.replace(Slot::Empty);
        let clashes = !matches!(former, Slot::Empty | Slot::Resumed | Slot::Answered(_));
        drop(former);
        if clashes {
            let other = self.slot.replace(Slot::Clash);
            drop(other);
        }
        !clashes
    }

    /// What the body is resumed with. An answer that nobody awaited is dropped.
    pub(crate) fn put(&self, answer: Answer<S, E>) {
        let former = self.slot.replace(Slot::Answered(answer));
        drop(former);
    }

    /// Asks the driver to run a delegate.
    pub(crate) fn put_request(&self, request: Box<Request<Y, S, E>>) {
        if self.make_room() {
            let nothing = self.slot.replace(Slot::Requested(request));
            drop(nothing);
        }
    }

    /// What a body asks for that waits without having yielded: a delegate to be run.
    #[cold]
    #[inline(never)]
    pub(crate) fn take_request(&self) -> Result<Box<Request<Y, S, E>>, ProtocolError> {
        match self.slot.replace(Slot::Empty) {
            Slot::Requested(request) => Ok(request),
            Slot::Yielded(_) | Slot::Clash => Err(ProtocolError::YieldPending),
            Slot::Empty | Slot::Resumed | Slot::Answered(_) => Err(ProtocolError::AwaitedForeign),
        }
    }

    /// What a body has yielded that waits, if it has.
    ///
    /// A `yield` is answered with nothing at once, since that is what most are resumed with.
    #[inline(always)]
    pub(crate) fn take_yielded(&self) -> Option<Y> {
        match self.slot.replace(Slot::Resumed) {
            Slot::Yielded(value) => Some(value),
            other => {
                std::mem::forget(self.slot.replace(other)); // what was put there just now
                None
            }
        }
    }
}

impl<Y, S: Sent, E> Exchange<Y, S, E> {
    /// What was put, which is there.
    #[cold]
    #[inline(never)]
    fn take_answer(&self) -> Answer<S, E> {
        match self.slot.replace(Slot::Empty) {
            Slot::Answered(answer) => answer,
            other => {
                std::mem::forget(self.slot.replace(other)); // what was put there just now
                Ok(S::none())
            }
        }
    }

    /// What a `yield` or `yield from` is resumed with, if that has come.
    #[inline(always)]
    pub(crate) fn poll_answer(&self) -> Poll<Answer<S, E>> {
        if self.sees(|place| matches!(place, Slot::Resumed)) {
            Poll::Ready(Ok(S::none()))
        } else if self.sees(|place| matches!(place, Slot::Answered(_))) {
            Poll::Ready(self.take_answer())
        } else {
            Poll::Pending
        }
    }

    /// What the body is resumed with, if it waits since [`take_yielded`](Self::take_yielded): for nothing there is nothing to do.
    #[inline(always)]
    pub(crate) fn put_after_yield(&self, answer: Answer<S, E>) {
        if !matches!(&answer, Ok(value) if value.is_none()) {
            self.put(answer);
        }
    }
}

impl<Y, S, E> Default for Exchange<Y, S, E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<Y, S, E> std::fmt::Debug for Exchange<Y, S, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange").finish_non_exhaustive()
    }
}

/// What a body yields with; it can be copied and handed on to functions that yield on the body's behalf.
///
/// `Y` is yielded, `S` can be sent, `E` can be thrown and raised.
///
/// ```
/// use antiphon_core::{BoxedGenerator, Exception, Yielder, values};
///
/// async fn twice(y: Yielder<'_, u32>, n: u32) -> Result<(), Exception> {
///     y.yield_(n).await?;
///     y.yield_(n).await
/// }
/// let numbers = BoxedGenerator::new(async |y: Yielder<'_, u32>| {
///     twice(y, 1).await?;
///     y.yield_all([2, 3]).await
/// });
/// assert_eq!(values(numbers).map(Result::unwrap).collect::<Vec<_>>(), [1, 1, 2, 3]);
/// ```
pub struct Yielder<'a, Y, S = (), E = Infallible> {
    exchange: &'a Exchange<Y, S, E>,
}

impl<Y, S, E> Clone for Yielder<'_, Y, S, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Y, S, E> Copy for Yielder<'_, Y, S, E> {}

impl<Y, S, E> std::fmt::Debug for Yielder<'_, Y, S, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Yielder").finish_non_exhaustive()
    }
}

impl<'a, Y, S, E> Yielder<'a, Y, S, E> {
    /// Yields `value`, and comes back with what the generator is resumed with.
    ///
    /// The value is handed over at once, and the body has to await what comes back before it yields again: two yields at
    /// once finish the generator with [`ProtocolError::YieldPending`](crate::ProtocolError::YieldPending).
    ///
    /// # Errors
    /// What was thrown, and [`Exception::GeneratorExit`] when the generator is closed.
    ///
    /// # Cancellation
    /// A `yield` that is dropped has yielded nevertheless; what the generator is resumed with is lost.
    #[inline(always)]
    pub fn yield_(self, value: Y) -> Yield<'a, Y, S, E> {
        self.exchange.post_yielded(value);
        Yield { exchange: self.exchange }
    }

    /// Python's `yield from`: `delegate` yields, is sent to, thrown into and closed in this generator's place until it is
    /// finished. Comes back with what it returned.
    ///
    /// A delegate by value is dropped at its end, one by `&mut` stays. A [`BoxedGenerator`](crate::BoxedGenerator) by
    /// value is resumed directly by the outermost driver, whatever the depth.
    ///
    /// ```
    /// use antiphon_core::{BoxedGenerator, Exception, Generator, Step, Yielder};
    ///
    /// async fn inner(y: Yielder<'_, u32>) -> Result<u32, Exception> {
    ///     y.yield_(1).await?;
    ///     Ok(2)
    /// }
    /// let mut outer = BoxedGenerator::new(async |y: Yielder<'_, u32>| {
    ///     let returned = y.yield_from(BoxedGenerator::new(inner)).await?;
    ///     Ok(returned + 1)
    /// });
    /// assert_eq!(outer.next(), Step::Yielded(1));
    /// assert_eq!(outer.next(), Step::Returned(3));
    /// ```
    ///
    /// # Errors
    /// What the delegate raises. When this generator is closed or [`Exception::GeneratorExit`] thrown, the delegate is
    /// closed first; then that exception is raised here, or what closing the delegate raised.
    ///
    /// # Cancellation
    /// As with [`yield_`](Self::yield_). A delegate by value that the driver runs already is run to its end.
    pub async fn yield_from<G>(self, mut delegate: G) -> Result<G::Return, Exception<E>>
    where
        G: Generator<Yield = Y, Sent = S, Error = E>,
        S: Sent,
    {
        match delegate.into_delegation() {
            Ok(delegation) => return YieldFrom::new(self.exchange, delegation).await,
            Err(same) => delegate = same,
        }
        let mut step = delegate.next();
        loop {
            let value = match step {
                Step::Yielded(value) => value,
                Step::Returned(value) => return Ok(value),
                Step::Raised(exception) => return Err(exception),
            };
            step = match self.yield_(value).await {
                Ok(sent) => delegate.send(sent),
                Err(Exception::GeneratorExit) => {
                    delegate.close()?;
                    return Err(Exception::GeneratorExit);
                }
                Err(exception) => delegate.throw(exception),
            };
        }
    }

    /// Yields everything that `values` has; an error if something is sent meanwhile, as with Python's `yield from list`.
    ///
    /// # Errors
    /// As [`yield_from`](Self::yield_from); [`ProtocolError::NotSendable`](crate::ProtocolError::NotSendable).
    pub async fn yield_all(self, values: impl IntoIterator<Item = Y>) -> Result<(), Exception<E>>
    where
        S: Sent,
    {
        self.yield_from(crate::from_iter(values)).await
    }
}

/// One `yield`, made by [`Yielder::yield_`].
#[must_use = "a yield has to be awaited"]
pub struct Yield<'a, Y, S = (), E = Infallible> {
    exchange: &'a Exchange<Y, S, E>,
}

impl<Y, S: Sent, E> Future for Yield<'_, Y, S, E> {
    type Output = Result<S, Exception<E>>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        self.exchange.poll_answer()
    }
}

impl<Y, S, E> std::fmt::Debug for Yield<'_, Y, S, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Yield").finish_non_exhaustive()
    }
}
