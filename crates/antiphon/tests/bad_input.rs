//! What users do wrong: each a typed error that says what to do, or a report on standard error.

use antiphon::{
    Cancelled, Event, JoinError, Remote, RemoteError, RunError, Runner, run, sleep, spawn, to_thread,
    try_spawn, yield_now,
};
use std::process::Command;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

/// What `misbehave` prints to standard error, in a process of its own that runs the test of this name.
fn reported(test: &str, misbehave: fn()) -> Option<String> {
    const CHILD: &str = "ANTIPHON_TEST_MISBEHAVES";
    if std::env::var_os(CHILD).is_some() {
        misbehave();
        return None;
    }
    let own = std::env::current_exe().unwrap();
    let output = Command::new(own).args([test, "--exact", "--nocapture"]).env(CHILD, "1").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(String::from_utf8(output.stderr).unwrap())
}

#[test]
fn failures_that_nobody_joins_are_reported_with_name_and_place() {
    let told = reported("failures_that_nobody_joins_are_reported_with_name_and_place", || {
        run(async {
            drop(spawn(async { Err::<(), _>("on purpose") }).named("fails"));
            drop(spawn(async { panic!("and loudly") as Result<(), Cancelled> }).named("panics"));
            drop(spawn(async { Err::<(), _>(Cancelled) }).named("was cancelled"));
            let joined = spawn(async { Err::<(), _>("joined") }).named("is joined");
            assert!(joined.await.is_err());
            yield_now().await.unwrap();
        })
        .unwrap();
    });
    let Some(told) = told else { return };
    assert!(told.contains("task 'fails' failed, and nobody joined it\n    spawned at crates/"), "{told}");
    assert!(told.contains("task 'panics' panicked, and nobody joined it: and loudly\n"), "{told}");
    assert!(!told.contains("was cancelled") && !told.contains("is joined"), "{told}");
}

#[test]
fn slow_step_is_reported_on_standard_error_if_nobody_else_is_told() {
    let told = reported("slow_step_is_reported_on_standard_error_if_nobody_else_is_told", || {
        Runner::new()
            .warn_after(Duration::from_millis(1))
            .run(async { thread::sleep(Duration::from_millis(10)) })
            .unwrap();
    });
    let Some(told) = told else { return };
    assert!(
        told.contains("task 'main' ran for ") && told.contains("without giving way\n    spawned at "),
        "{told}"
    );
}

#[test]
fn deadlock_names_everybody_who_waits_and_for_what() {
    let outcome = run(async {
        let event = Rc::new(Event::new());
        let own = Rc::clone(&event);
        let waiter = spawn(async move { own.wait().await }).named("waiter");
        waiter.await
    });
    let Err(error @ RunError::Deadlock { .. }) = outcome else { panic!("{outcome:?}") };
    let text = error.to_string();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("deadlock: nothing can wake any task"));
    assert!(
        lines.next().is_some_and(|line| line.contains("main (") && line.ends_with("waits for waiter")),
        "{text}"
    );
    assert!(
        lines.next().is_some_and(|line| line.contains("waiter (") && line.ends_with("waits for an event")),
        "{text}"
    );
}

#[test]
fn nested_runs_are_refused_wherever_they_are_tried() {
    let (sender, receiver) = antiphon::channel(0);
    run(async move {
        let task = spawn(async { Ok::<_, Cancelled>(run(async {}).is_err()) });
        assert!(task.await.unwrap());
        let remote = Remote::new().unwrap();
        to_thread(move || remote.call(move || sender.try_send(run(async {}).is_err()).unwrap()))
            .await
            .unwrap()
            .unwrap();
        assert!(receiver.recv().await.unwrap());
        // A thread of its own is another matter.
        assert_eq!(to_thread(|| run(async { 7 }).unwrap()).await.unwrap(), 7);
    })
    .unwrap();
}

#[test]
fn one_runner_runs_again_and_again() {
    let runner = Runner::new();
    for n in 0..3 {
        assert_eq!(runner.run(async { n }).unwrap(), n);
    }
}

#[test]
fn threads_beside_the_loop_have_none() {
    run(async {
        let refused = to_thread(|| {
            let spawned = try_spawn(async { Ok::<_, Cancelled>(()) });
            (spawned.is_err(), Remote::new().is_err(), antiphon::current_task().is_none())
        });
        assert_eq!(refused.await.unwrap(), (true, true, true));
    })
    .unwrap();
}

#[test]
fn tasks_of_a_loop_that_has_gone_are_cancelled_and_stay_so() {
    let mut made = None;
    run(async { made = Some(spawn(async { sleep(Duration::from_secs(3600)).await })) }).unwrap();
    let mut left = made.unwrap();
    assert!(left.is_done() && left.is_cancelled() && !left.cancel());
    let outcome = std::pin::Pin::new(&mut left).poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(outcome, Poll::Ready(Err(JoinError::Cancelled))));
    // In another loop, too.
    run(async {
        assert!(!left.cancel());
        assert!(matches!(left.await, Err(JoinError::Cancelled)));
    })
    .unwrap();
}

#[test]
fn way_into_a_loop_that_has_gone_leads_nowhere() {
    let remote = run(async { Remote::new().unwrap() }).unwrap();
    assert!(remote.call(|| ()).is_err());
    let outcome = remote.run(|| async { Ok::<_, String>(()) });
    assert!(matches!(outcome, Err(RemoteError::LoopEnded)));
}

#[test]
fn futures_of_antiphons_outside_of_a_loop_say_what_to_do() {
    let polled = std::panic::catch_unwind(|| {
        let mut sleeping = std::pin::pin!(sleep(Duration::from_secs(1)));
        sleeping.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
    });
    let message = *polled.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("no loop runs here: call this inside of antiphon::run"), "{message}");
}
