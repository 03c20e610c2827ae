//! Handles at rest: kept whole for the next callbacks, since making and freeing objects is a tenth of what one costs.

use std::ptr;
use std::sync::atomic::Ordering;

use pyo3::ffi;

use super::{of_work, timer_type};
use crate::event_loop::EventLoop;
use crate::ffi::{Instance, Owned};
use crate::work::Work;

/// The loop is through with this handle: if nobody else refers to it, it goes to the free list as it is, which is less
/// work than freeing and making it again.
#[inline(always)]
pub fn retire(owner: &Instance<EventLoop>, work: Work) {
    // SAFETY: `work` keeps the object alive.
    let last = cfg!(not(Py_GIL_DISABLED)) && unsafe { ffi::Py_REFCNT(work.as_ptr()) } == 1;
    if !last {
        drop(work);
        return;
    }
    let this = of_work(&work);
    if this.has_weak_references()
        || this.repeats.load(Ordering::Relaxed)
        || this.call.with(|call| call.callback.is_some())
        || !ptr::eq(this.owner.load(Ordering::Relaxed), owner.as_ptr())
    {
        drop(work);
        return;
    }
    this.rest();
    if this.foreign.load(Ordering::Relaxed) {
        let handle = work.into_object();
        let refused = owner.foreign_handles().with(|list| {
            if list.len() >= FreeHandles::MOST {
                return Some(handle);
            }
            list.push(handle);
            None
        });
        drop(refused);
        return;
    }
    let handle = work.into_object();
    let refused = owner.seat().with(|core| core.free_handles.push(handle));
    drop(refused);
}

/// The stack of the code that is running, as asyncio keeps it for debug mode.
/// Handles without a callback, for the next ones.
///
/// After a burst the lists are long, and the next burst finds memory that is warm and mapped already: on a machine with
/// dear page faults that is a third of its cost. A loop that sleeps has no burst under way, so each sleep gives some of
/// what is above the ordinary back ([`Self::shrink`]).
#[derive(Default)]
pub struct FreeHandles {
    pub(super) plain: Vec<Owned>,
    pub(super) timers: Vec<Owned>,
}

impl FreeHandles {
    /// After a burst; about 28 MB.
    const MOST: usize = 1 << 18;
    /// Kept for good; less than half a megabyte.
    const ORDINARY: usize = 4096;
    /// Given back at a time: about ten microseconds' work.
    const SURPLUS: usize = 256;

    /// What is to be given back before a sleep, for the caller to drop.
    #[inline(always)]
    pub fn shrink(&mut self) -> Vec<Owned> {
        let mut surplus = Vec::new();
        for list in [&mut self.plain, &mut self.timers] {
            Self::take_surplus(list, &mut surplus);
        }
        surplus
    }

    /// [`Self::shrink`] of one list.
    #[inline(always)]
    pub fn take_surplus(list: &mut Vec<Owned>, surplus: &mut Vec<Owned>) {
        if list.len() > Self::ORDINARY {
            surplus.extend(list.drain(list.len().saturating_sub(Self::SURPLUS).max(Self::ORDINARY)..));
        }
    }

    #[inline(always)]
    fn list(&mut self, handle: *mut ffi::PyObject) -> &mut Vec<Owned> {
        // SAFETY: comparing the type of a living object.
        if unsafe { ffi::Py_TYPE(handle) } == timer_type() { &mut self.timers } else { &mut self.plain }
    }

    #[inline(always)]
    pub(super) fn has_room(&mut self, handle: *mut ffi::PyObject) -> bool {
        self.list(handle).len() < Self::MOST
    }

    /// Keeps the handle, or gives it back when there are enough.
    #[inline(always)]
    pub(super) fn push(&mut self, handle: Owned) -> Option<Owned> {
        let list = self.list(handle.as_ptr());
        if list.len() < Self::MOST {
            list.push(handle);
            None
        } else {
            Some(handle)
        }
    }

    /// Everything, for the loop's end.
    pub fn take_all(&mut self) -> Vec<Owned> {
        let mut taken = std::mem::take(&mut self.plain);
        taken.append(&mut self.timers);
        taken
    }
}
