//! `StreamReader`: its state, and what feeding it does: wake who waits, pause a source that is too fast.
//!
//! Source: CPython Lib/asyncio/streams.py (`StreamReader`).

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};

use antiphon_core::stream_buffer::StreamBuffer;
use pyo3::ffi;

use super::attributes::{self, References};
use super::bytes::Bytes;
use super::wait::{self, Waiting};
use crate::ffi::derived::TypeCell;
use crate::ffi::instance::DictionarySlot;
use crate::ffi::raise::{self, assertion_error, runtime_error};
use crate::ffi::{GilCell, Instance, Owned, Payload, Raised, Result, call_method};
use crate::names::names;

/// asyncio's default limit.
pub const DEFAULT_LIMIT: usize = 64 * 1024;

/// The payload of `StreamReader`.
pub struct StreamReader {
    /// What has arrived; by way of [`Instance::<StreamReader>::with_buffer`] wherever a program may have touched it.
    pub(super) buffer: GilCell<StreamBuffer<Bytes>>,
    /// The buffer as a `bytearray` that the program has, and whether it does.
    pub(super) exposed: GilCell<Option<Owned>>,
    pub(super) is_exposed: AtomicBool,
    /// The limit as it was given.
    pub(super) limit: GilCell<Option<Owned>>,
    /// The future of the one read that waits.
    pub(super) waiter: GilCell<Option<Owned>>,
    /// What every further read raises.
    pub(super) exception: GilCell<Option<Owned>>,
    /// What is paused and resumed.
    pub(super) transport: GilCell<Option<Owned>>,
    /// The loop.
    pub(super) owner: GilCell<Option<Owned>>,
    /// Where it was made; in debug mode.
    pub(super) source_traceback: GilCell<Option<Owned>>,
}

impl Default for StreamReader {
    fn default() -> Self {
        Self {
            buffer: GilCell::new(StreamBuffer::new(DEFAULT_LIMIT)),
            exposed: GilCell::new(None),
            is_exposed: AtomicBool::new(false),
            limit: GilCell::new(None),
            waiter: GilCell::new(None),
            exception: GilCell::new(None),
            transport: GilCell::new(None),
            owner: GilCell::new(None),
            source_traceback: GilCell::new(None),
        }
    }
}

static READER: TypeCell = TypeCell::new();

impl Payload for StreamReader {
    type BaseSlots = ();
    type Dictionary = DictionarySlot;
    const COLLECTED: bool = true;
    #[inline(always)]
    fn type_object() -> *mut ffi::PyTypeObject {
        READER.get()
    }
}

/// Remembers the type once it is made.
pub fn set_type(kind: *mut ffi::PyTypeObject) {
    READER.set(kind);
}

impl References for StreamReader {
    fn references(&self) -> impl Iterator<Item = &GilCell<Option<Owned>>> {
        [
            &self.exposed,
            &self.limit,
            &self.waiter,
            &self.exception,
            &self.transport,
            &self.owner,
            &self.source_traceback,
        ]
        .into_iter()
    }
}

impl Instance<StreamReader> {
    /// Visits what the reader refers to, for the collector.
    pub fn traverse(&self, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
        attributes::traverse(self, visit, arg)
    }

    /// Breaks cycles for the collector.
    pub fn clear(&self) {
        attributes::clear(self);
    }

    /// The loop.
    ///
    /// # Errors
    /// `RuntimeError`: a subclass did not call `StreamReader.__init__`.
    pub fn loop_object(&self) -> Result {
        self.owner.get().ok_or_else(|| runtime_error("StreamReader.__init__() was not called"))
    }

    /// Whether bytes may be put into the buffer without asking Python: nobody looks, and nobody replaced `feed_data`.
    #[inline]
    pub fn takes_bytes(&self) -> bool {
        if self.is_exposed.load(Ordering::Relaxed) {
            return false;
        }
        let dictionary = self.dictionary();
        // SAFETY: F1; the instance's own dict, and a string as the key.
        dictionary.is_null() || unsafe { ffi::PyDict_Contains(dictionary, names().feed_data.as_ptr()) } == 0
    }

    /// `feed_data(data)`.
    ///
    /// # Errors
    /// `AssertionError` after the end; `TypeError` for what is no bytes.
    pub fn feed_data(&self, data: &Owned) -> Result<()> {
        self.check_not_ended()?;
        if !data.truth()? {
            return Ok(());
        }
        let chunk = Bytes::of(data)?;
        let spare = self.with_buffer(|buffer| buffer.feed(chunk))?;
        drop(spare);
        self.fed()
    }

    /// [`Self::feed_data`] with bytes of a transport's own buffer, at least one; the caller has asked [`Self::takes_bytes`].
    #[inline]
    pub fn feed_bytes(&self, bytes: &[u8]) -> Result<()> {
        self.check_not_ended()?;
        if !self.buffer.with(|buffer| buffer.append(bytes)) {
            let chunk = Bytes::copied(bytes)?;
            let spare = self.buffer.with(|buffer| buffer.feed(chunk));
            drop(spare);
        }
        self.fed()
    }

    #[inline]
    fn check_not_ended(&self) -> Result<()> {
        if self.buffer.with(|buffer| buffer.is_ended()) {
            return Err(assertion_error("feed_data after feed_eof"));
        }
        Ok(())
    }

    /// After more has come.
    #[inline]
    fn fed(&self) -> Result<()> {
        self.wake_waiter()?;
        if self.buffer.with(|buffer| buffer.must_pause()) { self.pause_transport() } else { Ok(()) }
    }

    /// `set_transport(transport)`.
    ///
    /// # Errors
    /// `AssertionError`: it has one.
    pub fn set_transport(&self, transport: &Owned) -> Result<()> {
        if self.transport.with(|transport| transport.is_some()) {
            return Err(assertion_error("Transport already set"));
        }
        drop(self.transport.replace(Some(transport.clone())));
        Ok(())
    }

    #[cold]
    fn pause_transport(&self) -> Result<()> {
        let Some(transport) = self.transport.get() else {
            return Ok(());
        };
        match call_method(&transport, &names().pause_reading, []) {
            Ok(_) => self.buffer.with(|buffer| buffer.set_paused(true)),
            // SAFETY: the class is alive while the interpreter is.
            Err(Raised) if raise::matches(unsafe { ffi::PyExc_NotImplementedError }) => {
                // It can't be paused: everything is buffered, and it is not asked again.
                drop(raise::take());
                drop(self.transport.take());
            }
            Err(raised) => return Err(raised),
        }
        Ok(())
    }

    /// `_maybe_resume_transport()`: after something was read.
    #[inline]
    pub fn maybe_resume_transport(&self) -> Result<()> {
        if self.buffer.with(StreamBuffer::must_resume) { self.resume_transport() } else { Ok(()) }
    }

    #[cold]
    fn resume_transport(&self) -> Result<()> {
        let transport = self.transport.get().unwrap_or_else(Owned::none);
        call_method(&transport, &names().resume_reading, []).map(drop)
    }

    /// `feed_eof()`.
    pub fn feed_eof(&self) -> Result<()> {
        self.buffer.with(|buffer| buffer.set_ended(true));
        self.wake_waiter()
    }

    /// `_wakeup_waiter()`.
    #[inline]
    pub fn wake_waiter(&self) -> Result<()> {
        match self.waiter.take() {
            Some(waiter) => wait::wake(&waiter),
            None => Ok(()),
        }
    }

    /// `set_exception(exc)`: who waits raises it, and so does every further read.
    pub fn set_exception(&self, exception: &Owned) -> Result<()> {
        drop(self.exception.replace(Some(exception.clone()).filter(|exception| !exception.is_none())));
        match self.waiter.take() {
            Some(waiter) => wait::fail(&waiter, exception),
            None => Ok(()),
        }
    }

    /// # Errors
    /// The reader's exception, if it has one.
    #[inline]
    pub fn check_exception(&self) -> Result<()> {
        match self.exception.get() {
            Some(exception) => Err(raise::raise_object(&exception)),
            None => Ok(()),
        }
    }

    /// Begins to wait for data or the end; a paused transport goes on. `read` is the method that the error names.
    ///
    /// # Errors
    /// `RuntimeError`: another read waits.
    #[inline]
    pub fn begin_wait(&self, read: &str) -> Result<Waiting> {
        if self.waiter.with(|waiter| waiter.is_some()) {
            return Err(runtime_error(&format!(
                "{read}() called while another coroutine is already waiting for incoming data"
            )));
        }
        if self.buffer.with(|buffer| buffer.is_ended()) {
            return Err(assertion_error("_wait_for_data after EOF"));
        }
        // Who waits for a paused source waits for ever: readexactly() may want more than the limit.
        if self.buffer.with(StreamBuffer::must_resume_to_wait) {
            self.resume_transport()?;
        }
        let waiting = Waiting::begin(&self.loop_object()?)?;
        drop(self.waiter.replace(Some(waiting.future().clone())));
        Ok(waiting)
    }

    /// The wait is over, however it ended.
    #[inline]
    pub fn end_wait(&self, waiting: &Waiting) {
        let ours = self.waiter.with(|waiter| match waiter {
            Some(other) if other.as_ptr() == waiting.future().as_ptr() => waiter.take(),
            _ => None,
        });
        drop(ours);
    }
}
