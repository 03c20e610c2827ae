//! Socket objects as callers hand them over, and what is asked of them.
//!
//! A *plain* socket is exactly Python's `socket.socket`: its descriptor and attributes are read through the C methods of
//! its base class, without name look-up, and system calls are made on the descriptor. Everything else (a subclass, a
//! wrapper, a mock) may have methods of its own, so it is driven by calling these, as asyncio does.

use std::ffi::{CStr, c_int};
use std::os::fd::RawFd;
use std::ptr;
use std::sync::OnceLock;

use pyo3::ffi;

use crate::event_loop::watch;
use crate::ffi::raise::{raise, runtime_error};
use crate::ffi::{Owned, Raised, Result, call, call_method};
use crate::names::{import, names};

/// The base class's own methods and attribute descriptors.
struct Known {
    /// The class of plain sockets; `None` where the `socket` module was replaced by one of another kind.
    plain: Option<Owned>,
    /// `fileno` as the C function that its type's method table has.
    fileno: ffi::PyCFunction,
    gettimeout: Owned,
    family: Owned,
    kind: Owned,
    protocol: Owned,
}

static KNOWN: OnceLock<Known> = OnceLock::new();

/// Looks the methods up; called by the module's initialisation.
pub fn load() -> Result<()> {
    if KNOWN.get().is_some() {
        return Ok(());
    }
    let names = names();
    let raw = &names.raw_socket_class;
    // SAFETY: F1; `_socket.socket` is a class, the other is compared only if it is one.
    let derived = unsafe {
        ffi::PyType_Check(names.socket_class.as_ptr()) != 0
            && ffi::PyType_IsSubtype(names.socket_class.as_ptr().cast(), raw.as_ptr().cast()) != 0
    };
    let _ = KNOWN.set(Known {
        plain: derived.then(|| names.socket_class.clone()),
        fileno: c_method(raw, c"fileno")?,
        gettimeout: raw.attr(&names.gettimeout)?,
        family: raw.attr(&names.family)?,
        kind: raw.attr(&names.r#type)?,
        protocol: raw.attr(&names.proto)?,
    });
    Ok(())
}

/// A method without arguments from the class's method table: called directly, it costs a fifth of a call by way of its
/// descriptor, and every operation asks for its descriptor two or three times.
fn c_method(class: &Owned, name: &CStr) -> Result<ffi::PyCFunction> {
    // SAFETY: F1; `class` is a class; the table ends with an entry without a name; the flags say what the pointer is.
    unsafe {
        let mut entry =
            ffi::PyType_GetSlot(class.as_ptr().cast(), ffi::Py_tp_methods).cast::<ffi::PyMethodDef>();
        while !entry.is_null() && !(*entry).ml_name.is_null() {
            if CStr::from_ptr((*entry).ml_name) == name && (*entry).ml_flags == ffi::METH_NOARGS {
                return Ok((*entry).ml_meth.PyCFunction);
            }
            entry = entry.add(1);
        }
    }
    Err(runtime_error(&format!(
        "antiphon: _socket.socket has no method {} of the expected kind",
        name.to_string_lossy()
    )))
}

#[inline(always)]
fn known() -> &'static Known {
    match KNOWN.get() {
        Some(known) => known,
        None => unreachable!("the module's initialisation fills the table"),
    }
}

/// A socket object and whether it is plain.
pub struct Socket {
    object: Owned,
    plain: bool,
}

impl Socket {
    /// Takes a reference to any object over.
    #[inline]
    pub fn new(object: Owned) -> Self {
        let plain = known().plain.as_ref().is_some_and(|class| object.is_exactly(class.as_ptr().cast()));
        Self { object, plain }
    }

    /// The object.
    pub fn object(&self) -> &Owned {
        &self.object
    }

    /// Whether system calls may stand in for the object's methods.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.plain
    }

    /// The descriptor of a plain socket: -1 once it is closed, which the system call then refuses with asyncio's `EBADF`.
    #[inline]
    pub fn descriptor(&self) -> Result<RawFd> {
        debug_assert!(self.plain);
        // SAFETY: F1; the function is a method without arguments of a base class of the object's.
        as_int(&unsafe { Owned::from_new((known().fileno)(self.object.as_ptr(), ptr::null_mut()))? })
    }

    /// The descriptor to wait for.
    ///
    /// # Errors
    /// `ValueError` with asyncio's words when there is none.
    #[inline]
    pub fn descriptor_to_watch(&self) -> Result<RawFd> {
        if self.plain {
            let fd = self.descriptor()?;
            if fd >= 0 {
                return Ok(fd);
            }
        }
        watch::descriptor(&self.object)
    }

    /// Whether the object says that it never blocks (its timeout is 0).
    pub fn is_non_blocking(&self) -> Result<bool> {
        let timeout = if self.plain {
            call(&known().gettimeout, [&self.object])?
        } else {
            call_method(&self.object, &names().gettimeout, [])?
        };
        let zero = Owned::int(0)?;
        // SAFETY: F1; living objects.
        let equal = unsafe { ffi::PyObject_RichCompareBool(timeout.as_ptr(), zero.as_ptr(), ffi::Py_EQ) };
        crate::ffi::check(equal).map(|equal| equal != 0)
    }

    /// The `AF_…` of a plain socket.
    pub fn family(&self) -> Result<c_int> {
        as_int(&self.attribute(&known().family)?)
    }

    /// Another plain socket for `fd`, of the same family, type and protocol, non-blocking.
    ///
    /// # Errors
    /// What the constructor raises; then `fd` is still the caller's.
    pub fn sibling(&self, fd: RawFd) -> Result {
        let known = known();
        let (family, protocol) = (self.attribute(&known.family)?, self.attribute(&known.protocol)?);
        // Told by this flag that the descriptor does not block already, the constructor makes no system call for it.
        let kind = Owned::int(i64::from(as_int(&self.attribute(&known.kind)?)? | libc::SOCK_NONBLOCK))?;
        call(&names().socket_class, [&family, &kind, &protocol, &Owned::int(fd.into())?])
    }

    fn attribute(&self, descriptor: &Owned) -> Result {
        // SAFETY: F1; both objects are alive. The base class's descriptors check that the object is one of theirs.
        unsafe {
            match (*ffi::Py_TYPE(descriptor.as_ptr())).tp_descr_get {
                Some(get) => {
                    let class = ffi::Py_TYPE(self.object.as_ptr()).cast();
                    Owned::from_new(get(descriptor.as_ptr(), self.object.as_ptr(), class))
                }
                None => Ok(descriptor.clone()),
            }
        }
    }

    /// # Errors
    /// `TypeError` with asyncio's words for sockets of the `ssl` module: what they deliver does not follow readiness.
    pub fn check_not_tls(&self) -> Result<()> {
        if !self.plain {
            call(&import("antiphon.arguments", "check_not_ssl")?, [&self.object])?;
        }
        Ok(())
    }

    /// Calls the object's own method.
    pub fn call<const N: usize>(&self, name: &Owned, args: [&Owned; N]) -> Result {
        call_method(&self.object, name, args)
    }
}

/// A C `int`; -1 is a value, so errors are told apart by the exception.
#[inline]
fn as_int(number: &Owned) -> Result<c_int> {
    // SAFETY: F1; a living object.
    let value = unsafe { ffi::PyLong_AsLong(number.as_ptr()) };
    // SAFETY: F1.
    if value == -1 && unsafe { !ffi::PyErr_Occurred().is_null() } {
        return Err(Raised);
    }
    c_int::try_from(value).map_err(|_| {
        // SAFETY: the class is alive while the interpreter is.
        raise(unsafe { ffi::PyExc_OverflowError }, "Python int too large to convert to C int")
    })
}

/// A size argument of a socket method: anything with `__index__`.
pub fn as_size(number: &Owned) -> Result<isize> {
    // SAFETY: F1; a living object; -1 may be an honest value.
    unsafe {
        let index = Owned::from_new(ffi::PyNumber_Index(number.as_ptr()))?;
        let size = ffi::PyLong_AsSsize_t(index.as_ptr());
        if size == -1 && !ffi::PyErr_Occurred().is_null() { Err(Raised) } else { Ok(size) }
    }
}
