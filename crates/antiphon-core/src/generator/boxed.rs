//! Generators on the heap, which can be stored, returned, and delegated to at no cost for depth.

use crate::generator::delegation::{BoxedBody, Cells, Frame, Kind, Request, TypedCells};
use crate::generator::driver::{Body, Driver};
use crate::generator::{Delegation, Exchange};
use crate::{Exception, Generator, Resume, Sent, Step, Yielder};
use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;
use std::task::{Context, Poll};

/// A generator on the heap: two allocations, one for the body and one for what it shares with its driver.
///
/// ```
/// use antiphon_core::{BoxedGenerator, Exception, Generator, Step, Yielder};
///
/// async fn naturals(y: Yielder<'_, u64>, from: u64) -> Result<(), Exception> {
///     for n in from.. {
///         y.yield_(n).await?;
///     }
///     Ok(())
/// }
///
/// let mut generators: Vec<BoxedGenerator<u64>> =
///     (0..3).map(|i| BoxedGenerator::new(async move |y: Yielder<'_, u64>| naturals(y, i * 10).await)).collect();
/// assert_eq!(generators[2].next(), Step::Yielded(20));
/// assert_eq!(generators[2].next(), Step::Yielded(21));
/// ```
///
/// Dropping it while it waits at a `yield` closes it.
pub struct BoxedGenerator<Y, S = (), R = (), E = Infallible>
where
    S: Sent,
{
    driver: BoxedDriver<Y, S, R, E>,
}

type BoxedDriver<Y, S, R, E> = Driver<Rc<TypedCells<Y, S, R, E>>, Option<BoxedBody<E>>, Y, S, R, E>;

impl<Y, S, R, E> BoxedGenerator<Y, S, R, E>
where
    S: Sent + 'static,
    Y: 'static,
    R: 'static,
    E: 'static,
{
    /// A generator whose body is what `body` makes of the yielder: an async function or an async closure.
    #[must_use]
    pub fn new(body: impl AsyncFnOnce(Yielder<'_, Y, S, E>) -> Result<R, Exception<E>> + 'static) -> Self {
        let cells = Rc::new(Cells { exchange: Exchange::new(), returned: Cell::new(None) });
        let own = Rc::clone(&cells);
        let body: BoxedBody<E> = Box::pin(async move {
            own.returned.set(Some(body(own.exchange.yielder()).await?));
            Ok(())
        });
        Self { driver: Driver::new(cells, Some(body)) }
    }
}

impl<Y, S, R, E> Body<TypedCells<Y, S, R, E>, R, E> for Option<BoxedBody<E>> {
    #[inline]
    fn poll(
        &mut self,
        cells: &TypedCells<Y, S, R, E>,
        context: &mut Context<'_>,
    ) -> Poll<Result<R, Exception<E>>> {
        let Some(body) = self else { return Poll::Pending };
        body.as_mut().poll(context).map(|result| result.and_then(|()| cells.take_returned()))
    }

    fn discard(&mut self) {
        *self = None;
    }
}

impl<Y, S, R, E> Generator for BoxedGenerator<Y, S, R, E>
where
    S: Sent + 'static,
    Y: 'static,
    R: 'static,
    E: 'static,
{
    type Yield = Y;
    type Sent = S;
    type Return = R;
    type Error = E;

    #[inline(always)]
    fn resume(&mut self, with: Resume<S, Exception<E>>) -> Step<Y, R, Exception<E>> {
        self.driver.resume(with)
    }

    fn into_delegation(mut self) -> Result<Delegation<Y, S, R, E>, Self> {
        let cells = Rc::clone(self.driver.shared());
        let (body, rest, begun) = self.driver.give_away();
        let kind = match body.take() {
            None => Kind::Finished,
            Some(body) => {
                let first = Frame { cells: Rc::<TypedCells<Y, S, R, E>>::clone(&cells), body, begun };
                Kind::Runnable(Box::new(Request { first, rest }), cells)
            }
        };
        Ok(Delegation { kind })
    }
}

impl<Y, S: Sent, R, E> Drop for BoxedGenerator<Y, S, R, E> {
    fn drop(&mut self) {
        if self.driver.is_suspended() && !std::thread::panicking() {
            let _ = self.driver.resume(Resume::Close);
            self.driver.give_away().1.abandon();
        }
    }
}

impl<Y, S: Sent, R, E> std::fmt::Debug for BoxedGenerator<Y, S, R, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BoxedGenerator").field("state", &self.driver.state()).finish_non_exhaustive()
    }
}
