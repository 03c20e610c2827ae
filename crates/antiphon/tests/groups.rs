//! Task groups and timeouts: whose cancellation it was, and whose errors are kept.

use antiphon::{
    Cancelled, ChildErrorKind, Failure, GroupError, JoinError, Runner, Timeout, TimeoutError, TimeoutState,
    current_task, gather, gather_all, sleep, spawn, task_group, timeout, yield_now,
};
use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// An error of a program.
#[derive(Debug, PartialEq)]
enum Fault {
    Stopped,
    Refused(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Error for Fault {}

impl From<Cancelled> for Fault {
    fn from(_: Cancelled) -> Self {
        Self::Stopped
    }
}

impl Failure for Fault {
    fn is_cancelled(&self) -> bool {
        *self == Self::Stopped
    }
}

fn virtually<F: Future>(main: F) -> F::Output {
    Runner::new().virtual_clock().run(main).unwrap()
}

fn texts(outcome: Result<(), GroupError>) -> Vec<String> {
    match outcome {
        Err(GroupError::Errors(errors)) => errors.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

async fn fail_after(seconds: u32, text: &'static str) -> Result<(), Fault> {
    sleep(seconds * SECOND).await?;
    Err(Fault::Refused(text))
}

#[test]
fn failing_child_cancels_siblings_and_block_and_all_errors_are_kept() {
    let log = Rc::new(RefCell::new(Vec::new()));
    let outcome = virtually(task_group(async |group| {
        let own = Rc::clone(&log);
        group.spawn(async move {
            let outcome = sleep(1000 * SECOND).await;
            own.borrow_mut().push("sibling");
            outcome?;
            Ok::<_, Fault>(())
        });
        group.spawn(fail_after(1, "first")).set_name("a");
        group
            .spawn(async {
                let outcome = sleep(1000 * SECOND).await;
                assert_eq!(outcome, Err(Cancelled));
                Err::<(), _>(Fault::Refused("in clean-up"))
            })
            .set_name("b");
        let outcome = sleep(1000 * SECOND).await;
        log.borrow_mut().push("block");
        assert_eq!(current_task().unwrap().cancelling(), 1);
        outcome?;
        Ok::<_, Fault>(())
    }));
    assert_eq!(texts(outcome), ["a: Refused(\"first\")", "b: Refused(\"in clean-up\")"]);
    assert_eq!(log.borrow().len(), 2);
}

#[test]
fn group_takes_its_own_cancellation_back() {
    virtually(async {
        let outcome = task_group(async |group| {
            group.spawn(fail_after(1, "x"));
            Ok::<_, Fault>(())
        })
        .await;
        assert_eq!(texts(outcome), ["task-1: Refused(\"x\")"]);
        assert_eq!(current_task().unwrap().cancelling(), 0);
        sleep(SECOND).await.unwrap(); // not cancelled
    });
}

#[test]
fn cancellation_from_outside_passes_and_the_children_are_waited_for() {
    let cleaned = Rc::new(Cell::new(false));
    virtually(async {
        let own = Rc::clone(&cleaned);
        let task = spawn(async move {
            task_group(async |group| {
                group.spawn(async move {
                    let outcome = sleep(1000 * SECOND).await;
                    sleep(SECOND).await?;
                    own.set(true);
                    outcome
                });
                Ok::<_, Cancelled>(())
            })
            .await
        });
        sleep(SECOND).await.unwrap();
        task.cancel();
        assert!(matches!(task.await, Err(JoinError::Cancelled)));
    });
    assert!(cleaned.get());
}

#[test]
fn panic_of_a_child_is_an_error_of_the_group() {
    let outcome = virtually(task_group(async |group| {
        group.spawn(async {
            yield_now().await?;
            panic!("on purpose");
            #[allow(unreachable_code)]
            Ok::<(), Cancelled>(())
        });
        Ok::<_, Cancelled>(())
    }));
    let Err(GroupError::Errors(errors)) = outcome else { panic!() };
    assert!(matches!(&errors[0].kind, ChildErrorKind::Panicked(panic) if panic.message() == "on purpose"));
}

#[test]
fn error_of_the_block_comes_last_and_cancels_the_children() {
    let outcome = virtually(task_group(async |group| {
        group.spawn(async {
            let _ = sleep(1000 * SECOND).await;
            Err::<(), _>(Fault::Refused("child"))
        });
        yield_now().await?;
        Err::<(), _>(Fault::Refused("block"))
    }));
    assert_eq!(texts(outcome), ["task-1: Refused(\"child\")", "the block: Refused(\"block\")"]);
}

#[test]
fn group_that_aborts_takes_no_children_and_a_cancelled_group_is_no_error_of_its_own() {
    virtually(async {
        let outcome: Result<(), GroupError> = task_group(async |group| {
            let child = group.spawn(async { sleep(1000 * SECOND).await });
            yield_now().await?;
            group.cancel();
            assert!(group.try_spawn(async { Ok::<_, Cancelled>(()) }).is_err());
            assert!(matches!(child.await, Err(JoinError::Cancelled)));
            Ok::<_, Cancelled>(())
        })
        .await;
        assert!(outcome.is_ok(), "{outcome:?}");
        assert_eq!(current_task().unwrap().cancelling(), 0);
    });
}

#[test]
fn nested_groups_keep_their_cancellations_apart() {
    virtually(async {
        let outcome = task_group(async |outer| {
            outer.spawn(fail_after(5, "outer"));
            let inner = task_group(async |inner| {
                inner.spawn(fail_after(1, "inner"));
                Ok::<_, Fault>(())
            })
            .await;
            assert_eq!(texts(inner), ["task-2: Refused(\"inner\")"]);
            sleep(1000 * SECOND).await?;
            Ok::<_, Fault>(())
        })
        .await;
        assert_eq!(texts(outcome), ["task-1: Refused(\"outer\")"]);
    });
}

#[test]
fn outer_timeout_is_not_taken_for_the_inner_one() {
    virtually(async {
        let outcome = timeout(SECOND, async {
            let inner = timeout(5 * SECOND, sleep(1000 * SECOND)).await;
            assert_eq!(inner, Err(TimeoutError::Failed(Cancelled)));
            inner
        });
        assert!(matches!(outcome.await, Err(TimeoutError::Elapsed)));
        assert_eq!(current_task().unwrap().cancelling(), 0);
        sleep(SECOND).await.unwrap();
    });
}

#[test]
fn cancellation_from_elsewhere_passes_a_timeout() {
    virtually(async {
        let task = spawn(async {
            let outcome = timeout(5 * SECOND, sleep(1000 * SECOND)).await;
            assert_eq!(outcome, Err(TimeoutError::Failed(Cancelled)));
            outcome
        });
        sleep(SECOND).await.unwrap();
        task.cancel();
        assert!(matches!(task.await, Err(JoinError::Cancelled)));
    });
}

#[test]
fn cancellation_from_elsewhere_passes_even_after_the_time_was_up() {
    virtually(async {
        let task = spawn(async {
            let outcome = timeout(SECOND, async {
                assert_eq!(sleep(5 * SECOND).await, Err(Cancelled)); // the timeout's
                sleep(5 * SECOND).await // cancelled from elsewhere
            })
            .await;
            assert_eq!(outcome, Err(TimeoutError::Failed(Cancelled)));
            assert_eq!(current_task().unwrap().cancelling(), 1);
            outcome
        });
        sleep(2 * SECOND).await.unwrap();
        task.cancel();
        assert!(matches!(task.await, Err(JoinError::Cancelled)));
    });
}

#[test]
fn block_that_handles_the_timeout_has_been_in_time() {
    virtually(async {
        let outcome = timeout(SECOND, async {
            let _ = sleep(5 * SECOND).await;
            Ok::<_, Cancelled>("handled")
        });
        assert_eq!(outcome.await, Ok("handled"));
        assert_eq!(current_task().unwrap().cancelling(), 0);
    });
}

#[test]
fn timeout_dropped_halfway_leaves_nothing_behind() {
    virtually(async {
        let waited = {
            let mut block = std::pin::pin!(timeout(SECOND, sleep(5 * SECOND)));
            std::future::poll_fn(|context| std::task::Poll::Ready(block.as_mut().poll(context).is_pending()))
                .await
        };
        assert!(waited);
        sleep(10 * SECOND).await.unwrap();
    });
}

#[test]
fn timeout_is_rescheduled_only_while_its_block_runs() {
    virtually(async {
        let scope = Timeout::new(None);
        assert_eq!(scope.reschedule(None), Err(TimeoutState::Created));
        let outcome = scope
            .run(async {
                sleep(10 * SECOND).await?;
                scope.reschedule(Some(SECOND)).unwrap();
                sleep(10 * SECOND).await
            })
            .await;
        assert_eq!(outcome, Err(TimeoutError::Elapsed));
        assert!(scope.is_expired());
        assert_eq!(scope.reschedule(None), Err(TimeoutState::Expired));
        assert_eq!(scope.run(async { Ok::<_, Cancelled>(()) }).await, Err(TimeoutError::Used));
    });
}

#[test]
fn gather_gives_the_first_error_and_the_others_run_on() {
    let ended = Rc::new(Cell::new(0));
    virtually(async {
        let own = Rc::clone(&ended);
        let outcome = gather((1..=3).map(move |n| {
            let own = Rc::clone(&own);
            async move {
                sleep(n * SECOND).await?;
                own.set(own.get() + 1);
                if n == 1 { Err(Fault::Refused("one")) } else { Ok(n) }
            }
        }))
        .await;
        assert!(matches!(outcome, Err(JoinError::Failed(Fault::Refused("one")))));
        assert_eq!(ended.get(), 1);
        sleep(10 * SECOND).await.unwrap();
        assert_eq!(ended.get(), 3);
    });
}

#[test]
fn gather_all_keeps_errors_in_their_places() {
    virtually(async {
        let outcomes = gather_all((0..3).map(|n| async move {
            yield_now().await?;
            if n == 1 { Err(Fault::Refused("one")) } else { Ok(n) }
        }))
        .await
        .unwrap();
        assert!(matches!(&outcomes[..], [Ok(0), Err(JoinError::Failed(Fault::Refused("one"))), Ok(2)]));
    });
}

#[test]
fn cancelled_gather_cancels_its_children_and_waits_for_them() {
    let cleaned = Rc::new(Cell::new(0));
    virtually(async {
        let own = Rc::clone(&cleaned);
        let task = spawn(async move {
            gather((0..3).map(|_| {
                let own = Rc::clone(&own);
                async move {
                    let outcome = sleep(1000 * SECOND).await;
                    yield_now().await?;
                    own.set(own.get() + 1);
                    outcome
                }
            }))
            .await
        });
        sleep(SECOND).await.unwrap();
        task.cancel();
        assert!(matches!(task.await, Err(JoinError::Cancelled)));
    });
    assert!(cleaned.get() >= 1);
}
