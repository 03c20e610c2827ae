//! `StreamReaderProtocol` as Python sees it.

use std::ffi::c_void;

use pyo3::ffi;

use super::attributes::{flag_attribute, object_attribute};
use super::drain;
use super::protocol::{StreamReaderProtocol, set_type};
use crate::ffi::{Args, HeapType, Instance, Owned, Payload, Result, call, call_method, weak};
use crate::names::{import, names};
use crate::{collected_slots, getter, initialiser, method_noargs, method_one};

type This = Instance<StreamReaderProtocol>;

/// `StreamReaderProtocol(stream_reader, client_connected_cb=None, loop=None)`.
fn initialise(this: &This, args: Args<'_>) -> Result<()> {
    let names = names();
    let parameters = [&names.stream_reader, &names.client_connected_cb, &names.loop_];
    args.bind(parameters, 1)?;
    let [reader, callback, owner] = args.optional(parameters)?.map(|given| given.filter(|it| !it.is_none()));
    let owner = match owner {
        Some(owner) => owner,
        None => call(&import("antiphon.streams", "default_loop")?, [])?,
    };
    if let Some(reader) = &reader {
        drop(this.reader.replace(Some(weak::reference_to(reader)?)));
        let traceback = reader.attr(&names._source_traceback)?;
        drop(this.source_traceback.replace(Some(traceback).filter(|traceback| !traceback.is_none())));
    }
    if callback.is_some() {
        // Until the connection is made nobody else has it.
        drop(this.strong_reader.replace(reader));
    }
    drop(this.client_connected_cb.replace(callback));
    drop(this.closed.replace(Some(call_method(&owner, &names.create_future, [])?)));
    drop(this.owner.replace(Some(owner)));
    Ok(())
}

fn none(outcome: Result<()>) -> Result {
    outcome.map(|()| Owned::none())
}

fn stream_reader(this: &This) -> Result {
    Ok(this.stream_reader().unwrap_or_else(Owned::none))
}

fn connection_made(this: &This, transport: &Owned) -> Result {
    none(this.connection_made(transport))
}

fn connection_lost(this: &This, exception: &Owned) -> Result {
    none(this.connection_lost(exception))
}

fn data_received(this: &This, data: &Owned) -> Result {
    none(this.data_received(data))
}

fn eof_received(this: &This) -> Result {
    this.eof_received().map(Owned::bool)
}

fn pause_writing(this: &This) -> Result {
    none(this.pause_writing())
}

fn resume_writing(this: &This) -> Result {
    none(this.resume_writing())
}

fn drain_helper(this: &This) -> Result {
    drain::of_protocol(this)
}

fn get_close_waiter(this: &This, _stream: &Owned) -> Result {
    Ok(this.closed.get().unwrap_or_else(Owned::none))
}

#[cfg(Py_3_13)]
fn replace_transport(this: &This, transport: &Owned) -> Result {
    drop(this.transport.replace(Some(transport.clone())));
    #[cfg(Py_3_14)]
    if let Some(reader) = this.stream_reader() {
        call_method(&reader, &names()._replace_transport, [transport])?;
    }
    none(this.look_for_tls(transport))
}

#[cfg(not(Py_3_13))]
fn replace_writer(this: &This, writer: &Owned) -> Result {
    let transport = writer.attr(&names().transport)?;
    drop(this.writer.replace(Some(writer.clone())));
    drop(this.transport.replace(Some(transport.clone())));
    none(this.look_for_tls(&transport))
}

fn drain_waiters(this: &This) -> Result {
    this.drain_waiters()
}

unsafe extern "C" fn finalize(object: *mut ffi::PyObject) {
    // SAFETY: F2.
    unsafe { This::from_ptr(object) }.finalize();
}

/// Makes the type and adds it to the module.
pub fn load(module: &Owned) -> Result<()> {
    if StreamReaderProtocol::type_object().is_null() {
        let made = collected_slots!(
            HeapType::new(c"antiphon._antiphon.StreamReaderProtocol", This::SIZE),
            StreamReaderProtocol,
            initialiser!(c"StreamReaderProtocol", StreamReaderProtocol, initialise)
        )
        .doc(
            c"StreamReaderProtocol(stream_reader, client_connected_cb=None, loop=None): feeds a reader what arrives.",
        )
        .slot(ffi::Py_tp_finalize, finalize as *mut c_void);
        let made = add_attributes(add_methods(made));
        let built = made.build(Some(&names().protocol_class), This::PAYLOAD_OFFSET)?;
        set_type(built);
    }
    crate::add_type(module, c"StreamReaderProtocol", StreamReaderProtocol::type_object())
}

fn add_methods(kind: HeapType) -> HeapType {
    #[cfg(Py_3_13)]
    let kind = kind.method_one(
        c"_replace_transport",
        method_one!(replace_transport),
        c"The connection goes on over another transport.",
    );
    #[cfg(not(Py_3_13))]
    let kind = kind.method_one(
        c"_replace_writer",
        method_one!(replace_writer),
        c"The connection goes on over another writer's transport.",
    );
    kind.method_one(c"connection_made", method_one!(connection_made), c"The transport is there.")
        .method_one(c"connection_lost", method_one!(connection_lost), c"The transport is gone.")
        .method_one(c"data_received", method_one!(data_received), c"Feed the reader.")
        .method_noargs(c"eof_received", method_noargs!(eof_received), c"Feed the reader the end.")
        .method_noargs(c"pause_writing", method_noargs!(pause_writing), c"Let drain() wait.")
        .method_noargs(c"resume_writing", method_noargs!(resume_writing), c"Let drain() go on.")
        .method_noargs(c"_drain_helper", method_noargs!(drain_helper), c"Wait until writing is resumed.")
        .method_one(
            c"_get_close_waiter",
            method_one!(get_close_waiter),
            c"A future that is done when the connection is lost.",
        )
}

fn add_attributes(kind: HeapType) -> HeapType {
    let (get_loop, set_loop) = object_attribute!(StreamReaderProtocol, owner);
    let (get_reader, set_reader) = object_attribute!(StreamReaderProtocol, reader);
    let (get_strong, set_strong) = object_attribute!(StreamReaderProtocol, strong_reader);
    let (get_writer, set_writer) = object_attribute!(StreamReaderProtocol, writer);
    let (get_transport, set_transport) = object_attribute!(StreamReaderProtocol, transport);
    let (get_callback, set_callback) = object_attribute!(StreamReaderProtocol, client_connected_cb);
    let (get_task, set_task) = object_attribute!(StreamReaderProtocol, task);
    let (get_closed, set_closed) = object_attribute!(StreamReaderProtocol, closed);
    let (get_traceback, set_traceback) = object_attribute!(StreamReaderProtocol, source_traceback);
    let (get_paused, set_paused) = flag_attribute!(StreamReaderProtocol, paused);
    let (get_lost, set_lost) = flag_attribute!(StreamReaderProtocol, connection_lost);
    let (get_rejects, set_rejects) = flag_attribute!(StreamReaderProtocol, reject_connection);
    let (get_over_ssl, set_over_ssl) = flag_attribute!(StreamReaderProtocol, over_ssl);
    kind.attribute(c"_stream_reader", getter!(stream_reader), None, c"The reader, or None.")
        .attribute(c"_stream_reader_wr", get_reader, set_reader, c"A weak reference to the reader.")
        .attribute(c"_strong_reader", get_strong, set_strong, c"The reader until the connection is made.")
        .attribute(c"_stream_writer", get_writer, set_writer, c"The writer of an accepted connection.")
        .attribute(c"_loop", get_loop, set_loop, c"The loop.")
        .attribute(c"_transport", get_transport, set_transport, c"The transport.")
        .attribute(c"_client_connected_cb", get_callback, set_callback, c"Whom to tell of the connection.")
        .attribute(c"_task", get_task, set_task, c"The task of client_connected_cb.")
        .attribute(c"_closed", get_closed, set_closed, c"A future that is done when the connection is lost.")
        .attribute(c"_source_traceback", get_traceback, set_traceback, c"Where the reader was made.")
        .attribute(c"_drain_waiters", getter!(drain_waiters), None, c"A list of the futures in drain().")
        .attribute(c"_paused", get_paused, set_paused, c"Whether drain() waits.")
        .attribute(c"_connection_lost", get_lost, set_lost, c"Whether the connection is lost.")
        .attribute(c"_reject_connection", get_rejects, set_rejects, c"Whether to abort when connected.")
        .attribute(c"_over_ssl", get_over_ssl, set_over_ssl, c"Whether the connection is a TLS one.")
}
