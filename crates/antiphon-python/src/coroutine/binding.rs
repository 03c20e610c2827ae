//! What a coroutine keeps of the special method that made it when it was looked up ([`super::special`]): nothing, for most.

use std::ffi::c_int;
use std::mem::offset_of;

use pyo3::ffi;

use crate::ffi::visitor::Visitor;
use crate::ffi::{GilCell, Owned};

/// What a coroutine keeps beside its operation.
pub trait Binding: Default + Send + Sync {
    /// The object that the special method belongs to.
    fn object(&self) -> Option<Owned>;

    /// The same, given away.
    fn take_object(&self) -> Option<Owned>;

    /// Shows it to the collector.
    fn traverse(&self, visitor: Visitor) -> c_int;
}

impl Binding for () {
    #[inline(always)]
    fn object(&self) -> Option<Owned> {
        None
    }

    #[inline(always)]
    fn take_object(&self) -> Option<Owned> {
        None
    }

    #[inline(always)]
    fn traverse(&self, _visitor: Visitor) -> c_int {
        0
    }
}

/// For operations of special methods.
#[derive(Default)]
pub struct LookedUp {
    call: Option<ffi::vectorcallfunc>,
    object: GilCell<Option<Owned>>,
}

impl LookedUp {
    /// Where the function is that calls the coroutine.
    pub(super) const CALL_OFFSET: usize = offset_of!(Self, call);

    /// Of this object's method, to be called by this function.
    #[inline(always)]
    pub(super) fn new(object: Owned, call: ffi::vectorcallfunc) -> Self {
        Self { call: Some(call), object: GilCell::new(Some(object)) }
    }
}

impl Binding for LookedUp {
    #[inline(always)]
    fn object(&self) -> Option<Owned> {
        self.object.get()
    }

    #[inline(always)]
    fn take_object(&self) -> Option<Owned> {
        self.object.take()
    }

    fn traverse(&self, visitor: Visitor) -> c_int {
        self.object.with(|object| visitor.all(object.as_ref()))
    }
}
