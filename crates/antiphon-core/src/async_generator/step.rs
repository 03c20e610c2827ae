//! One step of an asynchronous generator: what `anext`, `asend` and `athrow` give.

use crate::{AsyncGenerator, Exception, Resume, Sent};
use std::pin::Pin;
use std::task::{Context, Poll};

/// A step; ready with what was yielded, or `None` at the end.
///
/// Dropped while the body awaits, it drops the body.
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct AsyncStep<'a, 'g, Y, S: Sent, E> {
    generator: &'a mut AsyncGenerator<'g, Y, S, E>,
    progress: Progress<S, E>,
}

#[derive(Debug)]
enum Progress<S, E> {
    /// Not polled; `None` sends nothing.
    Fresh(Option<Resume<S, Exception<E>>>),
    UnderWay,
    Done,
}

impl<'a, 'g, Y, S: Sent, E> AsyncStep<'a, 'g, Y, S, E> {
    pub(super) const fn new(
        generator: &'a mut AsyncGenerator<'g, Y, S, E>,
        with: Option<Resume<S, Exception<E>>>,
    ) -> Self {
        Self { generator, progress: Progress::Fresh(with) }
    }
}

impl<Y, S: Sent, E> Unpin for AsyncStep<'_, '_, Y, S, E> {}

impl<Y, S: Sent, E> Future for AsyncStep<'_, '_, Y, S, E> {
    type Output = Result<Option<Y>, Exception<E>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match std::mem::replace(&mut self.progress, Progress::Done) {
            Progress::Done => return Poll::Ready(Ok(None)),
            Progress::UnderWay => {}
            Progress::Fresh(with) => {
                let with = with.unwrap_or_else(|| Resume::Send(S::none()));
                if let Err(answer) = self.generator.begin(with) {
                    return Poll::Ready(answer);
                }
            }
        }
        let poll = self.generator.poll_body(context);
        if poll.is_pending() {
            self.progress = Progress::UnderWay;
        }
        poll
    }
}

impl<Y, S: Sent, E> Drop for AsyncStep<'_, '_, Y, S, E> {
    fn drop(&mut self) {
        if matches!(self.progress, Progress::UnderWay) {
            self.generator.finish();
        }
    }
}
