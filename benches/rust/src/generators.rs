//! Resuming and yielding, alone and through ten levels of delegation.

use crate::harness::Row;
use antiphon_core::{BoxedGenerator, Exception, Generator, Step, Yielder, generator};
use corosensei::{Coroutine, CoroutineResult};
use genawaiter::GeneratorState;
use std::hint::black_box;

pub fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "generator: resume and yield",
            operations: 5_000_000,
            contenders: vec![
                ("antiphon on the stack", on_stack),
                ("antiphon boxed", boxed),
                ("genawaiter stack", genawaiter_stack),
                ("genawaiter rc", genawaiter_rc),
                ("genawaiter boxed (sync)", genawaiter_boxed),
                ("corosensei", corosensei),
            ],
        },
        Row {
            name: "generator: resume through ten levels",
            operations: 2_000_000,
            contenders: vec![
                ("antiphon yield_from", yield_from_deep),
                ("antiphon helpers awaited", awaits_deep),
                ("genawaiter helpers awaited", genawaiter_deep),
                ("corosensei", corosensei_deep),
            ],
        },
        Row {
            name: "generator: make, resume, end",
            operations: 500_000,
            contenders: vec![
                ("antiphon on the stack", on_stack_create),
                ("antiphon boxed", boxed_create),
                ("genawaiter rc", genawaiter_create),
                ("corosensei, pooled stack", corosensei_create),
            ],
        },
    ]
}

async fn count(y: Yielder<'_, u64>, n: u64) -> Result<(), Exception> {
    for i in 0..n {
        y.yield_(black_box(i)).await?;
    }
    Ok(())
}

fn sum(generator: &mut impl Generator<Yield = u64>) {
    let mut sum = 0;
    while let Step::Yielded(value) = generator.next() {
        sum += value;
    }
    black_box(sum);
}

fn on_stack(n: u64) {
    generator!(let mut numbers = |y| count(y, n));
    sum(&mut numbers);
}

fn boxed(n: u64) {
    let mut numbers = BoxedGenerator::new(async move |y: Yielder<'_, u64>| count(y, n).await);
    sum(black_box(&mut numbers));
}

fn genawaiter_stack(n: u64) {
    genawaiter::stack::let_gen_using!(numbers, |co: genawaiter::stack::Co<'_, u64>| async move {
        for i in 0..n {
            co.yield_(black_box(i)).await;
        }
    });
    let mut sum = 0;
    while let GeneratorState::Yielded(value) = numbers.resume() {
        sum += value;
    }
    black_box(sum);
}

fn genawaiter_rc(n: u64) {
    let mut numbers = genawaiter::rc::Gen::new(|co| async move {
        for i in 0..n {
            co.yield_(black_box(i)).await;
        }
    });
    let mut sum = 0;
    while let GeneratorState::Yielded(value) = numbers.resume() {
        sum += value;
    }
    black_box(sum);
}

fn genawaiter_boxed(n: u64) {
    let mut numbers = genawaiter::sync::Gen::new_boxed(|co| async move {
        for i in 0..n {
            co.yield_(black_box(i)).await;
        }
    });
    let mut sum = 0;
    while let GeneratorState::Yielded(value) = black_box(&mut numbers).resume() {
        sum += value;
    }
    black_box(sum);
}

fn corosensei(n: u64) {
    let mut numbers = Coroutine::new(move |y, _: ()| {
        for i in 0..n {
            y.suspend(black_box(i));
        }
    });
    let mut sum = 0;
    while let CoroutineResult::Yield(value) = numbers.resume(()) {
        sum += value;
    }
    black_box(sum);
}

/// A generator that delegates `depth` times.
fn nested(depth: u32, n: u64) -> BoxedGenerator<u64> {
    BoxedGenerator::new(
        async move |y: Yielder<'_, u64>| {
            if depth == 0 { count(y, n).await } else { y.yield_from(nested(depth - 1, n)).await }
        },
    )
}

fn yield_from_deep(n: u64) {
    sum(black_box(&mut nested(10, n)));
}

macro_rules! chain {
    ($($name:ident $next:ident),*) => {
        $(async fn $name(y: Yielder<'_, u64>, n: u64) -> Result<(), Exception> {
            $next(y, n).await?;
            black_box(n);
            Ok(())
        })*
    };
}
chain!(a1 count, a2 a1, a3 a2, a4 a3, a5 a4, a6 a5, a7 a6, a8 a7, a9 a8, a10 a9);

fn awaits_deep(n: u64) {
    let mut numbers = BoxedGenerator::new(async move |y: Yielder<'_, u64>| a10(y, n).await);
    sum(black_box(&mut numbers));
}

type Co = genawaiter::rc::Co<u64>;

async fn g0(co: &Co, n: u64) {
    for i in 0..n {
        co.yield_(black_box(i)).await;
    }
}

macro_rules! peer_chain {
    ($($name:ident $next:ident),*) => {
        $(async fn $name(co: &Co, n: u64) {
            $next(co, n).await;
            black_box(n);
        })*
    };
}
peer_chain!(g1 g0, g2 g1, g3 g2, g4 g3, g5 g4, g6 g5, g7 g6, g8 g7, g9 g8, g10 g9);

fn genawaiter_deep(n: u64) {
    let mut numbers = genawaiter::rc::Gen::new(|co| async move { g10(&co, n).await });
    let mut sum = 0;
    while let GeneratorState::Yielded(value) = black_box(&mut numbers).resume() {
        sum += value;
    }
    black_box(sum);
}

fn corosensei_deep(n: u64) {
    #[inline(never)]
    fn deep(depth: u32, y: &corosensei::Yielder<(), u64>, n: u64) {
        if depth > 0 {
            deep(depth - 1, y, n);
            black_box(depth);
        } else {
            for i in 0..n {
                y.suspend(black_box(i));
            }
        }
    }
    let mut numbers = Coroutine::new(move |y, _: ()| deep(10, y, n));
    let mut sum = 0;
    while let CoroutineResult::Yield(value) = numbers.resume(()) {
        sum += value;
    }
    black_box(sum);
}

fn on_stack_create(n: u64) {
    for i in 0..n {
        generator!(let mut one = |y: Yielder<'_, u64>| async move { y.yield_(black_box(i)).await });
        black_box(one.next());
        black_box(one.next());
    }
}

fn boxed_create(n: u64) {
    for i in 0..n {
        let mut one = BoxedGenerator::new(async move |y: Yielder<'_, u64>| y.yield_(black_box(i)).await);
        black_box(one.next());
        black_box(one.next());
    }
}

fn genawaiter_create(n: u64) {
    for i in 0..n {
        let mut one = genawaiter::rc::Gen::new(|co| async move {
            co.yield_(black_box(i)).await;
        });
        black_box(one.resume());
        black_box(one.resume());
    }
}

fn corosensei_create(n: u64) {
    let mut stack = corosensei::stack::DefaultStack::new(64 * 1024).ok();
    for i in 0..n {
        let Some(own) = stack.take() else { return };
        let mut one: Coroutine<(), u64, (), _> = Coroutine::with_stack(own, move |y, _: ()| {
            y.suspend(black_box(i));
        });
        let _ = one.resume(());
        let _ = one.resume(());
        stack = Some(one.into_stack());
    }
}
