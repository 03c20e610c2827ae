//! Whoever waits when the event is set goes on, and nobody else does.

use antiphon_core::{Event, Waiter};
use proptest::prelude::*;

use super::tasks::{Wait, wake};

proptest! {
    #[test]
    fn setting_wakes_exactly_those_who_wait(history in prop::collection::vec((0..6usize, 0..5u8), 0..120)) {
        let mut event = Event::default();
        let mut waits: Vec<Option<Wait>> = (0..6).map(|_| None).collect();
        // By the specification: whether an event was set since a task began to wait.
        let mut released = [false; 6];
        for (task, action) in history {
            match action {
                0 => {
                    if waits[task].is_none() && !event.is_set() {
                        let wait = Wait::new(0);
                        event.wait(wait.ticket.clone());
                        waits[task] = Some(wait);
                        released[task] = false;
                    }
                }
                1 => {
                    wake(event.set());
                    for (place, wait) in waits.iter().enumerate() {
                        released[place] |= wait.as_ref().is_some_and(|wait| !wait.ticket.is_cancelled());
                    }
                }
                2 => event.clear(),
                3 => if let Some(wait) = &mut waits[task] { wait.cancel() },
                _ => if let Some(wait) = waits[task].take_if(|wait| wait.is_over()) {
                    prop_assert!(event.leave(&wait.ticket).is_some());
                }
            }
            for (wait, released) in waits.iter().zip(released) {
                if let Some(wait) = wait {
                    let woken = wait.is_over() && !wait.ticket.is_cancelled();
                    prop_assert_eq!(woken, released);
                }
            }
            prop_assert_eq!(event.waiters().len(), waits.iter().flatten().count());
        }
    }
}
