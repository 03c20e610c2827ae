//! Readers and writers: callbacks for descriptors that are ready.
//!
//! Source: CPython Lib/asyncio/selector_events.py.

use std::os::fd::RawFd;

use pyo3::ffi;

use super::EventLoop;
use crate::ffi::raise::{os_error, runtime_error, value_error};
use crate::ffi::{Args, HeapType, Instance, Owned, Raised, Result, call_method};
use crate::handle::{Call, call_from_args, new_handle, of_work, reference};
use crate::io_table::{Direction, Mode};
use crate::method;
use crate::method_one;
use crate::names::names;
use crate::work::{Kind, Work};

/// The descriptor of an `int` or of anything with `fileno()`, with asyncio's own errors.
///
/// # Errors
/// `ValueError`: a negative number, or an object that has no descriptor; whatever else its `fileno()` raises.
pub fn descriptor(object: &Owned) -> Result<RawFd> {
    // SAFETY: F1; the object is alive.
    let number = unsafe {
        if ffi::PyLong_Check(object.as_ptr()) != 0 {
            ffi::PyLong_AsLong(object.as_ptr())
        } else {
            match call_method(object, &names().fileno, []) {
                Ok(fd) => ffi::PyLong_AsLong(fd.as_ptr()),
                Err(Raised) => -1,
            }
        }
    };
    // SAFETY: F1; -1 may be an honest number.
    if number == -1 && unsafe { !ffi::PyErr_Occurred().is_null() } {
        return Err(no_descriptor(object));
    }
    RawFd::try_from(number)
        .ok()
        .filter(|fd| *fd >= 0)
        .ok_or_else(|| value_error(&format!("Invalid file descriptor: {number}")))
}

/// Words an object without a descriptor as asyncio does; other exceptions stay as they are.
#[cold]
fn no_descriptor(object: &Owned) -> Raised {
    // SAFETY: F1; the exception classes are alive while the interpreter is.
    unsafe {
        let expected = [ffi::PyExc_AttributeError, ffi::PyExc_TypeError, ffi::PyExc_ValueError];
        if expected.into_iter().any(crate::ffi::raise::matches) {
            drop(crate::ffi::raise::take());
            ffi::PyErr_Format(ffi::PyExc_ValueError, c"Invalid file object: %R".as_ptr(), object.as_ptr());
        }
    }
    Raised
}

impl Instance<EventLoop> {
    /// Sees to it that nobody holds `fd` under whom the descriptor was closed.
    ///
    /// # Errors
    /// `RuntimeError` when the descriptor belongs to a transport that still uses it.
    pub fn check_no_transport(&self, fd: RawFd) -> Result<()> {
        let Some(transport) = self.with_core(|core| core.io.transport(fd)).flatten() else {
            return Ok(());
        };
        if crate::transport::identity::evict_if_lost(self, fd) {
            return Ok(());
        }
        let closing = crate::ffi::call_method(&transport, &names().is_closing, [])?;
        // SAFETY: F1; living objects.
        unsafe {
            if ffi::PyObject_IsTrue(closing.as_ptr()) == 0 {
                ffi::PyErr_Format(
                    ffi::PyExc_RuntimeError,
                    c"File descriptor %d is used by transport %R".as_ptr(),
                    fd,
                    transport.as_ptr(),
                );
                return Err(Raised);
            }
        }
        Ok(())
    }

    /// Lets `work` wait for `fd`.
    pub fn watch(&self, fd: RawFd, direction: Direction, mode: Mode, work: Work) -> Result<()> {
        let mut work = Some(work);
        let outcome = self.with_core(|core| {
            work.take().map(|work| core.io.watch(&mut core.engine.driver, fd, direction, mode, work))
        });
        drop(work);
        match outcome.flatten() {
            None => Err(runtime_error(
                "Descriptors can be watched and released from the running event loop's own thread only",
            )),
            Some(Ok(before)) => {
                self.retire(before);
                Ok(())
            }
            Some(Err((error, work))) => {
                drop(work);
                Err(os_error(&error))
            }
        }
    }

    /// Takes back who waits for `fd`; false when nobody did.
    pub fn unwatch(&self, fd: RawFd, direction: Direction) -> bool {
        let answer = self.with_core(|core| core.io.unwatch(&mut core.engine.driver, fd, direction));
        let Some((taken, lost)) = answer else {
            return false;
        };
        let found = taken.is_some();
        self.retire(taken);
        if lost {
            crate::transport::identity::evict_if_lost(self, fd);
        }
        found
    }

    /// A reader that was replaced or removed must not run even if it is already in the ready queue.
    fn retire(&self, work: Option<Work>) {
        let Some(work) = work else {
            return;
        };
        if work.kind() == Kind::Handle
            && let Some(handle) = reference(work.into_object())
        {
            let _ = handle.cancel();
        }
    }
}

fn add(this: &Instance<EventLoop>, args: Args<'_>, direction: Direction, checked: bool) -> Result {
    args.at_least(2, &["fd", "callback"])?;
    // SAFETY: the argument is alive during the call.
    let object = unsafe { Owned::from_borrowed(args.positional()[0]) };
    if checked {
        let fd = descriptor(&object)?;
        this.check_no_transport(fd)?;
    }
    this.check_open()?;
    let fd = descriptor(&object)?;
    let call: Call = call_from_args(&args, 1, false)?;
    let handle = new_handle(this, call)?;
    let work = Work::new(Kind::Handle, handle.clone());
    of_work(&work).set_repeats();
    this.watch(fd, direction, Mode::Persistent, work)?;
    Ok(handle)
}

fn remove(this: &Instance<EventLoop>, object: &Owned, direction: Direction, checked: bool) -> Result {
    let fd = if checked {
        let fd = descriptor(object)?;
        this.check_no_transport(fd)?;
        fd
    } else {
        descriptor(object)?
    };
    if this.is_closed() {
        return Ok(Owned::bool(false));
    }
    Ok(Owned::bool(this.unwatch(fd, direction)))
}

fn add_reader(this: &Instance<EventLoop>, args: Args<'_>) -> Result {
    add(this, args, Direction::Read, true).map(|_| Owned::none())
}

fn add_writer(this: &Instance<EventLoop>, args: Args<'_>) -> Result {
    add(this, args, Direction::Write, true).map(|_| Owned::none())
}

fn add_reader_unchecked(this: &Instance<EventLoop>, args: Args<'_>) -> Result {
    add(this, args, Direction::Read, false)
}

fn add_writer_unchecked(this: &Instance<EventLoop>, args: Args<'_>) -> Result {
    add(this, args, Direction::Write, false)
}

fn remove_reader(this: &Instance<EventLoop>, fd: &Owned) -> Result {
    remove(this, fd, Direction::Read, true)
}

fn remove_writer(this: &Instance<EventLoop>, fd: &Owned) -> Result {
    remove(this, fd, Direction::Write, true)
}

fn remove_reader_unchecked(this: &Instance<EventLoop>, fd: &Owned) -> Result {
    remove(this, fd, Direction::Read, false)
}

fn remove_writer_unchecked(this: &Instance<EventLoop>, fd: &Owned) -> Result {
    remove(this, fd, Direction::Write, false)
}

/// Adds this file's methods to the type.
pub fn add_methods(kind: HeapType) -> HeapType {
    kind.method(
        c"add_reader",
        method!(c"add_reader", add_reader),
        c"add_reader(fd, callback, *args): call it whenever `fd` has data to read.",
    )
    .method(
        c"add_writer",
        method!(c"add_writer", add_writer),
        c"add_writer(fd, callback, *args): call it whenever `fd` can take data.",
    )
    .method_one(c"remove_reader", method_one!(remove_reader), c"Take the reader back; whether there was one.")
    .method_one(c"remove_writer", method_one!(remove_writer), c"Take the writer back; whether there was one.")
    .method(
        c"_add_reader",
        method!(c"_add_reader", add_reader_unchecked),
        c"add_reader for the loop's own transports; returns the Handle.",
    )
    .method(
        c"_add_writer",
        method!(c"_add_writer", add_writer_unchecked),
        c"add_writer for the loop's own transports; returns the Handle.",
    )
    .method_one(
        c"_remove_reader",
        method_one!(remove_reader_unchecked),
        c"remove_reader without the transport check.",
    )
    .method_one(
        c"_remove_writer",
        method_one!(remove_writer_unchecked),
        c"remove_writer without the transport check.",
    )
}
