//! Tasks that run on the main thread alone: what they use belongs to it.
//!
//! A spare that meets the step of a pinned task keeps it for the main thread, which runs what was kept before everything
//! else as soon as it has the seat. So such a task waits while the main thread is blocked, as every task does in asyncio.

use super::HandOff;
use crate::event_loop::EventLoop;
use crate::ffi::{Args, HeapType, Instance, Owned, Result};
use crate::work::{Kind, Work};
use crate::{method, method_noargs};

/// How often each task is pinned, by its address; who pins keeps the task.
pub(super) type Pinned = Vec<(usize, usize)>;

impl HandOff {
    fn pin(&self, task: usize) {
        self.change(|state| match state.pinned.iter_mut().find(|(pinned, _)| *pinned == task) {
            Some((_, times)) => *times += 1,
            None => state.pinned.push((task, 1)),
        });
    }

    fn unpin(&self, task: usize) {
        self.change(|state| {
            if let Some(place) = state.pinned.iter().position(|(pinned, _)| *pinned == task) {
                state.pinned[place].1 -= 1;
                if state.pinned[place].1 == 0 {
                    state.pinned.swap_remove(place);
                }
            }
        });
    }

    /// Keeps the work if it is the main thread's; called on a spare. Gives back what the spare can run.
    pub fn keep_for_main(&self, work: Work) -> Option<Work> {
        if work.kind() != Kind::Step {
            return Some(work);
        }
        let address = work.as_ptr() as usize;
        self.change(|state| {
            if state.pinned.iter().any(|(pinned, _)| *pinned == address) {
                state.for_main.push(work);
                None
            } else {
                Some(work)
            }
        })
    }

    /// Puts what spares have kept before everything that is ready; called on the main thread.
    pub(super) fn requeue_kept(&self, owner: &Instance<EventLoop>) {
        let mut kept = Some(self.change(|state| std::mem::take(&mut state.for_main)));
        owner.seat().with(|core| {
            if let Some(kept) = kept.take() {
                core.engine.put_first(kept);
            }
        });
        drop(kept);
    }
}

/// `_can_be_handed_off()`.
fn can_be_handed_off(this: &Instance<EventLoop>) -> Result {
    Ok(Owned::bool(this.hand_off().is_some()))
}

/// `_pin(task, on)`: whether this is the main thread, and has the loop.
fn pin(this: &Instance<EventLoop>, args: Args<'_>) -> Result {
    args.at_least(2, &["task", "on"])?;
    // SAFETY: the arguments are alive during the call.
    let [task, on] = [0, 1].map(|place| unsafe { Owned::from_borrowed(args.positional()[place]) });
    let Some(hand_off) = this.hand_off() else {
        return Ok(Owned::bool(true));
    };
    if on.truth()? {
        hand_off.pin(task.as_ptr() as usize)
    } else {
        hand_off.unpin(task.as_ptr() as usize)
    }
    let is_main = hand_off.state.with(|state| state.driver.is_some_and(|driver| driver.is_main));
    Ok(Owned::bool(is_main && this.seat().is_mine()))
}

/// Adds this file's method to the loop's type.
pub fn add_methods(kind: HeapType) -> HeapType {
    kind.method(
        c"_pin",
        method!(c"_pin", pin),
        c"_pin(task, on): let the task run on the main thread alone, or take that back; it counts. Whether this is that thread.",
    )
    .method_noargs(
        c"_can_be_handed_off",
        method_noargs!(can_be_handed_off),
        c"Whether another thread goes on with the loop when a step blocks.",
    )
}
