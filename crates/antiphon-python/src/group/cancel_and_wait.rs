//! To cancel a child and wait until it is done, however long it takes its time: part of `wait_for`.
//!
//! Nobody waits on the child itself: a cancellation of the waiter would go there, and not to the waiter.
//!
//! Source: CPython Lib/asyncio/tasks.py (`_cancel_and_wait`).

use std::ffi::c_int;

use antiphon_core::ReturnWhen;

use super::child;
use super::waiting::{self, WaitingRef};
use crate::coroutine::{Resume, Step};
use crate::ffi::visitor::Visitor;
use crate::ffi::{Owned, Result};

/// The wait for one child.
pub struct CancelAndWait {
    child: [Owned; 1],
    waiting: WaitingRef,
}

impl CancelAndWait {
    /// Cancels the child.
    pub fn begin(owner: Owned, child: Owned) -> Result<Self> {
        let child = [child];
        let waiting = waiting::begin(owner, &child, ReturnWhen::AllCompleted)?;
        let this = Self { child, waiting };
        match child::cancel(&this.child[0], None) {
            Ok(_) => Ok(this),
            Err(raised) => {
                let exception = crate::ffi::raise::take();
                this.waiting.give_up(&this.child);
                Err(exception.map_or(raised, crate::ffi::raise::restore))
            }
        }
    }

    /// What the coroutine yields.
    pub fn step(&self) -> Result<Step> {
        self.waiting.step()
    }

    /// Goes on: the child is done, or something was thrown.
    pub fn end(&self, resume: Resume<'_>) -> Result<()> {
        self.waiting.end(&self.child, resume)
    }

    /// The child.
    pub fn child(&self) -> &Owned {
        &self.child[0]
    }

    /// Shows what it refers to.
    pub fn traverse(&self, visitor: Visitor) -> c_int {
        visitor.all([&self.child[0], self.waiting.object()])
    }
}
