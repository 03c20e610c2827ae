//! Notifications go to the first who wait, and none is lost to one who fails.

use antiphon_core::{Condition, Waiter};
use proptest::prelude::*;

use super::tasks::{Wait, wake};

proptest! {
    #[test]
    fn notifications_reach_who_waits_longest(
        history in prop::collection::vec((0..6usize, 0..5u8, 0..4usize), 0..120),
    ) {
        let mut condition = Condition::default();
        let mut waits: Vec<Option<Wait>> = (0..6).map(|_| None).collect();
        let mut arrivals = 0;
        for (task, action, count) in history {
            // By the specification: the pending ones in the order of their arrival.
            let mut pending: Vec<(usize, usize)> = waits.iter().enumerate()
                .filter_map(|(place, wait)| Some((wait.as_ref().filter(|w| !w.is_over())?.arrived, place)))
                .collect();
            pending.sort_unstable();
            let expect_woken = |most: usize, woken: usize, waits: &[Option<Wait>]| {
                assert_eq!(woken, most.min(pending.len()));
                for (order, (_, place)) in pending.iter().enumerate() {
                    assert_eq!(waits[*place].as_ref().unwrap().is_over(), order < most);
                }
            };
            match action {
                0 => if waits[task].is_none() {
                    arrivals += 1;
                    let wait = Wait::new(arrivals);
                    condition.wait(wait.ticket.clone());
                    waits[task] = Some(wait);
                },
                1 => {
                    let woken = wake(condition.notify(count));
                    expect_woken(count, woken, &waits);
                }
                2 => if let Some(wait) = &mut waits[task] { wait.cancel() },
                _ => if let Some(wait) = waits[task].take_if(|wait| wait.is_over()) {
                    prop_assert!(condition.leave(&wait.ticket).is_some());
                    if wait.is_cancelled() {
                        let woken = wake(condition.pass_on());
                        expect_woken(1, woken, &waits);
                    }
                }
            }
            prop_assert_eq!(condition.waiters().len(), waits.iter().flatten().count());
        }
    }
}

#[test]
fn a_notification_survives_the_cancellation_of_who_got_it() {
    let mut condition = Condition::default();
    let [mut first, second] = [Wait::new(1), Wait::new(2)];
    condition.wait(first.ticket.clone());
    condition.wait(second.ticket.clone());
    assert_eq!(wake(condition.notify(1)), 1);
    first.cancel();
    assert!(first.is_over() && !first.ticket.is_cancelled());
    drop(condition.leave(&first.ticket));
    assert_eq!(wake(condition.pass_on()), 1);
    assert!(second.is_over());
}
