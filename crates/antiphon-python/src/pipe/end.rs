//! What the two ends of a pipe share as transports.
//!
//! ```text
//!   made ──Advance──▶ connection_made, waiting ──▶ … ──▶ closing ──▶ Advance ──▶ connection_lost, file closed
//! ```
//!
//! **Invariant E1**: the file is closed in one place (`close_file`, at the end of life or by the finalizer), after the transport
//! took its registrations back, and the descriptor is -1 from then on.

use std::ffi::{CStr, c_int, c_void};
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use pyo3::ffi;

use crate::event_loop::EventLoop;
use crate::event_loop::watch::descriptor;
use crate::ffi::raise::{self, os_error, runtime_error};
use crate::ffi::{Args, GilCell, HeapType, Instance, Owned, Payload, Raised, Result, call, call_method};
use crate::io_table::{Direction, Mode};
use crate::names::{import, names};
use crate::reports;
use crate::transport::identity::evict_if_lost;
use crate::transport::stream::{is, set, set_result_unless_cancelled};
use crate::work::{Kind, Work};

/// What a new pipe transport is made from.
pub struct Parts {
    owner: Owned,
    file: Owned,
    protocol: Owned,
    waiter: Option<Owned>,
    extra: Option<Owned>,
}

impl Parts {
    /// The arguments `(pipe, protocol, waiter=None, extra=None)`.
    pub fn bind(owner: &Instance<EventLoop>, args: Args<'_>) -> Result<Self> {
        let names = names();
        let [file, protocol, waiter, extra] =
            args.bind([&names.pipe, &names.protocol, &names.waiter, &names.extra], 2)?;
        owner.check_open()?;
        // SAFETY: F1; the arguments are alive during the call.
        unsafe {
            let optional =
                |value: Option<*mut ffi::PyObject>| value.and_then(|value| Owned::from_optional(value));
            let (Some(file), Some(protocol)) = (optional(file), optional(protocol)) else {
                return Err(runtime_error("a transport needs a pipe and a protocol"));
            };
            Ok(Self {
                owner: owner.owned(),
                file,
                protocol,
                waiter: optional(waiter),
                extra: optional(extra),
            })
        }
    }

    /// The pipe's descriptor and what kind of file it is (`S_IF…`).
    pub fn inspect(&self) -> Result<(RawFd, libc::mode_t)> {
        let fd = descriptor(&self.file)?;
        // SAFETY: fstat(2) writes to a live local, for which zero is a valid value.
        let (status, information) = unsafe {
            let mut information: libc::stat = std::mem::zeroed();
            (libc::fstat(fd, &raw mut information), information)
        };
        if status < 0 {
            return Err(os_error(&io::Error::last_os_error()));
        }
        Ok((fd, information.st_mode & libc::S_IFMT))
    }

    /// Makes the descriptor non-blocking and the parts an end.
    pub fn into_end(self, fd: RawFd) -> Result<PipeEnd> {
        // SAFETY: loops make pipe transports for themselves only.
        evict_if_lost(unsafe { Instance::from_ptr(self.owner.as_ptr()) }, fd);
        // SAFETY: takes integers only.
        let blocking = unsafe {
            let flags = libc::fcntl(fd, libc::F_GETFL);
            flags < 0 || libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) < 0
        };
        if blocking {
            return Err(os_error(&io::Error::last_os_error()));
        }
        // SAFETY: F1; new references or null; the dict takes references of its own.
        let (extra, context) = unsafe {
            let extra = match &self.extra {
                Some(extra) => Owned::from_new(ffi::PyDict_Copy(extra.as_ptr()))?,
                None => Owned::from_new(ffi::PyDict_New())?,
            };
            let added = ffi::PyDict_SetItem(extra.as_ptr(), names().pipe.as_ptr(), self.file.as_ptr());
            crate::ffi::check(added)?;
            (extra, Owned::from_new(ffi::PyContext_CopyCurrent())?)
        };
        Ok(PipeEnd {
            owner: self.owner,
            fd: AtomicI32::new(fd),
            file: GilCell::new(Some(self.file)),
            protocol: GilCell::new(Some(self.protocol)),
            extra: GilCell::new(Some(extra)),
            context,
            waiter: GilCell::new(self.waiter),
            loss: GilCell::new(None),
            connected: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            number_lost: AtomicBool::new(false),
        })
    }
}

/// The state that both ends have.
pub struct PipeEnd {
    owner: Owned,
    fd: AtomicI32,
    /// The user's file object, which owns the descriptor; none once it is closed.
    file: GilCell<Option<Owned>>,
    /// None after `connection_lost`.
    protocol: GilCell<Option<Owned>>,
    extra: GilCell<Option<Owned>>,
    context: Owned,
    waiter: GilCell<Option<Owned>>,
    /// Why the pipe was lost, between the loss and `connection_lost`.
    loss: GilCell<Option<Owned>>,
    connected: AtomicBool,
    /// Nothing new is read or written.
    pub closing: AtomicBool,
    /// The end of life is queued.
    ended: AtomicBool,
    /// The descriptor was closed under the transport, and its number is another's to close (C2).
    pub number_lost: AtomicBool,
}

/// A heap type whose payload has a [`PipeEnd`].
pub trait PipeTransport: Payload {
    /// The shared state.
    fn end(&self) -> &PipeEnd;
    /// Begins to wait for events, after `connection_made`.
    fn start(this: &Instance<Self>) -> Result<()>;
    /// Runs before `connection_lost`.
    fn before_lost(this: &Instance<Self>) -> Result<()>;
    /// Visits what the shared state does not have.
    fn traverse_rest(&self, visit: &mut dyn FnMut(&Owned) -> c_int) -> c_int;
    /// Gives up what the shared state does not have.
    fn clear_rest(&self);
}

impl<T: PipeTransport> Instance<T> {
    /// The descriptor, -1 once the file is closed (E1).
    #[inline(always)]
    pub fn pipe_fd(&self) -> RawFd {
        self.end().fd.load(Ordering::Relaxed)
    }

    /// The loop.
    #[inline(always)]
    pub fn pipe_owner(&self) -> &Instance<EventLoop> {
        // SAFETY: transports are made by loops only, for themselves.
        unsafe { Instance::from_ptr(self.end().owner.as_ptr()) }
    }

    /// The loop as an object.
    pub fn pipe_owner_object(&self) -> &Owned {
        &self.end().owner
    }

    /// The user's protocol.
    pub fn pipe_protocol(&self) -> Option<Owned> {
        self.end().protocol.get()
    }

    /// Runs `body` in the context in which the transport was made, where protocol methods belong.
    #[inline]
    pub fn in_pipe_context<R>(&self, body: impl FnOnce() -> Result<R>) -> Result<R> {
        let context = self.end().context.as_ptr();
        // SAFETY: F1; a context that was entered is left on every path.
        unsafe {
            if ffi::PyContext_Enter(context) != 0 {
                return Err(Raised);
            }
            let result = body();
            if ffi::PyContext_Exit(context) != 0 {
                return Err(Raised);
            }
            result
        }
    }

    /// Queues the beginning of the transport's life.
    pub fn begin_soon(&self) {
        self.pipe_owner().push(Work::new(Kind::Advance, self.owned()));
    }

    /// The life's next step: its beginning, or its end.
    ///
    /// # Errors
    /// `KeyboardInterrupt` and `SystemExit` of the protocol, here and below: they leave the loop.
    pub fn advance(&self) -> Result<()> {
        if self.end().connected.swap(true, Ordering::Relaxed) {
            self.end_of_life()
        } else {
            self.begin_of_life()
        }
    }

    fn begin_of_life(&self) -> Result<()> {
        let made = self.call_protocol("connection_made", &names().connection_made, Some(&self.owned()));
        // What leaves the loop leaves it after this: the pipe is connected all the same.
        let leaving = if made.is_err() { raise::take() } else { None };
        if T::start(self).is_err() {
            self.cannot_be_watched()?;
        }
        if let Some(waiter) = self.end().waiter.take() {
            set_result_unless_cancelled(&waiter)?;
        }
        leaving.map_or(Ok(()), |exception| Err(raise::restore(exception)))
    }

    /// The kernel refuses to wait for this character device; a pipe or socket was closed by somebody else.
    #[cold]
    fn cannot_be_watched(&self) -> Result<()> {
        let exception = raise::take().unwrap_or_else(Owned::none);
        self.fail_pipe("transport_refused", "Fatal error on pipe transport", exception)
    }

    /// Lets events of `direction` reach this transport.
    pub fn watch_pipe(&self, direction: Direction) -> Result<()> {
        let kind = if direction == Direction::Read { Kind::Readable } else { Kind::Writable };
        let work = Work::new(kind, self.owned());
        self.pipe_owner().watch(self.pipe_fd(), direction, Mode::Persistent, work)
    }

    /// Lets them reach it no more. What waits in that direction may be another transport over the same descriptor.
    pub fn unwatch_pipe(&self, direction: Direction) {
        let (fd, owner, this) = (self.pipe_fd(), self.pipe_owner(), self.as_ptr());
        let mine = || owner.with_core(|core| core.io.waits(fd, direction, this)).unwrap_or(false);
        if fd >= 0 && mine() {
            owner.unwatch(fd, direction);
        }
    }

    /// Queues the end of the transport's life; the first reason counts.
    pub fn end_pipe(&self, reason: Option<Owned>) {
        set(&self.end().closing, true);
        self.unwatch_pipe(Direction::Read);
        self.unwatch_pipe(Direction::Write);
        if self.end().ended.swap(true, Ordering::Relaxed) {
            return;
        }
        if self.pipe_owner().is_closed() {
            // Nobody will call the protocol any more.
            self.close_file();
        } else {
            drop(self.end().loss.replace(reason));
            self.pipe_owner().push(Work::new(Kind::Advance, self.owned()));
        }
    }

    /// Whether the end of life is queued or over: an event may still come that was under way.
    pub fn is_ended(&self) -> bool {
        is(&self.end().ended)
    }

    fn end_of_life(&self) -> Result<()> {
        let before = T::before_lost(self);
        let leaving = if before.is_err() { raise::take() } else { None };
        let loss = self.end().loss.take().unwrap_or_else(Owned::none);
        let lost = self.call_protocol("connection_lost", &names().connection_lost, Some(&loss));
        let leaving = if lost.is_err() { raise::take() } else { leaving };
        drop(self.end().protocol.take());
        self.close_file();
        leaving.map_or(Ok(()), |exception| Err(raise::restore(exception)))
    }

    /// Ends the transport, whose number the loop has given to somebody else.
    pub fn lose_number(&self, reason: Owned) {
        set(&self.end().number_lost, true);
        self.end_pipe(Some(reason));
    }

    /// Closes the file (E1).
    fn close_file(&self) {
        self.end().fd.store(-1, Ordering::Relaxed);
        let file = self.end().file.take();
        if is(&self.end().number_lost) {
            // A file object cannot be made to forget its number, and closes it when it dies: so this reference stays.
            std::mem::forget(file);
        } else if let Some(file) = file
            && call_method(&file, &names().close, []).is_err()
        {
            raise::write_unraisable(Some(&file));
        }
    }

    /// Calls a method of the protocol; one that raises has no caller to tell, so the exception handler is told.
    pub fn call_protocol(&self, name: &str, method: &Owned, argument: Option<&Owned>) -> Result<()> {
        let Some(protocol) = self.pipe_protocol() else {
            return Ok(());
        };
        self.report_unless_told(name, || {
            self.in_pipe_context(|| match argument {
                Some(argument) => call_method(&protocol, method, [argument]),
                None => call_method(&protocol, method, []),
            })
            .map(drop)
        })
    }

    /// As [`Self::call_protocol`] for whatever does what its method `name` does.
    pub fn report_unless_told(&self, name: &str, tell: impl FnOnce() -> Result<()>) -> Result<()> {
        if let Err(Raised) = tell() {
            let Some(exception) = raise::take() else {
                return Ok(());
            };
            if raise::leaves_loop(&exception) {
                return Err(raise::restore(exception));
            }
            let report = import("antiphon.reports", "protocol_failed")?;
            let owner = self.pipe_owner_object();
            let protocol = self.pipe_protocol().unwrap_or_else(Owned::none);
            call(&report, [owner, &self.owned(), &protocol, &Owned::str(name)?, &exception])?;
        }
        Ok(())
    }

    /// Ends the transport because of a system call; `report` of `antiphon.reports` decides who is told.
    #[cold]
    pub fn pipe_failed(&self, report: &str, message: &str, error: &io::Error) -> Result<()> {
        self.fail_pipe(report, message, raise::os_error_object(error))
    }

    fn fail_pipe(&self, report: &str, message: &str, exception: Owned) -> Result<()> {
        let protocol = self.pipe_protocol().unwrap_or_else(Owned::none);
        let report = import("antiphon.reports", report)?;
        let owner = self.pipe_owner_object();
        let reported = call(&report, [owner, &self.owned(), &protocol, &Owned::str(message)?, &exception]);
        self.end_pipe(Some(exception));
        reported.map(|_| ())
    }

    /// In debug mode, logs an event of this transport by a function of `antiphon.reports`.
    pub fn log_pipe(&self, report: &str, message: &str) -> Result<()> {
        if self.pipe_owner().debug() {
            call(&import("antiphon.reports", report)?, [&Owned::str(message)?, &self.owned()])?;
        }
        Ok(())
    }

    /// `repr`; `queued_bytes` for ends that write.
    pub fn pipe_repr(&self, direction: Direction, queued_bytes: Option<usize>) -> Result {
        let (fd, owner, this) = (self.pipe_fd(), self.pipe_owner(), self.as_ptr());
        let polling = fd >= 0 && owner.with_core(|core| core.io.waits(fd, direction, this)).unwrap_or(false);
        let queued = match queued_bytes {
            Some(bytes) => Owned::int(bytes as i64)?,
            None => Owned::none(),
        };
        let (closing, polling) = (Owned::bool(is(&self.end().closing)), Owned::bool(polling));
        let values = [&self.owned(), &Owned::int(fd.into())?, &closing, &polling, &queued];
        reports::describe("pipe_repr", values, "<pipe transport>")
    }
}

/// `get_protocol()`.
pub fn get_protocol<T: PipeTransport>(this: &Instance<T>) -> Result {
    Ok(this.pipe_protocol().unwrap_or_else(Owned::none))
}

/// `set_protocol(protocol)`.
pub fn set_protocol<T: PipeTransport>(this: &Instance<T>, protocol: &Owned) -> Result {
    drop(this.end().protocol.replace(Some(protocol.clone())));
    Ok(Owned::none())
}

/// `is_closing()`.
pub fn is_closing<T: PipeTransport>(this: &Instance<T>) -> Result {
    Ok(Owned::bool(is(&this.end().closing)))
}

/// `_loop`.
pub fn get_loop<T: PipeTransport>(this: &Instance<T>) -> Result {
    Ok(this.pipe_owner_object().clone())
}

/// `get_extra_info(name, default=None)`.
pub fn get_extra_info<T: PipeTransport>(this: &Instance<T>, args: Args<'_>) -> Result {
    let [name, default] = args.bind([&names().name, &names().default], 1)?;
    let (Some(extra), Some(name)) = (this.end().extra.get(), name) else {
        return Ok(Owned::none());
    };
    // SAFETY: F1; a dict of ours and arguments of this call; gives a borrowed reference or null.
    unsafe {
        let found = ffi::PyDict_GetItemWithError(extra.as_ptr(), name);
        if !found.is_null() {
            return Ok(Owned::from_borrowed(found));
        }
        if !ffi::PyErr_Occurred().is_null() {
            return Err(Raised);
        }
        Ok(default.map_or_else(Owned::none, |default| Owned::from_borrowed(default)))
    }
}

unsafe extern "C" fn traverse<T: PipeTransport>(
    object: *mut ffi::PyObject,
    visit: ffi::visitproc,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: F2, with the collector's own visitor.
    unsafe {
        let this = Instance::<T>::from_ptr(object);
        let end = this.end();
        let places = [&end.file, &end.protocol, &end.extra, &end.waiter, &end.loss];
        let optional = places.map(|place| place.with(|object| object.as_ref().map(Owned::as_ptr)));
        let dictionary = Some(this.dictionary()).filter(|dictionary| !dictionary.is_null());
        let fixed = [ffi::Py_TYPE(object).cast(), end.owner.as_ptr(), end.context.as_ptr()];
        for reference in fixed.into_iter().chain(optional.into_iter().flatten()).chain(dictionary) {
            let status = visit(reference, arg);
            if status != 0 {
                return status;
            }
        }
        this.traverse_rest(&mut |reference| visit(reference.as_ptr(), arg))
    }
}

unsafe extern "C" fn clear<T: PipeTransport>(object: *mut ffi::PyObject) -> c_int {
    // SAFETY: F2.
    let this = unsafe { Instance::<T>::from_ptr(object) };
    let end = this.end();
    drop((end.protocol.take(), end.waiter.take(), end.extra.take(), end.loss.take()));
    this.clear_rest();
    0
}

/// A transport that nobody closed: warns and closes, as asyncio's `__del__` does. Nothing waits for it any more: what
/// waits keeps its transport alive.
unsafe extern "C" fn finalize<T: PipeTransport>(object: *mut ffi::PyObject) {
    // SAFETY: F2.
    let this = unsafe { Instance::<T>::from_ptr(object) };
    if this.pipe_fd() < 0 {
        return;
    }
    let pending = raise::take();
    reports::tell("antiphon.reports", "unclosed_transport", &this.owned());
    this.close_file();
    if let Some(pending) = pending {
        raise::restore(pending);
    }
}

unsafe extern "C" fn dealloc<T: PipeTransport>(object: *mut ffi::PyObject) {
    // SAFETY: the object is unreachable; a finalizer that makes it reachable again ends this.
    unsafe {
        if ffi::PyObject_CallFinalizerFromDealloc(object) < 0 {
            return;
        }
        ffi::PyObject_GC_UnTrack(object.cast());
        let kind = ffi::Py_TYPE(object);
        Instance::<T>::finish(object);
        ffi::PyObject_GC_Del(object.cast());
        ffi::Py_DECREF(kind.cast());
    }
}

/// The part of a pipe transport's type that both ends have: `common_type!(payload, c"dotted.name")`. A macro, since the
/// functions that the interpreter calls cannot be generic.
macro_rules! common_type {
    ($payload:ty, $name:literal) => {
        $crate::pipe::end::with_slots::<$payload>($name)
            .method_noargs(
                c"get_protocol",
                $crate::method_noargs!($crate::pipe::end::get_protocol::<$payload>),
                c"The protocol.",
            )
            .method_one(
                c"set_protocol",
                $crate::method_one!($crate::pipe::end::set_protocol::<$payload>),
                c"Hand the pipe to another protocol.",
            )
            .method_noargs(
                c"is_closing",
                $crate::method_noargs!($crate::pipe::end::is_closing::<$payload>),
                c"Whether it is closed or about to be.",
            )
            .method(
                c"get_extra_info",
                $crate::method!(c"get_extra_info", $crate::pipe::end::get_extra_info::<$payload>),
                c"get_extra_info(name, default=None): 'pipe' and what the maker added.",
            )
            .attribute(c"_loop", $crate::getter!($crate::pipe::end::get_loop::<$payload>), None, c"The loop.")
    };
}
pub(crate) use common_type;

/// The slots of both types.
pub fn with_slots<T: PipeTransport>(name: &'static CStr) -> HeapType {
    HeapType::new(name, Instance::<T>::SIZE)
        .collected()
        .no_constructor()
        .slot(ffi::Py_tp_traverse, traverse::<T> as *mut c_void)
        .slot(ffi::Py_tp_clear, clear::<T> as *mut c_void)
        .slot(ffi::Py_tp_finalize, finalize::<T> as *mut c_void)
        .slot(ffi::Py_tp_dealloc, dealloc::<T> as *mut c_void)
        .weak_references(Instance::<T>::WEAKREF_OFFSET)
        .dictionary(Instance::<T>::DICT_OFFSET)
}
