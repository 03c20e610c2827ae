//! What the types of this folder share: they can be derived from, have a dictionary, and their state begins as a default
//! that `__init__` replaces, so that a subclass may have a constructor of its own.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;

use pyo3::ffi;

use crate::ffi::instance::DictionarySlot;
use crate::ffi::raise::{runtime_error, type_error};
use crate::ffi::visitor::Visitor;
use crate::ffi::{HeapType, Instance, Owned, Payload, Raised, Result, guard, guard_int};

/// The payload of one of these types.
pub trait Object: Payload<BaseSlots = (), Dictionary = DictionarySlot> + Default {
    /// Shows every reference to the collector.
    fn visit(&self, visitor: Visitor) -> c_int;
    /// Drops every reference, for the collector.
    fn clear(&self);
    /// `__init__` with the argument that was given, if it was.
    ///
    /// # Errors
    /// What asyncio's constructor raises.
    fn init(this: &Instance<Self>, argument: Option<&Owned>) -> Result<()>;
    /// The name of `__init__`'s argument, and whether it must be given.
    const ARGUMENT: Option<(&'static str, bool)>;
}

unsafe extern "C" fn new<T: Object>(
    kind: *mut ffi::PyTypeObject,
    _args: *mut ffi::PyObject,
    _keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: F1; `kind` is ours or a subclass. The payload is in place before the object is seen by anybody: allocating
    // may collect, but a new object is tracked after that.
    guard(|| unsafe {
        let payload = T::default();
        let Some(allocate) = (*kind).tp_alloc else {
            return Err(runtime_error("the type has no allocator"));
        };
        let object = Owned::from_new(allocate(kind, 0))?;
        Instance::initialise(object.as_ptr(), payload);
        Ok(object)
    })
}

unsafe extern "C" fn init<T: Object>(
    this: *mut ffi::PyObject,
    args: *mut ffi::PyObject,
    keywords: *mut ffi::PyObject,
) -> c_int {
    // SAFETY: F2; the arguments are alive during the call.
    guard_int(|| unsafe {
        let this = Instance::<T>::from_ptr(this);
        let argument = argument::<T>(this, args, keywords)?;
        T::init(this, argument.as_ref())?;
        Ok(0)
    })
}

/// Binds the arguments of a constructor that takes one at most.
unsafe fn argument<T: Object>(
    this: &Instance<T>,
    args: *mut ffi::PyObject,
    keywords: *mut ffi::PyObject,
) -> Result<Option<Owned>> {
    // SAFETY: F1; a tuple, and a dictionary or null, by the slot's contract.
    unsafe {
        let given = ffi::PyTuple_GET_SIZE(args);
        let named = if keywords.is_null() { 0 } else { ffi::PyDict_Size(keywords) };
        if given + named == 0 && !T::ARGUMENT.is_some_and(|(_, required)| required) {
            return Ok(None);
        }
        let class = std::ffi::CStr::from_ptr((*ffi::Py_TYPE(this.as_ptr())).tp_name).to_string_lossy();
        let class = class.rsplit('.').next().unwrap_or_default().to_owned();
        let most = isize::from(T::ARGUMENT.is_some());
        if given > most {
            let plural = if most == 0 { "argument" } else { "arguments" };
            return Err(type_error(&format!(
                "{class}.__init__() takes {} positional {plural} but {} were given",
                most + 1,
                given + 1
            )));
        }
        let mut argument = (given == 1).then(|| Owned::from_borrowed(ffi::PyTuple_GET_ITEM(args, 0)));
        let (mut place, mut key, mut value) = (0, ptr::null_mut(), ptr::null_mut());
        while named > 0 && ffi::PyDict_Next(keywords, &raw mut place, &raw mut key, &raw mut value) != 0 {
            let name = CStr::from_ptr(ffi::PyUnicode_AsUTF8(key)).to_string_lossy();
            if T::ARGUMENT.is_none_or(|(expected, _)| name != expected) {
                return Err(type_error(&format!(
                    "{class}.__init__() got an unexpected keyword argument '{name}'"
                )));
            }
            if argument.replace(Owned::from_borrowed(value)).is_some() {
                return Err(type_error(&format!(
                    "{class}.__init__() got multiple values for argument '{name}'"
                )));
            }
        }
        match (T::ARGUMENT, &argument) {
            (Some((name, true)), None) => Err(type_error(&format!(
                "{class}.__init__() missing 1 required positional argument: '{name}'"
            ))),
            _ => Ok(argument),
        }
    }
}

unsafe extern "C" fn traverse<T: Object>(
    object: *mut ffi::PyObject,
    visit: ffi::visitproc,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: F2, and `visit` is the collector's own.
    unsafe {
        let this = Instance::<T>::from_ptr(object);
        for reference in [ffi::Py_TYPE(object).cast(), this.dictionary()] {
            let status = if reference.is_null() { 0 } else { visit(reference, arg) };
            if status != 0 {
                return status;
            }
        }
        this.visit(Visitor::new(visit, arg))
    }
}

unsafe extern "C" fn clear<T: Object>(object: *mut ffi::PyObject) -> c_int {
    // SAFETY: F2.
    let this = unsafe { Instance::<T>::from_ptr(object) };
    T::clear(this);
    this.clear_dictionary();
    0
}

/// Also reached from the dealloc slot of Python subclasses.
unsafe extern "C" fn dealloc<T: Object>(object: *mut ffi::PyObject) {
    // SAFETY: the object is unreachable.
    unsafe {
        ffi::PyObject_GC_UnTrack(object.cast());
        let kind = ffi::Py_TYPE(object);
        Instance::<T>::finish(object);
        if let Some(free) = (*kind).tp_free {
            free(object.cast());
        }
        ffi::Py_DECREF(kind.cast());
    }
}

/// A type with these slots, to be completed.
pub fn heap_type<T: Object>(name: &'static CStr, doc: &'static CStr) -> HeapType {
    HeapType::new(name, Instance::<T>::SIZE)
        .collected()
        .base()
        .doc(doc)
        .slot(ffi::Py_tp_new, new::<T> as *mut c_void)
        .slot(ffi::Py_tp_init, init::<T> as *mut c_void)
        .slot(ffi::Py_tp_traverse, traverse::<T> as *mut c_void)
        .slot(ffi::Py_tp_clear, clear::<T> as *mut c_void)
        .slot(ffi::Py_tp_dealloc, dealloc::<T> as *mut c_void)
        .weak_references(Instance::<T>::WEAKREF_OFFSET)
        .dictionary(Instance::<T>::DICT_OFFSET)
}

/// `<asyncio.locks.Lock object at 0x…>` and, within it, how things stand.
pub fn repr_with(this: &Owned, extra: &str, waiters: usize) -> Result {
    // SAFETY: F1; a living object; every object's plain representation is a string.
    let plain = unsafe {
        let base = &raw mut ffi::PyBaseObject_Type;
        let Some(plain) = (*base).tp_repr else {
            return Err(runtime_error("object has no representation"));
        };
        Owned::from_new(plain(this.as_ptr()))?
    };
    // SAFETY: F1; a string.
    let text = unsafe { ffi::PyUnicode_AsUTF8(plain.as_ptr()) };
    if text.is_null() {
        return Err(Raised);
    }
    // SAFETY: the text lives as long as the string.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let text = text.trim_start_matches('<').trim_end_matches('>');
    let waiters = if waiters == 0 { String::new() } else { format!(", waiters:{waiters}") };
    Owned::str(&format!("<{text} [{extra}{waiters}]>"))
}

/// Gives a finished type the short name that the interpreter's messages call it by, and adds it to the module.
pub fn publish(module: &Owned, kind: *mut ffi::PyTypeObject, name: &'static CStr) -> Result<()> {
    // SAFETY: F1; our own type, which nobody else has seen; the name lives as long as the process.
    unsafe { (*kind).tp_name = name.as_ptr() };
    crate::add_type(module, name, kind)
}
