//! `__aenter__` and `__aexit__` without a bound method in between.
//!
//! Until 3.13 `async with` makes a bound method for each of the two, calls it and awaits what it gives; the methods cost
//! more than the lock. Here looking the method up makes the coroutine itself, in a phase in which it can only be called,
//! and calling it gives itself if nobody else holds it, or another one. From 3.14 the interpreter makes no bound method,
//! and plain methods serve.
//!
//! Source: PEP 590; CPython Python/bytecodes.c (`BEFORE_ASYNC_WITH`, `LOAD_SPECIAL`).

use std::ffi::c_void;
use std::mem::offset_of;
use std::ptr;
use std::sync::OnceLock;

use pyo3::ffi;

use super::life::{self, Coroutine};
use super::{LookedUp, Operation};
use crate::ffi::raise::type_error;
use crate::ffi::{Args, HeapType, Instance, Owned, Payload, Raised, Result, check, guard};
use crate::getter;
use crate::names::intern;

// Documented, and exported by every version; pyo3-ffi does not declare it.
unsafe extern "C" {
    fn PyMethod_New(function: *mut ffi::PyObject, object: *mut ffi::PyObject) -> *mut ffi::PyObject;
}

/// An operation of which a special method makes coroutines.
pub trait Special: Operation<Binding = LookedUp> {
    /// One for the object that the method belongs to, as if the method had been called without saying more.
    fn of(object: &Owned) -> Option<Self>;

    /// Whether a call with these arguments says no more than that.
    #[inline(always)]
    fn says_nothing(_args: Args<'_>) -> bool {
        true
    }

    /// Takes the arguments in where they do say more.
    ///
    /// # Errors
    /// `TypeError` for arguments that the method does not have.
    fn take_arguments(&mut self, _args: Args<'_>) -> Result<()> {
        Ok(())
    }
}

/// The coroutine of `object`'s method, to be called before it can be awaited.
#[inline(always)]
pub fn bind<O: Special>(qualified_name: &'static str, object: Owned) -> Result {
    let operation = O::of(&object).ok_or_else(another_type)?;
    life::make_bound(qualified_name, operation, object, call_bound::<O>)
}

/// The coroutine of `object`'s method, called with these arguments.
pub fn make<O: Special>(qualified_name: &'static str, object: &Owned, args: Args<'_>) -> Result {
    let mut operation = O::of(object).ok_or_else(another_type)?;
    operation.take_arguments(args)?;
    life::make(qualified_name, operation)
}

#[cold]
fn another_type() -> Raised {
    type_error("the object is of another type")
}

unsafe extern "C" fn call_bound<O: Special>(
    this: *mut ffi::PyObject,
    values: *const *mut ffi::PyObject,
    count: usize,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    guard(|| {
        // SAFETY: F2: only such coroutines have this function; the arguments are those of this very call.
        let (this, only, args) = unsafe {
            let args = Args::new(c"method", values, ffi::PyVectorcall_NARGS(count), keywords);
            (Instance::<Coroutine<O>>::from_ptr(this), ffi::Py_REFCNT(this) == 1, args)
        };
        if cfg!(not(Py_GIL_DISABLED)) && only && O::says_nothing(args) && this.set_callable_off() {
            return Ok(this.owned());
        }
        let object = this.bound_to().ok_or_else(|| type_error("the coroutine belongs to no object"))?;
        make::<O>(this.static_name(), &object, args)
    })
}

/// The coroutine of an object that goes the short way, not yet called ([`bind`]); none of others.
pub type Bind = fn(&Owned) -> Result<Option<Owned>>;

/// The coroutine of any object, called with these arguments.
pub type Call = fn(&Owned, Args<'_>) -> Result;

/// The payload of the descriptor.
struct SpecialMethod {
    entry: ffi::vectorcallfunc,
    name: &'static str,
    class: Owned,
    bind: Bind,
    call: Call,
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
        match (method.bind)(Owned::borrowed(&object))? {
            Some(bound) => Ok(bound),
            None => Owned::from_new(PyMethod_New(this, object)),
        }
    })
}

/// A call of the method as the class has it: the object is the first argument.
unsafe extern "C" fn call(
    this: *mut ffi::PyObject,
    values: *const *mut ffi::PyObject,
    count: usize,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: F1, F2; the arguments are those of this very call.
    guard(|| unsafe {
        let method = Instance::<SpecialMethod>::from_ptr(this);
        let class = method.class.as_ptr().cast::<ffi::PyTypeObject>();
        let given = ffi::PyVectorcall_NARGS(count);
        if given == 0 || ffi::PyObject_TypeCheck(*values, class) == 0 {
            return Err(type_error(&format!("descriptor '{}' needs an object of its class", method.name)));
        }
        (method.call)(Owned::borrowed(&*values), Args::new(c"method", values.add(1), given - 1, keywords))
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
            .called_through(Instance::<SpecialMethod>::PAYLOAD_OFFSET + offset_of!(SpecialMethod, entry))
            .slot(ffi::Py_tp_dealloc, dealloc as *mut c_void)
            .attribute(c"__name__", getter!(get_name), None, c"The method's name.")
            .build(None, Instance::<SpecialMethod>::PAYLOAD_OFFSET)?;
        let _ = METHOD.set(made as usize);
    }
    Ok(())
}

/// Gives a type a method of this name.
///
/// `bind` makes the coroutine of an object that goes the short way ([`bind`]); `called` gives a coroutine of any object.
pub fn add_method(class: *mut ffi::PyTypeObject, name: &'static str, bind: Bind, called: Call) -> Result<()> {
    descriptor_type()?;
    // SAFETY: a type object is an object.
    let class = unsafe { Owned::from_borrowed(class.cast()) };
    let method =
        Instance::create(SpecialMethod { entry: call, name, class: class.clone(), bind, call: called })?;
    let name = intern(name)?;
    // SAFETY: F1; living objects.
    check(unsafe { ffi::PyObject_SetAttr(class.as_ptr(), name.as_ptr(), method.as_ptr()) }).map(drop)
}
