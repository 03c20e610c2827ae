//! One turn of the loop, in virtual time on the simulated driver: every run of these tests is the same run.

mod support;

use antiphon_engine::{Clock, Driver, Instant, Interest, Readiness, Token, run_once};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use support::{READABLE, TestLoop, endless, note};

const ZERO: Option<Duration> = Some(Duration::ZERO);

#[test]
fn items_run_in_the_order_they_were_pushed() {
    let mut host = TestLoop::new();
    ["a", "b", "c"].into_iter().for_each(|word| host.push_note(word));
    host.turn();
    assert_eq!(host.log, ["a", "b", "c"]);
}

#[test]
fn item_pushed_during_a_turn_runs_in_the_next_one() {
    let mut host = TestLoop::new();
    host.push(|host| {
        host.log.push("first".into());
        host.push_note("second");
    });
    host.turn();
    assert_eq!(host.log, ["first"]);
    host.turn();
    assert_eq!(host.log, ["first", "second"]);
}

#[test]
fn wake_during_run_reschedules_once() {
    let mut host = TestLoop::new();
    host.push(|host| {
        host.core.inbox.push(note("from outside"));
    });
    host.turn();
    assert!(host.log.is_empty(), "what comes in during a turn runs in the next one");
    host.push(endless);
    host.turns(3);
    assert_eq!(host.log, ["from outside"]);
    assert_eq!(host.core.driver.notification_count(), 0, "the loop was awake");
}

#[test]
fn queue_emptied_by_an_item_ends_the_turn() {
    let mut host = TestLoop::new();
    host.push(|host| drop(host.core.ready.take_all()));
    host.push_note("never");
    host.turn();
    assert!(host.log.is_empty());
    assert!(host.core.ready.is_empty());
}

#[test]
fn interruption_keeps_the_items_left_and_their_order() {
    let mut host = TestLoop::new();
    host.push(|host| host.interrupted = true);
    host.push_note("b");
    host.push_note("c");
    host.turn();
    assert!(host.log.is_empty());
    host.push_note("d");
    host.interrupted = false;
    host.turn();
    assert_eq!(host.log, ["b", "c", "d"]);
}

#[test]
fn timers_fire_by_deadline_and_equal_deadlines_in_the_order_they_were_set() {
    let mut host = TestLoop::new();
    host.arm_note(20, "late");
    host.arm_note(10, "early, set first");
    host.arm_note(10, "early, set second");
    host.arm_note(5, "earliest");
    host.turns(3);
    assert_eq!(host.log, ["earliest", "early, set first", "early, set second", "late"]);
    assert_eq!(host.clock.now(), Instant::from_ns(20));
}

#[test]
fn timer_fires_at_its_deadline_and_not_before() {
    let mut host = TestLoop::new();
    host.arm_note(10, "timer");
    host.push(endless);
    host.clock.advance(Duration::from_nanos(9));
    host.turns(5);
    assert!(host.log.is_empty());
    host.clock.advance(Duration::from_nanos(1));
    host.turn();
    assert_eq!(host.log, ["timer"]);
}

#[test]
fn due_timers_run_after_what_was_ready_before_them() {
    let mut host = TestLoop::new();
    host.arm_note(0, "timer");
    host.push_note("ready");
    host.turn();
    assert_eq!(host.log, ["ready", "timer"]);
}

#[test]
fn cancelled_timer_is_neither_run_nor_waited_for() {
    let mut host = TestLoop::new();
    let key = host.arm_note(10, "cancelled");
    host.arm_note(30, "kept");
    assert!(host.core.timers.cancel(key).is_some());
    host.turn();
    assert_eq!(host.log, ["kept"]);
    assert_eq!(host.core.driver.waits(), [Some(Duration::from_nanos(30))]);
}

#[test]
fn ten_years_pass_without_waiting() {
    let mut host = TestLoop::new();
    let ten_years = Duration::from_secs(10 * 365 * 24 * 3600);
    host.arm_note(ten_years.as_nanos().try_into().unwrap(), "done");
    while host.log.is_empty() {
        host.turn();
    }
    assert_eq!(host.core.driver.waits().len(), 3650, "no sleep is longer than a day");
}

#[test]
fn clock_below_zero_is_a_clock_like_any_other() {
    let mut host = TestLoop::new();
    host.arm_note(-100, "past");
    host.turn();
    assert_eq!(host.log, ["past"]);
    assert_eq!(host.clock.now(), Instant::from_ns(0));
}

#[test]
fn clock_is_read_only_while_timers_are_armed() {
    let mut host = TestLoop::new();
    host.push(endless);
    host.turns(100);
    assert_eq!(host.clock_reads, 0);
    host.arm_note(1_000_000, "far");
    host.turns(100);
    assert_eq!(host.clock_reads, 100, "once a turn while there is work to do");
}

#[test]
fn loop_without_work_waits_without_limit_until_a_descriptor_is_ready() {
    let mut host = TestLoop::new();
    host.watch(3);
    host.core.driver.schedule(Instant::from_ns(700), 3, READABLE);
    host.turn();
    assert_eq!(host.log, ["fd 3"]);
    assert_eq!(host.core.driver.waits(), [None]);
    assert_eq!(host.clock.now(), Instant::from_ns(700));
}

#[test]
fn wait_that_nothing_can_end_is_an_error_in_simulation() {
    let mut host = TestLoop::new();
    host.watch(3);
    assert_eq!(run_once(&mut host).unwrap_err().kind(), io::ErrorKind::Deadlock);
}

#[test]
fn readiness_is_reported_as_long_as_it_lasts() {
    let mut host = TestLoop::new();
    host.watch(3);
    host.core.driver.set_readiness(3, READABLE);
    host.turns(2);
    assert_eq!(host.log, ["fd 3", "fd 3"]);
    host.core.driver.set_readiness(3, Readiness::default());
    host.arm_note(1, "timer");
    host.turn();
    assert_eq!(host.log, ["fd 3", "fd 3", "timer"]);
}

#[test]
fn oneshot_interest_is_served_once_until_modified() {
    let mut host = TestLoop::new();
    let interest = Interest { readable: true, writable: false, oneshot: true };
    host.core.driver.add(3, Token(3), interest).unwrap();
    host.core.driver.set_readiness(3, READABLE);
    host.turn();
    let mut events = Vec::new();
    assert_eq!(host.core.driver.wait(ZERO, &mut events).unwrap(), 0);
    host.core.driver.modify(3, Token(4), interest).unwrap();
    assert_eq!(host.core.driver.wait(ZERO, &mut events).unwrap(), 1);
    assert_eq!(events[0].token, Token(4));
}

#[test]
fn trouble_makes_a_descriptor_readable_and_writable() {
    let mut host = TestLoop::new();
    host.core.driver.add(3, Token(3), Interest { writable: true, ..Interest::default() }).unwrap();
    host.core.driver.set_readiness(3, Readiness { hangup: true, ..Readiness::default() });
    let mut events = Vec::new();
    host.core.driver.wait(ZERO, &mut events).unwrap();
    assert!(events[0].readable && events[0].writable && events[0].hangup && !events[0].error);
}

#[test]
fn busy_loop_serves_descriptors_within_sixty_four_turns() {
    let mut host = TestLoop::new();
    host.push(endless);
    host.watch(3);
    host.turn();
    host.core.driver.set_readiness(3, READABLE);
    host.turns(64);
    assert!(host.log.is_empty(), "the kernel was not to be asked yet");
    host.turn();
    assert_eq!(host.log, ["fd 3"]);
    assert_eq!(host.core.driver.waits(), [ZERO, ZERO]);
}

#[test]
fn busy_loop_serves_descriptors_after_two_hundred_and_fifty_six_items() {
    let mut host = TestLoop::new();
    (0..100).for_each(|_| host.push(endless));
    host.watch(3);
    host.turn();
    host.core.driver.set_readiness(3, READABLE);
    host.turns(2);
    assert!(host.log.is_empty());
    host.turn();
    assert_eq!(host.log, ["fd 3"]);
}

#[test]
fn busy_loop_with_slow_items_serves_descriptors_with_every_tick() {
    let mut host = TestLoop::new();
    host.push(endless);
    host.watch(3);
    host.turn();
    for tick in 1..10 {
        host.core.driver.set_readiness(3, READABLE);
        host.coarse_ns += 1;
        host.turn();
        assert_eq!(host.log, vec!["fd 3"; tick]);
    }
}

#[test]
fn busy_loop_whose_items_become_slow_serves_descriptors_a_few_turns_later() {
    for quick_turns in 1..40 {
        let mut host = TestLoop::new();
        host.push(endless);
        host.watch(3);
        host.turns(quick_turns);
        host.core.driver.set_readiness(3, READABLE);
        host.turn();
        assert!(host.log.is_empty(), "no tick, no poll");
        for _slow in 0..8 {
            host.coarse_ns += 1;
            host.turn();
        }
        assert!(host.log.contains(&"fd 3".to_owned()), "after {quick_turns} quick turns");
    }
}

#[test]
fn forced_poll_asks_the_kernel_whatever_the_budget_says() {
    let mut host = TestLoop::new();
    host.push(endless);
    host.turns(2);
    assert_eq!(host.core.driver.waits().len(), 1);
    host.core.force_poll();
    host.turns(2);
    assert_eq!(host.core.driver.waits().len(), 2);
}

#[test]
fn work_from_outside_keeps_the_loop_from_sleeping() {
    let mut host = TestLoop::new();
    host.core.inbox.push(note("from outside"));
    host.turn();
    assert_eq!(host.log, ["from outside"]);
    assert_eq!(host.core.driver.waits(), [ZERO]);
    assert_eq!(host.core.driver.notification_count(), 0);
}

#[test]
fn work_from_outside_that_comes_while_the_clock_is_read_is_not_slept_over() {
    let mut host = TestLoop::new();
    host.arm_note(1000, "timer");
    host.on_clock_read.push_back(Box::new(|host| {
        host.core.inbox.push(note("from outside"));
    }));
    host.turn();
    assert_eq!(host.log, ["from outside"]);
    assert_eq!(host.core.driver.waits(), [ZERO]);
}

#[test]
fn work_queued_while_the_clock_is_read_is_not_slept_over() {
    let mut host = TestLoop::new();
    host.arm_note(1000, "timer");
    host.on_clock_read.push_back(Box::new(|host| host.push_note("queued")));
    host.turn();
    assert_eq!(host.log, ["queued"]);
    assert_eq!(host.core.driver.waits(), [ZERO]);
}

#[test]
fn wake_while_awake_prevents_one_sleep() {
    let mut host = TestLoop::new();
    host.arm_note(1000, "timer");
    host.core.inbox.wake();
    host.turn();
    assert!(host.log.is_empty());
    assert_eq!(host.core.driver.waits(), [ZERO]);
    assert_eq!(host.core.driver.notification_count(), 0);
    host.turn();
    assert_eq!(host.log, ["timer"]);
}

#[test]
fn sleep_that_a_signal_cuts_short_is_an_empty_wait() {
    let mut host = TestLoop::new();
    host.arm_note(0, "due");
    host.arm_note(1000, "later");
    host.turn();
    host.core.driver.interrupt_next_wait();
    host.turn();
    assert_eq!(host.log, ["due"]);
    host.turn();
    assert_eq!(host.log, ["due", "later"]);
}

#[test]
fn failed_wait_leaves_everything_queued() {
    let mut host = TestLoop::new();
    host.clock.set_auto_advance(false);
    host.arm_note(1000, "timer");
    assert_eq!(run_once(&mut host).unwrap_err().kind(), io::ErrorKind::Deadlock);
    host.clock.set_auto_advance(true);
    // Awake again: what comes now must not notify.
    host.core.inbox.push(note("from outside"));
    assert_eq!(host.core.driver.notification_count(), 0);
    host.turns(2);
    assert_eq!(host.log, ["from outside", "timer"]);
}

#[test]
fn closed_inbox_gives_work_back() {
    let host = TestLoop::new();
    let inbox = Arc::clone(&host.core.inbox);
    assert!(inbox.push(note("accepted")).is_none());
    inbox.close();
    assert!(inbox.push(note("refused")).is_some());
    let mut ready = antiphon_engine::ReadyQueue::new();
    assert_eq!(inbox.drain_into(&mut ready), 1);
}
