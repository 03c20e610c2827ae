//! Rules of generators that no program of Python can show: Rust's own ways to misuse one.

use antiphon_core::{
    BoxedGenerator, Exception, Exchange, Generator, ProtocolError, Resume, StackGenerator, Step, Yielder,
    from_iter, generator, values,
};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

const FINISHED: Step<u8, (), Exception> = Step::Raised(Exception::Protocol(ProtocolError::Finished));

fn raised<Y, R>(error: ProtocolError) -> Step<Y, R, Exception> {
    Step::Raised(Exception::Protocol(error))
}

#[test]
fn body_that_panicked_is_finished_and_never_polled_again() {
    let polls = Rc::new(Cell::new(0));
    let seen = Rc::clone(&polls);
    let mut generator = BoxedGenerator::new(async move |y: Yielder<'_, u8>| {
        y.yield_(1).await?;
        seen.set(seen.get() + 1);
        panic!("on purpose")
    });
    assert_eq!(generator.next(), Step::Yielded(1));
    assert!(catch_unwind(AssertUnwindSafe(|| generator.next())).is_err());
    assert_eq!(generator.next(), FINISHED);
    assert_eq!(generator.close(), Ok(None));
    assert_eq!(polls.get(), 1);
}

#[test]
fn delegate_that_panicked_takes_its_owner_along() {
    let mut generator = BoxedGenerator::new(async move |y: Yielder<'_, u8>| {
        y.yield_from(BoxedGenerator::new(async move |y: Yielder<'_, u8>| {
            y.yield_(1).await?;
            panic!("on purpose")
        }))
        .await
    });
    assert_eq!(generator.next(), Step::Yielded(1));
    assert!(catch_unwind(AssertUnwindSafe(|| generator.next())).is_err());
    assert_eq!(generator.next(), FINISHED);
}

#[test]
fn two_yields_at_once_finish_the_generator() {
    generator!(let mut generator = |y: Yielder<'_, u8>| async move {
        let (first, _second) = (y.yield_(1), y.yield_(2));
        first.await
    });
    assert_eq!(generator.next(), raised(ProtocolError::YieldPending));
    assert_eq!(generator.next(), FINISHED);
}

#[test]
fn delegation_while_a_yield_is_pending_finishes_the_generator() {
    let delegate = BoxedGenerator::new(async |y: Yielder<'_, u8>| y.yield_(9).await);
    let mut generator = BoxedGenerator::new(async move |y: Yielder<'_, u8>| {
        let _pending = y.yield_(1);
        y.yield_from(delegate).await
    });
    assert_eq!(generator.next(), raised(ProtocolError::YieldPending));
    assert_eq!(generator.next(), FINISHED);
}

#[test]
fn yield_polled_twice_in_a_step_waits_all_the_same() {
    generator!(let mut generator = |y: Yielder<'_, u8, Option<u8>>| async move {
        let mut twice = pin!(y.yield_(1));
        let answer = poll_fn(|context| {
            let first = twice.as_mut().poll(context);
            if first.is_pending() { twice.as_mut().poll(context) } else { first }
        });
        answer.await
    });
    assert_eq!(generator.next(), Step::Yielded(1));
    assert_eq!(generator.send(Some(5)), Step::<u8, _, Exception>::Returned(Some(5)));
}

#[test]
fn yield_that_is_first_polled_after_the_resume_has_its_answer() {
    for sent in [None, Some(3)] {
        generator!(let mut generator = |y: Yielder<'_, u8, Option<u8>>| async move {
            let later = y.yield_(1);
            let mut waits = true;
            poll_fn(|_| if std::mem::take(&mut waits) { Poll::Pending } else { Poll::Ready(()) }).await;
            later.await
        });
        assert_eq!(generator.next(), Step::Yielded(1));
        assert_eq!(generator.send(sent), Step::<u8, _, Exception>::Returned(sent));
    }
}

#[test]
fn dropped_yield_does_not_leave_its_answer_to_the_next() {
    generator!(let mut generator = |y: Yielder<'_, u8, Option<u8>>| async move {
        {
            let mut dropped = pin!(y.yield_(1));
            // Polled once, and dropped when the generator is resumed.
            let mut polled = false;
            poll_fn(|context| {
                if polled {
                    return Poll::Ready(());
                }
                polled = true;
                assert!(dropped.as_mut().poll(context).is_pending());
                Poll::Pending
            })
            .await;
        }
        y.yield_(2).await
    });
    assert_eq!(generator.next(), Step::Yielded(1));
    assert_eq!(generator.send(Some(10)), Step::Yielded(2));
    assert_eq!(generator.send(Some(20)), Step::<u8, _, Exception>::Returned(Some(20)));
}

#[test]
fn foreign_future_raises_instead_of_hanging() {
    let mut generator = BoxedGenerator::new(async |y: Yielder<'_, u8>| {
        y.yield_(1).await?;
        std::future::pending::<()>().await;
        Ok(())
    });
    assert_eq!(generator.next(), Step::Yielded(1));
    assert_eq!(generator.next(), raised(ProtocolError::AwaitedForeign));
    assert_eq!(generator.next(), FINISHED);
}

#[test]
fn boxed_body_is_dropped_at_the_end_and_not_later() {
    let captured = Rc::new(());
    let inside = Rc::clone(&captured);
    let mut generator = BoxedGenerator::new(async move |y: Yielder<'_, u8>| {
        let _inside = inside;
        y.yield_(1).await
    });
    assert_eq!(generator.close(), Ok(None)); // before it has begun
    assert_eq!(Rc::strong_count(&captured), 1);
}

#[test]
fn iterator_refuses_values_and_survives_exceptions() {
    let mut numbers = BoxedGenerator::new(async |y: Yielder<'_, u8, Option<u8>, &'static str>| {
        let sent = y.yield_all([1, 2]).await;
        assert_eq!(sent, Err(Exception::Protocol(ProtocolError::NotSendable)));
        y.yield_from(from_iter([3])).await
    });
    assert_eq!(numbers.next(), Step::Yielded(1));
    assert_eq!(numbers.send(Some(9)), Step::Yielded(3));
    assert_eq!(numbers.throw("no".into()), Step::Raised(Exception::Error("no")));
}

#[test]
fn finished_delegate_raises_at_the_delegation() {
    let mut empty = BoxedGenerator::new(async |_: Yielder<'_, u8>| Ok(()));
    assert_eq!(empty.next(), Step::Returned(()));
    let mut outer = BoxedGenerator::new(async move |y: Yielder<'_, u8>| {
        assert_eq!(y.yield_from(empty).await, Err(Exception::Protocol(ProtocolError::Finished)));
        y.yield_(4).await
    });
    assert_eq!(outer.next(), Step::Yielded(4));
}

#[test]
fn generator_given_away_halfway_goes_on_where_it_was() {
    let numbers =
        |from: u8| BoxedGenerator::new(async move |y: Yielder<'_, u8>| y.yield_all(from..from + 3).await);
    let mut inner = BoxedGenerator::new(async move |y: Yielder<'_, u8>| y.yield_from(numbers(0)).await);
    assert_eq!(inner.next(), Step::Yielded(0)); // inside its own delegation
    let mut outer = BoxedGenerator::new(async move |y: Yielder<'_, u8>| y.yield_from(inner).await);
    assert_eq!(outer.next(), Step::Yielded(1));
    assert_eq!(outer.next(), Step::Yielded(2));
    assert_eq!(outer.next(), Step::Returned(()));
}

#[test]
fn many_levels_of_delegation_use_no_stack_to_resume() {
    fn nested(depth: u32) -> BoxedGenerator<u32> {
        BoxedGenerator::new(async move |y: Yielder<'_, u32>| {
            y.yield_(depth).await?;
            if depth > 0 { y.yield_from(nested(depth - 1)).await } else { Ok(()) }
        })
    }
    let depth = 100_000;
    let mut sum = 0_u64;
    for value in values(nested(depth)) {
        sum += u64::from(value.unwrap());
    }
    assert_eq!(sum, u64::from(depth) * u64::from(depth + 1) / 2);
}

#[test]
fn generator_on_the_stack_can_be_made_by_hand() {
    let exchange = <Exchange<u8>>::new();
    let y = exchange.yielder();
    let body = pin!(async move { y.yield_(7).await });
    let mut generator = StackGenerator::new(&exchange, body);
    assert_eq!(generator.resume(Resume::Send(())), Step::Yielded(7));
    assert_eq!(generator.resume(Resume::Close), Step::Raised(Exception::GeneratorExit));
}

#[test]
fn delegate_of_an_abandoned_generator_is_closed_even_if_its_owner_ignores_that_twice() {
    let closed = Rc::new(Cell::new(0));
    let mut outer = BoxedGenerator::new({
        let closed = Rc::clone(&closed);
        async move |y: Yielder<'_, u8>| {
            let stubborn = BoxedGenerator::new(async move |y: Yielder<'_, u8>| {
                let mut outcome = y.yield_(1).await;
                for value in [2, 3] {
                    assert_eq!(outcome, Err(Exception::GeneratorExit));
                    let closed = Rc::clone(&closed);
                    let last = BoxedGenerator::new(async move |y: Yielder<'_, u8>| {
                        let outcome = y.yield_(value).await;
                        closed.set(closed.get() + 1);
                        outcome
                    });
                    outcome = y.yield_from(last).await;
                }
                outcome
            });
            y.yield_from(stubborn).await
        }
    });
    assert_eq!(outer.next(), Step::Yielded(1));
    assert_eq!(outer.close(), Err(Exception::Protocol(ProtocolError::IgnoredExit)));
    assert_eq!(closed.get(), 2, "both delegates were closed, the second after its owner was gone");
}
