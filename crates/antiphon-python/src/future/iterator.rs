//! `FutureIter`: what `future.__await__()` and `iter(future)` give, with `send`, `throw` and `close`.
//!
//! Source: CPython Modules/_asynciomodule.c, `FutureIter`.

use std::ffi::{c_int, c_void};

use pyo3::ffi;

use super::FutureRef;
use super::awaiting::{Step, send_step};
use crate::coroutine::exceptions::{exception_given, stop_iteration};
use crate::ffi::derived::TypeCell;
use crate::ffi::raise;
use crate::ffi::{Args, GilCell, HeapType, Instance, Owned, Payload, Raised, Result};
use crate::{method, method_noargs, method_one, unary_slot};

/// The payload of `FutureIter`: the future, until its result was given.
pub struct FutureIter(GilCell<Option<FutureRef>>);

static ITERATOR: TypeCell = TypeCell::new();

impl Payload for FutureIter {
    type BaseSlots = ();
    type Dictionary = ();
    const COLLECTED: bool = true;
    fn type_object() -> *mut ffi::PyTypeObject {
        ITERATOR.get()
    }
}

/// An iterator of `future`'s.
pub fn new(future: &FutureRef) -> Result {
    Instance::create(FutureIter(GilCell::new(Some(future.clone()))))
}

impl Instance<FutureIter> {
    fn step(&self) -> Result<Step> {
        let Some(future) = self.0.get() else {
            return Ok(Step::Returned(Owned::none()));
        };
        let step = future.this().step();
        if future.is_done() {
            drop(self.0.take());
        }
        step
    }
}

fn iter(this: &Instance<FutureIter>) -> Result {
    Ok(this.owned())
}

fn next(this: &Instance<FutureIter>) -> Result {
    match this.step()? {
        Step::Yielded(value) => Ok(value),
        Step::Returned(value) if value.is_none() => Err(Raised),
        Step::Returned(value) => Err(stop_iteration(&value)),
    }
}

fn send(this: &Instance<FutureIter>, _value: &Owned) -> Result {
    match this.step()? {
        Step::Yielded(value) => Ok(value),
        Step::Returned(value) => Err(stop_iteration(&value)),
    }
}

unsafe extern "C" fn send_slot(
    this: *mut ffi::PyObject,
    _value: *mut ffi::PyObject,
    result: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    // SAFETY: F2.
    send_step(result, || unsafe { Instance::<FutureIter>::from_ptr(this) }.step())
}

fn throw(this: &Instance<FutureIter>, args: Args<'_>) -> Result {
    args.at_least(1, &["typ"])?;
    let exception = exception_given(args.positional())?;
    drop(this.0.take());
    Err(raise::restore(exception))
}

fn close(this: &Instance<FutureIter>) -> Result {
    drop(this.0.take());
    Ok(Owned::none())
}

unsafe extern "C" fn traverse(object: *mut ffi::PyObject, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: F2, and the visitor is the collector's own.
    unsafe {
        let this = Instance::<FutureIter>::from_ptr(object);
        match visit(ffi::Py_TYPE(object).cast(), arg) {
            0 => {
                this.0.with(|future| future.as_ref().map_or(0, |future| visit(future.object().as_ptr(), arg)))
            }
            status => status,
        }
    }
}

unsafe extern "C" fn clear(object: *mut ffi::PyObject) -> c_int {
    // SAFETY: F2.
    drop(unsafe { Instance::<FutureIter>::from_ptr(object) }.0.take());
    0
}

unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: the object is unreachable.
    unsafe {
        ffi::PyObject_GC_UnTrack(object.cast());
        let kind = ffi::Py_TYPE(object);
        Instance::<FutureIter>::finish(object);
        ffi::PyObject_GC_Del(object.cast());
        ffi::Py_DECREF(kind.cast());
    }
}

/// Makes the type.
pub fn load() -> Result<()> {
    let made = HeapType::new(c"antiphon._antiphon.FutureIter", Instance::<FutureIter>::SIZE)
        .collected()
        .no_constructor()
        .slot(ffi::Py_tp_traverse, traverse as *mut c_void)
        .slot(ffi::Py_tp_clear, clear as *mut c_void)
        .slot(ffi::Py_tp_dealloc, dealloc as *mut c_void)
        .slot(ffi::Py_tp_iter, unary_slot!(iter))
        .slot(ffi::Py_tp_iternext, unary_slot!(next))
        .slot(ffi::Py_am_send, send_slot as *mut c_void)
        .weak_references(Instance::<FutureIter>::WEAKREF_OFFSET)
        .method_one(c"send", method_one!(send), c"One step, as next(); the value is ignored.")
        .method(c"throw", method!(c"throw", throw), c"Raise an exception, and let go of the future.")
        .method_noargs(c"close", method_noargs!(close), c"Let go of the future.")
        .build(None, Instance::<FutureIter>::PAYLOAD_OFFSET)?;
    ITERATOR.set(made);
    Ok(())
}
