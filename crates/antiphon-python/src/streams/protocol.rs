//! `StreamReaderProtocol`: what a transport talks to, its state and its life.
//!
//! The protocol refers to its reader weakly, as asyncio's does: what arrives for a reader that nobody has is dropped.
//!
//! Source: CPython Lib/asyncio/streams.py (`FlowControlMixin`, `StreamReaderProtocol`).

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::ffi;

use super::attributes::{self, References};
use super::reader::StreamReader;
use super::reader_type::debug_of;
use super::wait;
use crate::ffi::derived::TypeCell;
use crate::ffi::instance::DictionarySlot;
use crate::ffi::raise::{self, assertion_error};
use crate::ffi::visitor::Visitor;
use crate::ffi::{GilCell, Instance, Owned, Payload, Raised, Result, call, call_method, weak};
use crate::names::{import, names};
use crate::transport::stream::{is, set};

/// The payload of `StreamReaderProtocol`.
#[derive(Default)]
pub struct StreamReaderProtocol {
    /// The loop.
    pub(super) owner: GilCell<Option<Owned>>,
    /// A weak reference to the reader.
    pub(super) reader: GilCell<Option<Owned>>,
    /// The reader of an accepted connection, until the program has it.
    pub(super) strong_reader: GilCell<Option<Owned>>,
    /// The writer of an accepted connection: before 3.13 the protocol holds it.
    pub(super) writer: GilCell<Option<Owned>>,
    pub(super) transport: GilCell<Option<Owned>>,
    pub(super) client_connected_cb: GilCell<Option<Owned>>,
    /// The task of `client_connected_cb`.
    pub(super) task: GilCell<Option<Owned>>,
    /// A future that is done when the connection is lost.
    pub(super) closed: GilCell<Option<Owned>>,
    pub(super) source_traceback: GilCell<Option<Owned>>,
    /// Futures of the coroutines in `drain`.
    drain_waiters: GilCell<Vec<Owned>>,
    pub(super) paused: AtomicBool,
    pub(super) connection_lost: AtomicBool,
    pub(super) reject_connection: AtomicBool,
    pub(super) over_ssl: AtomicBool,
}

static PROTOCOL: TypeCell = TypeCell::new();

impl Payload for StreamReaderProtocol {
    type BaseSlots = ();
    type Dictionary = DictionarySlot;
    const COLLECTED: bool = true;
    #[inline(always)]
    fn type_object() -> *mut ffi::PyTypeObject {
        PROTOCOL.get()
    }
}

/// Remembers the type once it is made.
pub fn set_type(kind: *mut ffi::PyTypeObject) {
    PROTOCOL.set(kind);
}

impl References for StreamReaderProtocol {
    fn references(&self) -> impl Iterator<Item = &GilCell<Option<Owned>>> {
        [
            &self.owner,
            &self.reader,
            &self.strong_reader,
            &self.writer,
            &self.transport,
            &self.client_connected_cb,
            &self.task,
            &self.closed,
            &self.source_traceback,
        ]
        .into_iter()
    }
}

impl Instance<StreamReaderProtocol> {
    /// Visits what the protocol refers to, for the collector.
    pub fn traverse(&self, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
        // SAFETY: called from the traverse slot with its own visitor.
        let visitor = unsafe { Visitor::new(visit, arg) };
        match self.drain_waiters.with(|waiters| visitor.all(&*waiters)) {
            0 => attributes::traverse(self, visit, arg),
            status => status,
        }
    }

    /// Breaks cycles for the collector.
    pub fn clear(&self) {
        drop(self.drain_waiters.take());
        attributes::clear(self);
    }

    /// The reader, as long as somebody has it.
    #[inline]
    pub fn stream_reader(&self) -> Option<Owned> {
        // The weak reference is taken out of the cell first: looking at it may meet a dying object.
        self.reader.get().and_then(|reference| weak::target(&reference))
    }

    /// `data_received(data)`.
    #[inline]
    pub fn data_received(&self, data: &Owned) -> Result<()> {
        let Some(reader) = self.stream_reader() else {
            return Ok(());
        };
        match Instance::<StreamReader>::downcast(&reader) {
            Some(native) if native.takes_bytes() => native.feed_data(data),
            _ => call_method(&reader, &names().feed_data, [data]).map(drop),
        }
    }

    /// `eof_received()`: over TLS the connection ends, else it stays open for writing.
    pub fn eof_received(&self) -> Result<bool> {
        if let Some(reader) = self.stream_reader() {
            call_method(&reader, &names().feed_eof, [])?;
        }
        Ok(!is(&self.over_ssl))
    }

    /// `connection_made(transport)`.
    pub fn connection_made(&self, transport: &Owned) -> Result<()> {
        if is(&self.reject_connection) {
            let report = import("antiphon.streams", "connection_rejected")?;
            return call(&report, [&self.owned(), transport]).map(drop);
        }
        drop(self.transport.replace(Some(transport.clone())));
        let reader = self.stream_reader();
        if let Some(reader) = &reader {
            call_method(reader, &names().set_transport, [transport])?;
        }
        self.look_for_tls(transport)?;
        if self.client_connected_cb.with(|callback| callback.is_none()) {
            return Ok(());
        }
        let connected = import("antiphon.streams", "client_connected")?;
        let reader = reader.unwrap_or_else(Owned::none);
        call(&connected, [&self.owned(), &reader, transport])?;
        drop(self.strong_reader.take());
        Ok(())
    }

    /// `_over_ssl`: whether an end of stream ends the connection.
    pub fn look_for_tls(&self, transport: &Owned) -> Result<()> {
        let context = call_method(transport, &names().get_extra_info, [&names().sslcontext])?;
        set(&self.over_ssl, !context.is_none());
        Ok(())
    }

    /// `connection_lost(exc)`.
    pub fn connection_lost(&self, exception: &Owned) -> Result<()> {
        if let Some(reader) = self.stream_reader() {
            if exception.is_none() {
                call_method(&reader, &names().feed_eof, [])?;
            } else {
                call_method(&reader, &names().set_exception, [exception])?;
            }
        }
        if let Some(closed) = self.closed.get()
            && !wait::is_done(&closed)?
        {
            wait::settle(&closed, exception)?;
        }
        set(&self.connection_lost, true);
        if is(&self.paused) {
            self.wake_drains(exception)?;
        }
        for place in [&self.reader, &self.writer, &self.task, &self.transport] {
            drop(place.take());
        }
        Ok(())
    }

    fn wake_drains(&self, exception: &Owned) -> Result<()> {
        for waiter in self.drain_waiters.get() {
            if !wait::is_done(&waiter)? {
                wait::settle(&waiter, exception)?;
            }
        }
        Ok(())
    }

    /// `pause_writing()`.
    pub fn pause_writing(&self) -> Result<()> {
        if self.paused.swap(true, Ordering::Relaxed) {
            return Err(assertion_error(""));
        }
        self.log("%r pauses writing")
    }

    /// `resume_writing()`: everybody in `drain` goes on.
    pub fn resume_writing(&self) -> Result<()> {
        if !self.paused.swap(false, Ordering::Relaxed) {
            return Err(assertion_error(""));
        }
        self.log("%r resumes writing")?;
        self.wake_drains(&Owned::none())
    }

    fn log(&self, message: &str) -> Result<()> {
        if let Some(owner) = self.owner.get()
            && debug_of(&owner)?
        {
            call(&import("antiphon.reports", "log")?, [&Owned::str(message)?, &self.owned()])?;
        }
        Ok(())
    }

    /// Whether `drain` has to wait.
    ///
    /// # Errors
    /// `ConnectionResetError`: for nothing, the connection is lost.
    #[inline]
    pub fn check_drained(&self) -> Result<bool> {
        if is(&self.connection_lost) {
            // SAFETY: the class is alive while the interpreter is.
            return Err(raise::raise(unsafe { ffi::PyExc_ConnectionResetError }, "Connection lost"));
        }
        Ok(!is(&self.paused))
    }

    /// Somebody waits for `resume_writing` by `future`.
    pub fn add_drain_waiter(&self, future: &Owned) {
        self.drain_waiters.with(|waiters| waiters.push(future.clone()));
    }

    /// That wait is over.
    pub fn remove_drain_waiter(&self, future: &Owned) {
        let removed = self.drain_waiters.with(|waiters| {
            let place = waiters.iter().position(|waiter| waiter.as_ptr() == future.as_ptr());
            place.map(|place| waiters.remove(place))
        });
        drop(removed);
    }

    /// The waiters as a list, for whoever looks.
    pub fn drain_waiters(&self) -> Result {
        let waiters = self.drain_waiters.get();
        // SAFETY: F1; a new list, which takes a reference of its own to each item.
        unsafe {
            let list = Owned::from_new(ffi::PyList_New(0))?;
            for waiter in &waiters {
                crate::ffi::check(ffi::PyList_Append(list.as_ptr(), waiter.as_ptr()))?;
            }
            Ok(list)
        }
    }

    /// Its end: an exception that the connection was lost with, and nobody asked for, is no unhandled one.
    pub fn finalize(&self) {
        let Some(closed) = self.closed.get() else {
            return;
        };
        let pending = raise::take();
        if let Err(Raised) = wait::silence(&closed) {
            raise::write_unraisable(Some(&closed));
        }
        if let Some(pending) = pending {
            raise::restore(pending);
        }
    }
}
