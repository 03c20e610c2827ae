//! `SSLTransport` as Python sees it: methods, attributes, and the type's slots.
//!
//! The methods with an underscore are for `antiphon.tls`: it begins an upgraded connection, and passes the calls of a
//! foreign transport below on.
//!
//! Source: asyncio documentation, "Transports".

use std::ffi::{c_int, c_void};

use pyo3::ffi;

use super::lower::Lower;
use super::transport::{Phase, Tls, set_type};
use crate::ffi::raise::{self, type_error};
use crate::ffi::{Args, HeapType, Instance, Owned, Payload, Raised, Result, call_method};
use crate::names::{import, names};
use crate::transport::protocol::Protocol;
use crate::transport::stream::{is, set};
use crate::{getter, method, method_noargs, method_one, reports, unary_slot};

fn none(outcome: Result<()>) -> Result {
    outcome.map(|()| Owned::none())
}

fn write(this: &Instance<Tls>, data: &Owned) -> Result {
    none(this.write(data))
}

fn writelines(this: &Instance<Tls>, chunks: &Owned) -> Result {
    none(this.writelines(chunks))
}

fn write_eof(_: &Instance<Tls>) -> Result {
    // SAFETY: the class is alive while the interpreter is.
    Err(raise::raise(unsafe { ffi::PyExc_NotImplementedError }, "TLS cannot end one direction alone"))
}

fn can_write_eof(_: &Instance<Tls>) -> Result {
    Ok(Owned::bool(false))
}

fn close(this: &Instance<Tls>) -> Result {
    none(this.close())
}

fn abort(this: &Instance<Tls>) -> Result {
    none(this.force_close(None))
}

fn force_close(this: &Instance<Tls>, exception: &Owned) -> Result {
    none(this.force_close(if exception.is_none() { None } else { Some(exception.clone()) }))
}

fn is_closing(this: &Instance<Tls>) -> Result {
    this.is_closing().map(Owned::bool)
}

fn is_reading(this: &Instance<Tls>) -> Result {
    Ok(Owned::bool(!is(&this.flags.reading_paused) && !this.is_closing()?))
}

fn pause_reading(this: &Instance<Tls>) -> Result {
    none(this.pause_reading())
}

fn resume_reading(this: &Instance<Tls>) -> Result {
    none(this.resume_reading())
}

fn set_write_buffer_limits(this: &Instance<Tls>, args: Args<'_>) -> Result {
    this.flow.set_limits(args)?;
    none(this.limits_changed())
}

fn get_write_buffer_limits(this: &Instance<Tls>) -> Result {
    this.flow.limits()
}

fn get_write_buffer_size(this: &Instance<Tls>) -> Result {
    // As if every write had tried the kernel at once.
    this.pump()?;
    Owned::int(this.unsent_bytes()? as i64)
}

fn set_read_buffer_limits(this: &Instance<Tls>, args: Args<'_>) -> Result {
    this.incoming.set_limits(args)?;
    none(this.control_lower_reading())
}

fn get_read_buffer_limits(this: &Instance<Tls>) -> Result {
    this.incoming.limits()
}

fn get_read_buffer_size(this: &Instance<Tls>) -> Result {
    Owned::int(this.records.with(|records| records.unread_bytes()) as i64)
}

fn get_protocol(this: &Instance<Tls>) -> Result {
    Ok(this.protocol_object().unwrap_or_else(Owned::none))
}

fn set_protocol(this: &Instance<Tls>, protocol: &Owned) -> Result {
    this.set_protocol(Protocol::new(protocol.clone())?);
    Ok(Owned::none())
}

/// `get_extra_info(name, default=None)`: what TLS knows, else what the transport below does.
fn get_extra_info(this: &Instance<Tls>, args: Args<'_>) -> Result {
    let [name, default] = args.bind([&names().name, &names().default], 1)?;
    // SAFETY: the arguments are alive during the call.
    let (name, default) = unsafe {
        let default = default.map_or_else(Owned::none, |default| Owned::from_borrowed(default));
        (name.map(|name| Owned::from_borrowed(name)).ok_or(Raised)?, default)
    };
    if let Some(extra) = this.extra.get() {
        // SAFETY: F1; a dict; gives a borrowed reference or null.
        unsafe {
            let found = ffi::PyDict_GetItemWithError(extra.as_ptr(), name.as_ptr());
            if !found.is_null() {
                return Ok(Owned::from_borrowed(found));
            }
            if !ffi::PyErr_Occurred().is_null() {
                return Err(Raised);
            }
        }
    }
    match this.lower() {
        Some(lower) => call_method(lower.object(), &names().get_extra_info, [&name, &default]),
        None => Ok(default),
    }
}

fn get_loop(this: &Instance<Tls>) -> Result {
    Ok(this.owner_object().clone())
}

fn get_true(_: &Instance<Tls>) -> Result {
    Ok(Owned::bool(true))
}

/// asyncio's answer for TLS: the file's bytes have to be encrypted, so the kernel cannot send them.
fn sendfile_compatible(_: &Instance<Tls>) -> Result {
    import("asyncio.constants", "_SendfileMode")?.attr(&crate::names::intern("FALLBACK")?)
}

fn protocol_paused(this: &Instance<Tls>) -> Result {
    Ok(Owned::bool(this.flow.is_paused()))
}

fn get_context(this: &Instance<Tls>) -> Result {
    this.session.object().attr(&names().context)
}

/// `_attach(transport)`: a transport of somebody else's is below.
fn attach(this: &Instance<Tls>, lower: &Owned) -> Result {
    this.attach(Lower::new(lower.clone()));
    Ok(Owned::none())
}

fn begin(this: &Instance<Tls>) -> Result {
    none(this.lower_made())
}

fn feed(this: &Instance<Tls>, data: &Owned) -> Result {
    // SAFETY: F1; a living object.
    if unsafe { ffi::PyBytes_CheckExact(data.as_ptr()) } == 0 {
        return Err(type_error("_feed() takes bytes"));
    }
    none(this.feed(crate::transport::queue::bytes_of(data)))
}

fn received(this: &Instance<Tls>) -> Result {
    none(this.received())
}

fn lower_ended(this: &Instance<Tls>) -> Result {
    this.lower_ended().map(Owned::bool)
}

fn lower_lost(this: &Instance<Tls>, exception: &Owned) -> Result {
    none(this.lower_lost(if exception.is_none() { None } else { Some(exception.clone()) }))
}

fn pause_lower(this: &Instance<Tls>) -> Result {
    set(&this.flags.lower_full, true);
    Ok(Owned::none())
}

fn resume_lower(this: &Instance<Tls>) -> Result {
    set(&this.flags.lower_full, false);
    none(this.pump())
}

fn on_timeout(this: &Instance<Tls>) -> Result {
    none(this.on_timeout())
}

fn repr(this: &Instance<Tls>) -> Result {
    let phase = Owned::str(match this.phase() {
        Phase::Fresh | Phase::Handshake => "handshake",
        Phase::Wrapped => "wrapped",
        Phase::Flushing => "flushing",
        Phase::Shutdown => "shutdown",
        Phase::Unwrapped => "closed",
    })?;
    let lower = this.lower().map_or_else(Owned::none, |lower| lower.object().clone());
    let queued = Owned::int(this.queue.with(|queue| queue.len_bytes()) as i64)?;
    reports::describe("tls_repr", [&this.owned(), &phase, &queued, &lower], "<SSLTransport>")
}

unsafe extern "C" fn traverse(object: *mut ffi::PyObject, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: F2, with the collector's own visitor.
    unsafe {
        let status = visit(ffi::Py_TYPE(object).cast(), arg);
        if status != 0 { status } else { Instance::<Tls>::from_ptr(object).traverse(visit, arg) }
    }
}

unsafe extern "C" fn clear(object: *mut ffi::PyObject) -> c_int {
    // SAFETY: F2.
    unsafe { Instance::<Tls>::from_ptr(object) }.clear();
    0
}

/// A transport that nobody closed: warns, as asyncio's does. The one below closes the connection; without one there is
/// nothing to close.
unsafe extern "C" fn finalize(object: *mut ffi::PyObject) {
    // SAFETY: F2.
    let this = unsafe { Instance::<Tls>::from_ptr(object) };
    if is(&this.flags.closed) || this.phase() == Phase::Fresh {
        return;
    }
    set(&this.flags.closed, true);
    let pending = raise::take();
    reports::tell("antiphon.reports", "unclosed_transport", &this.owned());
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
        Instance::<Tls>::finish(object);
        ffi::PyObject_GC_Del(object.cast());
        ffi::Py_DECREF(kind.cast());
    }
}

fn slots(kind: HeapType) -> HeapType {
    kind.collected()
        .no_constructor()
        .doc(c"TLS over another transport; made by the loop.")
        .slot(ffi::Py_tp_traverse, traverse as *mut c_void)
        .slot(ffi::Py_tp_clear, clear as *mut c_void)
        .slot(ffi::Py_tp_finalize, finalize as *mut c_void)
        .slot(ffi::Py_tp_dealloc, dealloc as *mut c_void)
        .slot(ffi::Py_tp_repr, unary_slot!(repr))
        .weak_references(Instance::<Tls>::WEAKREF_OFFSET)
        .dictionary(Instance::<Tls>::DICT_OFFSET)
}

fn writing(kind: HeapType) -> HeapType {
    kind.method_one(
        c"write",
        method_one!(write),
        c"Queue bytes; they leave in order, at the latest next turn.",
    )
    .method_one(c"writelines", method_one!(writelines), c"Queue several chunks of bytes.")
    .method_noargs(c"write_eof", method_noargs!(write_eof), c"TLS cannot: NotImplementedError.")
    .method_noargs(c"can_write_eof", method_noargs!(can_write_eof), c"False.")
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
    .attribute(
        c"_protocol_paused",
        getter!(protocol_paused),
        None,
        c"Whether pause_writing was called last.",
    )
}

fn reading(kind: HeapType) -> HeapType {
    kind.method_noargs(c"is_reading", method_noargs!(is_reading), c"Whether data is being received.")
        .method_noargs(c"pause_reading", method_noargs!(pause_reading), c"Deliver nothing until resumed.")
        .method_noargs(c"resume_reading", method_noargs!(resume_reading), c"Deliver again.")
        .method(
            c"set_read_buffer_limits",
            method!(c"set_read_buffer_limits", set_read_buffer_limits),
            c"set_read_buffer_limits(high=None, low=None): when the transport below is paused, in bytes.",
        )
        .method_noargs(
            c"get_read_buffer_limits",
            method_noargs!(get_read_buffer_limits),
            c"The limits (low, high) in bytes.",
        )
        .method_noargs(
            c"get_read_buffer_size",
            method_noargs!(get_read_buffer_size),
            c"Bytes received, not delivered.",
        )
}

fn life(kind: HeapType) -> HeapType {
    kind.method_noargs(c"close", method_noargs!(close), c"Say goodbye once queued data is sent, then close.")
        .method_noargs(c"abort", method_noargs!(abort), c"Close at once; queued data is lost.")
        .method_one(c"_force_close", method_one!(force_close), c"Close at once because of an exception.")
        .method_noargs(c"is_closing", method_noargs!(is_closing), c"Whether it is closed or about to be.")
        .method_noargs(c"get_protocol", method_noargs!(get_protocol), c"The protocol.")
        .method_one(c"set_protocol", method_one!(set_protocol), c"Hand the connection to another protocol.")
        .method(
            c"get_extra_info",
            method!(c"get_extra_info", get_extra_info),
            c"get_extra_info(name, default=None): 'ssl_object', 'peercert', ... and what the transport below answers.",
        )
        .attribute(c"_loop", getter!(get_loop), None, c"The loop.")
        .attribute(c"_sslcontext", getter!(get_context), None, c"The ssl.SSLContext.")
        .attribute(c"_start_tls_compatible", getter!(get_true), None, c"True: TLS within TLS is possible.")
        .attribute(c"_sendfile_compatible", getter!(sendfile_compatible), None, c"Files are read and encrypted.")
}

fn layer(kind: HeapType) -> HeapType {
    kind.method_one(c"_attach", method_one!(attach), c"_attach(transport): what carries the records.")
        .method_noargs(c"_begin", method_noargs!(begin), c"Begin the handshake.")
        .method_one(c"_feed", method_one!(feed), c"_feed(data): bytes of the network; _received() follows.")
        .method_noargs(c"_received", method_noargs!(received), c"Go on with what waits for bytes.")
        .method_noargs(
            c"_lower_ended",
            method_noargs!(lower_ended),
            c"End of stream; whether to keep it open.",
        )
        .method_one(
            c"_lower_lost",
            method_one!(lower_lost),
            c"_lower_lost(exc): the transport below is gone.",
        )
        .method_noargs(c"_pause_lower", method_noargs!(pause_lower), c"The transport below is full.")
        .method_noargs(c"_resume_lower", method_noargs!(resume_lower), c"It takes more.")
        .method_noargs(
            c"_on_timeout",
            method_noargs!(on_timeout),
            c"The handshake or shutdown took too long.",
        )
}

/// Makes the type and adds it to the module.
pub fn load(module: &Owned) -> Result<()> {
    if Tls::type_object().is_null() {
        // With these letters in its name, as asyncio's: programs look for them.
        let made = HeapType::new(c"antiphon._antiphon.SSLTransport", Instance::<Tls>::SIZE);
        let made = layer(life(reading(writing(slots(made)))));
        set_type(made.build(Some(&names().transport_class), Instance::<Tls>::PAYLOAD_OFFSET)?);
    }
    crate::add_type(module, c"SSLTransport", Tls::type_object())
}
