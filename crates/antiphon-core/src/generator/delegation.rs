//! `yield from` without a chain: the driver keeps the delegates as a list and resumes the innermost.
//!
//! ```text
//!   driver ── body ─ yield from ─▶ [delegate 0, delegate 1, …, delegate n]
//!     └──────────── resume, in one step ─────────────────────────▲
//! ```
//!
//! A delegate that ends is taken off, and the one before it goes on at its `yield from` with the outcome. Closing goes the
//! same way: the innermost is closed first; how that went is raised in the one before, which is being closed as well,
//! and so on. The body itself is not closed here: its caller has thrown or closed, and knows.
//!
//! Invariant Y3: whoever is on the list waits at the `yield from` of the next; the last waits at a `yield`, or is about to
//! begin.
//!
//! Source: PEP 380; `gen_close_iter` and `_gen_throw` in CPython Objects/genobject.c for the order of closing.

use crate::generator::driver::raised_by_body;
use crate::generator::exchange::Exchange;
use crate::{Exception, ProtocolError, Sent};
use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// The exchange of a generator whose driver may give it away, with a place `T` for what it returns.
///
/// The place comes last, so that a list of delegates can forget its type.
pub(crate) struct Cells<Y, S, E, T: ?Sized> {
    pub(crate) exchange: Exchange<Y, S, E>,
    pub(crate) returned: T,
}

impl<Y, S, E, T: ?Sized> AsRef<Exchange<Y, S, E>> for Cells<Y, S, E, T> {
    #[inline]
    fn as_ref(&self) -> &Exchange<Y, S, E> {
        &self.exchange
    }
}

impl<Y, S, E> AsRef<Self> for Exchange<Y, S, E> {
    #[inline]
    fn as_ref(&self) -> &Self {
        self
    }
}

/// [`Cells`] for a returned value of type `R`.
pub(crate) type TypedCells<Y, S, R, E> = Cells<Y, S, E, Cell<Option<R>>>;

impl<Y, S, R, E> TypedCells<Y, S, R, E> {
    /// What a body that is ready has returned.
    pub(crate) fn take_returned(&self) -> Result<R, Exception<E>> {
        self.returned.take().ok_or(Exception::Protocol(ProtocolError::Finished))
    }
}

/// Anything at all: the type that a list of delegates has forgotten.
pub(crate) trait Opaque {}
impl<T> Opaque for T {}

/// The body of a generator whose driver may give it away; what it returns is in its cells.
pub(crate) type BoxedBody<E> = Pin<Box<dyn Future<Output = Result<(), Exception<E>>>>>;

/// One delegate.
pub(crate) struct Frame<Y, S, E> {
    pub(crate) cells: Rc<Cells<Y, S, E, dyn Opaque>>,
    pub(crate) body: BoxedBody<E>,
    /// Whether the body has been polled.
    pub(crate) begun: bool,
}

/// Delegates that a body asks its driver to run: one, and those that it delegates to already.
pub(crate) struct Request<Y, S, E> {
    pub(crate) first: Frame<Y, S, E>,
    pub(crate) rest: Delegates<Y, S, E>,
}

/// A generator that was taken apart, for a driver to run it as a delegate; see
/// [`Generator::into_delegation`](crate::Generator::into_delegation).
pub struct Delegation<Y, S, R, E> {
    pub(crate) kind: Kind<Y, S, R, E>,
}

pub(crate) enum Kind<Y, S, R, E> {
    Runnable(Box<Request<Y, S, E>>, Rc<TypedCells<Y, S, R, E>>),
    /// It was finished before.
    Finished,
}

/// A `yield from` whose delegate the driver runs.
pub(crate) struct YieldFrom<'a, Y, S, R, E> {
    exchange: &'a Exchange<Y, S, E>,
    /// Where the delegate puts what it returns.
    delegate: Result<Rc<TypedCells<Y, S, R, E>>, ProtocolError>,
}

impl<'a, Y, S, R, E> YieldFrom<'a, Y, S, R, E> {
    /// Hands the delegate to the driver.
    pub(crate) fn new(exchange: &'a Exchange<Y, S, E>, delegation: Delegation<Y, S, R, E>) -> Self {
        let delegate = match delegation.kind {
            Kind::Finished => Err(ProtocolError::Finished),
            Kind::Runnable(request, cells) => {
                exchange.put_request(request);
                Ok(cells)
            }
        };
        Self { exchange, delegate }
    }
}

impl<Y, S: Sent, R, E> Future for YieldFrom<'_, Y, S, R, E> {
    type Output = Result<R, Exception<E>>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        match &self.delegate {
            Err(error) => Poll::Ready(Err(Exception::Protocol(*error))),
            Ok(cells) => self.exchange.poll_answer().map(|answer| answer.and_then(|_| cells.take_returned())),
        }
    }
}

/// What delegates do next.
pub(crate) enum Next<Y, S, E> {
    /// The innermost goes on with this.
    With(Result<S, Exception<E>>),
    /// The innermost, or the body if there is none, delegates to another one.
    Begin(Box<Request<Y, S, E>>),
    /// The innermost has come to this.
    After(Progress<Y, S, E>),
}

/// How a run of delegates ends: with a yielded value, or with what the body is resumed with after the last of them.
pub(crate) type Outcome<Y, S, E> = Result<Y, Result<S, Exception<E>>>;

/// The delegates of one body, the innermost last.
pub(crate) struct Delegates<Y, S, E> {
    /// `None` until there is one: one word, which can be taken and put back.
    #[expect(clippy::box_collection, reason = "a vector is three words")]
    frames: Option<Box<Vec<Frame<Y, S, E>>>>,
}

impl<Y, S, E> Delegates<Y, S, E> {
    pub(crate) const fn new() -> Self {
        Self { frames: None }
    }

    #[inline(always)]
    pub(crate) fn take(&mut self) -> Self {
        Self { frames: self.frames.take() }
    }

    /// Whether there never were any.
    #[inline(always)]
    pub(crate) fn is_unused(&self) -> bool {
        self.frames.is_none()
    }

    /// The delegates in order, if there ever were any.
    #[inline(always)]
    pub(crate) fn frames(&mut self) -> Option<&mut [Frame<Y, S, E>]> {
        self.frames.as_deref_mut().map(Vec::as_mut_slice)
    }

    #[cold]
    fn push(&mut self, Request { first, rest }: Request<Y, S, E>) {
        let frames = self.frames.get_or_insert_default();
        frames.push(first);
        frames.extend(rest.frames.into_iter().flat_map(|rest| *rest));
    }

    fn len(&self) -> usize {
        self.frames.as_ref().map_or(0, |frames| frames.len())
    }

    /// The innermost one's place; there has to be one.
    pub(crate) fn innermost(&self) -> usize {
        self.len().saturating_sub(1)
    }
}

impl<Y, S: Sent, E> Delegates<Y, S, E> {
    /// Resumes the innermost delegate, and whoever its end concerns.
    ///
    /// `closing`: which delegate is being closed. Returns what was yielded, or how the outermost delegate ended, which is
    /// for the body; then there are none left.
    pub(crate) fn run(&mut self, mut next: Next<Y, S, E>, mut closing: Option<usize>) -> Outcome<Y, S, E> {
        loop {
            let value = self.run_to_yield(next, &mut closing)?;
            let Some(level) = closing else { return Ok(value) };
            // It ignored `GeneratorExit`, and nobody has it any more.
            self.split_off(level).abandon();
            closing = level.checked_sub(1);
            next = Next::With(Err(Exception::Protocol(ProtocolError::IgnoredExit)));
        }
    }

    /// What Python's finalizer does with a generator that waits: closes it, whatever comes of it.
    ///
    /// The list is that generator and its delegates.
    #[cold]
    pub(crate) fn abandon(mut self) {
        while self.len() > 0 && !std::thread::panicking() {
            let mut closing = Some(self.innermost());
            let mut with = Exception::GeneratorExit;
            // A delegate that ignores it is abandoned, and raises in the one before.
            while self.run_to_yield(Next::With(Err(with)), &mut closing).is_ok()
                && let Some(level) = closing.filter(|level| *level > 0)
            {
                self.split_off(level).abandon();
                closing = Some(level - 1);
                with = Exception::Protocol(ProtocolError::IgnoredExit);
            }
            // The generator itself is gone; if it has delegated meanwhile, that one has lost its owner, too.
            self = self.split_off(1.min(self.len()));
        }
    }

    /// Resumes until somebody yields, or the outermost ends.
    fn run_to_yield(&mut self, mut next: Next<Y, S, E>, closing: &mut Option<usize>) -> Outcome<Y, S, E> {
        loop {
            let progress = match next {
                Next::Begin(request) => Progress::Delegated(request),
                Next::After(progress) => progress,
                Next::With(with) => match self.frames().and_then(<[_]>::last_mut) {
                    Some(innermost) => innermost.resume(with),
                    None => return Err(with),
                },
            };
            next = Next::With(match progress {
                Progress::Yielded(value) => return Ok(value),
                Progress::Delegated(request) => {
                    self.push(*request);
                    Ok(S::none())
                }
                Progress::Finished(result) => {
                    let level = self.innermost();
                    drop(self.split_off(level));
                    after(result, level, closing)
                }
            });
        }
    }

    fn split_off(&mut self, level: usize) -> Self {
        let frames = self.frames.as_mut().map(|frames| frames.split_off(level));
        Self { frames: frames.filter(|frames| !frames.is_empty()).map(Box::new) }
    }
}

/// What goes to the one before, after the one at `level` has ended.
fn after<S: Sent, E>(
    result: Result<(), Exception<E>>,
    level: usize,
    closing: &mut Option<usize>,
) -> Result<S, Exception<E>> {
    if *closing != Some(level) {
        return result.map(|()| S::none());
    }
    *closing = level.checked_sub(1);
    Err(result.err().unwrap_or(Exception::GeneratorExit))
}

/// What a delegate came to.
pub(crate) enum Progress<Y, S, E> {
    Yielded(Y),
    Delegated(Box<Request<Y, S, E>>),
    Finished(Result<(), Exception<E>>),
}

impl<Y, S: Sent, E> Frame<Y, S, E> {
    fn resume(&mut self, with: Result<S, Exception<E>>) -> Progress<Y, S, E> {
        // A delegate that has not begun is begun with nothing, and its first `yield` must not find that.
        if std::mem::replace(&mut self.begun, true) {
            self.cells.exchange.put(with);
        }
        self.poll()
    }

    /// [`resume`](Self::resume), of one that waits at a `yield`.
    #[inline(always)]
    pub(crate) fn resume_after_yield(&mut self, with: Result<S, Exception<E>>) -> Progress<Y, S, E> {
        self.cells.exchange.put_after_yield(with);
        self.poll()
    }

    #[inline(always)]
    fn poll(&mut self) -> Progress<Y, S, E> {
        match self.body.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => Progress::Finished(result.map_err(raised_by_body)),
            Poll::Pending => match self.cells.exchange.take_yielded() {
                Some(value) => Progress::Yielded(value),
                None => match self.cells.exchange.take_request() {
                    Ok(request) => Progress::Delegated(request),
                    Err(error) => Progress::Finished(Err(Exception::Protocol(error))),
                },
            },
        }
    }
}
