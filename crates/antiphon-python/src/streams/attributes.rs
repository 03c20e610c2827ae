//! Attributes of Python types that are nothing but a reference or a flag in the payload.

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
