//! Steps that block are reported, with what is known of where.

use antiphon::{Cancelled, Remote, Runner, SlowStep, sleep, spawn, to_thread, yield_now};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const LIMIT: Duration = Duration::from_millis(10);

/// Runs `main` and gives the warnings. On a busy machine there may be more than of what blocks: a step takes long that is not
/// given a processor.
fn warnings<F: Future>(limit: Duration, main: F) -> Vec<SlowStep> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&seen);
    Runner::new().tell_after(limit, move |slow| told.lock().unwrap().push(slow.clone())).run(main).unwrap();
    Arc::try_unwrap(seen).unwrap().into_inner().unwrap()
}

fn block() {
    thread::sleep(2 * LIMIT);
}

#[test]
fn step_that_blocks_between_two_awaits_is_told_with_both() {
    let mut line = 0;
    let seen = warnings(LIMIT, async {
        line = line!() + 1;
        let task = spawn(async {
            sleep(Duration::from_millis(1)).await?;
            block();
            to_thread(|| ()).await.map_err(|_| Cancelled)?;
            yield_now().await
        });
        task.named("worker").await.unwrap();
    });
    let blocked = |slow: &&SlowStep| slow.waited_for == Some("time to pass");
    let slow = seen.iter().find(blocked).unwrap_or_else(|| panic!("{seen:?}"));
    assert_eq!(slow.task.as_deref(), Some("worker"));
    assert!(slow.spawned_at.is_some_and(|at| at.file().ends_with("slow_steps.rs") && at.line() == line));
    assert_eq!(slow.waits_for, Some("a thread"));
    assert!(slow.took >= 2 * LIMIT);
    let text = slow.to_string();
    assert!(text.starts_with("task 'worker' ran for "), "{text}");
    assert!(text.contains("spawned at ") && text.contains("before it waits for a thread"), "{text}");
}

#[test]
fn first_and_last_step_and_main_are_watched_too() {
    let seen = warnings(LIMIT, async {
        spawn(async {
            block();
            Ok::<_, Cancelled>(())
        })
        .await
        .unwrap();
        block();
    });
    let told: Vec<_> =
        seen.iter().map(|slow| (slow.task.as_deref(), slow.waited_for, slow.waits_for)).collect();
    for blocked in [(Some("task-1"), None, None), (Some("main"), Some("another task"), None)] {
        assert_eq!(told.iter().filter(|told| **told == blocked).count(), 1, "{told:?}");
    }
}

#[test]
fn callback_from_another_thread_is_watched() {
    let seen = warnings(LIMIT, async {
        let remote = Remote::new().unwrap();
        to_thread(move || remote.call(block).unwrap()).await.unwrap();
        yield_now().await.unwrap();
    });
    let told: Vec<_> = seen.iter().filter(|slow| slow.task.is_none() && slow.spawned_at.is_none()).collect();
    assert!(matches!(told[..], [slow] if slow.took >= 2 * LIMIT), "{seen:?}");
}

#[test]
fn steps_below_the_limit_are_not_told() {
    let seen = warnings(Duration::from_secs(3600), async {
        block();
        yield_now().await.unwrap();
    });
    assert!(seen.is_empty());
}

#[test]
fn step_that_waits_for_long_is_not_slow_on_any_clock() {
    let seen = Arc::new(Mutex::new(0));
    let told = Arc::clone(&seen);
    Runner::new()
        .virtual_clock()
        .tell_after(Duration::from_secs(3600), move |_| *told.lock().unwrap() += 1)
        .run(async { sleep(Duration::from_secs(24 * 3600)).await })
        .unwrap()
        .unwrap();
    assert_eq!(*seen.lock().unwrap(), 0);
}

#[test]
fn who_panics_over_a_warning_does_not_end_the_loop() {
    let runner = Runner::new().tell_after(LIMIT, |_| panic!("on purpose"));
    let outcome = runner.run(async {
        block();
        yield_now().await.unwrap();
        1
    });
    assert_eq!(outcome.unwrap(), 1);
}
