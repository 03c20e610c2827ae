//! The driver of a body: one poll at a time, by the protocol's rules.
//!
//! ```text
//!               next            yield from
//!     Created ────────▶ Suspended ◀─────────▶ Delegating
//!        │ throw, close     │ Ready, panic          │ panic
//!        └──────────▶ Finished ◀──────────────┘
//! ```
//!
//! Invariant Y1: a generator whose body panicked is finished; nobody polls that body again.
//! Invariant Y2: a boxed body is dropped when it is finished, not when its generator is; a body on the stack with its block.

use crate::generator::delegation::{Delegates, Frame, Next, Outcome, Progress};
use crate::generator::exchange::{Answer, Exchange};
use crate::{Exception, ProtocolError, Resume, Sent, Step};
use std::marker::PhantomData;
use std::ops::Deref;
use std::task::{Context, Poll, Waker};

/// What a driver polls.
///
/// `T` is what the driver has beside it: the exchange, or the exchange and more.
pub(crate) trait Body<T: ?Sized, R, E> {
    /// Polls the body, which is there.
    fn poll(&mut self, shared: &T, context: &mut Context<'_>) -> Poll<Result<R, Exception<E>>>;
    /// Drops the body, if that is to be done before the generator is dropped.
    fn discard(&mut self);
}

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[repr(u8)]
pub(crate) enum State {
    Created,
    Suspended,
    /// As `Suspended`, and a delegate is there to be resumed in its place.
    Delegating,
    Finished,
}

/// What the caller sees of an exception that a body let pass (PEP 479).
pub(crate) fn raised_by_body<E>(exception: Exception<E>) -> Exception<E> {
    match exception {
        Exception::Protocol(ProtocolError::Finished) => Exception::Protocol(ProtocolError::RaisedFinished),
        exception => exception,
    }
}

/// What the body is polled with, or what is answered without polling it.
type Ready<Y, S, R, E> = Result<Option<Answer<S, E>>, Step<Y, R, Exception<E>>>;

/// A body `B` with a pointer `X` to its exchange.
pub(crate) struct Driver<X, B, Y, S, R, E> {
    state: State,
    exchange: X,
    body: B,
    delegates: Delegates<Y, S, E>,
    returns: PhantomData<fn() -> R>,
}

impl<X, B, Y, S, R, E> Driver<X, B, Y, S, R, E> {
    pub(crate) const fn new(exchange: X, body: B) -> Self {
        Self { state: State::Created, exchange, body, delegates: Delegates::new(), returns: PhantomData }
    }

    /// Whether the body waits at a `yield`.
    #[inline]
    pub(crate) fn is_suspended(&self) -> bool {
        matches!(self.state, State::Suspended | State::Delegating)
    }

    /// A driver that goes on where another one was [abandoned](Self::abandon).
    pub(crate) const fn with_state(
        state: State,
        delegates: Delegates<Y, S, E>,
        exchange: X,
        body: B,
    ) -> Self {
        Self { state, exchange, body, delegates, returns: PhantomData }
    }

    /// Makes an end of it: what is needed to close its generator, if that waits or has delegates.
    ///
    /// Small, for it has to be inlined wherever a generator is dropped if that is to be kept in registers.
    #[inline(always)]
    pub(crate) fn abandon(&mut self) -> Option<(State, Delegates<Y, S, E>)> {
        if !self.is_suspended() && self.delegates.is_unused() {
            return None;
        }
        Some((std::mem::replace(&mut self.state, State::Finished), self.delegates.take()))
    }

    /// Its exchange and its body.
    #[inline(always)]
    pub(crate) fn parts(&mut self) -> (X, &mut B)
    where
        X: Copy,
    {
        (self.exchange, &mut self.body)
    }

    pub(crate) const fn state(&self) -> State {
        self.state
    }

    /// The pointer to the exchange.
    pub(crate) const fn shared(&self) -> &X {
        &self.exchange
    }

    /// Leaves the body and the delegates to somebody else to resume; also tells whether the body has begun.
    pub(crate) fn give_away(&mut self) -> (&mut B, Delegates<Y, S, E>, bool) {
        let begun = self.is_suspended();
        self.state = State::Finished;
        (&mut self.body, self.delegates.take(), begun)
    }
}

impl<X, B, Y, S, R, E> Driver<X, B, Y, S, R, E>
where
    X: Deref<Target: AsRef<Exchange<Y, S, E>>>,
    B: Body<X::Target, R, E>,
    S: Sent,
{
    /// [`Generator::resume`](crate::Generator::resume).
    ///
    /// The body is polled at one place, and what is rare is called by value: so the compiler can inline a body on the
    /// stack here, and keep the generator in registers.
    #[inline(always)]
    pub(crate) fn resume(&mut self, with: Resume<S, Exception<E>>) -> Step<Y, R, Exception<E>> {
        let closing = matches!(with, Resume::Close);
        let answer = match with {
            Resume::Send(value) => Ok(value),
            Resume::Throw(exception) => Err(exception),
            Resume::Close => Err(Exception::GeneratorExit),
        };
        let mut answer = if self.state == State::Suspended {
            self.exchange().put_after_yield(answer);
            None
        } else {
            match self.prepare(answer, closing) {
                Ok(ready) => ready,
                Err(step) => return step,
            }
        };
        loop {
            if let Some(answer) = answer {
                self.exchange().put(answer);
            }
            let panics = FinishedByPanic(&mut self.state);
            let poll = self.body.poll(&self.exchange, &mut Context::from_waker(Waker::noop()));
            std::mem::forget(panics);
            answer = match poll {
                Poll::Ready(result) => {
                    self.finish();
                    return match result {
                        Ok(value) => Step::Returned(value),
                        Err(exception) => Step::Raised(raised_by_body(exception)),
                    };
                }
                Poll::Pending => match self.exchange().take_yielded() {
                    Some(value) => return yielded(value, closing),
                    None => match self.exchange().take_request() {
                        Ok(request) => match self.run_delegates(Next::Begin(request), false, closing) {
                            Ok(ready) => ready,
                            Err(step) => return step,
                        },
                        Err(error) => {
                            self.finish();
                            return Step::Raised(Exception::Protocol(error));
                        }
                    },
                },
            };
        }
    }

    #[inline(always)]
    fn exchange(&self) -> &Exchange<Y, S, E> {
        (*self.exchange).as_ref()
    }

    #[inline(always)]
    fn finish(&mut self) {
        self.state = State::Finished;
        self.body.discard();
    }

    /// Makes ready for a poll of a body that does not wait at a `yield` of its own, or answers for it.
    #[inline(always)]
    fn prepare(&mut self, answer: Answer<S, E>, closing: bool) -> Ready<Y, S, R, E> {
        if self.state == State::Delegating {
            let exits = matches!(answer, Err(Exception::GeneratorExit));
            return match (self.delegates.frames(), answer) {
                (Some(frames), Ok(value)) => {
                    let panics = FinishedByPanic(&mut self.state);
                    let step = resume_innermost(frames, value);
                    std::mem::forget(panics);
                    match step {
                        Ok(value) => Err(yielded(value, closing)),
                        Err(progress) => self.run_delegates(Next::After(progress), exits, closing),
                    }
                }
                (_, answer) => self.run_delegates(Next::With(answer), exits, closing),
            };
        }
        match begin(self.state, answer) {
            None => {
                self.state = State::Suspended;
                Ok(None) // the first `yield` must not find an answer
            }
            Some((exception, finished)) => {
                if finished {
                    self.finish();
                }
                Err(Step::Raised(exception))
            }
        }
    }

    /// Resumes the innermost delegate, and whoever its end concerns, until something is yielded or the body goes on.
    ///
    /// `exits`: the innermost delegate is to be closed. `closing`: the generator itself is.
    #[inline(always)]
    fn run_delegates(&mut self, next: Next<Y, S, E>, exits: bool, closing: bool) -> Ready<Y, S, R, E> {
        self.state = State::Finished; // invariant Y1, of the delegates' bodies
        let (delegates, outcome) = run(self.delegates.take(), next, exits);
        self.delegates = delegates;
        match outcome {
            Ok(value) => {
                self.state = State::Delegating;
                Err(yielded(value, closing))
            }
            Err(result) => {
                self.state = State::Suspended;
                Ok(Some(result))
            }
        }
    }
}

/// [`Delegates::run`], by value.
#[cold]
#[inline(never)]
fn run<Y, S: Sent, E>(
    mut delegates: Delegates<Y, S, E>,
    next: Next<Y, S, E>,
    exits: bool,
) -> (Delegates<Y, S, E>, Outcome<Y, S, E>) {
    let level = exits.then(|| delegates.innermost());
    let outcome = delegates.run(next, level);
    (delegates, outcome)
}

/// What resuming costs while somebody delegates, at any depth.
#[inline(never)]
fn resume_innermost<Y, S: Sent, E>(frames: &mut [Frame<Y, S, E>], value: S) -> Result<Y, Progress<Y, S, E>> {
    match frames.last_mut().map(|innermost| innermost.resume_after_yield(Ok(value))) {
        Some(Progress::Yielded(value)) => Ok(value),
        Some(progress) => Err(progress),
        None => Err(Progress::Finished(Err(Exception::Protocol(ProtocolError::Finished)))), // by Y3 there is one
    }
}

/// What the rules say to a generator that does not wait: nothing, or an exception and whether it is finished by that.
#[cold]
#[inline(never)]
fn begin<S: Sent, E>(state: State, answer: Answer<S, E>) -> Option<(Exception<E>, bool)> {
    match (state, answer) {
        (State::Created, Ok(value)) if value.is_none() => None,
        (State::Created, Err(exception)) => Some((exception, true)),
        (State::Created, Ok(_)) => Some((Exception::Protocol(ProtocolError::JustStarted), false)),
        (_, Err(exception)) => Some((exception, false)),
        (_, Ok(_)) => Some((Exception::Protocol(ProtocolError::Finished), false)),
    }
}

/// Invariant Y1, on the stack of a poll.
struct FinishedByPanic<'a>(&'a mut State);

impl Drop for FinishedByPanic<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        *self.0 = State::Finished;
    }
}

/// A yielded value, which is an error while the generator is being closed.
#[inline(always)]
fn yielded<Y, R, E>(value: Y, closing: bool) -> Step<Y, R, Exception<E>> {
    if closing { Step::Raised(Exception::Protocol(ProtocolError::IgnoredExit)) } else { Step::Yielded(value) }
}
