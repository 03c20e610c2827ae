//! `StreamTransport` as Python sees it: methods, `get_extra_info`, `repr`, and the type's slots.
//!
//! Source: asyncio documentation, "Transports".

use std::ffi::{c_int, c_void};

use pyo3::ffi;

use super::protocol::Protocol;
use super::stream::{Stream, is, set, set_type};
use crate::ffi::raise;
use crate::ffi::{
    Args, HeapType, Instance, Owned, Payload, Raised, Result, call, call::call_with_keywords, call_method,
};
use crate::io_table::Direction;
use crate::names::{import, intern, names};
use crate::sockaddr::{Address, option};
use crate::{getter, method, method_noargs, method_one, reports, unary_slot};

fn none(outcome: Result<()>) -> Result {
    outcome.map(|()| Owned::none())
}

fn write(this: &Instance<Stream>, data: &Owned) -> Result {
    none(this.write(data))
}

fn writelines(this: &Instance<Stream>, chunks: &Owned) -> Result {
    none(this.writelines(chunks))
}

fn write_eof(this: &Instance<Stream>) -> Result {
    none(this.write_eof())
}

fn can_write_eof(_: &Instance<Stream>) -> Result {
    Ok(Owned::bool(true))
}

fn abort(this: &Instance<Stream>) -> Result {
    this.force_close(None);
    Ok(Owned::none())
}

fn force_close(this: &Instance<Stream>, exception: &Owned) -> Result {
    this.force_close(if exception.is_none() { None } else { Some(exception.clone()) });
    Ok(Owned::none())
}

fn close(this: &Instance<Stream>) -> Result {
    none(this.close())
}

fn is_closing(this: &Instance<Stream>) -> Result {
    Ok(Owned::bool(is(&this.flags.closing)))
}

fn is_reading(this: &Instance<Stream>) -> Result {
    Ok(Owned::bool(!is(&this.flags.closing) && !is(&this.flags.paused)))
}

/// `pause_reading()`.
pub fn pause_reading(this: &Instance<Stream>) -> Result {
    if !is(&this.flags.closing) && !is(&this.flags.paused) {
        set(&this.flags.paused, true);
        this.stop_reading();
        log(this, "%r pauses reading")?;
    }
    Ok(Owned::none())
}

/// `resume_reading()`.
pub fn resume_reading(this: &Instance<Stream>) -> Result {
    if !is(&this.flags.closing) && is(&this.flags.paused) {
        set(&this.flags.paused, false);
        if is(&this.flags.connected) && !is(&this.flags.eof_received) {
            this.start_reading()?;
        }
        log(this, "%r resumes reading")?;
    }
    Ok(Owned::none())
}

fn log(this: &Instance<Stream>, message: &str) -> Result<()> {
    if this.owner().debug() {
        call(&import("antiphon.reports", "log")?, [&Owned::str(message)?, &this.owned()])?;
    }
    Ok(())
}

fn get_write_buffer_size(this: &Instance<Stream>) -> Result {
    Owned::int(this.write_buffer_size()? as i64)
}

fn get_write_buffer_limits(this: &Instance<Stream>) -> Result {
    this.flow.limits()
}

fn set_write_buffer_limits(this: &Instance<Stream>, args: Args<'_>) -> Result {
    none(this.set_limits(args))
}

fn get_protocol(this: &Instance<Stream>) -> Result {
    Ok(this.protocol_object().unwrap_or_else(Owned::none))
}

fn set_protocol(this: &Instance<Stream>, protocol: &Owned) -> Result {
    this.set_protocol(Protocol::new(protocol.clone())?);
    Ok(Owned::none())
}

fn start_tls_compatible(_: &Instance<Stream>) -> Result {
    Ok(Owned::bool(true))
}

fn protocol_paused(this: &Instance<Stream>) -> Result {
    Ok(Owned::bool(this.flow.is_paused()))
}

fn lend(this: &Instance<Stream>, future: &Owned) -> Result {
    none(this.lend(future))
}

fn wait_writable(this: &Instance<Stream>, future: &Owned) -> Result {
    none(this.wait_writable(future))
}

fn take_back(this: &Instance<Stream>) -> Result {
    this.take_back();
    Ok(Owned::none())
}

fn get_loop(this: &Instance<Stream>) -> Result {
    Ok(this.owner_object().clone())
}

/// `get_extra_info(name, default=None)`. Addresses and the socket object are made when asked for.
fn get_extra_info(this: &Instance<Stream>, args: Args<'_>) -> Result {
    let names = names();
    let [name, default] = args.bind([&names.name, &names.default], 1)?;
    // SAFETY: the arguments are alive during the call.
    let (name, default) = unsafe {
        (name.map(|name| Owned::from_borrowed(name)), default.map(|default| Owned::from_borrowed(default)))
    };
    let name = name.ok_or(Raised)?;
    if let Some(extra) = this.extra.get() {
        // SAFETY: F1; a dict made by us or given as one; gives a borrowed reference or null.
        let found = unsafe {
            let found = ffi::PyDict_GetItemWithError(extra.as_ptr(), name.as_ptr());
            if found.is_null() && !ffi::PyErr_Occurred().is_null() {
                return Err(Raised);
            }
            Owned::from_optional(found)
        };
        if let Some(found) = found {
            return Ok(found);
        }
    }
    let known = |text: &Owned| {
        // SAFETY: F1; comparing with a string; failure is no match.
        unsafe { ffi::PyObject_RichCompareBool(name.as_ptr(), text.as_ptr(), ffi::Py_EQ) == 1 }
    };
    let answer = if known(&names.peername) {
        shown(this, &this.peer)?
    } else if known(&names.sockname) {
        if this.local.with(|local| local.is_none()) && this.fd() >= 0 {
            let local = Address::local(this.fd()).ok().map(Box::new);
            drop(this.local.replace(local));
        }
        shown(this, &this.local)?
    } else if known(&names.socket) {
        let wrapped = transport_socket(this)?;
        remember(this, &names.socket, &wrapped)?;
        return Ok(wrapped);
    } else {
        return Ok(default.unwrap_or_else(Owned::none));
    };
    Ok(answer.unwrap_or_else(Owned::none))
}

fn shown(
    this: &Instance<Stream>,
    address: &crate::ffi::GilCell<Option<Box<Address>>>,
) -> Result<Option<Owned>> {
    let _ = this;
    match address.with(|address| address.as_ref().map(|address| (**address).clone())) {
        Some(address) => address.to_python(),
        None => Ok(None),
    }
}

fn remember(this: &Instance<Stream>, name: &Owned, value: &Owned) -> Result<()> {
    let extra = match this.extra.get() {
        Some(extra) => extra,
        None => {
            // SAFETY: F1; a new reference or null.
            let fresh = unsafe { Owned::from_new(ffi::PyDict_New())? };
            drop(this.extra.replace(Some(fresh.clone())));
            fresh
        }
    };
    // SAFETY: F1; a dict and two living objects.
    crate::ffi::check(unsafe { ffi::PyDict_SetItem(extra.as_ptr(), name.as_ptr(), value.as_ptr()) })?;
    Ok(())
}

/// The socket as Python knows it, made for an accepted connection now; `None` once it is closed.
fn socket(this: &Instance<Stream>) -> Result<Option<Owned>> {
    let fd = this.fd();
    if fd < 0 || this.socket.with(|socket| socket.is_some()) {
        return Ok(this.socket.get());
    }
    let kind = option(fd, libc::SOL_SOCKET, libc::SO_TYPE).unwrap_or(libc::SOCK_STREAM);
    let proto = option(fd, libc::SOL_SOCKET, libc::SO_PROTOCOL).unwrap_or(0);
    let made = python_socket(fd, this.family(), kind, proto)?;
    drop(this.socket.replace(Some(made.clone())));
    Ok(Some(made))
}

fn get_socket(this: &Instance<Stream>) -> Result {
    Ok(socket(this)?.unwrap_or_else(Owned::none))
}

/// The socket wrapped against being used behind the transport's back, as asyncio gives it.
fn transport_socket(this: &Instance<Stream>) -> Result {
    let socket = match socket(this)? {
        Some(socket) => socket,
        None => closed_socket(this)?,
    };
    call(&import("asyncio.trsock", "TransportSocket")?, [&socket])
}

/// What asyncio's transports still show after their end: a socket object that is closed.
fn closed_socket(this: &Instance<Stream>) -> Result {
    let family = Owned::int(this.family().into())?;
    let socket = call(&names().socket_class, [&family])?;
    call_method(&socket, &names().close, [])?;
    Ok(socket)
}

/// A Python socket that takes over `fd`.
pub fn python_socket(fd: i32, family: i32, kind: i32, proto: i32) -> Result {
    let numbers = [family, kind, proto, fd].map(|number| Owned::int(number.into()));
    let [family, kind, proto, fd] = numbers;
    let keywords = Owned::tuple([names().fileno.clone()])?;
    call_with_keywords(&names().socket_class, &[&family?, &kind?, &proto?, &fd?], Some(&keywords))
}

fn repr(this: &Instance<Stream>) -> Result {
    let fd = this.fd();
    let watched = |direction| {
        Owned::bool(
            fd >= 0 && this.owner().with_core(|core| core.io.is_watched(fd, direction)).unwrap_or(false),
        )
    };
    let queued = Owned::int(this.queue.with(|queue| queue.len_bytes()) as i64)?;
    let closing = Owned::bool(is(&this.flags.closing));
    let (read, write) = (watched(Direction::Read), watched(Direction::Write));
    let values = [&this.owned(), &Owned::int(fd.into())?, &closing, &read, &write, &queued];
    reports::describe("transport_repr", values, "<StreamTransport>")
}

unsafe extern "C" fn traverse(object: *mut ffi::PyObject, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: F2, with the collector's own visitor.
    unsafe {
        let status = visit(ffi::Py_TYPE(object).cast(), arg);
        if status != 0 { status } else { Instance::<Stream>::from_ptr(object).traverse(visit, arg) }
    }
}

unsafe extern "C" fn clear(object: *mut ffi::PyObject) -> c_int {
    // SAFETY: F2.
    unsafe { Instance::<Stream>::from_ptr(object) }.clear();
    0
}

/// A transport that nobody closed: warns and closes, as asyncio's `__del__` does.
unsafe extern "C" fn finalize(object: *mut ffi::PyObject) {
    // SAFETY: F2.
    let this = unsafe { Instance::<Stream>::from_ptr(object) };
    if this.fd() < 0 {
        return;
    }
    let pending = raise::take();
    reports::tell("antiphon.reports", "unclosed_transport", &this.owned());
    drop(this.protocol.take());
    if this.owner().with_core(|_| ()).is_some() {
        this.release();
        this.close_descriptor();
    } else {
        // Another thread drives the loop, and the table is its: it closes this, which lives until then.
        this.force_close(None);
    }
    if let Some(pending) = pending {
        raise::restore(pending);
    }
}

unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: the object is unreachable; a finalizer that makes it reachable again ends this.
    unsafe {
        if ffi::PyObject_CallFinalizerFromDealloc(object) < 0 {
            return;
        }
        ffi::PyObject_GC_UnTrack(object.cast());
        let kind = ffi::Py_TYPE(object);
        Instance::<Stream>::finish(object);
        ffi::PyObject_GC_Del(object.cast());
        ffi::Py_DECREF(kind.cast());
    }
}

/// Makes the type and adds it to the module.
pub fn load(module: &Owned) -> Result<()> {
    if Stream::type_object().is_null() {
        let made = HeapType::new(c"antiphon._antiphon.StreamTransport", Instance::<Stream>::SIZE)
            .collected()
            .no_constructor()
            .doc(c"A connected stream socket; made by the loop.")
            .slot(ffi::Py_tp_traverse, traverse as *mut c_void)
            .slot(ffi::Py_tp_clear, clear as *mut c_void)
            .slot(ffi::Py_tp_finalize, finalize as *mut c_void)
            .slot(ffi::Py_tp_dealloc, dealloc as *mut c_void)
            .slot(ffi::Py_tp_repr, unary_slot!(repr))
            .weak_references(Instance::<Stream>::WEAKREF_OFFSET)
            .dictionary(Instance::<Stream>::DICT_OFFSET)
            .method_one(c"write", method_one!(write), c"Queue bytes; they leave in order, at the latest next turn.")
            .method_one(c"writelines", method_one!(writelines), c"Queue several chunks of bytes.")
            .method_noargs(c"write_eof", method_noargs!(write_eof), c"End the sending half once all is sent.")
            .method_noargs(c"can_write_eof", method_noargs!(can_write_eof), c"True: sockets can half-close.")
            .method_noargs(c"abort", method_noargs!(abort), c"Close at once; queued data is lost.")
            .method_one(c"_force_close", method_one!(force_close), c"Close at once because of an exception.")
            .method_noargs(c"close", method_noargs!(close), c"Close once queued data is sent.")
            .method_noargs(c"is_closing", method_noargs!(is_closing), c"Whether it is closed or about to be.")
            .method_noargs(c"is_reading", method_noargs!(is_reading), c"Whether data is being received.")
            .method_noargs(c"pause_reading", method_noargs!(pause_reading), c"Receive nothing until resumed.")
            .method_noargs(c"resume_reading", method_noargs!(resume_reading), c"Receive again.")
            .method(
                c"set_write_buffer_limits",
                method!(c"set_write_buffer_limits", set_write_buffer_limits),
                c"set_write_buffer_limits(high=None, low=None): when the protocol is paused and resumed, in bytes.",
            )
            .method_noargs(
                c"get_write_buffer_limits",
                method_noargs!(get_write_buffer_limits),
                c"The limits (low, high) in bytes.",
            )
            .method_noargs(c"get_write_buffer_size", method_noargs!(get_write_buffer_size), c"Bytes not yet sent.")
            .method_noargs(c"get_protocol", method_noargs!(get_protocol), c"The protocol.")
            .method_one(c"set_protocol", method_one!(set_protocol), c"Hand the connection to another protocol.")
            .method(
                c"get_extra_info",
                method!(c"get_extra_info", get_extra_info),
                c"get_extra_info(name, default=None): 'socket', 'sockname', 'peername' and what the maker added.",
            )
            .method_one(c"_lend", method_one!(lend), c"Write nothing more; tell when all is sent.")
            .method_one(c"_wait_writable", method_one!(wait_writable), c"Tell the borrower when there is room.")
            .method_noargs(c"_take_back", method_noargs!(take_back), c"Write again.")
            .attribute(c"_protocol_paused", getter!(protocol_paused), None, c"Whether `pause_writing` was called.")
            .attribute(c"_sock", getter!(get_socket), None, c"The socket, None once it is closed.")
            .attribute(c"_loop", getter!(get_loop), None, c"The loop.")
            .attribute(
                c"_start_tls_compatible",
                getter!(start_tls_compatible),
                None,
                c"True: `loop.start_tls` can take the connection over.",
            );
        let built = made.build(Some(&names().transport_class), Instance::<Stream>::PAYLOAD_OFFSET)?;
        set_type(built);
        let _ = intern;
    }
    crate::add_type(module, c"StreamTransport", Stream::type_object())
}
