//! Attributes of Python types that are nothing but a reference or a flag in the payload.

use std::ffi::{c_int, c_void};

use pyo3::ffi;

use crate::ffi::visitor::Visitor;
use crate::ffi::{GilCell, Instance, Owned, Payload};

/// A payload that refers to other objects by places of this kind.
pub trait References: Payload {
    /// The places.
    fn references(&self) -> impl Iterator<Item = &GilCell<Option<Owned>>>;
}

/// Shows the collector what an instance refers to, its dictionary included. From its traverse slot only.
pub fn traverse<T: References>(this: &Instance<T>, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: called from the traverse slot with its own visitor.
    let visitor = unsafe { Visitor::new(visit, arg) };
    this.references()
        .map(|place| place.with(|object| visitor.all(&*object)))
        .find(|status| *status != 0)
        .unwrap_or_else(|| this.traverse_dictionary(visit, arg))
}

/// Gives all of it up, for the collector to break cycles.
pub fn clear<T: References>(this: &Instance<T>) {
    this.references().for_each(|place| drop(place.take()));
    this.clear_dictionary();
}

/// Getter and setter of a `GilCell<Option<Owned>>`; absent and deleted are `None`.
macro_rules! object_attribute {
    ($payload:ty, $field:ident) => {{
        fn get(this: &$crate::ffi::Instance<$payload>) -> $crate::ffi::Result {
            Ok(this.$field.get().unwrap_or_else($crate::ffi::Owned::none))
        }
        fn set(
            this: &$crate::ffi::Instance<$payload>,
            value: Option<&$crate::ffi::Owned>,
        ) -> $crate::ffi::Result<()> {
            drop(this.$field.replace(value.filter(|value| !value.is_none()).cloned()));
            Ok(())
        }
        ($crate::getter!(get), Some($crate::setter!(set) as $crate::ffi::heap_type::Setter))
    }};
}

/// Getter and setter of an `AtomicBool`.
macro_rules! flag_attribute {
    ($payload:ty, $field:ident) => {{
        fn get(this: &$crate::ffi::Instance<$payload>) -> $crate::ffi::Result {
            Ok($crate::ffi::Owned::bool(this.$field.load(std::sync::atomic::Ordering::Relaxed)))
        }
        fn set(
            this: &$crate::ffi::Instance<$payload>,
            value: Option<&$crate::ffi::Owned>,
        ) -> $crate::ffi::Result<()> {
            let value = value.map_or(Ok(false), $crate::ffi::Owned::truth)?;
            this.$field.store(value, std::sync::atomic::Ordering::Relaxed);
            Ok(())
        }
        ($crate::getter!(get), Some($crate::setter!(set) as $crate::ffi::heap_type::Setter))
    }};
}

pub(super) use {flag_attribute, object_attribute};
