//! A task's life as an object: allocation, the collector's questions, the reports at its end, the free list.
//!
//! Source: CPython Modules/_asynciomodule.c (`TaskObj_finalize`, `TaskObj_dealloc`); PEP 442.

use std::ffi::{c_int, c_void};

use pyo3::ffi;

use super::{BASE, Inner, TaskData, TaskObject, registry, task_type};
use crate::event_loop::{Core, EventLoop};
use crate::ffi::derived::{allocate, clear_weak_references};
use crate::ffi::{Args, HeapType, Instance, Owned, Result, This, call_method, guard, guard_int};
use crate::future::life::{dictionary, end, finalizing};
use crate::names::names;

/// An empty task of the loop.
#[inline]
pub(super) fn create(owner: &Instance<EventLoop>) -> Result {
    let kept = owner.seat().with(|core| core.free_tasks.pop()).flatten();
    let task = match kept {
        Some(task) => {
            // SAFETY: a whole task, untracked since it was put away.
            unsafe { ffi::PyObject_GC_Track(task.as_ptr().cast()) };
            task
        }
        None => allocate(task_type(), TaskData::default())?,
    };
    // SAFETY: a task in either case.
    unsafe { TaskObject::from_ptr(task.as_ptr()) }.as_future().bind(owner);
    Ok(task)
}

unsafe extern "C" fn new(
    kind: *mut ffi::PyTypeObject,
    _args: *mut ffi::PyObject,
    _keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    guard(|| allocate(kind, TaskData::default()))
}

/// `Task(coro, *, loop=None, name=None, context=None, eager_start=False)`.
unsafe extern "C" fn init(
    this: *mut ffi::PyObject,
    args: *mut ffi::PyObject,
    keywords: *mut ffi::PyObject,
) -> c_int {
    guard_int(|| {
        let names = names();
        let parameters = [&names.coro, &names.loop_, &names.name, &names.context, &names.eager_start];
        // SAFETY: F2; the interpreter passes a tuple, and a dict or null.
        unsafe {
            let given = Args::of_init(c"Task", args, keywords, 1, parameters)?;
            let [coro, owner, name, context, eager] =
                given.map(|value| value.map(|value| Owned::from_borrowed(value)));
            let Some(coro) = coro else {
                return Err(crate::ffi::raise::type_error("Task() missing required argument 'coro' (pos 1)"));
            };
            let eager = match eager {
                Some(eager) if cfg!(Py_3_12) => eager.truth()?,
                Some(_) => {
                    return Err(crate::ffi::raise::type_error(
                        "Task() got an unexpected keyword argument 'eager_start'",
                    ));
                }
                None => false,
            };
            let given = |value: Option<Owned>| value.filter(|value| !value.is_none());
            let this = TaskObject::from_ptr(this);
            this.initialise_task(given(owner), coro, given(name), given(context), eager)?;
        }
        Ok(0)
    })
}

impl Inner {
    /// Visits what it refers to.
    /// # Safety
    /// Called from a traverse slot with its own visitor.
    #[inline(always)]
    unsafe fn traverse(&self, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
        let objects = [self.coro.as_ref(), self.context.as_ref(), self.waiter.as_ref(), self.name.as_text()];
        for object in objects.into_iter().flatten() {
            // SAFETY: by the caller's word.
            let status = unsafe { visit(object.as_ptr(), arg) };
            if status != 0 {
                return status;
            }
        }
        0
    }
}

impl TaskObject {
    /// Whether somebody has to be told if it is dropped now.
    fn is_worth_a_report(&self) -> bool {
        let state = self.as_future().state();
        state.is_unretrieved()
            || self.inner.with(|inner| inner.listed || (inner.reports_its_loss && !state.is_done()))
    }

    /// Whether the interpreter's own list of tasks has it.
    fn is_listed(&self) -> bool {
        self.inner.with(|inner| inner.listed)
    }

    /// Tells the loop's exception handler of a task that is dropped before it is done.
    fn report_loss(&self) -> Result<()> {
        let lost = self.inner.with(|inner| std::mem::take(&mut inner.reports_its_loss));
        if !lost || self.as_future().state().is_done() {
            return Ok(());
        }
        let names = names();
        let message = Owned::str("Task was destroyed but it is pending!")?;
        let stack = self.as_future().source_traceback();
        let context = dictionary([
            (&names.task, Some(&self.owned())),
            (&names.message, Some(&message)),
            (&names.source_traceback, stack.as_ref()),
        ])?;
        call_method(&self.as_future().owner_or_none(), &names.call_exception_handler, [&context]).map(drop)
    }
}

unsafe extern "C" fn finalize(object: *mut ffi::PyObject) {
    // SAFETY: F2.
    let this = unsafe { TaskObject::from_ptr(object) };
    if this.is_worth_a_report() {
        finalizing(object, || registry::unlist(this));
        finalizing(object, || this.report_loss());
        finalizing(object, || this.as_future().report_unretrieved());
        // Who was told may have registered it.
        #[cfg(Py_3_14)]
        finalizing(object, || registry::forget(this));
    }
}

unsafe extern "C" fn traverse(object: *mut ffi::PyObject, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: F2, and the visitor is the collector's own.
    unsafe {
        let base = BASE.get().map_or(0, |base| base.traverse(object, visit, arg));
        if base != 0 {
            return base;
        }
        let this = TaskObject::from_ptr(object);
        let of_future = this.as_future().traverse_payload(visit, arg);
        if of_future != 0 {
            return of_future;
        }
        this.inner.with(|inner| inner.traverse(visit, arg))
    }
}

unsafe extern "C" fn clear(object: *mut ffi::PyObject) -> c_int {
    // SAFETY: F2.
    unsafe {
        if let Some(base) = BASE.get() {
            base.clear(object);
        }
        let this = TaskObject::from_ptr(object);
        // A subclass's `__del__` may have kept `finalize` from doing it; asyncio's list has tasks by bare addresses.
        if this.is_listed() {
            finalizing(object, || registry::unlist(this));
        }
        this.as_future().clear_payload();
        drop(this.inner.take());
    }
    0
}

unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: the object is unreachable, unless its finalizer, which needs it tracked, makes it reachable again.
    unsafe {
        let this = TaskObject::from_ptr(object);
        if this.is_worth_a_report() && ffi::PyObject_CallFinalizerFromDealloc(object) < 0 {
            return;
        }
        if this.is_listed() {
            // As in `clear`. It is called with a living object, so this one lives once more, and then comes back here.
            ffi::Py_INCREF(object); // from zero
            finalizing(object, || registry::unlist(this));
            ffi::Py_DECREF(object);
            return;
        }
        ffi::PyObject_GC_UnTrack(object.cast());
        clear_weak_references(object);
        clear(object);
        end::<TaskData>(object, task_type(), this.as_future().unbind(), free_list);
    }
}

fn free_list(core: &mut Core) -> &mut Vec<Owned> {
    &mut core.free_tasks
}

/// Adds the slots of this file and of awaiting.
pub fn add_slots(kind: HeapType) -> HeapType {
    let kind = kind
        .base()
        .collected()
        .doc(
            c"Task(coro, *, loop=None, name=None, context=None, eager_start=False)\n--\n\nA coroutine that runs; asyncio's Task.",
        )
        .slot(ffi::Py_tp_new, new as *mut c_void)
        .slot(ffi::Py_tp_init, init as *mut c_void)
        .slot(ffi::Py_tp_traverse, traverse as *mut c_void)
        .slot(ffi::Py_tp_clear, clear as *mut c_void)
        .slot(ffi::Py_tp_finalize, finalize as *mut c_void)
        .slot(ffi::Py_tp_dealloc, dealloc as *mut c_void);
    crate::future::awaiting::add_slots(kind)
}
