//! Work that needs a context which a blocked step has entered waits until that step has come back.
//!
//! A context can be entered once at a time. Handles and tasks have copies of their own as a rule; who was given
//! `context=mine` meets the blocked step in it. Contexts are tried, not compared: that also finds those which user code has
//! entered (`context.run(time.sleep, 1)`). Order is kept: what needs the context of something deferred is deferred, too.
//!
//! Source: PEP 567 (`RuntimeError: cannot enter context … already entered`).

use pyo3::ffi;

use super::{Deferred, HandOff};
use crate::event_loop::EventLoop;
use crate::ffi::raise;
use crate::ffi::{Instance, Owned, This};
use crate::handle::of_work;
use crate::task::TaskObject;
use crate::work::{Kind, Work};

/// The context that the work will enter, if it is of a kind that may lose the seat in it.
fn context_of(work: &Work) -> Option<Owned> {
    match work.kind() {
        Kind::Step => {
            // SAFETY: such entries are made from tasks only.
            let task: &TaskObject = unsafe { This::from_ptr(work.as_ptr()) };
            task.context()
        }
        Kind::Handle => of_work(work).context(),
        _ => None,
    }
}

/// Whether the context can be entered now.
fn is_free(context: &Owned) -> bool {
    // SAFETY: F1; a context that was entered is left again. Neither runs Python code.
    unsafe {
        if ffi::PyContext_Enter(context.as_ptr()) == 0 {
            ffi::PyContext_Exit(context.as_ptr());
            return true;
        }
    }
    drop(raise::take());
    false
}

impl HandOff {
    /// Keeps the work if its context is taken by a blocked step; gives it back if it can run.
    ///
    /// Called only while somebody is out. A context that is entered although nobody is out is the program's own error.
    #[cold]
    pub fn defer(&self, work: Work) -> Option<Work> {
        let Some(context) = context_of(&work) else {
            return Some(work);
        };
        let (is_awaited, is_blocked) = self.state.with(|state| {
            let same = |deferred: &Deferred| deferred.context.as_ptr() == context.as_ptr();
            (state.deferred.iter().any(same), !state.blocked.is_empty())
        });
        if !is_awaited && (!is_blocked || is_free(&context)) {
            return Some(work);
        }
        self.change(|state| state.deferred.push_back(Deferred { context, work }));
        None
    }

    /// A step has come back: what was deferred is tried again, before everything else, in its order.
    pub(super) fn requeue_deferred(&self, owner: &Instance<EventLoop>) {
        let deferred = self
            .change(|state| std::mem::take(&mut state.retry).then(|| std::mem::take(&mut state.deferred)));
        let Some(deferred) = deferred.filter(|deferred| !deferred.is_empty()) else {
            return;
        };
        let (contexts, works): (Vec<_>, Vec<_>) =
            deferred.into_iter().map(|deferred| (deferred.context, deferred.work)).unzip();
        let mut works = Some(works);
        owner.seat().with(|core| {
            if let Some(works) = works.take() {
                core.engine.put_first(works);
            }
        });
        drop((contexts, works));
    }
}
