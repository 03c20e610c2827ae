//! `__aenter__` and `__aexit__` without a bound method in between.
//!
//! Until 3.13 `async with` makes a bound method for each of the two, calls it and awaits what it gives; the methods cost
//! more than the lock. Here looking the method up makes the coroutine itself, in a phase in which it can only be called,
//! and calling it gives itself if nobody else holds it, or another one. From 3.14 the interpreter makes no bound method,
//! and plain methods serve.
//!
//! Source: PEP 590; CPython Python/bytecodes.c (`BEFORE_ASYNC_WITH`, `LOAD_SPECIAL`).

use std::ffi::c_void;
use std::ptr;
use std::sync::OnceLock;

use pyo3::ffi;

use super::Operation;
use super::life::{self, Coroutine};
use crate::ffi::raise::type_error;
use crate::ffi::{HeapType, Instance, Owned, Payload, Result, check, guard};
use crate::getter;
use crate::names::intern;

// Documented, and exported by every version; pyo3-ffi does not declare it.
unsafe extern "C" {
    fn PyMethod_New(function: *mut ffi::PyObject, object: *mut ffi::PyObject) -> *mut ffi::PyObject;
}

/// An operation of which a special method makes coroutines.
pub trait Special: Operation {
    /// One for the object that the method belongs to.
    fn of(object: &Owned) -> Option<Self>;
}

/// The coroutine of `object`'s method, to be called before it can be awaited.
#[inline]
pub fn bind<O: Special>(qualified_name: &'static str, object: Owned) -> Result {
    let operation = O::of(&object).ok_or_else(|| type_error("the object is of another type"))?;
    life::make_bound(qualified_name, operation, object, call_bound::<O>)
}

unsafe extern "C" fn call_bound<O: Special>(
    this: *mut ffi::PyObject,
    _values: *const *mut ffi::PyObject,
    _count: usize,
    _keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    guard(|| {
        // SAFETY: F2: only such coroutines have this function.
        let (this, only) = unsafe { (Instance::<Coroutine<O>>::from_ptr(this), ffi::Py_REFCNT(this) == 1) };
        if cfg!(not(Py_GIL_DISABLED)) && only && this.set_callable_off() {
            return Ok(this.owned());
        }
        let object = this.bound_to().ok_or_else(|| type_error("the coroutine belongs to no object"))?;
        let operation = O::of(object).ok_or_else(|| type_error("the object is of another type"))?;
        life::make(this.static_name(), operation)
    })
}

/// The payload of the descriptor.
struct SpecialMethod {
    name: &'static str,
    class: Owned,
    bind: fn(&Owned) -> Result<Option<Owned>>,
    call: fn(&Owned) -> Result,
}

static METHOD: OnceLock<usize> = OnceLock::new();

impl Payload for SpecialMethod {
    type BaseSlots = ();
    type Dictionary = ();
    const COLLECTED: bool = false;
    fn type_object() -> *mut ffi::PyTypeObject {
        METHOD.get().map_or(ptr::null_mut(), |address| *address as *mut ffi::PyTypeObject)
    }
}

unsafe extern "C" fn get(
    this: *mut ffi::PyObject,
    object: *mut ffi::PyObject,
    _kind: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: F1, F2; the object is alive during the call.
    guard(|| unsafe {
        let method = Instance::<SpecialMethod>::from_ptr(this);
        if object.is_null() {
            return Ok(method.owned());
        }
        let object = Owned::from_borrowed(object);
        match (method.bind)(&object)? {
            Some(bound) => Ok(bound),
            None => Owned::from_new(PyMethod_New(this, object.as_ptr())),
        }
    })
}

unsafe extern "C" fn call(
    this: *mut ffi::PyObject,
    args: *mut ffi::PyObject,
    _keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: F1, F2; a tuple, by the slot's contract.
    guard(|| unsafe {
        let method = Instance::<SpecialMethod>::from_ptr(this);
        let class = method.class.as_ptr().cast::<ffi::PyTypeObject>();
        if ffi::PyTuple_GET_SIZE(args) == 0
            || ffi::PyObject_TypeCheck(ffi::PyTuple_GET_ITEM(args, 0), class) == 0
        {
            return Err(type_error(&format!("descriptor '{}' needs an object of its class", method.name)));
        }
        (method.call)(&Owned::from_borrowed(ffi::PyTuple_GET_ITEM(args, 0)))
    })
}

fn get_name(this: &Instance<SpecialMethod>) -> Result {
    Owned::str(this.name)
}

unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: the object is unreachable.
    unsafe {
        let kind = ffi::Py_TYPE(object);
        Instance::<SpecialMethod>::finish(object);
        ffi::PyObject_Free(object.cast());
        ffi::Py_DECREF(kind.cast());
    }
}

fn descriptor_type() -> Result<()> {
    if METHOD.get().is_none() {
        let made = HeapType::new(c"antiphon._antiphon.SpecialMethod", Instance::<SpecialMethod>::SIZE)
            .no_constructor()
            .doc(c"A method that `async with` calls.")
            .slot(ffi::Py_tp_descr_get, get as *mut c_void)
            .slot(ffi::Py_tp_call, call as *mut c_void)
            .slot(ffi::Py_tp_dealloc, dealloc as *mut c_void)
            .attribute(c"__name__", getter!(get_name), None, c"The method's name.")
            .build(None, Instance::<SpecialMethod>::PAYLOAD_OFFSET)?;
        let _ = METHOD.set(made as usize);
    }
    Ok(())
}

/// Gives a type a method of this name.
///
/// `bind` makes the coroutine of an object that goes the short way ([`bind`]); of others, `call` gives a coroutine.
pub fn add_method(
    class: *mut ffi::PyTypeObject,
    name: &'static str,
    bind: fn(&Owned) -> Result<Option<Owned>>,
    call: fn(&Owned) -> Result,
) -> Result<()> {
    descriptor_type()?;
    // SAFETY: a type object is an object.
    let class = unsafe { Owned::from_borrowed(class.cast()) };
    let method = Instance::create(SpecialMethod { name, class: class.clone(), bind, call })?;
    let name = intern(name)?;
    // SAFETY: F1; living objects.
    check(unsafe { ffi::PyObject_SetAttr(class.as_ptr(), name.as_ptr(), method.as_ptr()) }).map(drop)
}
