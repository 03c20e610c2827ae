//! `StreamWriter`: a transport with `drain`.
//!
//! Writing to a transport of ours is a native call; any other transport is called by name.
//!
//! Source: CPython Lib/asyncio/streams.py (`StreamWriter`).

use std::ffi::{c_int, c_void};

use pyo3::ffi;

use super::attributes::{self, References, object_attribute};
use super::drain;
use crate::ffi::derived::TypeCell;
use crate::ffi::instance::DictionarySlot;
use crate::ffi::raise::{self, assertion_error};
use crate::ffi::{
    Args, GilCell, HeapType, Instance, Owned, Payload, Raised, Result, call, call_method, check,
};
use crate::names::{import, names};
use crate::tls::transport::Tls;
use crate::transport::stream::{Stream, is};
use crate::{collected_slots, getter, initialiser, method, method_noargs, reports, unary_slot};

/// The payload of `StreamWriter`.
#[derive(Default)]
pub struct StreamWriter {
    transport: GilCell<Option<Owned>>,
    /// What `drain` asks.
    pub(super) protocol: GilCell<Option<Owned>>,
    /// Whose exception `drain` raises; may be none.
    pub(super) reader: GilCell<Option<Owned>>,
    owner: GilCell<Option<Owned>>,
    /// A future that is done; made for whoever looks at it.
    complete: GilCell<Option<Owned>>,
}

static WRITER: TypeCell = TypeCell::new();

impl Payload for StreamWriter {
    type BaseSlots = ();
    type Dictionary = DictionarySlot;
    const COLLECTED: bool = true;
    #[inline(always)]
    fn type_object() -> *mut ffi::PyTypeObject {
        WRITER.get()
    }
}

type This = Instance<StreamWriter>;

/// A transport of ours, unless its methods were replaced.
enum Native<'a> {
    Stream(&'a Instance<Stream>),
    Tls(&'a Instance<Tls>),
}

impl Native<'_> {
    #[inline]
    fn of(transport: &Owned) -> Option<Native<'_>> {
        if let Some(stream) = Instance::<Stream>::downcast(transport) {
            return stream.dictionary().is_null().then_some(Native::Stream(stream));
        }
        let tls = Instance::<Tls>::downcast(transport)?;
        tls.dictionary().is_null().then_some(Native::Tls(tls))
    }
}

impl References for StreamWriter {
    fn references(&self) -> impl Iterator<Item = &GilCell<Option<Owned>>> {
        [&self.transport, &self.protocol, &self.reader, &self.owner, &self.complete].into_iter()
    }
}

impl This {
    /// Visits what the writer refers to, for the collector.
    pub fn traverse(&self, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
        attributes::traverse(self, visit, arg)
    }

    /// Breaks cycles for the collector.
    pub fn clear(&self) {
        attributes::clear(self);
    }

    #[inline]
    fn transport(&self) -> Owned {
        self.transport.get().unwrap_or_else(Owned::none)
    }

    /// `is_closing()`.
    #[inline]
    pub fn is_closing(&self) -> Result<bool> {
        let transport = self.transport();
        match Native::of(&transport) {
            Some(Native::Stream(stream)) => Ok(is(&stream.flags.closing)),
            Some(Native::Tls(tls)) => tls.is_closing(),
            None => call_method(&transport, &names().is_closing, [])?.truth(),
        }
    }
}

/// `StreamWriter(transport, protocol, reader, loop)`.
fn initialise(this: &This, args: Args<'_>) -> Result<()> {
    let names = names();
    let [transport, protocol, reader, owner] =
        args.required([&names.transport, &names.protocol, &names.reader, &names.loop_])?;
    let reader = if reader.is_none() { None } else { Some(reader) };
    if let Some(reader) = &reader {
        // SAFETY: F1; living objects.
        let is_reader =
            check(unsafe { ffi::PyObject_IsInstance(reader.as_ptr(), reader_classes()?.as_ptr()) })?;
        if is_reader == 0 {
            return Err(assertion_error(""));
        }
    }
    drop(this.transport.replace(Some(transport)));
    drop(this.protocol.replace(Some(protocol)));
    drop(this.reader.replace(reader));
    drop(this.owner.replace(Some(owner)));
    Ok(())
}

/// Our reader and asyncio's own.
fn reader_classes() -> Result {
    // SAFETY: F1; a type object is an object.
    let ours = unsafe { Owned::from_borrowed(super::reader::StreamReader::type_object().cast()) };
    Owned::tuple([ours, names().stream_reader_class.clone()])
}

#[inline]
fn write(this: &This, args: Args<'_>) -> Result {
    let [data] = args.required([&names().data])?;
    let transport = this.transport();
    match Native::of(&transport) {
        Some(Native::Stream(stream)) => stream.write(&data)?,
        Some(Native::Tls(tls)) => tls.write(&data)?,
        None => drop(call_method(&transport, &names().write, [&data])?),
    }
    Ok(Owned::none())
}

fn writelines(this: &This, args: Args<'_>) -> Result {
    let [data] = args.required([&names().data])?;
    call_method(&this.transport(), &names().writelines, [&data])?;
    Ok(Owned::none())
}

fn write_eof(this: &This) -> Result {
    call_method(&this.transport(), &names().write_eof, [])
}

fn can_write_eof(this: &This) -> Result {
    call_method(&this.transport(), &names().can_write_eof, [])
}

fn close(this: &This) -> Result {
    call_method(&this.transport(), &names().close, [])
}

fn is_closing(this: &This) -> Result {
    this.is_closing().map(Owned::bool)
}

fn wait_closed(this: &This) -> Result {
    drain::wait_closed(this)
}

fn drain_writer(this: &This) -> Result {
    drain::of_writer(this)
}

fn get_extra_info(this: &This, args: Args<'_>) -> Result {
    let names = names();
    args.bind([&names.name, &names.default], 1)?;
    let [name, default] = args.optional([&names.name, &names.default])?;
    let [name, default] = [name, default].map(|given| given.unwrap_or_else(Owned::none));
    call_method(&this.transport(), &names.get_extra_info, [&name, &default])
}

/// `start_tls(sslcontext, *, …)`: once per connection, so in Python.
fn start_tls(this: &This, args: Args<'_>) -> Result {
    args.at_least(1, &["sslcontext"])?;
    args.forward_behind(&import("antiphon.streams", "start_tls")?, &this.owned())
}

fn get_transport(this: &This) -> Result {
    Ok(this.transport())
}

fn get_complete(this: &This) -> Result {
    if let Some(complete) = this.complete.get() {
        return Ok(complete);
    }
    let owner = this.owner.get().unwrap_or_else(Owned::none);
    let complete = call_method(&owner, &names().create_future, [])?;
    call_method(&complete, &names().set_result, [&Owned::none()])?;
    drop(this.complete.replace(Some(complete.clone())));
    Ok(complete)
}

fn repr(this: &This) -> Result {
    call(&import("antiphon.streams", "writer_repr")?, [&this.owned()])
}

/// A writer that nobody closed: closes and warns, as asyncio's `__del__` does.
unsafe extern "C" fn finalize(object: *mut ffi::PyObject) {
    // SAFETY: F2.
    let this = unsafe { This::from_ptr(object) };
    if this.transport.with(|transport| transport.is_none()) {
        return;
    }
    let pending = raise::take();
    match this.is_closing() {
        Ok(true) => {}
        Ok(false) => reports::tell("antiphon.streams", "unclosed_writer", &this.owned()),
        Err(Raised) => raise::write_unraisable(Some(&this.owned())),
    }
    if let Some(pending) = pending {
        raise::restore(pending);
    }
}

/// Makes the type and adds it to the module.
pub fn load(module: &Owned) -> Result<()> {
    if StreamWriter::type_object().is_null() {
        let made = collected_slots!(
            HeapType::new(c"antiphon._antiphon.StreamWriter", This::SIZE),
            StreamWriter,
            initialiser!(c"StreamWriter", StreamWriter, initialise)
        )
        .doc(c"StreamWriter(transport, protocol, reader, loop): writes to a transport, and waits where it is full.")
        .slot(ffi::Py_tp_repr, unary_slot!(repr))
        .slot(ffi::Py_tp_finalize, finalize as *mut c_void);
        let built = add_attributes(add_methods(made)).build(None, This::PAYLOAD_OFFSET)?;
        WRITER.set(built);
    }
    crate::add_type(module, c"StreamWriter", StreamWriter::type_object())
}

fn add_methods(kind: HeapType) -> HeapType {
    kind.method(c"write", method!(c"write", write), c"write(data): queue bytes to be sent.")
        .method(c"writelines", method!(c"writelines", writelines), c"writelines(data): queue several chunks.")
        .method_noargs(c"write_eof", method_noargs!(write_eof), c"End the sending half once all is sent.")
        .method_noargs(
            c"can_write_eof",
            method_noargs!(can_write_eof),
            c"Whether one half alone can be ended.",
        )
        .method_noargs(c"close", method_noargs!(close), c"Close once all is sent.")
        .method_noargs(c"is_closing", method_noargs!(is_closing), c"Whether it is closed or about to be.")
        .method_noargs(c"wait_closed", method_noargs!(wait_closed), c"Wait until the connection is closed.")
        .method_noargs(c"drain", method_noargs!(drain_writer), c"Wait until the transport takes more.")
        .method(
            c"get_extra_info",
            method!(c"get_extra_info", get_extra_info),
            c"get_extra_info(name, default=None): the transport's.",
        )
        .method(
            c"start_tls",
            method!(c"start_tls", start_tls),
            c"start_tls(sslcontext, *, server_hostname=None, ...): go on over TLS.",
        )
}

fn add_attributes(kind: HeapType) -> HeapType {
    let (get_private, set_private) = object_attribute!(StreamWriter, transport);
    let (get_protocol, set_protocol) = object_attribute!(StreamWriter, protocol);
    let (get_reader, set_reader) = object_attribute!(StreamWriter, reader);
    let (get_loop, set_loop) = object_attribute!(StreamWriter, owner);
    kind.attribute(c"transport", getter!(get_transport), None, c"The transport.")
        .attribute(c"_transport", get_private, set_private, c"The transport.")
        .attribute(c"_protocol", get_protocol, set_protocol, c"The protocol that drain() asks.")
        .attribute(c"_reader", get_reader, set_reader, c"The reader whose exception drain() raises.")
        .attribute(c"_loop", get_loop, set_loop, c"The loop.")
        .attribute(c"_complete_fut", getter!(get_complete), None, c"A future that is done.")
}
