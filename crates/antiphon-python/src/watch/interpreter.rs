//! Who holds the interpreter, seen from a thread that does not and does not want to.
//!
//! Up to 3.11 an exported function tells the present holder to any thread. From 3.13 on the interpreter publishes where it
//! keeps the state of its lock, for debuggers and profilers (`_Py_DebugOffsets`, the beginning of the exported
//! `_PyRuntime`). 3.12 has neither: there the watchdog tells afterwards, by how long it had to wait (`reporter`). A
//! free-threaded build has no lock to hold.
//!
//! Source: CPython Include/internal/pycore_runtime.h (3.13), pycore_debug_offsets.h (3.14); Python/pystate.c (3.11).

use antiphon_engine::watch::Interpreter;

/// Who holds the interpreter now, for the thread with the state at this address.
pub fn holder(thread_state: usize) -> Interpreter {
    match current_holder() {
        None => Interpreter::Unknown,
        Some(0) => Interpreter::Free,
        Some(holder) if holder == thread_state => Interpreter::Held,
        Some(_) => Interpreter::HeldElsewhere,
    }
}

/// What the interpreter exports under this name, if it does.
#[cfg(not(any(all(Py_3_12, not(Py_3_13)), Py_3_15, Py_GIL_DISABLED)))]
fn exported(name: &std::ffi::CStr) -> Option<std::ptr::NonNull<std::ffi::c_void>> {
    // SAFETY: the name ends in NUL; the handle stands for all that the process has loaded.
    std::ptr::NonNull::new(unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) })
}

/// The address of the thread state that holds the interpreter, 0: nobody does, `None`: that cannot be told.
#[cfg(not(Py_3_12))]
fn current_holder() -> Option<usize> {
    use std::ffi::c_void;
    use std::sync::OnceLock;

    type Current = unsafe extern "C" fn() -> *mut c_void;
    static CURRENT: OnceLock<Option<Current>> = OnceLock::new();
    let current = CURRENT.get_or_init(|| {
        let found = exported(c"_PyThreadState_UncheckedGet");
        // SAFETY: the interpreter's own function of this name takes nothing and returns a thread state or null.
        found.map(|address| unsafe { std::mem::transmute::<*mut c_void, Current>(address.as_ptr()) })
    });
    // SAFETY: it reads one atomic word.
    current.map(|current| unsafe { current() } as usize)
}

#[cfg(any(all(Py_3_12, not(Py_3_13)), Py_3_15, Py_GIL_DISABLED))]
fn current_holder() -> Option<usize> {
    None
}

#[cfg(all(Py_3_13, not(Py_3_15), not(Py_GIL_DISABLED)))]
fn current_holder() -> Option<usize> {
    published::lock().map(published::Lock::holder)
}

#[cfg(all(Py_3_13, not(Py_3_15), not(Py_GIL_DISABLED)))]
mod published {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

    use pyo3::ffi;

    /// What the interpreter publishes, up to the last field that is used.
    #[repr(C)]
    struct DebugOffsets {
        cookie: [u8; 8],
        version: u64,
        free_threaded: u64,
        _runtime_state: [u64; 3],
        /// Size, id, next, threads_head; from 3.14 on threads_main; gc, imports_modules, sysdict, builtins, ceval_gil.
        #[cfg(not(Py_3_14))]
        _interpreter_state: [u64; 9],
        #[cfg(Py_3_14)]
        _interpreter_state: [u64; 10],
        _gil_runtime_state: u64,
        _gil_runtime_state_enabled: u64,
        gil_runtime_state_locked: u64,
        gil_runtime_state_holder: u64,
    }

    /// The lock of the main interpreter.
    pub struct Lock {
        locked: &'static AtomicI32,
        holder: &'static AtomicUsize,
    }

    impl Lock {
        /// As [`super::current_holder`].
        pub fn holder(&self) -> usize {
            if self.locked.load(Ordering::Acquire) <= 0 { 0 } else { self.holder.load(Ordering::Acquire) }
        }
    }

    /// The lock, where the interpreter publishes it.
    pub fn lock() -> Option<&'static Lock> {
        static LOCK: OnceLock<Option<Lock>> = OnceLock::new();
        LOCK.get_or_init(find).as_ref()
    }

    fn find() -> Option<Lock> {
        let offsets = super::exported(c"_PyRuntime")?.cast::<DebugOffsets>();
        // SAFETY: the interpreter's own object of this name begins with its offsets, which never change.
        let offsets = unsafe { offsets.as_ref() };
        // SAFETY: a constant of the running interpreter.
        #[allow(clippy::useless_conversion, reason = "an unsigned long has 32 bits elsewhere")]
        let version = u64::from(unsafe { ffi::Py_Version });
        if offsets.cookie != *b"xdebugpy" || offsets.version != version || offsets.free_threaded != 0 {
            return None;
        }
        // SAFETY: the main interpreter lives as long as the process; it is looked up here once and never written to.
        let interpreter = unsafe { ffi::PyInterpreterState_Main() };
        if interpreter.is_null() {
            return None;
        }
        let at = |offset: u64| interpreter.cast::<u8>().wrapping_add(offset as usize);
        // SAFETY: by the interpreter's own word an int and a pointer are there, which it accesses atomically.
        unsafe {
            Some(Lock {
                locked: AtomicI32::from_ptr(at(offsets.gil_runtime_state_locked).cast()),
                holder: AtomicUsize::from_ptr(at(offsets.gil_runtime_state_holder).cast()),
            })
        }
    }
}
