//! The loop's answers to the cycle collector.
//!
//! Handles are not tracked, so the loop visits through those that only it refers to: then a loop that was dropped with
//! work still queued is found and freed like any other garbage.

use std::ffi::{c_int, c_void};

use pyo3::ffi;

use super::EventLoop;
use crate::ffi::{Instance, Owned};
use crate::handle::of_work;
use crate::work::{Kind, Work};

/// References that keep a handle alive when nobody but the queue has it.
const QUEUE_ALONE: ffi::Py_ssize_t = 1;

fn visit_work(work: &Work, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: called from the traverse slot with its own visitor; the entry's object is alive.
    unsafe {
        if matches!(work.kind(), Kind::Handle | Kind::Timer) {
            if ffi::Py_REFCNT(work.as_ptr()) != QUEUE_ALONE {
                return 0;
            }
            let handle = of_work(work);
            let owner = handle.owner();
            let status = if owner.is_null() { 0 } else { visit(owner, arg) };
            if status != 0 {
                return status;
            }
            return handle.call().with(|call| call.traverse(visit, arg));
        }
        visit(work.as_ptr(), arg)
    }
}

/// `tp_traverse`.
pub unsafe extern "C" fn traverse(
    object: *mut ffi::PyObject,
    visit: ffi::visitproc,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: F2. The collector runs on an attached thread with the interpreter to itself; a thread that sleeps in the
    // driver borrows the driver and its event buffer only (`event_loop/run.rs`), never the queues read here.
    unsafe {
        let status = visit(ffi::Py_TYPE(object).cast(), arg);
        if status != 0 {
            return status;
        }
        let this = Instance::<EventLoop>::from_ptr(object);
        if let Some(factory) = this.task_factory.with(|factory| factory.as_ref().map(Owned::as_ptr)) {
            let status = visit(factory, arg);
            if status != 0 {
                return status;
            }
        }
        let status = this
            .tasks
            .with(|tasks| tasks.iter().map(|task| visit(task.as_ptr(), arg)).find(|status| *status != 0));
        if let Some(status) = status {
            return status;
        }
        let core = this.seat.as_ptr();
        let queued = (&raw const (*core).engine.ready).as_ref().into_iter().flat_map(|queue| queue.iter());
        let timed = (&raw const (*core).engine.timers).as_ref().into_iter().flat_map(|timers| timers.iter());
        let waiting = (&raw const (*core).io).as_ref().into_iter().flat_map(|io| io.waiters());
        for work in queued.chain(timed).chain(waiting) {
            let status = visit_work(work, visit, arg);
            if status != 0 {
                return status;
            }
        }
        0
    }
}

/// `tp_clear`.
pub unsafe extern "C" fn clear(object: *mut ffi::PyObject) -> c_int {
    // SAFETY: F2.
    let this = unsafe { Instance::<EventLoop>::from_ptr(object) };
    drop(this.task_factory.take());
    drop(this.tasks.take());
    let dropped = this.seat.with(|core| {
        let mut work = core.engine.ready.take_all();
        work.extend(core.engine.timers.take_all());
        (work, core.io.take_all(&mut core.engine.driver), core.take_resting())
    });
    drop(dropped);
    0
}

/// `tp_dealloc`; also reached from the dealloc slot of Python subclasses.
pub unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: the object is unreachable. What the core still holds goes first, outside of the core.
    unsafe {
        ffi::PyObject_GC_UnTrack(object.cast());
        let kind = ffi::Py_TYPE(object);
        clear(object);
        Instance::<EventLoop>::finish(object);
        if let Some(free) = (*kind).tp_free {
            free(object.cast());
        }
        ffi::Py_DECREF(kind.cast());
    }
}
