//! Asynchronous generators answer as CPython 3.13's did to the same steps (noted beside each).

use antiphon_core::{AsyncGenerator, Exception, ProtocolError, Yielder};
use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

type Failure = &'static str;
type Numbers<'g> = AsyncGenerator<'g, u8, Option<u8>, Failure>;
type Log = Rc<RefCell<Vec<&'static str>>>;

/// Lets the caller see one `Pending`.
async fn pause() {
    let mut paused = false;
    poll_fn(|context| {
        if std::mem::replace(&mut paused, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return value;
        }
    }
}

/// `try: await pause(); x = yield 1; yield 2` with a note at its end, however that comes.
fn numbers(log: &Log) -> Numbers<'static> {
    let log = Rc::clone(log);
    AsyncGenerator::new(async move |y: Yielder<'_, u8, Option<u8>, Failure>| {
        let outcome = async {
            pause().await;
            if y.yield_(1).await?.is_some() {
                log.borrow_mut().push("sent");
            }
            y.yield_(2).await
        }
        .await;
        pause().await; // a clean-up may await
        log.borrow_mut().push("end");
        outcome.map(drop)
    })
}

#[test]
fn end_is_told_every_time() {
    let log = Log::default();
    block_on(async {
        let mut numbers = numbers(&log);
        assert_eq!(numbers.asend(None).await, Ok(Some(1)));
        assert_eq!(numbers.asend(Some(3)).await, Ok(Some(2)));
        assert_eq!(numbers.anext().await, Ok(None)); // StopAsyncIteration
        assert_eq!(numbers.anext().await, Ok(None));
        assert_eq!(numbers.athrow("x".into()).await, Ok(None)); // None
        assert_eq!(numbers.aclose().await, Ok(()));
        assert_eq!(numbers.asend(Some(4)).await, Ok(None)); // StopAsyncIteration
    });
    assert_eq!(*log.borrow(), ["sent", "end"]);
}

#[test]
fn fresh_one_refuses_values_and_is_ended_by_exceptions() {
    let log = Log::default();
    block_on(async {
        let mut fresh = numbers(&log);
        assert_eq!(fresh.asend(Some(5)).await, Err(Exception::Protocol(ProtocolError::JustStarted)));
        assert_eq!(fresh.anext().await, Ok(Some(1)));
        let mut thrown = numbers(&log);
        assert_eq!(thrown.athrow("x".into()).await, Err(Exception::Error("x")));
        assert_eq!(thrown.anext().await, Ok(None));
        let mut closed = numbers(&log);
        assert_eq!(closed.aclose().await, Ok(()));
        assert_eq!(closed.anext().await, Ok(None));
    });
    assert!(log.borrow().is_empty());
}

#[test]
fn close_waits_for_the_clean_up() {
    let log = Log::default();
    block_on(async {
        let mut numbers = numbers(&log);
        assert_eq!(numbers.anext().await, Ok(Some(1)));
        assert_eq!(numbers.aclose().await, Ok(()));
        assert_eq!(*log.borrow(), ["end"]);
        assert_eq!(numbers.athrow("q".into()).await, Ok(None));
        assert_eq!(numbers.anext().await, Ok(None));
    });
}

#[test]
fn thrown_exit_comes_back() {
    let log = Log::default();
    block_on(async {
        let mut numbers = numbers(&log);
        assert_eq!(numbers.anext().await, Ok(Some(1)));
        assert_eq!(numbers.athrow(Exception::GeneratorExit).await, Err(Exception::GeneratorExit));
        assert_eq!(numbers.anext().await, Ok(None));
    });
}

#[test]
fn end_of_another_generator_does_not_pass_for_its_own() {
    let log = Log::default();
    block_on(async {
        let mut numbers = numbers(&log);
        assert_eq!(numbers.anext().await, Ok(Some(1)));
        let end = Exception::Protocol(ProtocolError::Finished);
        let outcome = numbers.athrow(end).await; // RuntimeError: async generator raised StopIteration
        assert_eq!(outcome, Err(Exception::Protocol(ProtocolError::RaisedFinished)));
    });
}

#[test]
fn ignored_close_is_an_error_and_ends_it() {
    let ignores = || -> Numbers<'static> {
        AsyncGenerator::new(async |y: Yielder<'_, u8, Option<u8>, Failure>| {
            assert_eq!(y.yield_(1).await, Err(Exception::GeneratorExit));
            y.yield_(5).await.map(drop)
        })
    };
    block_on(async {
        let mut closed = ignores();
        assert_eq!(closed.anext().await, Ok(Some(1)));
        assert_eq!(closed.aclose().await, Err(Exception::Protocol(ProtocolError::IgnoredExit)));
        assert_eq!(closed.anext().await, Ok(None)); // StopAsyncIteration
        assert_eq!(closed.aclose().await, Ok(()));
        let mut thrown = ignores();
        assert_eq!(thrown.anext().await, Ok(Some(1)));
        assert_eq!(thrown.athrow(Exception::GeneratorExit).await, Ok(Some(5)));
        assert_eq!(thrown.anext().await, Ok(None));
    });
}

#[test]
fn dropped_step_drops_the_body() {
    let log = Log::default();
    let mut numbers = numbers(&log);
    {
        let mut step = pin!(numbers.anext());
        assert!(step.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    assert_eq!(Rc::strong_count(&log), 1);
    assert_eq!(block_on(numbers.anext()), Ok(None));
}

#[test]
fn async_generator_can_delegate_to_a_plain_one() {
    block_on(async {
        let mut outer: AsyncGenerator<'_, u8> = AsyncGenerator::new(async |y: Yielder<'_, u8>| {
            let inner =
                antiphon_core::BoxedGenerator::new(async |y: Yielder<'_, u8>| y.yield_all([1, 2]).await);
            y.yield_from(inner).await?;
            pause().await;
            y.yield_(3).await
        });
        for expected in [Some(1), Some(2), Some(3), None] {
            assert_eq!(outer.anext().await, Ok(expected));
        }
    });
}
