//! Asynchronous generators from and to `futures_core`'s streams.

use super::State;
use crate::{AsyncGenerator, Exception, Resume, Sent};
use futures_core::Stream;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

/// Yields what it would yield to `anext`; an exception is the last item.
impl<Y, S: Sent, E> Stream for AsyncGenerator<'_, Y, S, E> {
    type Item = Result<Y, Exception<E>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !matches!(self.state, State::Awaiting { .. })
            && let Err(answer) = self.begin(Resume::Send(S::none()))
        {
            return Poll::Ready(answer.transpose());
        }
        self.poll_body(context).map(Result::transpose)
    }
}

/// An asynchronous generator that yields what `stream` has, and drops it when it is closed.
///
/// ```
/// use antiphon_core::{AsyncGenerator, from_stream};
/// # use std::pin::pin;
/// # use std::task::{Context, Poll, Waker};
///
/// let program = async {
///     let numbers: AsyncGenerator<'_, u32> = AsyncGenerator::new(async |y: antiphon_core::Yielder<'_, u32>| y.yield_(7).await);
///     let mut outcomes: AsyncGenerator<'_, _> = from_stream(numbers); // a generator is a stream
///     assert_eq!(outcomes.anext().await, Ok(Some(Ok(7))));
///     assert_eq!(outcomes.anext().await, Ok(None));
/// };
/// # assert!(pin!(program).poll(&mut Context::from_waker(Waker::noop())).is_ready());
/// ```
pub fn from_stream<'g, T, S, E>(stream: T) -> AsyncGenerator<'g, T::Item, S, E>
where
    T: Stream + 'g,
    S: Sent + 'g,
    E: 'g,
{
    AsyncGenerator::new(async move |y: crate::Yielder<'_, T::Item, S, E>| {
        let mut stream = pin!(stream);
        while let Some(item) = poll_fn(|context| stream.as_mut().poll_next(context)).await {
            y.yield_(item).await?;
        }
        Ok(())
    })
}
