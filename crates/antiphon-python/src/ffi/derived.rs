//! Instances of types that derive from classes of the interpreter's own C modules, whose size only the interpreter knows.
//!
//! `asyncio.Future` and `asyncio.Task` are C types whose instances have 104 to 176 bytes, by version. Ours derive from
//! them, so that `isinstance` holds for code that never heard of antiphon, and keep their state behind the base's: at one
//! offset for all of them, computed at import.
//!
//! **Invariant F4**: every derived instance has its payload at [`payload_offset`], whatever its class. So a type may derive
//! from two of these bases at once although the interpreter, which compares sizes only, would call their layouts in
//! conflict ([`with_plain_layout`]), and a method of the one finds its payload in instances of the other.

use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::ffi;

use super::This;
use super::owned::Owned;
use super::raise::Result;

/// What a derived instance keeps behind its base's part; written right after the allocation, before anybody can look.
pub trait DerivedPayload: Sized + Send + Sync {}

static PAYLOAD_OFFSET: AtomicUsize = AtomicUsize::new(0);

/// Where the payload begins (F4).
#[inline(always)]
pub fn payload_offset() -> usize {
    PAYLOAD_OFFSET.load(Ordering::Relaxed)
}

/// Sets the offset: behind the largest of the base classes, aligned for any payload.
pub fn set_payload_offset(bases: &[&Owned]) {
    let largest = bases.iter().map(|base| instance_size(base)).max().unwrap_or(0);
    PAYLOAD_OFFSET.store(largest.next_multiple_of(align_of::<u128>()), Ordering::Relaxed);
}

/// `__basicsize__` of a class.
fn instance_size(class: &Owned) -> usize {
    // SAFETY: a class object.
    unsafe { (*class.as_ptr().cast::<ffi::PyTypeObject>()).tp_basicsize as usize }
}

/// An object of a derived type whose payload is `T`. Only ever seen behind a reference that the interpreter counts.
///
/// The type stands for the object's address and covers none of its bytes. The cell tells the compiler that what is found
/// by way of the address changes behind a shared reference.
#[repr(transparent)]
pub struct Derived<T: DerivedPayload> {
    base: UnsafeCell<[u8; 0]>,
    payload: PhantomData<T>,
}

impl<T: DerivedPayload> Derived<T> {
    /// The object, borrowed.
    #[inline(always)]
    pub fn as_ptr(&self) -> *mut ffi::PyObject {
        self.base.get().cast()
    }

    /// A new reference to this object.
    #[inline(always)]
    pub fn owned(&self) -> Owned {
        // SAFETY: `self` is alive.
        unsafe { Owned::from_borrowed(self.as_ptr()) }
    }

    /// Where an object's payload is.
    #[inline(always)]
    pub fn payload_of(object: *mut ffi::PyObject) -> *mut T {
        // What lies beyond the reference's own bytes is reached by the address alone.
        ptr::with_exposed_provenance_mut(object.expose_provenance() + payload_offset())
    }
}

impl<T: DerivedPayload> This for Derived<T> {
    #[inline(always)]
    unsafe fn from_ptr<'a>(pointer: *mut ffi::PyObject) -> &'a Self {
        // SAFETY: by the caller's word; the type itself has no bytes.
        unsafe { &*pointer.cast::<Self>() }
    }
}

impl<T: DerivedPayload> Deref for Derived<T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: F4; `from_ptr` was promised an initialised payload.
        unsafe { &*Self::payload_of(self.as_ptr()) }
    }
}

/// What a derived type needs of its base class.
#[derive(Copy, Clone)]
pub struct Base {
    traverse: ffi::traverseproc,
    clear: ffi::inquiry,
    /// Whether the base's traversal visits the instance's type, as those of heap types do.
    visits_type: bool,
}

impl Base {
    /// # Errors
    /// `RuntimeError`: the class is not collected.
    pub fn of(class: &Owned) -> Result<Self> {
        // SAFETY: a class object, complete.
        let kind = unsafe { &*class.as_ptr().cast::<ffi::PyTypeObject>() };
        let (Some(traverse), Some(clear)) = (kind.tp_traverse, kind.tp_clear) else {
            return Err(super::raise::runtime_error(
                "antiphon: the base class is not known to the collector",
            ));
        };
        // SAFETY: as above.
        let heap = unsafe { ffi::PyType_HasFeature(class.as_ptr().cast(), ffi::Py_TPFLAGS_HEAPTYPE) } != 0;
        Ok(Self { traverse, clear, visits_type: heap })
    }

    /// The base's part of `tp_traverse`: its fields, the instance dictionary, the type.
    /// # Safety
    /// Called from the traverse slot of a type derived from this base.
    pub unsafe fn traverse(
        &self,
        object: *mut ffi::PyObject,
        visit: ffi::visitproc,
        arg: *mut c_void,
    ) -> c_int {
        // SAFETY: by the caller's word.
        unsafe {
            if !self.visits_type {
                let status = visit(ffi::Py_TYPE(object).cast(), arg);
                if status != 0 {
                    return status;
                }
            }
            (self.traverse)(object, visit, arg)
        }
    }

    /// The base's part of `tp_clear`.
    /// # Safety
    /// Called from the clear or dealloc slot of a type derived from this base.
    #[inline(always)]
    pub unsafe fn clear(&self, object: *mut ffi::PyObject) {
        // SAFETY: by the caller's word.
        unsafe { (self.clear)(object) };
    }
}

/// Makes a type while `class` claims instances no larger than its own base's, so that the interpreter lets a type derive
/// from both `class` and another class of that base (F4 makes it true that their layouts agree).
///
/// Nobody else knows `class` yet, and its claim is put right before anybody does.
pub fn with_plain_layout<R>(class: *mut ffi::PyTypeObject, make: impl FnOnce() -> R) -> R {
    // SAFETY: F1; a class of ours, under construction.
    unsafe {
        let size = (*class).tp_basicsize;
        (*class).tp_basicsize = (*(*class).tp_base).tp_basicsize;
        let made = make();
        (*class).tp_basicsize = size;
        made
    }
}

/// A new instance with `payload`.
pub fn allocate<T: DerivedPayload>(kind: *mut ffi::PyTypeObject, payload: T) -> Result<Owned> {
    // SAFETY: F1; `kind` is a complete class whose instances have this payload. The interpreter's allocator sets up
    // dictionary and weak references.
    unsafe {
        let Some(allocate) = (*kind).tp_alloc else {
            return Err(super::raise::runtime_error("antiphon: the class has no allocator"));
        };
        // The collector knows the object from here on, but comes only when something else is allocated.
        let object = Owned::from_new(allocate(kind, 0))?;
        Derived::<T>::payload_of(object.as_ptr()).write(payload);
        Ok(object)
    }
}

/// Clears the object's weak references, and calls their callbacks; most have none.
/// # Safety
/// Called from a dealloc slot.
#[inline(always)]
pub unsafe fn clear_weak_references(object: *mut ffi::PyObject) {
    // SAFETY: by the caller's word.
    unsafe {
        if cfg!(Py_GIL_DISABLED) || has_weak_references(object) {
            ffi::PyObject_ClearWeakRefs(object);
        }
    }
}

/// Whether somebody has a weak reference to the object, or might have.
/// # Safety
/// A living object.
#[inline(always)]
pub unsafe fn has_weak_references(object: *mut ffi::PyObject) -> bool {
    // SAFETY: by the caller's word; the type says where the list of weak references is, before the object if need be.
    unsafe {
        let place = (*ffi::Py_TYPE(object)).tp_weaklistoffset;
        place == 0 || !(*object.byte_offset(place).cast::<*mut ffi::PyObject>()).is_null()
    }
}

/// A type object that is set once, at import.
pub struct TypeCell(OnceLock<usize>);

impl TypeCell {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// The type; null before the module is loaded.
    #[inline(always)]
    pub fn get(&self) -> *mut ffi::PyTypeObject {
        self.0.get().map_or(ptr::null_mut(), |address| *address as *mut ffi::PyTypeObject)
    }

    /// Remembers the type.
    pub fn set(&self, kind: *mut ffi::PyTypeObject) {
        let _ = self.0.set(kind as usize);
    }
}

/// A function bound to an object, as the interpreter has them: `function.__self__` is the object.
///
/// `method`: made by [`bound_method`].
pub fn bind(method: &'static BoundMethod, object: &Owned) -> Result {
    // SAFETY: F1; the definition lives for ever.
    unsafe {
        Owned::from_new(ffi::PyCFunction_NewEx(
            ptr::from_ref(&method.0).cast_mut(),
            object.as_ptr(),
            ptr::null_mut(),
        ))
    }
}

/// The definition of a function to [`bind`].
pub struct BoundMethod(ffi::PyMethodDef);

// SAFETY: constant data.
unsafe impl Sync for BoundMethod {}

/// Defines a function of one argument to [`bind`].
pub const fn bound_method(
    name: &'static std::ffi::CStr,
    function: unsafe extern "C" fn(*mut ffi::PyObject, *mut ffi::PyObject) -> *mut ffi::PyObject,
    flags: c_int,
) -> BoundMethod {
    BoundMethod(ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunction: function },
        ml_flags: flags,
        ml_doc: ptr::null(),
    })
}
