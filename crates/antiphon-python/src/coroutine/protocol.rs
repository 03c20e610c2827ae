//! The coroutine protocol in Python's words, and the making of the types.
//!
//! Source: PEP 492; PEP 342 (`send`, `throw`, `close`); CPython Objects/genobject.c (the words of the errors).

use std::ffi::{CStr, c_int, c_void};
use std::ptr;

use pyo3::ffi;

use super::collect;
use super::exceptions::{exception_given, stop_iteration};
use super::life::Coroutine;
use super::{LookedUp, Operation, Resume, Step};
use crate::ffi::{Args, HeapType, Instance, Owned, Raised, Result, call_method, guard, guard_int};
use crate::names::names;

type This<O> = Instance<Coroutine<O>>;

/// What `send(value)` sends; `None` is no value.
#[inline(always)]
fn resume_with(value: &Owned) -> Resume<'_> {
    Resume::Send(if value.is_none() { None } else { Some(value) })
}

/// `am_await`: a coroutine is its own iterator.
unsafe extern "C" fn await_slot<O: Operation>(this: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: F2.
    guard(|| unsafe { This::<O>::from_ptr(this) }.begin_await())
}

unsafe extern "C" fn iter_slot(this: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: F1; alive during the call.
    unsafe { Owned::from_borrowed(this) }.into_ptr()
}

/// `tp_iternext`: to return `None` is to end without an exception.
unsafe extern "C" fn next_slot<O: Operation>(this: *mut ffi::PyObject) -> *mut ffi::PyObject {
    guard(|| {
        // SAFETY: F2.
        match unsafe { This::<O>::from_ptr(this) }.advance()? {
            Step::Yielded(value) => Ok(value),
            Step::Returned(value) if value.is_none() => Err(Raised),
            Step::Returned(value) => Err(stop_iteration(&value)),
        }
    })
}

/// `am_send`: a value without an exception around it.
unsafe extern "C" fn send_slot<O: Operation>(
    this: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
    result: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    let status = guard_int(|| {
        // SAFETY: F2; the value is alive during the call, the result's place is the caller's.
        unsafe {
            *result = ptr::null_mut();
            let (status, given) =
                match This::<O>::from_ptr(this).step(resume_with(Owned::borrowed(&value)))? {
                    Step::Yielded(yielded) => (ffi::PySendResult::PYGEN_NEXT, yielded),
                    Step::Returned(returned) => (ffi::PySendResult::PYGEN_RETURN, returned),
                };
            *result = given.into_ptr();
            Ok(status as c_int)
        }
    });
    match status {
        0 => ffi::PySendResult::PYGEN_RETURN,
        1 => ffi::PySendResult::PYGEN_NEXT,
        _ => ffi::PySendResult::PYGEN_ERROR,
    }
}

/// What `send` and `throw` give to Python: the yielded value, or `StopIteration` with the result.
fn in_python(step: Step) -> Result {
    match step {
        Step::Yielded(value) => Ok(value),
        Step::Returned(value) => Err(stop_iteration(&value)),
    }
}

unsafe extern "C" fn send<O: Operation>(
    this: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    guard(|| {
        // SAFETY: F2; the value is alive during the call.
        let (this, value) = unsafe { (This::<O>::from_ptr(this), Owned::from_borrowed(value)) };
        in_python(this.step(resume_with(&value))?)
    })
}

unsafe extern "C" fn throw<O: Operation>(
    this: *mut ffi::PyObject,
    values: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    guard(|| {
        // SAFETY: F2, and the arguments are those of this very call.
        let (this, args) =
            unsafe { (This::<O>::from_ptr(this), Args::new(c"throw", values, count, keywords)) };
        args.at_least(1, &["typ"])?;
        let exception = exception_given(args.positional())?;
        in_python(this.step(Resume::Throw(exception))?)
    })
}

unsafe extern "C" fn close<O: Operation>(
    this: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: F2.
    guard(|| unsafe { This::<O>::from_ptr(this) }.close().map(|()| Owned::none()))
}

unsafe extern "C" fn get_name<O: Operation>(this: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    // SAFETY: F2.
    guard(|| unsafe { This::<O>::from_ptr(this) }.name())
}

unsafe extern "C" fn get_qualified_name<O: Operation>(
    this: *mut ffi::PyObject,
    _: *mut c_void,
) -> *mut ffi::PyObject {
    // SAFETY: F2.
    guard(|| unsafe { This::<O>::from_ptr(this) }.qualified_name())
}

unsafe extern "C" fn get_running<O: Operation>(
    this: *mut ffi::PyObject,
    _: *mut c_void,
) -> *mut ffi::PyObject {
    // SAFETY: F2.
    guard(|| Ok(Owned::bool(unsafe { This::<O>::from_ptr(this) }.is_running())))
}

unsafe extern "C" fn get_suspended<O: Operation>(
    this: *mut ffi::PyObject,
    _: *mut c_void,
) -> *mut ffi::PyObject {
    // SAFETY: F2.
    guard(|| Ok(Owned::bool(unsafe { This::<O>::from_ptr(this) }.is_suspended())))
}

unsafe extern "C" fn repr<O: Operation>(this: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: F1, F2; the format takes an object and an address.
    guard(|| unsafe {
        Owned::from_new(ffi::PyUnicode_FromFormat(
            c"<coroutine object %S at %p>".as_ptr(),
            This::<O>::from_ptr(this).qualified_name()?.as_ptr(),
            this,
        ))
    })
}

/// The last part of a dotted name.
fn last_part(dotted: &'static CStr) -> &'static CStr {
    let bytes = dotted.to_bytes_with_nul();
    let start = bytes.iter().rposition(|byte| *byte == b'.').map_or(0, |dot| dot + 1);
    CStr::from_bytes_with_nul(&bytes[start..]).unwrap_or(dotted)
}

/// Makes the type of an operation's coroutines, adds it to the module, and has it counted among the coroutines.
pub fn load<O: Operation>(module: &Owned) -> Result<()> {
    load_with::<O>(module, |made| made)
}

/// The same for an operation of special methods ([`super::special`]).
pub fn load_special<O: Operation<Binding = LookedUp>>(module: &Owned) -> Result<()> {
    load_with::<O>(module, |made| made.called_through(Coroutine::<O>::CALL_OFFSET))
}

fn load_with<O: Operation>(module: &Owned, complete: fn(HeapType) -> HeapType) -> Result<()> {
    if O::class().type_object().is_null() {
        let made = HeapType::new(O::TYPE_NAME, This::<O>::SIZE)
            .collected()
            .no_constructor()
            .doc(c"A coroutine whose body is native.")
            .slot(ffi::Py_tp_traverse, collect::traverse::<O> as *mut c_void)
            .slot(ffi::Py_tp_clear, collect::clear::<O> as *mut c_void)
            .slot(ffi::Py_tp_finalize, collect::finalize::<O> as *mut c_void)
            .slot(ffi::Py_tp_dealloc, collect::dealloc::<O> as *mut c_void)
            .slot(ffi::Py_tp_repr, repr::<O> as *mut c_void)
            .slot(ffi::Py_am_await, await_slot::<O> as *mut c_void)
            .slot(ffi::Py_am_send, send_slot::<O> as *mut c_void)
            .slot(ffi::Py_tp_iter, iter_slot as *mut c_void)
            .slot(ffi::Py_tp_iternext, next_slot::<O> as *mut c_void)
            .weak_references(This::<O>::WEAKREF_OFFSET)
            .method_one(c"send", send::<O>, c"One step; what it waits for, or StopIteration with the result.")
            .method(c"throw", throw::<O>, c"Raise an exception where it waits.")
            .method_noargs(c"close", close::<O>, c"Have it clean up and end.")
            .attribute(c"__name__", get_name::<O>, None, c"The method that made it.")
            .attribute(c"__qualname__", get_qualified_name::<O>, None, c"The class and method that made it.")
            .attribute(c"cr_running", get_running::<O>, None, c"Whether a step is under way.")
            .attribute(c"cr_suspended", get_suspended::<O>, None, c"Whether it waits.");
        let made = complete(made).build(None, This::<O>::PAYLOAD_OFFSET)?;
        O::class().set_type(made);
        // SAFETY: a type object is an object.
        let class = unsafe { Owned::from_borrowed(made.cast()) };
        call_method(&names().coroutine_class, &names().register, [&class])?;
    }
    crate::add_type(module, last_part(O::TYPE_NAME), O::class().type_object())
}
