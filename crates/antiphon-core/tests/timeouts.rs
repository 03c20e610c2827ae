//! Nested timeouts on a task that counts its cancellation requests: who raises `TimeoutError`, and what stays.

use antiphon_core::{Timeout, TimeoutExit, TimeoutState};
use proptest::prelude::*;

/// Something that happens while the blocks run, after so many of them were entered.
#[derive(Clone, Debug)]
enum Event {
    /// The timeout of this nesting depth (modulo those entered) expires.
    Expire(usize),
    /// Somebody else cancels the task.
    Cancel,
    /// One more block is entered.
    Enter,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![1 => (0usize..6).prop_map(Event::Expire), 1 => Just(Event::Cancel), 2 => Just(Event::Enter)]
}

proptest! {
    /// A timeout explains the cancellation iff it expired and, since it was entered, neither anybody else nor a timeout
    /// further out asked the task to stop. Requests of others are all left at the end.
    #[test]
    fn timeouts_take_back_their_own_requests_only(
        before in 0u32..3,
        events in proptest::collection::vec(event(), 0..24),
    ) {
        let mut requests = before;
        let mut timeouts: Vec<Timeout> = Vec::new();
        // The history: what asked for the task's end, with the depth at that moment.
        let mut outside_at_depth = Vec::new();
        let mut expired_at_depth: Vec<(usize, usize)> = Vec::new();
        for event in events {
            match event {
                Event::Enter => {
                    let mut timeout = Timeout::new();
                    prop_assert_eq!(timeout.check_active().unwrap_err().0, TimeoutState::Created);
                    prop_assert!(timeout.enter(requests).is_ok());
                    prop_assert!(timeout.enter(requests).is_err());
                    timeouts.push(timeout);
                }
                Event::Cancel => {
                    requests += 1;
                    outside_at_depth.push(timeouts.len());
                }
                Event::Expire(which) if !timeouts.is_empty() => {
                    let which = which % timeouts.len();
                    let first = !expired_at_depth.iter().any(|(index, _)| *index == which);
                    prop_assert_eq!(timeouts[which].expire(), first);
                    if first {
                        requests += 1;
                        expired_at_depth.push((which, timeouts.len()));
                    }
                }
                Event::Expire(_) => {}
            }
        }
        for index in (0..timeouts.len()).rev() {
            let timeout = &mut timeouts[index];
            let expired = expired_at_depth.iter().any(|(which, _)| *which == index);
            prop_assert_eq!(timeout.is_expired(), expired);
            let exit = timeout.exit();
            prop_assert_eq!(exit == TimeoutExit::Expired, expired);
            if expired {
                requests -= 1;
            }
            let by_others = outside_at_depth.iter().any(|depth| *depth > index);
            let by_outer = expired_at_depth.iter().any(|(which, depth)| *which < index && *depth > index);
            prop_assert_eq!(timeout.explains_cancellation(requests), expired && !by_others && !by_outer);
            let end = if expired { TimeoutState::Expired } else { TimeoutState::Finished };
            prop_assert_eq!(timeout.state(), end);
            prop_assert!(!timeout.expire(), "too late");
        }
        prop_assert_eq!(requests, before + outside_at_depth.len() as u32);
    }
}
