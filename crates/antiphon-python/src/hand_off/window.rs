//! The window: the part of a step in which it may lose the seat (P1).
//!
//! It is as narrow as the call into user code. Windows inside an open one (an eager task's first step) do not open it again,
//! but see to it that the seat is there when they close.

use std::ptr;
use std::sync::atomic::Ordering;

use super::HandOff;
use crate::event_loop::EventLoop;
use crate::ffi::{Instance, Owned};
use crate::handle::of_work;
use crate::work::{Kind, Work};

/// A call into user code.
pub struct Window<'a> {
    owner: &'a Instance<EventLoop>,
    hand_off: &'a HandOff,
    is_outermost: bool,
}

/// Opens the window around a call into user code, on the loop's driver; nothing for loops without hand-off.
#[inline(always)]
pub fn open(owner: Option<&Instance<EventLoop>>) -> Option<Window<'_>> {
    let owner = owner?;
    let hand_off = owner.hand_off()?;
    open_on(owner, hand_off)
}

fn open_on<'a>(owner: &'a Instance<EventLoop>, hand_off: &'a HandOff) -> Option<Window<'a>> {
    if !owner.seat().is_mine() {
        // Code that runs without the seat, such as a signal handler inside a blocked call: it has none to lose.
        return None;
    }
    let is_outermost = !is_open(hand_off.bell.window.load(Ordering::Relaxed));
    if is_outermost {
        if !hand_off.allowed.load(Ordering::Relaxed) {
            return None;
        }
        hand_off.move_window();
    }
    Some(Window { owner, hand_off, is_outermost })
}

/// Closes it: from here on the thread has the seat, and keeps it.
#[inline(always)]
pub fn close(window: Option<Window<'_>>) {
    if let Some(window) = window {
        window.close();
    }
}

impl Window<'_> {
    fn close(self) {
        if self.owner.seat().is_mine() {
            if self.is_outermost {
                self.hand_off.move_window();
            }
            return;
        }
        // What the call raised must survive the wait.
        let raised = crate::ffi::raise::take();
        self.hand_off.claim_here(self.owner, !self.is_outermost);
        if let Some(raised) = raised {
            crate::ffi::raise::restore(raised);
        }
    }
}

/// Whether the window was open when its word read so.
#[inline(always)]
pub const fn is_open(word: u64) -> bool {
    word & 1 == 1
}

impl HandOff {
    /// Opens the closed window or closes the open one. For the seat's holder, and for who takes the seat from it: both have
    /// the interpreter, so a load and a store are one step.
    #[inline(always)]
    pub fn move_window(&self) {
        self.bell.window.store(self.bell.window.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    /// Says what is about to run: task steps and plain callbacks may lose the seat. The caller keeps it while it runs.
    #[inline(always)]
    pub fn allow(&self, work: &Work) {
        let kind = work.kind();
        // A reader that blocked would be ready again and again meanwhile; what transports call is theirs to order.
        let allowed = match kind {
            Kind::Step => true,
            Kind::Handle => !of_work(work).repeats(),
            _ => false,
        };
        self.allowed.store(allowed, Ordering::Relaxed);
        let task = if kind == Kind::Step { work.as_ptr() } else { ptr::null_mut() };
        self.task.store(task, Ordering::Relaxed);
    }

    /// The task whose step the driver is in, if it is one of ours; for who has the interpreter while the window is open.
    pub(super) fn present_task(&self) -> Option<Owned> {
        // SAFETY: the driver keeps the task while its step lasts, and the window is open in that time only.
        unsafe { Owned::from_optional(self.task.load(Ordering::Relaxed)) }
    }
}
