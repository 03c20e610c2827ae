//! Threads that the interpreter ends while our code is under them.
//!
//! Until 3.13 a thread that asks for the interpreter while that comes to its end is ended by `pthread_exit`, which unwinds
//! the thread's stack. Rust code must not be unwound so: what it drops on the way it would drop without the interpreter, and
//! where it catches panics the C library ends the process. A loop that runs in a daemon thread meets this at every end of
//! its program. From 3.14 on the interpreter has such threads sleep until the process is gone; here we do the same before.
//!
//! The C library calls a thread's clean-up handlers while it unwinds, each when it leaves the frame that the handler's record
//! lies in, which it tells by comparing addresses. Our record lies below every stack, so its handler is called before the
//! first frame is left, and does not return.
//!
//! Source: glibc nptl/unwind.c (`unwind_stop`), nptl/cleanup_compat.c; CPython 3.13 Python/ceval_gil.c (`take_gil`), 3.14
//! Python/thread_pthread.h (`PyThread_hang_thread`).

#[cfg(any(Py_3_14, not(target_env = "gnu")))]
pub use nothing::Kept;
#[cfg(not(any(Py_3_14, not(target_env = "gnu"))))]
pub use record::Kept;

/// Where no thread is unwound: the interpreter does without, or the C library does.
#[cfg(any(Py_3_14, not(target_env = "gnu")))]
mod nothing {
    /// While it lives, the interpreter's end does not unwind this thread.
    pub struct Kept;

    impl Kept {
        /// Nothing is to be done here.
        #[inline(always)]
        pub fn new() -> Self {
            Self
        }
    }
}

#[cfg(not(any(Py_3_14, not(target_env = "gnu"))))]
mod record {
    use std::ffi::{c_int, c_void};
    use std::marker::PhantomData;
    use std::ptr::{self, NonNull};
    use std::sync::{Mutex, PoisonError};

    /// The C library's record of a handler (`struct _pthread_cleanup_buffer`).
    #[repr(C)]
    struct Record {
        routine: Option<extern "C" fn(*mut c_void)>,
        argument: *mut c_void,
        cancel_type: c_int,
        previous: *mut Record,
    }

    unsafe extern "C" {
        fn _pthread_cleanup_push(
            record: *mut Record,
            routine: extern "C" fn(*mut c_void),
            argument: *mut c_void,
        );
        fn _pthread_cleanup_pop(record: *mut Record, execute: c_int);
    }

    /// Where records may lie: far below any stack, and nothing else is there as a rule.
    const LOW: usize = 0x1000_0000;
    const PAGE: usize = 4096;

    /// Addresses of free records. They are never given back to the system.
    static FREE: Mutex<Vec<usize>> = Mutex::new(Vec::new());

    /// While it lives, the interpreter's end does not unwind this thread. To be dropped where it was made.
    pub struct Kept {
        record: Option<NonNull<Record>>,
        _this_thread: PhantomData<*mut ()>,
    }

    impl Kept {
        /// Keeps this thread. Without memory below the stack nothing is done.
        pub fn new() -> Self {
            let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
            if free.is_empty() {
                *free = new_page();
            }
            let on_the_stack = ptr::from_ref(&free) as usize;
            let record = free.pop().filter(|address| *address < on_the_stack);
            drop(free);
            let record = record.and_then(|address| NonNull::new(address as *mut Record));
            if let Some(record) = record {
                // SAFETY: the record is writable memory and this value's own until the handler is taken back.
                unsafe { _pthread_cleanup_push(record.as_ptr(), sleep_for_good, ptr::null_mut()) };
            }
            Self { record, _this_thread: PhantomData }
        }
    }

    impl Drop for Kept {
        fn drop(&mut self) {
            if let Some(record) = self.record {
                // SAFETY: pushed by this thread; values of this kind lie on its stack, so the last one goes first.
                unsafe { _pthread_cleanup_pop(record.as_ptr(), 0) };
                FREE.lock().unwrap_or_else(PoisonError::into_inner).push(record.as_ptr() as usize);
            }
        }
    }

    /// A page of records, none without memory.
    fn new_page() -> Vec<usize> {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: new memory; the address is a wish, and never takes the place of what is there.
        let page = unsafe { libc::mmap(LOW as *mut c_void, PAGE, access, kind, -1, 0) };
        if page == libc::MAP_FAILED {
            return Vec::new();
        }
        let size = size_of::<Record>();
        (0..PAGE / size).map(|place| page as usize + place * size).collect()
    }

    /// The handler. The thread holds no lock of ours and not the interpreter; it goes with the process.
    extern "C" fn sleep_for_good(_: *mut c_void) {
        loop {
            // SAFETY: no arguments; it returns after signals.
            unsafe { libc::pause() };
        }
    }
}
