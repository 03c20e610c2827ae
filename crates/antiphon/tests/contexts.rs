//! Contexts: who sees which value of a variable.

use antiphon::{
    Cancelled, Context, ContextVar, GroupError, TokenError, copy_context, run, spawn, spawn_in, task_group,
    yield_now,
};
use std::cell::Cell;
use std::rc::Rc;

static NUMBER: ContextVar<u32> = ContextVar::new("number");
static WORD: ContextVar<&str> = ContextVar::with_default("word", || "none");

#[test]
fn child_starts_with_a_copy_and_keeps_its_changes() {
    run(async {
        NUMBER.set(1);
        let child = spawn(async {
            let inherited = NUMBER.get();
            NUMBER.set(2);
            yield_now().await?;
            Ok::<_, Cancelled>((inherited, NUMBER.get()))
        });
        NUMBER.set(3); // after the spawn: not in the copy
        assert_eq!(child.await.unwrap(), (Some(1), Some(2)));
        assert_eq!(NUMBER.get(), Some(3));
    })
    .unwrap();
}

#[test]
fn siblings_and_grandchildren_are_apart() {
    run(async {
        let set = |value| {
            spawn(async move {
                NUMBER.set(value);
                yield_now().await?;
                let grandchild = spawn(async { Ok::<_, Cancelled>(NUMBER.get()) });
                yield_now().await?;
                Ok::<_, Cancelled>((NUMBER.get(), grandchild.await.unwrap()))
            })
        };
        let (one, two) = (set(1), set(2));
        assert_eq!(one.await.unwrap(), (Some(1), Some(1)));
        assert_eq!(two.await.unwrap(), (Some(2), Some(2)));
        assert_eq!(NUMBER.get(), None);
    })
    .unwrap();
}

#[test]
fn main_starts_with_a_copy_of_the_threads_context() {
    let outside = WORD.set("outside");
    run(async {
        assert_eq!(WORD.get(), Some("outside"));
        WORD.set("inside");
    })
    .unwrap();
    assert_eq!(WORD.get(), Some("outside"));
    WORD.reset(outside).unwrap();
    assert_eq!(WORD.get(), Some("none"));
}

#[test]
fn task_in_a_given_context_shares_it() {
    run(async {
        NUMBER.set(1);
        let context = copy_context();
        let task = spawn_in(&context, async {
            NUMBER.set(NUMBER.get().unwrap_or(0) + 1);
            Ok::<_, Cancelled>(())
        });
        task.await.unwrap();
        assert_eq!(context.get(&NUMBER), Some(2));
        assert_eq!(NUMBER.get(), Some(1));
    })
    .unwrap();
}

#[test]
fn child_of_a_group_has_a_context_as_any_task() {
    let outcome = run(task_group(async |group| {
        WORD.set("parent");
        let context = Context::new();
        let inherits = group.spawn(async { Ok::<_, Cancelled>(WORD.get()) });
        let apart = group.try_spawn_in(&context, async { Ok::<_, Cancelled>(WORD.get()) }).unwrap();
        Ok::<_, Cancelled>((inherits.await.unwrap(), apart.await.unwrap()))
    }));
    let outcome: Result<_, GroupError> = outcome.unwrap();
    assert_eq!(outcome.unwrap(), (Some("parent"), Some("none")));
}

#[test]
fn run_in_a_context_keeps_its_changes_there_and_comes_back_after_a_panic() {
    let context = Context::new();
    NUMBER.set(1);
    context.run(|| {
        assert_eq!(NUMBER.get(), None);
        NUMBER.set(2);
        context.run(|| assert_eq!(NUMBER.get(), Some(2)));
    });
    assert_eq!((NUMBER.get(), context.get(&NUMBER)), (Some(1), Some(2)));
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        context.run(|| {
            NUMBER.set(3);
            panic!("on purpose");
        });
    }));
    assert!(caught.is_err());
    assert_eq!((NUMBER.get(), context.get(&NUMBER)), (Some(1), Some(3)));
}

#[test]
fn copies_are_apart_and_clones_are_not() {
    let context = Context::new();
    context.run(|| NUMBER.set(1));
    let (copy, same) = (context.copy(), context.clone());
    context.run(|| NUMBER.set(2));
    assert_eq!((copy.get(&NUMBER), same.get(&NUMBER)), (Some(1), Some(2)));
    assert!(copy != context && same == context);
    assert_eq!((copy.len(), Context::new().len()), (1, 0));
}

#[test]
fn token_of_another_variable_or_context_is_refused() {
    static OTHER: ContextVar<u32> = ContextVar::new("other");
    let token = NUMBER.set(1);
    assert_eq!(OTHER.reset(token), Err(TokenError::OtherVariable));
    let context = Context::new();
    let token = context.run(|| NUMBER.set(2));
    assert_eq!(NUMBER.reset(token), Err(TokenError::OtherContext));
    assert_eq!((NUMBER.get(), context.get(&NUMBER)), (Some(1), Some(2)));
}

#[test]
fn value_may_use_variables_while_it_is_dropped() {
    /// Sets a variable when the last reference goes.
    #[derive(Clone)]
    struct Meddler(#[expect(dead_code, reason = "it is there for its drop")] Rc<Inner>);
    struct Inner(Rc<Cell<u32>>);
    impl Drop for Inner {
        fn drop(&mut self) {
            NUMBER.set(9);
            self.0.set(self.0.get() + 1);
        }
    }
    static MEDDLER: ContextVar<Option<Meddler>> = ContextVar::new("meddler");
    let drops = Rc::new(Cell::new(0));
    run(async {
        MEDDLER.set(Some(Meddler(Rc::new(Inner(Rc::clone(&drops))))));
        MEDDLER.set(None);
        assert_eq!((NUMBER.get(), drops.get()), (Some(9), 1));
        let context = Context::new();
        context.run(|| MEDDLER.set(Some(Meddler(Rc::new(Inner(Rc::clone(&drops)))))));
        drop(context);
        assert_eq!(drops.get(), 2);
    })
    .unwrap();
}
