//! Builds heap types (PEP 384) from Rust: slots, methods and attributes in one readable chain.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr;

use pyo3::ffi;

use super::owned::Owned;
use super::raise::{Raised, Result};

/// A native method as the interpreter calls it.
pub type FastMethod = unsafe extern "C" fn(
    *mut ffi::PyObject,
    *const *mut ffi::PyObject,
    ffi::Py_ssize_t,
    *mut ffi::PyObject,
) -> *mut ffi::PyObject;

/// A native method without arguments or with exactly one.
pub type PlainMethod = unsafe extern "C" fn(*mut ffi::PyObject, *mut ffi::PyObject) -> *mut ffi::PyObject;

/// A native attribute's getter.
pub type Getter = unsafe extern "C" fn(*mut ffi::PyObject, *mut c_void) -> *mut ffi::PyObject;

/// A native attribute's setter (a null value deletes).
pub type Setter = unsafe extern "C" fn(*mut ffi::PyObject, *mut ffi::PyObject, *mut c_void) -> c_int;

/// A heap type in the making. Its tables live as long as the process: types are made once, at import.
pub struct HeapType {
    name: &'static CStr,
    size: usize,
    flags: u64,
    slots: Vec<ffi::PyType_Slot>,
    methods: Vec<ffi::PyMethodDef>,
    attributes: Vec<ffi::PyGetSetDef>,
    members: Vec<ffi::PyMemberDef>,
}

impl HeapType {
    /// `name` is dotted, module first; `size` in bytes.
    pub fn new(name: &'static CStr, size: usize) -> Self {
        Self {
            name,
            size,
            flags: ffi::Py_TPFLAGS_DEFAULT,
            slots: Vec::new(),
            methods: Vec::new(),
            attributes: Vec::new(),
            members: Vec::new(),
        }
    }

    /// Instances take part in cycle collection: traverse, clear and dealloc slots are the caller's.
    pub fn collected(mut self) -> Self {
        self.flags |= ffi::Py_TPFLAGS_HAVE_GC;
        self
    }

    /// Python classes may derive from this type.
    pub fn base(mut self) -> Self {
        self.flags |= ffi::Py_TPFLAGS_BASETYPE;
        self
    }

    /// `Type()` raises `TypeError`: instances come from elsewhere.
    pub fn no_constructor(mut self) -> Self {
        self.flags |= ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION;
        self
    }

    /// Sets a slot to a function or a string.
    pub fn slot(mut self, slot: c_int, value: *mut c_void) -> Self {
        self.slots.push(ffi::PyType_Slot { slot, pfunc: value });
        self
    }

    /// The docstring.
    pub fn doc(self, text: &'static CStr) -> Self {
        self.slot(ffi::Py_tp_doc, text.as_ptr().cast_mut().cast())
    }

    /// A method with any arguments.
    pub fn method(mut self, name: &'static CStr, function: FastMethod, doc: &'static CStr) -> Self {
        self.methods.push(ffi::PyMethodDef {
            ml_name: name.as_ptr(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: function },
            ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
            ml_doc: doc.as_ptr(),
        });
        self
    }

    /// A method without arguments.
    pub fn method_noargs(mut self, name: &'static CStr, function: PlainMethod, doc: &'static CStr) -> Self {
        self.methods.push(ffi::PyMethodDef {
            ml_name: name.as_ptr(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunction: function },
            ml_flags: ffi::METH_NOARGS,
            ml_doc: doc.as_ptr(),
        });
        self
    }

    /// A method without arguments that stands in for the wrapper of a slot of the same name.
    pub fn method_over_slot(
        mut self,
        name: &'static CStr,
        function: PlainMethod,
        doc: &'static CStr,
    ) -> Self {
        self = self.method_noargs(name, function, doc);
        if let Some(method) = self.methods.last_mut() {
            method.ml_flags |= ffi::METH_COEXIST;
        }
        self
    }

    /// A method with exactly one positional argument.
    pub fn method_one(mut self, name: &'static CStr, function: PlainMethod, doc: &'static CStr) -> Self {
        self.methods.push(ffi::PyMethodDef {
            ml_name: name.as_ptr(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunction: function },
            ml_flags: ffi::METH_O,
            ml_doc: doc.as_ptr(),
        });
        self
    }

    /// An attribute; without a setter it is read-only.
    pub fn attribute(
        mut self,
        name: &'static CStr,
        getter: Getter,
        setter: Option<Setter>,
        doc: &'static CStr,
    ) -> Self {
        self.attributes.push(ffi::PyGetSetDef {
            name: name.as_ptr(),
            get: Some(getter),
            set: setter,
            doc: doc.as_ptr(),
            closure: ptr::null_mut(),
        });
        self
    }

    fn offset_member(mut self, name: &'static CStr, offset: usize) -> Self {
        self.members.push(ffi::PyMemberDef {
            name: name.as_ptr(),
            type_code: ffi::Py_T_PYSSIZET,
            offset: offset as isize,
            flags: ffi::Py_READONLY,
            doc: ptr::null::<c_char>(),
        });
        self
    }

    /// Instances can be referenced weakly; the list's head is `offset` bytes into them.
    pub fn weak_references(self, offset: usize) -> Self {
        self.offset_member(c"__weaklistoffset__", offset)
    }

    /// Instances are called through the function that is kept `offset` bytes into them (PEP 590).
    pub fn called_through(mut self, offset: usize) -> Self {
        self.flags |= ffi::Py_TPFLAGS_HAVE_VECTORCALL;
        self.offset_member(c"__vectorcalloffset__", offset)
            .slot(ffi::Py_tp_call, ffi::PyVectorcall_Call as *mut c_void)
    }

    /// Instances in a class are its methods: called by way of an object they are given that first, as functions are, and
    /// the interpreter need not make bound methods of them (their descriptor slot is the caller's). It relies on that only
    /// where the type cannot be changed.
    pub fn binds_like_functions(mut self) -> Self {
        self.flags |= ffi::Py_TPFLAGS_METHOD_DESCRIPTOR | ffi::Py_TPFLAGS_IMMUTABLETYPE;
        self
    }

    /// Instances have a `__dict__`, kept `offset` bytes into them.
    pub fn dictionary(self, offset: usize) -> Self {
        self.offset_member(c"__dictoffset__", offset).attribute(
            c"__dict__",
            ffi::PyObject_GenericGetDict,
            Some(ffi::PyObject_GenericSetDict),
            c"What was set on the instance.",
        )
    }

    /// Makes the type. `base`: `object` if `None`, else a class whose instances are `payload_offset` bytes long, or a tuple
    /// of such classes.
    pub fn build(self, base: Option<&Owned>, payload_offset: usize) -> Result<*mut ffi::PyTypeObject> {
        if let Some(base) = base {
            // SAFETY: the base is a class, or a tuple of one at least.
            let base_size = unsafe {
                let several = ffi::PyTuple_Check(base.as_ptr()) != 0;
                let class = if several { ffi::PyTuple_GET_ITEM(base.as_ptr(), 0) } else { base.as_ptr() };
                (*class.cast::<ffi::PyTypeObject>()).tp_basicsize
            } as usize;
            if base_size != payload_offset {
                return Err(super::raise::runtime_error(&format!(
                    "antiphon: {} cannot be built: its base class has instances of {base_size} bytes, expected \
                     {payload_offset}",
                    self.name.to_string_lossy()
                )));
            }
        }
        self.finish(base)
    }

    /// Makes a type derived from `bases`, a tuple, whose instances keep their payload where [`super::derived`] says.
    pub fn derive(self, bases: &Owned) -> Result<*mut ffi::PyTypeObject> {
        self.finish(Some(bases))
    }

    fn finish(mut self, base: Option<&Owned>) -> Result<*mut ffi::PyTypeObject> {
        // SAFETY: an all-zero entry ends each table; zero is a valid value for these plain structs.
        unsafe {
            self.methods.push(std::mem::zeroed());
            self.attributes.push(std::mem::zeroed());
            self.members.push(std::mem::zeroed());
        }
        let methods = Vec::leak(self.methods).as_mut_ptr();
        let attributes = Vec::leak(self.attributes).as_mut_ptr();
        let members = Vec::leak(self.members).as_mut_ptr();
        let mut slots = self.slots;
        slots.push(ffi::PyType_Slot { slot: ffi::Py_tp_methods, pfunc: methods.cast() });
        slots.push(ffi::PyType_Slot { slot: ffi::Py_tp_getset, pfunc: attributes.cast() });
        slots.push(ffi::PyType_Slot { slot: ffi::Py_tp_members, pfunc: members.cast() });
        slots.push(ffi::PyType_Slot { slot: 0, pfunc: ptr::null_mut() });
        let spec = Box::leak(Box::new(ffi::PyType_Spec {
            name: self.name.as_ptr(),
            basicsize: self.size as c_int,
            itemsize: 0,
            flags: self.flags as c_uint,
            slots: Vec::leak(slots).as_mut_ptr(),
        }));
        // SAFETY: F1; the tables are complete and live for ever.
        let made = unsafe {
            match base {
                None => ffi::PyType_FromSpec(spec),
                Some(base) => ffi::PyType_FromSpecWithBases(spec, base.as_ptr()),
            }
        };
        if made.is_null() { Err(Raised) } else { Ok(made.cast()) }
    }
}

/// Wraps `fn(&Instance<T>, Args) -> Result` as a method with any arguments.
#[macro_export]
macro_rules! method {
    ($name:literal, $function:path) => {{
        unsafe extern "C" fn entry(
            this: *mut pyo3::ffi::PyObject,
            values: *const *mut pyo3::ffi::PyObject,
            count: pyo3::ffi::Py_ssize_t,
            keywords: *mut pyo3::ffi::PyObject,
        ) -> *mut pyo3::ffi::PyObject {
            $crate::ffi::guard(|| {
                let name: &'static std::ffi::CStr = $name;
                // SAFETY: F2, and the arguments are those of this very call.
                let (this, args) = unsafe {
                    ($crate::ffi::This::from_ptr(this), $crate::ffi::Args::new(name, values, count, keywords))
                };
                $function(this, args)
            })
        }
        entry
    }};
}

/// Wraps `fn(&Instance<T>) -> Result` as a method without arguments.
#[macro_export]
macro_rules! method_noargs {
    ($function:path) => {{
        unsafe extern "C" fn entry(
            this: *mut pyo3::ffi::PyObject,
            _: *mut pyo3::ffi::PyObject,
        ) -> *mut pyo3::ffi::PyObject {
            $crate::ffi::guard(|| {
                // SAFETY: F2.
                let this = unsafe { $crate::ffi::This::from_ptr(this) };
                $function(this)
            })
        }
        entry
    }};
}

/// Wraps `fn(&Instance<T>, &Owned) -> Result` as a method with one argument.
#[macro_export]
macro_rules! method_one {
    ($function:path) => {{
        unsafe extern "C" fn entry(
            this: *mut pyo3::ffi::PyObject,
            value: *mut pyo3::ffi::PyObject,
        ) -> *mut pyo3::ffi::PyObject {
            $crate::ffi::guard(|| {
                // SAFETY: F2; the argument is alive during the call, and the copy's drop is skipped.
                let (this, value) = unsafe {
                    let value = std::mem::ManuallyDrop::new($crate::ffi::Owned::from_new(value)?);
                    ($crate::ffi::This::from_ptr(this), value)
                };
                $function(this, &value)
            })
        }
        entry
    }};
}

/// Wraps `fn(&Instance<T>) -> Result` as an attribute's getter, or as a slot such as `repr` that takes only `self`.
#[macro_export]
macro_rules! getter {
    ($function:path) => {{
        unsafe extern "C" fn entry(
            this: *mut pyo3::ffi::PyObject,
            _: *mut std::ffi::c_void,
        ) -> *mut pyo3::ffi::PyObject {
            $crate::ffi::guard(|| {
                // SAFETY: F2.
                let this = unsafe { $crate::ffi::This::from_ptr(this) };
                $function(this)
            })
        }
        entry
    }};
}

/// Wraps `fn(&Instance<T>) -> Result` as a slot that takes only `self` (`repr`, `iter`, `iternext`, `await`).
#[macro_export]
macro_rules! unary_slot {
    ($function:path) => {{
        unsafe extern "C" fn entry(this: *mut pyo3::ffi::PyObject) -> *mut pyo3::ffi::PyObject {
            $crate::ffi::guard(|| {
                // SAFETY: F2.
                let this = unsafe { $crate::ffi::This::from_ptr(this) };
                $function(this)
            })
        }
        entry as *mut std::ffi::c_void
    }};
}

/// Wraps `fn(&Instance<T>, Option<&Owned>) -> Result<()>` as an attribute's setter.
#[macro_export]
macro_rules! setter {
    ($function:path) => {{
        unsafe extern "C" fn entry(
            this: *mut pyo3::ffi::PyObject,
            value: *mut pyo3::ffi::PyObject,
            _: *mut std::ffi::c_void,
        ) -> std::ffi::c_int {
            $crate::ffi::guard_int(|| {
                // SAFETY: F2; the value is alive during the call, and the copy's drop is skipped.
                let (this, value) = unsafe {
                    let value = std::mem::ManuallyDrop::new($crate::ffi::Owned::from_new(value).ok());
                    ($crate::ffi::This::from_ptr(this), value)
                };
                $function(this, value.as_ref())?;
                Ok(0)
            })
        }
        entry
    }};
}

/// Wraps `fn(&Instance<T>, Args) -> Result<()>` as `tp_init`.
#[macro_export]
macro_rules! initialiser {
    ($name:literal, $payload:ty, $function:path) => {{
        unsafe extern "C" fn entry(
            this: *mut pyo3::ffi::PyObject,
            args: *mut pyo3::ffi::PyObject,
            keywords: *mut pyo3::ffi::PyObject,
        ) -> std::ffi::c_int {
            $crate::ffi::guard_int(|| {
                let name: &'static std::ffi::CStr = $name;
                // SAFETY: F2.
                let this: &$crate::ffi::Instance<$payload> = unsafe { $crate::ffi::Instance::from_ptr(this) };
                let body = |args: $crate::ffi::Args<'_>| $function(this, args);
                // SAFETY: the arguments are those of this very call.
                unsafe { $crate::ffi::call::with_arguments(name, args, keywords, body)? };
                Ok(0)
            })
        }
        entry as *mut std::ffi::c_void
    }};
}

/// Gives a type the slots of a class that programs make instances of and derive from: `T::default()` at first, collected by
/// `Instance::<T>::{traverse, clear}`, with a dictionary and weak references.
#[macro_export]
macro_rules! collected_slots {
    ($kind:expr, $payload:ty, $init:expr) => {{
        unsafe extern "C" fn new(
            kind: *mut pyo3::ffi::PyTypeObject,
            _: *mut pyo3::ffi::PyObject,
            _: *mut pyo3::ffi::PyObject,
        ) -> *mut pyo3::ffi::PyObject {
            // SAFETY: `tp_new` is called for the type and those derived from it.
            $crate::ffi::guard(|| unsafe {
                $crate::ffi::Instance::<$payload>::create_as(kind, <$payload>::default())
            })
        }
        unsafe extern "C" fn traverse(
            object: *mut pyo3::ffi::PyObject,
            visit: pyo3::ffi::visitproc,
            arg: *mut std::ffi::c_void,
        ) -> std::ffi::c_int {
            // SAFETY: F2, with the collector's own visitor.
            unsafe {
                let status = visit(pyo3::ffi::Py_TYPE(object).cast(), arg);
                if status != 0 {
                    return status;
                }
                $crate::ffi::Instance::<$payload>::from_ptr(object).traverse(visit, arg)
            }
        }
        unsafe extern "C" fn clear(object: *mut pyo3::ffi::PyObject) -> std::ffi::c_int {
            // SAFETY: F2.
            unsafe { $crate::ffi::Instance::<$payload>::from_ptr(object) }.clear();
            0
        }
        unsafe extern "C" fn dealloc(object: *mut pyo3::ffi::PyObject) {
            // SAFETY: the object is unreachable; a finalizer that makes it reachable again ends this.
            unsafe {
                let kind = pyo3::ffi::Py_TYPE(object);
                if (*kind).tp_finalize.is_some() && pyo3::ffi::PyObject_CallFinalizerFromDealloc(object) < 0 {
                    return;
                }
                pyo3::ffi::PyObject_GC_UnTrack(object.cast());
                $crate::ffi::Instance::<$payload>::finish(object);
                if let Some(free) = (*kind).tp_free {
                    free(object.cast());
                }
                pyo3::ffi::Py_DECREF(kind.cast());
            }
        }
        $kind
            .base()
            .collected()
            .slot(pyo3::ffi::Py_tp_new, new as *mut std::ffi::c_void)
            .slot(pyo3::ffi::Py_tp_init, $init)
            .slot(pyo3::ffi::Py_tp_traverse, traverse as *mut std::ffi::c_void)
            .slot(pyo3::ffi::Py_tp_clear, clear as *mut std::ffi::c_void)
            .slot(pyo3::ffi::Py_tp_dealloc, dealloc as *mut std::ffi::c_void)
            .weak_references($crate::ffi::Instance::<$payload>::WEAKREF_OFFSET)
            .dictionary($crate::ffi::Instance::<$payload>::DICT_OFFSET)
    }};
}
