//! `shield`: an outer future whose cancellation does not reach the inner one.
//!
//! Source: CPython Lib/asyncio/tasks.py (`shield`).

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::OnceLock;

use antiphon_core::{ShieldStep, shield_step};
use pyo3::ffi;

use super::{awaited_by, child, ensure, owner};
use crate::ffi::visitor::Visitor;
use crate::ffi::{Args, HeapType, Instance, Owned, Payload, Result, call_method};
use crate::future::FutureRef;
use crate::names::names;

/// The payload of the observer of both futures.
pub struct Shield {
    inner: Owned,
    outer: Owned,
    /// The task that asked, for the call graph.
    task: Option<Owned>,
}

static SHIELD: OnceLock<usize> = OnceLock::new();

impl Payload for Shield {
    type BaseSlots = ();
    type Dictionary = ();
    const COLLECTED: bool = true;
    #[inline(always)]
    fn type_object() -> *mut ffi::PyTypeObject {
        SHIELD.get().map_or(ptr::null_mut(), |address| *address as *mut ffi::PyTypeObject)
    }
}

impl Instance<Shield> {
    /// One of the two is done.
    pub fn child_done(&self, done: &Owned) -> Result<()> {
        if done.as_ptr() == self.inner.as_ptr() { self.inner_done() } else { self.outer_done() }
    }

    fn inner_done(&self) -> Result<()> {
        let names = names();
        if let Some(task) = &self.task {
            awaited_by::discard(&self.inner, task)?;
        }
        match shield_step(child::ended(&self.inner)?, child::is_cancelled(&self.outer)?) {
            ShieldStep::Ignore => {
                // From 3.14 on the exception of an inner one that nobody waits for any more is reported.
                if cfg!(not(Py_3_14)) && !child::is_cancelled(&self.inner)? {
                    child::exception(&self.inner)?;
                }
                Ok(())
            }
            ShieldStep::Cancel => child::cancel(&self.outer, None).map(drop),
            ShieldStep::Copy => match child::exception(&self.inner)? {
                Some(exception) => match FutureRef::cast(&self.outer) {
                    Some(outer) => outer.set_exception(exception),
                    None => call_method(&self.outer, &names.set_exception, [&exception]).map(drop),
                },
                None => {
                    let result = child::result(&self.inner)?;
                    match FutureRef::cast(&self.outer) {
                        Some(outer) => outer.set_result(result),
                        None => call_method(&self.outer, &names.set_result, [&result]).map(drop),
                    }
                }
            },
        }
    }

    fn outer_done(&self) -> Result<()> {
        if child::is_done(&self.inner)? {
            return Ok(());
        }
        child::unwatch(&self.inner, &self.owned())?;
        match &self.task {
            Some(task) => awaited_by::discard(&self.inner, task),
            None => Ok(()),
        }
    }
}

fn shield(args: Args<'_>) -> Result {
    let [arg] = args.required([&names().arg])?;
    let inner = ensure::ensure_future(&arg, None)?;
    if child::is_done(&inner)? {
        return Ok(inner);
    }
    let owner = child::owner(&inner)?;
    let outer = owner::create_future(&owner)?;
    let task = awaited_by::current(&owner)?;
    if let Some(task) = &task {
        awaited_by::add(&inner, task)?;
    }
    let shield = Instance::<Shield>::create(Shield { inner: inner.clone(), outer: outer.clone(), task })?;
    child::watch(&inner, &shield)?;
    child::watch(&outer, &shield)?;
    Ok(outer)
}

unsafe extern "C" fn traverse(object: *mut ffi::PyObject, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: F2, and `visit` is the collector's own.
    unsafe {
        let status = visit(ffi::Py_TYPE(object).cast(), arg);
        if status != 0 {
            return status;
        }
        let this = Instance::<Shield>::from_ptr(object);
        Visitor::new(visit, arg).all([&this.inner, &this.outer].into_iter().chain(&this.task))
    }
}

unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: the object is unreachable.
    unsafe {
        ffi::PyObject_GC_UnTrack(object.cast());
        let kind = ffi::Py_TYPE(object);
        Instance::<Shield>::finish(object);
        ffi::PyObject_GC_Del(object.cast());
        ffi::Py_DECREF(kind.cast());
    }
}

/// The functions of this file.
pub const FUNCTIONS: [crate::ffi::function::Function; 1] = [(
    c"shield",
    crate::function!(c"shield", shield),
    c"shield(arg)\n--\n\nA future that follows `arg`, and whose cancellation does not reach it.",
)];

/// Makes the type. It has no clear slot: its cycles go through futures, which have.
pub fn load(module: &Owned) -> Result<()> {
    if SHIELD.get().is_none() {
        let made = HeapType::new(c"antiphon._antiphon.Shield", Instance::<Shield>::SIZE)
            .collected()
            .no_constructor()
            .doc(c"What joins a shielded future and its shield.")
            .slot(ffi::Py_tp_traverse, traverse as *mut c_void)
            .slot(ffi::Py_tp_dealloc, dealloc as *mut c_void)
            .weak_references(Instance::<Shield>::WEAKREF_OFFSET)
            .build(None, Instance::<Shield>::PAYLOAD_OFFSET)?;
        let _ = SHIELD.set(made as usize);
    }
    crate::add_type(module, c"Shield", Shield::type_object())
}
