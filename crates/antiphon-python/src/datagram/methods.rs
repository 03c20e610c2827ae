//! `DatagramTransport` as Python sees it: methods, `get_extra_info`, `repr`, and the type's slots.
//!
//! Source: asyncio documentation, "Transports".

use std::ffi::{c_int, c_void};

use pyo3::ffi;

use super::transport::{Datagram, set_type};
use crate::ffi::raise;
use crate::ffi::{Args, HeapType, Instance, Owned, Payload, Raised, Result, call};
use crate::io_table::Direction;
use crate::names::{import, names};
use crate::transport::stream::{is, set};
use crate::work::{Kind, Work};
use crate::{getter, method, method_noargs, method_one, reports, unary_slot};

fn none(outcome: Result<()>) -> Result {
    outcome.map(|()| Owned::none())
}

#[inline]
fn send_to(this: &Instance<Datagram>, args: Args<'_>) -> Result {
    let names = names();
    let [data, address] = args.bind([&names.data, &names.addr], 1)?;
    // SAFETY: the arguments are alive during the call.
    let (data, address) = unsafe {
        (
            data.map(|data| Owned::from_borrowed(data)),
            address.and_then(|address| Owned::from_optional(address)),
        )
    };
    none(this.send_to(&data.ok_or(Raised)?, address.as_ref()))
}

fn abort(this: &Instance<Datagram>) -> Result {
    none(this.abort())
}

fn close(this: &Instance<Datagram>) -> Result {
    none(this.close())
}

fn is_closing(this: &Instance<Datagram>) -> Result {
    Ok(Owned::bool(is(&this.flags.closing)))
}

fn is_reading(this: &Instance<Datagram>) -> Result {
    Ok(Owned::bool(!is(&this.flags.closing) && !is(&this.flags.paused)))
}

fn pause_reading(this: &Instance<Datagram>) -> Result {
    if !is(&this.flags.closing) && !is(&this.flags.paused) {
        set(&this.flags.paused, true);
        this.stop_reading();
        log(this, "%r pauses reading")?;
    }
    Ok(Owned::none())
}

fn resume_reading(this: &Instance<Datagram>) -> Result {
    if !is(&this.flags.closing) && is(&this.flags.paused) {
        set(&this.flags.paused, false);
        if is(&this.flags.begun) {
            this.start_reading()?;
        }
        if !this.inbound.with(|inbound| inbound.is_empty()) {
            this.owner_loop().push(Work::new(Kind::Flush, this.owned()));
        }
        log(this, "%r resumes reading")?;
    }
    Ok(Owned::none())
}

fn log(this: &Instance<Datagram>, message: &str) -> Result<()> {
    if this.owner_loop().debug() {
        call(&import("antiphon.reports", "log")?, [&Owned::str(message)?, &this.owned()])?;
    }
    Ok(())
}

fn get_write_buffer_size(this: &Instance<Datagram>) -> Result {
    // As if every datagram had been handed to the kernel at once.
    this.flush()?;
    Owned::int(this.outbound.with(|outbound| outbound.len_bytes()) as i64)
}

fn get_write_buffer_limits(this: &Instance<Datagram>) -> Result {
    this.flow.limits()
}

fn set_write_buffer_limits(this: &Instance<Datagram>, args: Args<'_>) -> Result {
    this.flow.set_limits(args)?;
    none(this.maybe_pause_protocol())
}

fn get_protocol(this: &Instance<Datagram>) -> Result {
    Ok(this.protocol().unwrap_or_else(Owned::none))
}

fn set_protocol(this: &Instance<Datagram>, protocol: &Owned) -> Result {
    this.set_protocol(protocol.clone());
    Ok(Owned::none())
}

fn get_loop(this: &Instance<Datagram>) -> Result {
    Ok(this.owner.clone())
}

fn get_socket(this: &Instance<Datagram>) -> Result {
    Ok(this.socket().unwrap_or_else(Owned::none))
}

/// `get_extra_info(name, default=None)`.
fn get_extra_info(this: &Instance<Datagram>, args: Args<'_>) -> Result {
    let names = names();
    let [name, default] = args.bind([&names.name, &names.default], 1)?;
    // SAFETY: F1; the arguments are alive during the call; the dict gives a borrowed reference or null.
    unsafe {
        let found = ffi::PyDict_GetItemWithError(this.extra.as_ptr(), name.ok_or(Raised)?);
        if !found.is_null() {
            return Ok(Owned::from_borrowed(found));
        }
        if !ffi::PyErr_Occurred().is_null() {
            return Err(Raised);
        }
        Ok(default.map_or_else(Owned::none, |default| Owned::from_borrowed(default)))
    }
}

fn repr(this: &Instance<Datagram>) -> Result {
    let fd = this.watched();
    let watched = |direction| {
        let found = this.owner_loop().with_core(|core| core.io.is_watched(fd, direction));
        Owned::bool(this.is_registered() && found.unwrap_or(false))
    };
    let queued = Owned::int(this.outbound.with(|outbound| outbound.len_bytes()) as i64)?;
    let closing = Owned::bool(is(&this.flags.closing));
    let (read, write) = (watched(Direction::Read), watched(Direction::Write));
    let values = [&this.owned(), &Owned::int(fd.into())?, &closing, &read, &write, &queued];
    reports::describe("transport_repr", values, "<DatagramTransport>")
}

unsafe extern "C" fn traverse(object: *mut ffi::PyObject, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: F2, with the collector's own visitor.
    unsafe {
        let status = visit(ffi::Py_TYPE(object).cast(), arg);
        if status != 0 { status } else { Instance::<Datagram>::from_ptr(object).traverse(visit, arg) }
    }
}

unsafe extern "C" fn clear(object: *mut ffi::PyObject) -> c_int {
    // SAFETY: F2.
    unsafe { Instance::<Datagram>::from_ptr(object) }.clear();
    0
}

/// A transport that nobody closed: warns and closes, as asyncio's `__del__` does.
unsafe extern "C" fn finalize(object: *mut ffi::PyObject) {
    // SAFETY: F2.
    let this = unsafe { Instance::<Datagram>::from_ptr(object) };
    if this.watched() < 0 {
        return;
    }
    let pending = raise::take();
    reports::tell("antiphon.reports", "unclosed_transport", &this.owned());
    if this.owner_loop().with_core(|_| ()).is_some() {
        this.release();
        this.close_socket();
    } else {
        // Another thread drives the loop, and the table is its: it closes this, which lives until then.
        this.drop_protocol();
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
        Instance::<Datagram>::finish(object);
        ffi::PyObject_GC_Del(object.cast());
        ffi::Py_DECREF(kind.cast());
    }
}

fn transport_type() -> HeapType {
    HeapType::new(c"antiphon._antiphon.DatagramTransport", Instance::<Datagram>::SIZE)
        .collected()
        .no_constructor()
        .doc(c"A datagram socket; made by the loop.")
        .slot(ffi::Py_tp_traverse, traverse as *mut c_void)
        .slot(ffi::Py_tp_clear, clear as *mut c_void)
        .slot(ffi::Py_tp_finalize, finalize as *mut c_void)
        .slot(ffi::Py_tp_dealloc, dealloc as *mut c_void)
        .slot(ffi::Py_tp_repr, unary_slot!(repr))
        .weak_references(Instance::<Datagram>::WEAKREF_OFFSET)
        .dictionary(Instance::<Datagram>::DICT_OFFSET)
        .method(
            c"sendto",
            method!(c"sendto", send_to),
            c"sendto(data, addr=None): send a datagram, to the transport's own address if it has one.",
        )
        .method_noargs(c"abort", method_noargs!(abort), c"Close at once; queued datagrams are lost.")
        .method_noargs(c"close", method_noargs!(close), c"Close once queued datagrams are sent.")
        .method_noargs(c"is_closing", method_noargs!(is_closing), c"Whether it is closed or about to be.")
        .method_noargs(c"is_reading", method_noargs!(is_reading), c"Whether datagrams are being received.")
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
        .method_noargs(
            c"get_write_buffer_size",
            method_noargs!(get_write_buffer_size),
            c"Bytes not yet sent; from Python 3.13 on, eight for each datagram beside its own.",
        )
        .method_noargs(c"get_protocol", method_noargs!(get_protocol), c"The protocol.")
        .method_one(c"set_protocol", method_one!(set_protocol), c"Hand the socket to another protocol.")
        .method(
            c"get_extra_info",
            method!(c"get_extra_info", get_extra_info),
            c"get_extra_info(name, default=None): 'socket', 'sockname', 'peername' and what the maker added.",
        )
        .attribute(c"_loop", getter!(get_loop), None, c"The loop.")
        .attribute(c"_sock", getter!(get_socket), None, c"The socket, None once it is closed.")
}

/// Makes the type and adds it to the module.
pub fn load(module: &Owned) -> Result<()> {
    if Datagram::type_object().is_null() {
        // asyncio's datagram transports are both.
        let bases =
            Owned::tuple([names().transport_class.clone(), names().datagram_transport_class.clone()])?;
        set_type(transport_type().build(Some(&bases), Instance::<Datagram>::PAYLOAD_OFFSET)?);
    }
    crate::add_type(module, c"DatagramTransport", Datagram::type_object())
}
