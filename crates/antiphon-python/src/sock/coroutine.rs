//! The coroutine protocol of `SocketOperation`, in Python's words.
//!
//! Source: PEP 492; PEP 342 (`send`, `throw`, `close`); CPython Objects/genobject.c (the words of the errors).

use std::ffi::{c_int, c_void};
use std::ptr;

use pyo3::ffi;

use crate::coroutine::exceptions::{exception_given, stop_iteration};
use crate::ffi::raise::{self, runtime_error};
use crate::ffi::{Args, HeapType, Instance, Owned, Payload, Raised, Result, call_method, guard_int};
use crate::names::names;
use crate::{getter, method, method_noargs, method_one, unary_slot};

use super::collect;
use super::operation::{self, SocketOperation, Step};

/// `__await__`: an operation is its own iterator.
fn await_(this: &Instance<SocketOperation>) -> Result {
    if this.is_begun() {
        return Err(runtime_error("coroutine is being awaited already"));
    }
    Ok(this.owned())
}

fn iter(this: &Instance<SocketOperation>) -> Result {
    Ok(this.owned())
}

/// `tp_iternext`: to return `None` is to end without an exception.
fn next(this: &Instance<SocketOperation>) -> Result {
    match this.step(Owned::none().as_ptr())? {
        Step::Yielded(value) => Ok(value),
        Step::Returned(value) if value.is_none() => Err(Raised),
        Step::Returned(value) => Err(stop_iteration(&value)),
    }
}

/// `am_send`: a value without an exception around it.
unsafe extern "C" fn send_slot(
    this: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
    result: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    let status = guard_int(|| {
        // SAFETY: F2; the result's place is the caller's.
        unsafe {
            *result = ptr::null_mut();
            match Instance::<SocketOperation>::from_ptr(this).step(value)? {
                Step::Yielded(yielded) => {
                    *result = yielded.into_ptr();
                    Ok(ffi::PySendResult::PYGEN_NEXT as c_int)
                }
                Step::Returned(returned) => {
                    *result = returned.into_ptr();
                    Ok(ffi::PySendResult::PYGEN_RETURN as c_int)
                }
            }
        }
    });
    match status {
        0 => ffi::PySendResult::PYGEN_RETURN,
        1 => ffi::PySendResult::PYGEN_NEXT,
        _ => ffi::PySendResult::PYGEN_ERROR,
    }
}

fn send(this: &Instance<SocketOperation>, value: &Owned) -> Result {
    match this.step(value.as_ptr())? {
        Step::Yielded(value) => Ok(value),
        Step::Returned(value) => Err(stop_iteration(&value)),
    }
}

fn throw(this: &Instance<SocketOperation>, args: Args<'_>) -> Result {
    args.at_least(1, &["typ"])?;
    let exception = exception_given(args.positional())?;
    this.end()?;
    Err(raise::restore(exception))
}

fn close(this: &Instance<SocketOperation>) -> Result {
    if !this.is_finished() {
        this.end()?;
    }
    Ok(Owned::none())
}

fn get_name(this: &Instance<SocketOperation>) -> Result {
    Owned::str(this.method_name())
}

fn get_qualified_name(this: &Instance<SocketOperation>) -> Result {
    this.qualified_name()
}

fn get_running(this: &Instance<SocketOperation>) -> Result {
    Ok(Owned::bool(this.is_running()))
}

fn repr(this: &Instance<SocketOperation>) -> Result {
    // SAFETY: F1; the format takes an object and an address.
    unsafe {
        Owned::from_new(ffi::PyUnicode_FromFormat(
            c"<coroutine object %S at %p>".as_ptr(),
            this.qualified_name()?.as_ptr(),
            this.as_ptr(),
        ))
    }
}

/// Makes the type, adds it to the module, and has it counted among the coroutines.
pub fn load(module: &Owned) -> Result<()> {
    if SocketOperation::type_object().is_null() {
        let made = HeapType::new(c"antiphon._antiphon.SocketOperation", Instance::<SocketOperation>::SIZE)
            .collected()
            .no_constructor()
            .doc(c"What the loop's sock_* methods return: to be awaited, like a coroutine.")
            .slot(ffi::Py_tp_traverse, collect::traverse as *mut c_void)
            .slot(ffi::Py_tp_clear, collect::clear as *mut c_void)
            .slot(ffi::Py_tp_finalize, collect::finalize as *mut c_void)
            .slot(ffi::Py_tp_dealloc, collect::dealloc as *mut c_void)
            .slot(ffi::Py_tp_repr, unary_slot!(repr))
            .slot(ffi::Py_am_await, unary_slot!(await_))
            .slot(ffi::Py_am_send, send_slot as *mut c_void)
            .slot(ffi::Py_tp_iter, unary_slot!(iter))
            .slot(ffi::Py_tp_iternext, unary_slot!(next))
            .weak_references(Instance::<SocketOperation>::WEAKREF_OFFSET)
            .method_one(
                c"send",
                method_one!(send),
                c"One step; what it waits for, or StopIteration with the result.",
            )
            .method(c"throw", method!(c"throw", throw), c"Raise an exception where it waits.")
            .method_noargs(
                c"close",
                method_noargs!(close),
                c"Give up; the socket is left alone from then on.",
            )
            .attribute(c"__name__", getter!(get_name), None, c"The loop's method.")
            .attribute(c"__qualname__", getter!(get_qualified_name), None, c"The loop's class and method.")
            .attribute(c"cr_running", getter!(get_running), None, c"Whether a step is under way.")
            .build(None, Instance::<SocketOperation>::PAYLOAD_OFFSET)?;
        operation::set_type(made);
        // SAFETY: a type object is an object.
        let class = unsafe { Owned::from_borrowed(made.cast()) };
        call_method(&names().coroutine_class, &names().register, [&class])?;
    }
    crate::add_type(module, c"SocketOperation", SocketOperation::type_object())
}
