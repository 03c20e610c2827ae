//! Typed instances of our heap types: the interpreter's header, and our payload behind it.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::mem::{MaybeUninit, offset_of};
use std::ops::Deref;
use std::ptr::NonNull;

use pyo3::ffi;

use super::owned::Owned;
use super::raise::{Raised, Result};

/// The Rust side of a heap type.
///
/// Payloads are shared (`&self` everywhere): their fields are atomics, [`super::GilCell`]s or never change.
pub trait Payload: Sized + Send + Sync {
    /// Words that the base class keeps before the payload (0 for `object`).
    type BaseSlots: Default;
    /// [`DictionarySlot`] where instances have a `__dict__`, `()` where not.
    type Dictionary: Dictionary;
    /// Whether the cycle collector knows instances of this type.
    const COLLECTED: bool;
    /// The type object, once the module is loaded.
    fn type_object() -> *mut ffi::PyTypeObject;
}

/// What an instance keeps for its `__dict__`.
pub trait Dictionary: Default {
    /// The dictionary, borrowed, if there is one.
    fn get(&self) -> *mut ffi::PyObject {
        std::ptr::null_mut()
    }
    /// Takes the reference out, for the caller to drop.
    fn take(&mut self) -> Option<Owned> {
        None
    }
}

impl Dictionary for () {}

/// The place of an instance dictionary, made by the interpreter on first use.
#[repr(transparent)]
pub struct DictionarySlot(*mut ffi::PyObject);

impl Default for DictionarySlot {
    fn default() -> Self {
        Self(std::ptr::null_mut())
    }
}

impl Dictionary for DictionarySlot {
    fn get(&self) -> *mut ffi::PyObject {
        self.0
    }
    fn take(&mut self) -> Option<Owned> {
        // SAFETY: the slot owns its reference, which is given away here.
        unsafe { Owned::from_new(std::mem::replace(&mut self.0, std::ptr::null_mut())).ok() }
    }
}

/// An object of a heap type whose payload is `T`. Only ever seen behind a reference that the interpreter counts.
///
/// What the interpreter writes to while we hold a shared reference (counts references, say) is in cells, or the compiler
/// might assume that it never changes.
#[repr(C)]
pub struct Instance<T: Payload> {
    base: UnsafeCell<ffi::PyObject>,
    base_slots: UnsafeCell<T::BaseSlots>,
    payload: MaybeUninit<T>,
    /// Head of the object's weak references.
    weak_references: UnsafeCell<*mut ffi::PyObject>,
    /// The instance dictionary, for types that have one.
    dictionary: UnsafeCell<T::Dictionary>,
}

impl<T: Payload> Instance<T> {
    /// Bytes of one instance.
    pub const SIZE: usize = size_of::<Self>();
    /// Where the payload begins: the size that the base class must have.
    pub const PAYLOAD_OFFSET: usize = offset_of!(Self, payload);
    /// Where the weak references hang.
    pub const WEAKREF_OFFSET: usize = offset_of!(Self, weak_references);
    /// Where the instance dictionary is kept.
    pub const DICT_OFFSET: usize = offset_of!(Self, dictionary);

    /// The instance behind a pointer that the interpreter handed to a slot or method of `T`'s type.
    /// # Safety
    /// `pointer` is a live instance of `T`'s type or a subclass (F2), its payload initialised.
    #[inline(always)]
    pub unsafe fn from_ptr<'a>(pointer: *mut ffi::PyObject) -> &'a Self {
        // SAFETY: by the caller's word; the layout is checked when the type is made.
        unsafe { &*pointer.cast::<Self>() }
    }

    /// The instance behind `object` when its type is exactly `T`'s.
    #[inline(always)]
    pub fn downcast(object: &Owned) -> Option<&Self> {
        // SAFETY: the type was compared, and the borrow lives as long as the reference.
        object.is_exactly(T::type_object()).then(|| unsafe { Self::from_ptr(object.as_ptr()) })
    }

    /// The object, borrowed.
    #[inline(always)]
    pub fn as_ptr(&self) -> *mut ffi::PyObject {
        self.base.get()
    }

    /// A new reference to this object.
    #[inline(always)]
    pub fn owned(&self) -> Owned {
        // SAFETY: `self` is alive.
        unsafe { Owned::from_borrowed(self.as_ptr()) }
    }

    /// Puts the payload into a fresh object of the base allocator.
    /// # Safety
    /// `object` was just allocated for `T`'s type, its payload not yet initialised; it is not tracked by the collector
    /// or its traverse slot can meet it (all-zero bytes are no valid payload for most types).
    #[inline(always)]
    pub unsafe fn initialise(object: *mut ffi::PyObject, payload: T) {
        // SAFETY: by the caller's word.
        unsafe {
            let this = object.cast::<Self>();
            (&raw mut (*this).payload).write(MaybeUninit::new(payload));
            (&raw mut (*this).base_slots).write(UnsafeCell::default());
            (&raw mut (*this).weak_references).write(UnsafeCell::new(std::ptr::null_mut()));
            (&raw mut (*this).dictionary).write(UnsafeCell::default());
        }
    }

    /// A new instance of exactly `T`'s type; collected types are tracked from here on.
    pub fn create(payload: T) -> Result<Owned> {
        let kind = T::type_object();
        // SAFETY: F1; the memory is as large as the type says, and complete before the collector can see it.
        unsafe {
            if T::COLLECTED {
                let object = ffi::PyObject_GC_New::<ffi::PyObject>(kind);
                if object.is_null() {
                    return Err(Raised);
                }
                Self::initialise(object, payload);
                ffi::PyObject_GC_Track(object.cast::<c_void>());
                Owned::from_new(object)
            } else {
                let memory = ffi::PyObject_Malloc(Self::SIZE);
                Self::create_in(memory.cast(), payload)
            }
        }
    }

    /// A new instance of `kind`, which is `T`'s type or a Python class derived from it: what `tp_new` does.
    /// # Safety
    /// `kind` is as said.
    pub unsafe fn create_as(kind: *mut ffi::PyTypeObject, payload: T) -> Result<Owned> {
        if kind == T::type_object() {
            return Self::create(payload);
        }
        // SAFETY: F1; the allocator of a derived type makes room for what it adds, and tracks the object, whose payload is
        // put in before anything can look at it.
        unsafe {
            let Some(allocate) = (*kind).tp_alloc else {
                return Err(super::raise::runtime_error("the type has no allocator"));
            };
            let object = Owned::from_new(allocate(kind, 0))?;
            Self::initialise(object.as_ptr(), payload);
            Ok(object)
        }
    }

    /// As [`Self::create`] for uncollected types, in memory that the caller provides (a free list's).
    /// # Safety
    /// `memory` is null or an unused block of [`Self::SIZE`] bytes from `PyObject_Malloc`.
    #[inline(always)]
    pub unsafe fn create_in(memory: *mut ffi::PyObject, payload: T) -> Result<Owned> {
        if memory.is_null() {
            // SAFETY: F1.
            unsafe { ffi::PyErr_NoMemory() };
            return Err(Raised);
        }
        // SAFETY: the block is ours; the header is written before anybody sees it.
        unsafe {
            ffi::PyObject_Init(memory, T::type_object());
            Self::initialise(memory, payload);
            Owned::from_new(memory)
        }
    }

    /// Whether somebody refers to the object weakly.
    #[inline(always)]
    pub fn has_weak_references(&self) -> bool {
        // SAFETY: written by the interpreter only, on attached threads (F1).
        unsafe { !(*self.weak_references.get()).is_null() }
    }

    /// Clears weak references, and calls their callbacks.
    /// # Safety
    /// Called from the dealloc slot, before the payload goes.
    #[inline(always)]
    pub unsafe fn clear_weak_references(&self) {
        if self.has_weak_references() {
            // SAFETY: by the caller's word.
            unsafe { ffi::PyObject_ClearWeakRefs(self.as_ptr()) };
        }
    }

    /// The dealloc slot's common part: drops the payload in place. The caller frees the memory.
    /// # Safety
    /// Called once, from the dealloc slot, after untracking.
    #[inline(always)]
    pub unsafe fn finish(object: *mut ffi::PyObject) {
        let this = object.cast::<Self>();
        // SAFETY: the object is unreachable; weak references go first, as the interpreter demands.
        unsafe {
            if !(*(*this).weak_references.get()).is_null() {
                ffi::PyObject_ClearWeakRefs(object);
            }
            (*this).payload.assume_init_drop();
            drop((*this).dictionary.get_mut().take());
        }
    }

    /// Shows the instance dictionary to the collector.
    pub fn traverse_dictionary(&self, visit: ffi::visitproc, arg: *mut c_void) -> std::ffi::c_int {
        let dictionary = self.dictionary();
        // SAFETY: called from the traverse slot with its own visitor.
        if dictionary.is_null() { 0 } else { unsafe { visit(dictionary, arg) } }
    }

    /// Gives the instance dictionary up; for the clear slot.
    pub fn clear_dictionary(&self) {
        // SAFETY: the slot is written on attached threads only (F1), and the object is garbage; the dict is dropped after
        // the borrow has ended.
        let dictionary = unsafe { (*self.dictionary.get()).take() };
        drop(dictionary);
    }

    /// A reference to this object that knows its payload.
    #[inline]
    pub fn typed(&self) -> Typed<T> {
        Typed { object: self.owned(), instance: NonNull::from(self) }
    }

    /// Whether the object's type is exactly `T`'s, and no subclass.
    #[inline(always)]
    pub fn is_exact(&self) -> bool {
        // SAFETY: comparing the type of a living object.
        unsafe { ffi::Py_TYPE(self.as_ptr()) == T::type_object() }
    }

    /// Whether it is of exactly `T`'s type and nothing was set on it: whatever it does when called by name is ours.
    #[inline(always)]
    pub fn is_as_made(&self) -> bool {
        self.is_exact() && self.dictionary().is_null()
    }

    /// The instance dictionary, if one was made: by somebody who set an attribute of their own, or looked at `__dict__`.
    #[inline(always)]
    pub fn dictionary(&self) -> *mut ffi::PyObject {
        // SAFETY: the slot is written by the interpreter only, on attached threads (F1); the collector reads it, too.
        unsafe { (*self.dictionary.get()).get() }
    }
}

impl<T: Payload> Deref for Instance<T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: an instance is seen by Rust code only once initialised, and until its dealloc slot ran.
        unsafe { self.payload.assume_init_ref() }
    }
}

impl<T: Payload> super::This for Instance<T> {
    #[inline(always)]
    unsafe fn from_ptr<'a>(pointer: *mut ffi::PyObject) -> &'a Self {
        // SAFETY: by the caller's word.
        unsafe { Self::from_ptr(pointer) }
    }
}

/// A reference known to be an [`Instance`] of `T`.
pub struct Typed<T: Payload> {
    object: Owned,
    instance: NonNull<Instance<T>>,
}

// SAFETY: as for `Owned`; the payload itself is `Send + Sync`.
unsafe impl<T: Payload> Send for Typed<T> {}
// SAFETY: as above.
unsafe impl<T: Payload> Sync for Typed<T> {}

impl<T: Payload> Typed<T> {
    /// Takes a reference over, if its type is exactly `T`'s.
    pub fn new(object: Owned) -> Option<Self> {
        let instance = NonNull::from(Instance::<T>::downcast(&object)?);
        Some(Self { object, instance })
    }

    /// Takes a reference over.
    /// # Safety
    /// The object is an instance of `T`'s type or of one with the same payload.
    pub unsafe fn new_unchecked(object: Owned) -> Self {
        // SAFETY: by the caller's word; a reference is never null.
        let instance = unsafe { NonNull::new_unchecked(object.as_ptr().cast()) };
        Self { object, instance }
    }

    /// The plain reference.
    pub fn into_object(self) -> Owned {
        self.object
    }

    /// The plain reference, borrowed.
    pub fn object(&self) -> &Owned {
        &self.object
    }
}

impl<T: Payload> Clone for Typed<T> {
    fn clone(&self) -> Self {
        Self { object: self.object.clone(), instance: self.instance }
    }
}

impl<T: Payload> Deref for Typed<T> {
    type Target = Instance<T>;
    fn deref(&self) -> &Instance<T> {
        // SAFETY: the reference keeps the object alive.
        unsafe { self.instance.as_ref() }
    }
}
