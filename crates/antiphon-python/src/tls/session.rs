//! The interpreter's TLS objects: an `ssl.SSLObject` between two `ssl.MemoryBIO`s, their methods bound once.
//!
//! ```text
//!   from the network ──feed──▶ incoming BIO ──▶ SSLObject ──read_into──▶ plaintext
//!   to the network ◀──outgoing── outgoing BIO ◀── SSLObject ◀──write── plaintext
//! ```
//!
//! All of TLS is theirs, so every setting of an `SSLContext` holds. The methods called here are those of the C objects
//! behind, if nobody has put others in their place (`antiphon.tls` looks); then no call makes a Python frame.
//!
//! Source: "Memory BIO Support" of the ssl documentation; CPython Modules/_ssl.c.

use std::ffi::{c_int, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::ffi;

use super::window::Recycled;
use crate::ffi::raise::{self, type_error};
use crate::ffi::{Owned, Raised, Result, call};
use crate::names::import;
use crate::transport::queue::bytes_of;

/// What one step of TLS came to.
pub enum Outcome<T> {
    /// It was done.
    Done(T),
    /// More bytes of the peer are needed first.
    Again,
    /// It failed with this exception.
    Failed(Owned),
}

/// Exceptions that mean [`Outcome::Again`].
struct Again {
    want_read: Owned,
    system_call: Owned,
}

static AGAIN: OnceLock<Again> = OnceLock::new();

/// Looks the exceptions up, before the first of them can be raised.
fn load_again() -> Result<()> {
    if AGAIN.get().is_none() {
        let want_read = import("ssl", "SSLWantReadError")?;
        let _ = AGAIN.set(Again { want_read, system_call: import("ssl", "SSLSyscallError")? });
    }
    Ok(())
}

fn outcome<T>(result: Result<T>) -> Outcome<T> {
    if let Ok(value) = result {
        return Outcome::Done(value);
    }
    let again = AGAIN.get().is_some_and(|again| {
        raise::matches(again.want_read.as_ptr()) || raise::matches(again.system_call.as_ptr())
    });
    let exception = raise::take();
    if again { Outcome::Again } else { Outcome::Failed(exception.unwrap_or_else(Owned::none)) }
}

/// One connection's TLS.
pub struct Session {
    object: Owned,
    do_handshake: Owned,
    read: Owned,
    write: Owned,
    shutdown: Owned,
    pending: Owned,
    bio_write: Owned,
    bio_read: Owned,
    /// A number that no buffer reaches: reads are limited by the buffer alone.
    no_limit: Owned,
    /// Whether all methods are the C objects' own: they may be lent a window.
    native: bool,
    window: Recycled,
    /// A step is under way. OpenSSL calls back in some of them (SNI, `SSLContext._msg_callback`), and whatever that leads
    /// to must not begin another one.
    busy: AtomicBool,
}

impl Session {
    /// Takes what `antiphon.tls` has put together: the tuple `(object, do_handshake, read, write, shutdown, pending,
    /// incoming.write, outgoing.read, native)`.
    pub fn from_tuple(parts: &Owned) -> Result<Self> {
        load_again()?;
        // SAFETY: F1; the object is alive, places below the checked size are borrowed from it.
        unsafe {
            if ffi::PyTuple_Check(parts.as_ptr()) == 0 || ffi::PyTuple_Size(parts.as_ptr()) != 9 {
                return Err(type_error("a TLS session is a tuple of 9"));
            }
            let at = |place| Owned::from_borrowed(ffi::PyTuple_GET_ITEM(parts.as_ptr(), place));
            Ok(Self {
                object: at(0),
                do_handshake: at(1),
                read: at(2),
                write: at(3),
                shutdown: at(4),
                pending: at(5),
                bio_write: at(6),
                bio_read: at(7),
                no_limit: Owned::int(1 << 30)?,
                native: at(8).as_ptr() == ffi::Py_True(),
                window: Recycled::default(),
                busy: AtomicBool::new(false),
            })
        }
    }

    /// The `ssl.SSLObject`.
    pub fn object(&self) -> &Owned {
        &self.object
    }

    /// Bytes of the network arrived.
    #[inline]
    pub fn feed(&self, bytes: &[u8]) -> Result<()> {
        // SAFETY: `bytes` outlive the call; `MemoryBIO.write` copies them, and is C's own if the session is native (V1).
        unsafe {
            self.lend(bytes.as_ptr().cast_mut(), bytes.len(), true, |object| call(&self.bio_write, [object]))
        }?;
        Ok(())
    }

    /// Bytes for the network, all that there are, as a `bytes` object of just that size; `None` if there are none.
    #[inline]
    pub fn outgoing(&self) -> Result<Option<Owned>> {
        let data = call(&self.bio_read, [])?;
        // SAFETY: F1; a living object.
        if unsafe { ffi::PyBytes_CheckExact(data.as_ptr()) } == 0 {
            return Err(type_error("MemoryBIO.read() must return bytes"));
        }
        Ok(if bytes_of(&data).is_empty() { None } else { Some(data) })
    }

    /// One step of TLS, unless it would begin within another one.
    #[inline(always)]
    fn step<T>(&self, body: impl FnOnce() -> Result<T>) -> Outcome<T> {
        if self.busy.swap(true, Ordering::Relaxed) {
            return Outcome::Again;
        }
        let result = body();
        self.busy.store(false, Ordering::Relaxed);
        outcome(result)
    }

    /// Goes on with the handshake.
    pub fn do_handshake(&self) -> Outcome<()> {
        self.step(|| call(&self.do_handshake, []).map(drop))
    }

    /// Says goodbye; done when the peer has said so too.
    pub fn shutdown(&self) -> Outcome<()> {
        self.step(|| call(&self.shutdown, []).map(drop))
    }

    /// Plaintext of the record that was opened last and did not fit where it was read into, in bytes.
    pub fn pending(&self) -> Result<usize> {
        size_of(&call(&self.pending, [])?)
    }

    /// Decrypts at most one record of at most `most` bytes; an empty one is the peer's goodbye.
    #[inline]
    pub fn read(&self, most: usize) -> Outcome<Owned> {
        self.step(|| {
            let data = call(&self.read, [&Owned::int(most.max(1) as i64)?])?;
            // SAFETY: F1; a living object.
            if unsafe { ffi::PyBytes_CheckExact(data.as_ptr()) } == 0 {
                return Err(type_error("SSLObject.read() must return bytes"));
            }
            Ok(data)
        })
    }

    /// Decrypts at most one record into the `len` bytes from `start` on; 0 is the peer's goodbye.
    /// # Safety
    /// The memory is writable, and the caller's alone, during the call.
    #[inline]
    pub unsafe fn read_into(&self, start: *mut u8, len: usize) -> Outcome<usize> {
        self.step(|| {
            if self.native {
                // SAFETY: by the caller's word; `read` is `_ssl`'s own (V1).
                let lent = unsafe {
                    self.window.lend(start, len, false, |window| call(&self.read, [&self.no_limit, window]))
                };
                return size_of(&lent?);
            }
            let data = call(&self.read, [&Owned::int(len as i64)?])?;
            // SAFETY: F1; a living object.
            if unsafe { ffi::PyBytes_CheckExact(data.as_ptr()) } == 0 {
                return Err(type_error("SSLObject.read() must return bytes"));
            }
            let bytes = bytes_of(&data);
            if bytes.len() > len {
                return Err(raise::runtime_error("SSLObject.read() returned more than it was asked for"));
            }
            // SAFETY: both have room for so many bytes and do not overlap.
            unsafe { start.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
            Ok(bytes.len())
        })
    }

    /// Encrypts `bytes` towards the outgoing BIO; gives how many were taken.
    #[inline]
    pub fn write(&self, bytes: &[u8]) -> Outcome<usize> {
        self.step(|| {
            let (start, len) = (bytes.as_ptr().cast_mut(), bytes.len());
            // SAFETY: `bytes` outlive the call, and are only read; `write` is `_ssl`'s own if the session is native (V1).
            size_of(&unsafe { self.lend(start, len, true, |object| call(&self.write, [object])) }?)
        })
    }

    /// Encrypts a whole `bytes` object.
    #[inline]
    pub fn write_object(&self, bytes: &Owned) -> Outcome<usize> {
        self.step(|| size_of(&call(&self.write, [bytes])?))
    }

    /// # Safety
    /// As for [`Recycled::lend`], as far as the session is native.
    #[inline]
    unsafe fn lend(
        &self,
        start: *mut u8,
        len: usize,
        read_only: bool,
        borrower: impl FnOnce(&Owned) -> Result,
    ) -> Result {
        if self.native {
            // SAFETY: by the caller's word.
            return unsafe { self.window.lend(start, len, read_only, borrower) };
        }
        // SAFETY: as above; Python code gets a copy, which it may keep.
        borrower(&Owned::bytes(unsafe { std::slice::from_raw_parts(start, len) })?)
    }

    /// Visits what this refers to, for the collector.
    pub fn traverse(&self, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
        let methods = [
            &self.object,
            &self.do_handshake,
            &self.read,
            &self.write,
            &self.shutdown,
            &self.pending,
            &self.bio_write,
            &self.bio_read,
        ];
        for reference in methods {
            // SAFETY: called from a traverse slot with its own visitor.
            let status = unsafe { visit(reference.as_ptr(), arg) };
            if status != 0 {
                return status;
            }
        }
        0
    }
}

/// A count that a method returned.
#[inline]
pub fn size_of(number: &Owned) -> Result<usize> {
    // SAFETY: F1; a living object.
    let count = unsafe { ffi::PyLong_AsSsize_t(number.as_ptr()) };
    // SAFETY: F1.
    if count == -1 && unsafe { !ffi::PyErr_Occurred().is_null() } {
        return Err(Raised);
    }
    usize::try_from(count).map_err(|_| raise::value_error("a negative count of bytes"))
}
