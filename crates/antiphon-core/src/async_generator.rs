//! Asynchronous generators: bodies that yield and await.
//!
//! ```
//! use antiphon_core::{AsyncGenerator, Exception, Yielder};
//! # use std::future::{Future, ready};
//! # use std::pin::pin;
//! # use std::task::{Context, Poll, Waker};
//!
//! async fn ticks(y: Yielder<'_, u32>) -> Result<(), Exception> {
//!     for n in 0..2 {
//!         let n = ready(n).await; // anything that can be awaited
//!         y.yield_(n).await?;
//!     }
//!     Ok(())
//! }
//!
//! let program = async {
//!     let mut ticks = AsyncGenerator::new(ticks);
//!     assert_eq!(ticks.anext().await, Ok(Some(0)));
//!     assert_eq!(ticks.anext().await, Ok(Some(1)));
//!     assert_eq!(ticks.anext().await, Ok(None)); // Python's StopAsyncIteration, now and from now on
//! };
//! # assert!(pin!(program).poll(&mut Context::from_waker(Waker::noop())).is_ready());
//! ```
//!
//! Source: PEP 525; CPython Objects/genobject.c (`async_gen_asend_send`, `async_gen_athrow_send`).

mod step;
#[cfg(feature = "futures-core")]
mod stream;

pub use step::AsyncStep;
#[cfg(feature = "futures-core")]
pub use stream::from_stream;

use crate::generator::delegation::{Delegates, Next};
use crate::generator::driver::raised_by_body;
use crate::generator::exchange::Exchange;
use crate::{Exception, ProtocolError, Resume, Sent, Yielder};
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

type AsyncBody<'g, E> = Pin<Box<dyn Future<Output = Result<(), Exception<E>>> + 'g>>;

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum State {
    Created,
    /// The body waits at a `yield`, or its delegate does.
    Suspended,
    /// The body awaits something: a step is under way.
    Awaiting {
        /// The step is a close.
        closing: bool,
    },
    Finished,
}

/// An asynchronous generator on the heap.
///
/// One step at a time: each borrows the generator. Dropping the generator drops its body; what has to be awaited in a
/// clean-up is for [`aclose`](Self::aclose), which Python programs call for the same reason.
pub struct AsyncGenerator<'g, Y, S = (), E = Infallible> {
    state: State,
    exchange: Rc<Exchange<Y, S, E>>,
    /// `None` once finished.
    body: Option<AsyncBody<'g, E>>,
    delegates: Delegates<Y, S, E>,
}

impl<'g, Y: 'g, S: Sent + 'g, E: 'g> AsyncGenerator<'g, Y, S, E> {
    /// A generator whose body is what `body` makes of the yielder.
    #[must_use]
    pub fn new(body: impl AsyncFnOnce(Yielder<'_, Y, S, E>) -> Result<(), Exception<E>> + 'g) -> Self {
        let exchange = Rc::new(Exchange::new());
        let own = Rc::clone(&exchange);
        let body: AsyncBody<'g, E> = Box::pin(async move { body(own.yielder()).await });
        Self { state: State::Created, exchange, body: Some(body), delegates: Delegates::new() }
    }
}

impl<'g, Y, S: Sent, E> AsyncGenerator<'g, Y, S, E> {
    /// Resumes it with nothing: `await anext(generator)`.
    ///
    /// Comes back with what was yielded, or with `None` at the end and ever after.
    ///
    /// # Errors
    /// As [`athrow`](Self::athrow).
    ///
    /// # Cancellation
    /// A step that is dropped while the body awaits drops the body: its destructors run, and the generator is finished.
    pub const fn anext(&mut self) -> AsyncStep<'_, 'g, Y, S, E> {
        AsyncStep::new(self, None)
    }

    /// Resumes it with a value.
    ///
    /// # Errors
    /// [`ProtocolError::JustStarted`]: it has not come to a `yield` yet; it stays as it was. Otherwise as
    /// [`athrow`](Self::athrow).
    ///
    /// # Cancellation
    /// As [`anext`](Self::anext).
    pub const fn asend(&mut self, value: S) -> AsyncStep<'_, 'g, Y, S, E> {
        AsyncStep::new(self, Some(Resume::Send(value)))
    }

    /// Raises `exception` at the `yield` where it waits. A generator that has not begun is finished by it; one that is
    /// finished stays so, and the step comes back with `None`.
    ///
    /// # Errors
    /// What the body raises. [`ProtocolError::RaisedFinished`] if it lets another generator's end pass.
    ///
    /// # Cancellation
    /// As [`anext`](Self::anext).
    pub const fn athrow(&mut self, exception: Exception<E>) -> AsyncStep<'_, 'g, Y, S, E> {
        AsyncStep::new(self, Some(Resume::Throw(exception)))
    }

    /// Ends it: raises [`Exception::GeneratorExit`] where it waits, and waits for its clean-up.
    ///
    /// # Errors
    /// [`ProtocolError::IgnoredExit`]: it yielded instead; it is finished nevertheless. Anything else: it raised that.
    ///
    /// # Cancellation
    /// As [`anext`](Self::anext).
    pub async fn aclose(&mut self) -> Result<(), Exception<E>> {
        match AsyncStep::new(self, Some(Resume::Close)).await {
            Ok(_) | Err(Exception::GeneratorExit) => Ok(()),
            Err(exception) => Err(exception),
        }
    }

    /// Begins a step, or answers at once.
    fn begin(&mut self, with: Resume<S, Exception<E>>) -> Result<(), Result<Option<Y>, Exception<E>>> {
        let closing = matches!(with, Resume::Close);
        let with = match with {
            Resume::Send(value) => Ok(value),
            Resume::Throw(exception) => Err(exception),
            Resume::Close => Err(Exception::GeneratorExit),
        };
        match (self.state, with) {
            (State::Finished, _) => return Err(Ok(None)),
            (State::Awaiting { .. }, _) => {
                return Err(Err(Exception::Protocol(ProtocolError::AlreadyExecuting)));
            }
            (State::Created, Ok(value)) => {
                if !value.is_none() {
                    return Err(Err(Exception::Protocol(ProtocolError::JustStarted)));
                }
            }
            (State::Created, Err(exception)) => {
                self.finish();
                return Err(Err(exception));
            }
            (State::Suspended, with) => {
                let exits = matches!(with, Err(Exception::GeneratorExit));
                let level = exits.then(|| self.delegates.innermost());
                match self.delegates.run(Next::With(with), level) {
                    Ok(value) => return Err(self.yielded(value, closing)),
                    Err(result) => self.exchange.put(result),
                }
            }
        }
        self.state = State::Awaiting { closing };
        Ok(())
    }

    /// Goes on with the step that is under way.
    fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Y>, Exception<E>>> {
        let State::Awaiting { closing } = self.state else { return Poll::Ready(Ok(None)) };
        loop {
            // Taken out meanwhile, so that a body that panics is gone.
            self.state = State::Finished;
            let Some(mut body) = self.body.take() else { return Poll::Ready(Ok(None)) };
            if let Poll::Ready(result) = body.as_mut().poll(context) {
                return Poll::Ready(result.map(|()| None).map_err(raised_by_body));
            }
            self.body = Some(body);
            if let Some(value) = self.exchange.take_yielded() {
                return Poll::Ready(self.yielded(value, closing));
            }
            match self.exchange.take_request() {
                Err(ProtocolError::AwaitedForeign) => {
                    self.state = State::Awaiting { closing };
                    return Poll::Pending;
                }
                Err(error) => {
                    self.finish();
                    return Poll::Ready(Err(Exception::Protocol(error)));
                }
                Ok(request) => match self.delegates.run(Next::Begin(request), None) {
                    Ok(value) => return Poll::Ready(self.yielded(value, closing)),
                    Err(result) => self.exchange.put(result),
                },
            }
        }
    }

    fn yielded(&mut self, value: Y, closing: bool) -> Result<Option<Y>, Exception<E>> {
        if closing {
            self.finish();
            return Err(Exception::Protocol(ProtocolError::IgnoredExit));
        }
        self.state = State::Suspended;
        Ok(Some(value))
    }

    fn finish(&mut self) {
        self.state = State::Finished;
        self.body = None;
        self.delegates.take().abandon();
    }
}

impl<Y, S, E> std::fmt::Debug for AsyncGenerator<'_, Y, S, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AsyncGenerator").field("state", &self.state).finish_non_exhaustive()
    }
}
