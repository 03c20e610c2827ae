//! Generators whose body lives on the stack.

use crate::generator::Exchange;
use crate::generator::delegation::Delegates;
use crate::generator::driver::{Body, Driver, State};
use crate::{Exception, Generator, Resume, Sent, Step};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Makes a [`StackGenerator`](crate::StackGenerator) and binds it to a name: `generator!(let mut name = body)`.
///
/// `body` is called with a [`Yielder`](crate::Yielder) and gives the future to be the generator's body: an async function, or a
/// closure around an async block. Nothing is allocated; the generator lives until the end of the enclosing block.
///
/// ```
/// use antiphon_core::{Exception, Generator, Step, Yielder, generator};
///
/// let greeting = String::from("hello");
/// let greeting = greeting.as_str();
/// generator!(let mut words = |y: Yielder<'_, &str>| async move {
///     for word in greeting.split('l') {
///         y.yield_(word).await?;
///     }
///     Ok(greeting.len())
/// });
/// assert_eq!(words.next(), Step::Yielded("he"));
/// assert_eq!(words.close(), Ok(None));
/// ```
#[macro_export]
macro_rules! generator {
    (let $($name:ident)+ = $body:expr) => {
        let exchange = $crate::Exchange::new();
        let body = ::std::pin::pin!(exchange.call($body));
        let $($name)+ = $crate::StackGenerator::new(&exchange, body);
    };
}

/// A generator whose body is pinned elsewhere, usually on the stack by [`generator!`](macro@crate::generator).
///
/// Dropping it while it waits at a `yield` closes it. Its body is dropped with the block that it lives in.
pub struct StackGenerator<'a, B, Y, S = (), R = (), E = Infallible>
where
    S: Sent,
    B: Future<Output = Result<R, Exception<E>>>,
{
    driver: StackDriver<'a, B, Y, S, R, E>,
}

type StackDriver<'a, B, Y, S, R, E> = Driver<&'a Exchange<Y, S, E>, Pin<&'a mut B>, Y, S, R, E>;

impl<'a, B, Y, S, R, E> StackGenerator<'a, B, Y, S, R, E>
where
    S: Sent,
    B: Future<Output = Result<R, Exception<E>>>,
{
    /// A generator with `body`, which was made with the yielder of `exchange`.
    #[inline]
    #[must_use]
    pub const fn new(exchange: &'a Exchange<Y, S, E>, body: Pin<&'a mut B>) -> Self {
        Self { driver: Driver::new(exchange, body) }
    }
}

impl<B, T: ?Sized, R, E> Body<T, R, E> for Pin<&mut B>
where
    B: Future<Output = Result<R, Exception<E>>>,
{
    #[inline(always)]
    fn poll(&mut self, _: &T, context: &mut Context<'_>) -> Poll<Result<R, Exception<E>>> {
        self.as_mut().poll(context)
    }

    #[inline(always)]
    fn discard(&mut self) {}
}

impl<B, Y, S, R, E> Generator for StackGenerator<'_, B, Y, S, R, E>
where
    S: Sent,
    B: Future<Output = Result<R, Exception<E>>>,
{
    type Yield = Y;
    type Sent = S;
    type Return = R;
    type Error = E;

    #[inline(always)]
    fn resume(&mut self, with: Resume<S, Exception<E>>) -> Step<Y, R, Exception<E>> {
        self.driver.resume(with)
    }
}

impl<B, Y, S, R, E> Drop for StackGenerator<'_, B, Y, S, R, E>
where
    S: Sent,
    B: Future<Output = Result<R, Exception<E>>>,
{
    #[inline(always)]
    fn drop(&mut self) {
        if let Some((state, delegates)) = self.driver.abandon() {
            let (exchange, body) = self.driver.parts();
            close_abandoned(state, delegates, exchange, body.as_mut());
        }
    }
}

/// By value, so that a generator that was not abandoned can be kept in registers.
#[cold]
#[inline(never)]
fn close_abandoned<B, Y, S, R, E>(
    state: State,
    delegates: Delegates<Y, S, E>,
    exchange: &Exchange<Y, S, E>,
    body: Pin<&mut B>,
) where
    S: Sent,
    B: Future<Output = Result<R, Exception<E>>>,
{
    if !std::thread::panicking() {
        let mut driver = Driver::with_state(state, delegates, exchange, body);
        let _ = driver.resume(Resume::Close);
        driver.give_away().1.abandon();
    }
}

impl<B, Y, S, R, E> std::fmt::Debug for StackGenerator<'_, B, Y, S, R, E>
where
    S: Sent,
    B: Future<Output = Result<R, Exception<E>>>,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StackGenerator").field("state", &self.driver.state()).finish_non_exhaustive()
    }
}
