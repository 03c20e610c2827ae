//! `Listener`: accepts connections for a server and makes their transports.
//!
//! Accepting is native to the end: a connection costs one accept4(2), the user's factory, and the transport; the Python
//! socket object is made only if somebody asks for it.
//!
//! Source: CPython Lib/asyncio/selector_events.py (`_accept_connection`).

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::RawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use pyo3::ffi;

use super::identity::evict_if_lost;
use super::stream::{self, Parts};
use crate::event_loop::EventLoop;
use crate::event_loop::watch::descriptor;
use crate::ffi::raise::{self, os_error_object, type_error};
use crate::ffi::{
    Args, GilCell, HeapType, Instance, Owned, Payload, Raised, Result, call, call_method, check,
};
use crate::io_table::{Direction, Mode};
use crate::names::{import, names};
use crate::sockaddr::{self, Address, set_option};
use crate::work::{Kind, Work};

/// The payload of `Listener`.
pub struct Listener {
    owner: Owned,
    socket: Owned,
    fd: RawFd,
    family: i32,
    backlog: usize,
    factory: GilCell<Option<Owned>>,
    server: GilCell<Option<Owned>>,
    /// Gives the layer (TLS) that goes between a connection and its protocol, if there is to be one.
    wrapper: GilCell<Option<Owned>>,
    context: Owned,
    stopped: AtomicBool,
    /// How many connections the next event may bring; follows what the last ones brought.
    batch: AtomicUsize,
    /// The address that every accepted connection has on this side, unless the listener is bound to all addresses.
    local: Option<Address>,
}

static LISTENER: OnceLock<usize> = OnceLock::new();

impl Payload for Listener {
    type BaseSlots = ();
    type Dictionary = ();
    const COLLECTED: bool = true;
    #[inline(always)]
    fn type_object() -> *mut ffi::PyTypeObject {
        LISTENER.get().map_or(std::ptr::null_mut(), |address| *address as *mut ffi::PyTypeObject)
    }
}

/// Where an accept failed.
enum Failure {
    /// Nobody waits, or who waited has gone.
    Nobody,
    /// Out of descriptors or memory: accepting again at once would spin.
    Exhausted(io::Error),
    /// Anything else.
    Other(io::Error),
}

fn accept(fd: RawFd) -> std::result::Result<(RawFd, Address), Failure> {
    loop {
        let (accepted, peer) = Address::fill(|storage, length| {
            // SAFETY: the pointers belong to the address that is being filled.
            unsafe { sockaddr::accept(fd, storage, length) }
        });
        if accepted >= 0 {
            return Ok((accepted, peer));
        }
        let error = io::Error::last_os_error();
        return Err(match error.raw_os_error().unwrap_or(0) {
            libc::EINTR => continue,
            libc::EAGAIN | libc::ECONNABORTED => Failure::Nobody,
            libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM => Failure::Exhausted(error),
            _ => Failure::Other(error),
        });
    }
}

impl Instance<Listener> {
    fn owner(&self) -> &Instance<EventLoop> {
        // SAFETY: listeners are made by loops only, for themselves.
        unsafe { Instance::from_ptr(self.owner.as_ptr()) }
    }

    fn start(&self) -> Result<()> {
        let work = Work::new(Kind::Readable, self.owned());
        self.owner().watch(self.fd, Direction::Read, Mode::Persistent, work)
    }

    fn stop(&self) {
        if !self.stopped.swap(true, Ordering::Relaxed) {
            self.owner().unwatch(self.fd, Direction::Read);
        }
    }

    /// Accepts what waits, up to the backlog, so that one listener cannot keep the loop.
    ///
    /// Asking once more than there are connections costs a system call each time. The driver is level-triggered, so it is
    /// enough to ask as often as it was worth the last time, and twice as often after a batch that was full.
    pub fn on_readable(&self) -> Result<()> {
        let batch = self.batch.load(Ordering::Relaxed);
        let mut accepted = 0;
        while accepted < batch && !self.stopped.load(Ordering::Relaxed) {
            match accept(self.fd) {
                Ok((fd, peer)) => self.accepted(fd, peer)?,
                Err(Failure::Nobody) => break,
                Err(Failure::Exhausted(error)) => return self.pause(&error),
                Err(Failure::Other(error)) => {
                    let report = import("antiphon.reports", "accept_failed")?;
                    call(&report, [&self.owner, &self.socket, &os_error_object(&error)])?;
                    break;
                }
            }
            accepted += 1;
        }
        let next = if accepted < batch { accepted.max(1) } else { batch.saturating_mul(2) };
        self.batch.store(next.min(self.backlog.saturating_add(1)), Ordering::Relaxed);
        Ok(())
    }

    /// Out of resources: says so, and tries again in a second.
    #[cold]
    fn pause(&self, error: &io::Error) -> Result<()> {
        self.owner().unwatch(self.fd, Direction::Read);
        let report = import("antiphon.reports", "accept_exhausted")?;
        call(&report, [&self.owner, &self.owned(), &self.socket, &os_error_object(error)])?;
        Ok(())
    }

    fn accepted(&self, fd: RawFd, peer: Address) -> Result<()> {
        match self.connect(fd, peer) {
            Ok(()) => Ok(()),
            Err(Raised) => {
                let Some(exception) = raise::take() else {
                    return Ok(());
                };
                if raise::leaves_loop(&exception) {
                    return Err(raise::restore(exception));
                }
                let report = import("antiphon.reports", "connection_failed")?;
                call(&report, [&self.owner, &exception])?;
                Ok(())
            }
        }
    }

    fn connect(&self, fd: RawFd, peer: Address) -> Result<()> {
        let mut descriptor = Descriptor(fd);
        let (Some(factory), server) = (self.factory.get(), self.server.get()) else {
            return Ok(());
        };
        // SAFETY: F1; a new reference or null.
        let context = unsafe { Owned::from_new(ffi::PyContext_Copy(self.context.as_ptr()))? };
        let protocol = {
            let _entered = Entered::new(&context)?;
            let protocol = call(&factory, [])?;
            match self.wrapper.get() {
                Some(wrapper) => call(&wrapper, [&self.owner, &protocol])?,
                None => protocol,
            }
        };
        let parts = Parts {
            fd,
            family: self.family,
            socket: None,
            peer: Some(peer),
            local: self.local.clone(),
            protocol,
            waiter: None,
            extra: None,
            server,
            context,
        };
        stream::open(self.owner(), parts)?;
        descriptor.0 = -1;
        Ok(())
    }
}

/// A context that is left again when this goes.
struct Entered<'a>(&'a Owned);

impl<'a> Entered<'a> {
    fn new(context: &'a Owned) -> Result<Self> {
        // SAFETY: F1; a context object.
        check(unsafe { ffi::PyContext_Enter(context.as_ptr()) })?;
        Ok(Self(context))
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        // SAFETY: F1; entered above, on this thread. It can only fail if somebody else left it, which has no remedy.
        unsafe { ffi::PyContext_Exit(self.0.as_ptr()) };
    }
}

/// An accepted descriptor that is closed unless somebody took it over.
struct Descriptor(RawFd);

impl Drop for Descriptor {
    fn drop(&mut self) {
        if self.0 >= 0 {
            // SAFETY: nobody else knows the descriptor.
            unsafe { libc::close(self.0) };
        }
    }
}

/// `_start_serving(sock, protocol_factory, server, backlog, wrapper)`.
pub fn start_accepting(this: &Instance<EventLoop>, args: Args<'_>) -> Result {
    let [socket, factory, server, backlog, wrapper] = match args.positional() {
        [socket, factory, server, backlog, wrapper] => [*socket, *factory, *server, *backlog, *wrapper],
        _ => return Err(type_error("_start_serving() takes 5 arguments")),
    };
    this.check_open()?;
    // SAFETY: F1; the arguments are alive during the call.
    let listener = unsafe {
        let socket = Owned::from_borrowed(socket);
        let fd = descriptor(&socket)?;
        let backlog = ffi::PyLong_AsSsize_t(backlog);
        if backlog == -1 && !ffi::PyErr_Occurred().is_null() {
            return Err(Raised);
        }
        let address = Address::local(fd).ok();
        if matches!(address.as_ref().map(Address::family), Some(libc::AF_INET | libc::AF_INET6)) {
            // Accepted sockets inherit it: one system call here instead of one a connection.
            let _ = set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1);
        }
        Instance::create(Listener {
            owner: this.owned(),
            socket,
            fd,
            family: address.as_ref().map_or(libc::AF_UNSPEC, Address::family),
            backlog: usize::try_from(backlog).unwrap_or(0),
            factory: GilCell::new(Some(Owned::from_borrowed(factory))),
            server: GilCell::new(Owned::from_optional(server)),
            wrapper: GilCell::new(Owned::from_optional(wrapper)),
            context: Owned::from_new(ffi::PyContext_CopyCurrent())?,
            stopped: AtomicBool::new(false),
            batch: AtomicUsize::new(1),
            local: address.filter(|address| !address.is_wildcard()),
        })?
    };
    // SAFETY: just made with this payload.
    let listening = unsafe { Instance::<Listener>::from_ptr(listener.as_ptr()) };
    evict_if_lost(this, listening.fd);
    listening.start()?;
    Ok(listener)
}

/// `_stop_serving(sock)`: whoever listens there stops. A socket that was closed by its number lets go of it: the server,
/// which is about to close it, would close somebody else's (C2).
pub fn stop_accepting(this: &Instance<EventLoop>, socket: &Owned) -> Result {
    let Ok(fd) = descriptor(socket) else {
        drop(raise::take());
        return Ok(Owned::none());
    };
    let usurper = this.with_core(|core| core.io.transport(fd)).flatten();
    if usurper.is_some() || evict_if_lost(this, fd) {
        return call_method(socket, &names().detach, []);
    }
    let waiting = this.with_core(|core| core.io.waiting(fd, Direction::Read)).flatten();
    if let Some(object) = waiting
        && let Some(listener) = Instance::<Listener>::downcast(&object)
    {
        listener.stop();
    }
    Ok(Owned::none())
}

fn resume(this: &Instance<Listener>) -> Result {
    if !this.stopped.load(Ordering::Relaxed) && !this.owner().is_closed() {
        // The number may have become a transport's meanwhile, if somebody has closed the socket.
        this.owner().check_no_transport(this.fd)?;
        this.start()?;
    }
    Ok(Owned::none())
}

unsafe extern "C" fn traverse(object: *mut ffi::PyObject, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: F2, with the collector's own visitor.
    unsafe {
        let this = Instance::<Listener>::from_ptr(object);
        let places = [&this.factory, &this.server, &this.wrapper];
        let optional = places.map(|place| place.with(|object| object.as_ref().map(Owned::as_ptr)));
        let fixed =
            [ffi::Py_TYPE(object).cast(), this.owner.as_ptr(), this.socket.as_ptr(), this.context.as_ptr()];
        for reference in fixed.into_iter().chain(optional.into_iter().flatten()) {
            let status = visit(reference, arg);
            if status != 0 {
                return status;
            }
        }
        0
    }
}

unsafe extern "C" fn clear(object: *mut ffi::PyObject) -> c_int {
    // SAFETY: F2.
    let this = unsafe { Instance::<Listener>::from_ptr(object) };
    drop((this.factory.take(), this.server.take(), this.wrapper.take()));
    0
}

unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: the object is unreachable.
    unsafe {
        ffi::PyObject_GC_UnTrack(object.cast());
        let kind = ffi::Py_TYPE(object);
        Instance::<Listener>::finish(object);
        ffi::PyObject_GC_Del(object.cast());
        ffi::Py_DECREF(kind.cast());
    }
}

/// Makes the type.
pub fn load(module: &Owned) -> Result<()> {
    if Listener::type_object().is_null() {
        let built = HeapType::new(c"antiphon._antiphon.Listener", Instance::<Listener>::SIZE)
            .collected()
            .no_constructor()
            .doc(c"Accepts connections for a server; made by the loop.")
            .slot(ffi::Py_tp_traverse, traverse as *mut c_void)
            .slot(ffi::Py_tp_clear, clear as *mut c_void)
            .slot(ffi::Py_tp_dealloc, dealloc as *mut c_void)
            .method_noargs(
                c"resume",
                crate::method_noargs!(resume),
                c"Accept again after running out of resources.",
            )
            .weak_references(Instance::<Listener>::WEAKREF_OFFSET)
            .build(None, Instance::<Listener>::PAYLOAD_OFFSET)?;
        let _ = LISTENER.set(built as usize);
    }
    crate::add_type(module, c"Listener", Listener::type_object())
}
