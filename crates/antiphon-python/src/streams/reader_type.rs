//! `StreamReader` as Python sees it.
//!
//! A subclass may override what asyncio's own methods call: `readline` calls `self.readuntil`, iteration `self.readline`,
//! `read(-1)` calls `self.read(limit)`. Where it does, that method is asyncio's Python code (`antiphon.streams`).

use pyo3::ffi;

use super::attributes::object_attribute;
use super::read::{self, Request};
use super::reader::{DEFAULT_LIMIT, StreamReader, set_type};
use crate::ffi::raise::{self, assertion_error, value_error};
use crate::ffi::{Args, HeapType, Instance, Owned, Payload, Raised, Result, call};
use crate::names::{import, names};
use crate::{collected_slots, getter, initialiser, method, method_noargs, method_one, setter, unary_slot};

type This = Instance<StreamReader>;

/// `StreamReader(limit=65536, loop=None)`.
fn initialise(this: &This, args: Args<'_>) -> Result<()> {
    let names = names();
    let [limit, owner] = args.optional([&names.limit, &names.loop_])?;
    let limit = match limit {
        Some(limit) => limit,
        None => Owned::int(DEFAULT_LIMIT as i64)?,
    };
    set_limit_object(this, &limit)?;
    let owner = match owner.filter(|owner| !owner.is_none()) {
        Some(owner) => owner,
        None => call(&import("antiphon.streams", "default_loop")?, [])?,
    };
    if debug_of(&owner)? {
        let stack = call(&import("antiphon.streams", "construction_stack")?, [])?;
        drop(this.source_traceback.replace(Some(stack)));
    }
    drop(this.owner.replace(Some(owner)));
    Ok(())
}

/// Whether a loop, of whatever kind, is in debug mode.
pub fn debug_of(owner: &Owned) -> Result<bool> {
    crate::ffi::call_method(owner, &names().get_debug, [])?.truth()
}

fn set_limit_object(this: &This, limit: &Owned) -> Result<()> {
    let zero = Owned::int(0)?;
    // SAFETY: F1; living objects.
    let refused = crate::ffi::check(unsafe {
        ffi::PyObject_RichCompareBool(limit.as_ptr(), zero.as_ptr(), ffi::Py_LE)
    })?;
    if refused != 0 {
        return Err(value_error("Limit cannot be <= 0"));
    }
    set_limit(this, Some(limit))
}

/// Any number counts: `math.inf` and such are no limit.
fn set_limit(this: &This, limit: Option<&Owned>) -> Result<()> {
    let Some(limit) = limit else {
        return Err(raise::type_error("_limit cannot be deleted"));
    };
    // SAFETY: F1; a living object.
    let bytes = unsafe { ffi::PyNumber_AsSsize_t(limit.as_ptr(), std::ptr::null_mut()) };
    // SAFETY: F1.
    let bytes = if bytes == -1 && unsafe { !ffi::PyErr_Occurred().is_null() } {
        drop(raise::take());
        // SAFETY: F1; a living object.
        let float = unsafe { ffi::PyFloat_AsDouble(limit.as_ptr()) };
        // SAFETY: F1.
        if float == -1.0 && unsafe { !ffi::PyErr_Occurred().is_null() } {
            return Err(Raised);
        }
        // Rust's conversion ends at the ends of the range.
        float as usize
    } else {
        bytes.max(0) as usize
    };
    this.buffer.with(|buffer| buffer.set_limit(bytes));
    drop(this.limit.replace(Some(limit.clone())));
    Ok(())
}

fn get_limit(this: &This) -> Result {
    match this.limit.get() {
        Some(limit) => Ok(limit),
        None => Owned::int(DEFAULT_LIMIT as i64),
    }
}

fn get_buffer(this: &This) -> Result {
    this.expose()
}

fn set_buffer(this: &This, array: Option<&Owned>) -> Result<()> {
    this.set_exposed(array)
}

fn get_ended(this: &This) -> Result {
    Ok(Owned::bool(this.buffer.with(|buffer| buffer.is_ended())))
}

fn set_ended(this: &This, value: Option<&Owned>) -> Result<()> {
    let ended = value.map_or(Ok(false), Owned::truth)?;
    this.buffer.with(|buffer| buffer.set_ended(ended));
    Ok(())
}

fn get_paused(this: &This) -> Result {
    Ok(Owned::bool(this.buffer.with(|buffer| buffer.is_paused())))
}

fn set_paused(this: &This, value: Option<&Owned>) -> Result<()> {
    let paused = value.map_or(Ok(false), Owned::truth)?;
    this.buffer.with(|buffer| buffer.set_paused(paused));
    Ok(())
}

fn exception(this: &This) -> Result {
    Ok(this.exception.get().unwrap_or_else(Owned::none))
}

fn set_exception(this: &This, exception: &Owned) -> Result {
    this.set_exception(exception).map(|()| Owned::none())
}

fn wake_up_waiter(this: &This) -> Result {
    this.wake_waiter().map(|()| Owned::none())
}

fn set_transport(this: &This, transport: &Owned) -> Result {
    this.set_transport(transport).map(|()| Owned::none())
}

fn replace_transport(this: &This, transport: &Owned) -> Result {
    match this.transport.replace(Some(transport.clone())) {
        Some(_) => Ok(Owned::none()),
        None => {
            drop(this.transport.take());
            Err(assertion_error("Transport not set"))
        }
    }
}

fn maybe_resume_transport(this: &This) -> Result {
    this.with_buffer(|_| ())?;
    this.maybe_resume_transport().map(|()| Owned::none())
}

fn feed_eof(this: &This) -> Result {
    this.feed_eof().map(|()| Owned::none())
}

fn at_eof(this: &This) -> Result {
    this.with_buffer(|buffer| buffer.is_at_end()).map(Owned::bool)
}

fn feed_data(this: &This, data: &Owned) -> Result {
    this.feed_data(data).map(|()| Owned::none())
}

fn wait_for_data(this: &This, name: &Owned) -> Result {
    let mut len = 0;
    // SAFETY: F1; a string's text belongs to it, which is alive.
    let name = unsafe {
        let text = ffi::PyUnicode_AsUTF8AndSize(name.as_ptr(), &raw mut len);
        if text.is_null() {
            return Err(Raised);
        }
        std::slice::from_raw_parts(text.cast::<u8>(), len as usize)
    };
    let name = String::from_utf8_lossy(name).into_owned();
    read::make(this, "StreamReader._wait_for_data", Request::Nothing(name))
}

/// What a subclass has in the place of a method of ours, if it is one that overrides it.
#[cold]
fn overriding(this: &This, name: &Owned) -> Result<bool> {
    // SAFETY: F1; types are alive while their instances are.
    let (theirs, ours) = unsafe {
        let kind = Owned::from_borrowed(ffi::Py_TYPE(this.as_ptr()).cast());
        (kind.attr(name)?, Owned::from_borrowed(StreamReader::type_object().cast()).attr(name)?)
    };
    Ok(theirs.as_ptr() != ours.as_ptr())
}

#[inline]
fn is_overridden(this: &This, name: &Owned) -> Result<bool> {
    // SAFETY: comparing addresses only.
    if unsafe { ffi::Py_TYPE(this.as_ptr()) } == StreamReader::type_object() {
        return Ok(false);
    }
    overriding(this, name)
}

fn read_some(this: &This, args: Args<'_>) -> Result {
    let names = names();
    let [count] = args.optional([&names.n])?;
    let count = match count {
        Some(count) => count,
        None => Owned::int(-1)?,
    };
    if is_overridden(this, &names.read)? && is_negative(&count) {
        return call(&import("antiphon.streams", "read_on")?, [&this.owned()]);
    }
    read::make(this, "StreamReader.read", Request::Some(count))
}

/// Whether it is a number below 0; what is none is refused later, by the read.
fn is_negative(count: &Owned) -> bool {
    // SAFETY: F1; a living object.
    let number = unsafe { ffi::PyNumber_AsSsize_t(count.as_ptr(), std::ptr::null_mut()) };
    // SAFETY: F1.
    if number == -1 && unsafe { !ffi::PyErr_Occurred().is_null() } {
        drop(raise::take());
        return false;
    }
    number < 0
}

fn read_exactly(this: &This, args: Args<'_>) -> Result {
    let [count] = args.required([&names().n])?;
    read::make(this, "StreamReader.readexactly", Request::Exactly(count))
}

fn read_until(this: &This, args: Args<'_>) -> Result {
    let names = names();
    let [separator] = args.optional([&names.separator])?;
    let separator = match separator {
        Some(separator) => separator,
        None => Owned::bytes(b"\n")?,
    };
    read::make(this, "StreamReader.readuntil", Request::Until(separator))
}

fn read_line(this: &This) -> Result {
    if is_overridden(this, &names().readuntil)? {
        return call(&import("antiphon.streams", "readline")?, [&this.owned()]);
    }
    read::make(this, "StreamReader.readline", Request::Line)
}

fn next_line(this: &This) -> Result {
    if is_overridden(this, &names().readline)? || is_overridden(this, &names().readuntil)? {
        return call(&import("antiphon.streams", "next_line")?, [&this.owned()]);
    }
    read::make(this, "StreamReader.__anext__", Request::Item)
}

fn iterator(this: &This) -> Result {
    Ok(this.owned())
}

fn repr(this: &This) -> Result {
    call(&import("antiphon.streams", "reader_repr")?, [&this.owned()])
}

/// Makes the type and adds it to the module.
pub fn load(module: &Owned) -> Result<()> {
    if StreamReader::type_object().is_null() {
        let made = collected_slots!(
            HeapType::new(c"antiphon._antiphon.StreamReader", This::SIZE),
            StreamReader,
            initialiser!(c"StreamReader", StreamReader, initialise)
        )
        .doc(c"StreamReader(limit=65536, loop=None): what has arrived on a stream, to be read in coroutines.")
        .slot(ffi::Py_tp_repr, unary_slot!(repr))
        .slot(ffi::Py_am_aiter, unary_slot!(iterator))
        .slot(ffi::Py_am_anext, unary_slot!(next_line));
        let made = add_attributes(add_methods(made));
        set_type(made.build(None, This::PAYLOAD_OFFSET)?);
    }
    crate::add_type(module, c"StreamReader", StreamReader::type_object())
}

fn add_methods(kind: HeapType) -> HeapType {
    kind.method(
        c"read",
        method!(c"read", read_some),
        c"read(n=-1): up to n bytes as soon as there are some; all up to the end if n is negative.",
    )
    .method(
        c"readexactly",
        method!(c"readexactly", read_exactly),
        c"readexactly(n): n bytes; IncompleteReadError if the stream ends before.",
    )
    .method(
        c"readuntil",
        method!(c"readuntil", read_until),
        c"readuntil(separator=b'\\n'): everything up to a separator, which is included.",
    )
    .method_noargs(
        c"readline",
        method_noargs!(read_line),
        c"A line with its newline; what is left at the end; ValueError if it is too long.",
    )
    .method_noargs(c"exception", method_noargs!(exception), c"What every read raises, or None.")
    .method_one(c"set_exception", method_one!(set_exception), c"Let every read raise this.")
    .method_one(c"set_transport", method_one!(set_transport), c"The transport to pause and resume.")
    .method_one(c"_replace_transport", method_one!(replace_transport), c"Another one in its place.")
    .method_noargs(
        c"_maybe_resume_transport",
        method_noargs!(maybe_resume_transport),
        c"Resume a paused transport once the buffer is down at the limit.",
    )
    .method_noargs(c"_wakeup_waiter", method_noargs!(wake_up_waiter), c"Wake the read that waits.")
    .method_one(
        c"_wait_for_data",
        method_one!(wait_for_data),
        c"_wait_for_data(func_name): wait until more was fed, or the end.",
    )
    .method_noargs(c"feed_eof", method_noargs!(feed_eof), c"Nothing more will come.")
    .method_noargs(c"at_eof", method_noargs!(at_eof), c"Whether everything was read, and nothing more comes.")
    .method_one(c"feed_data", method_one!(feed_data), c"Append bytes and wake the read that waits.")
}

fn add_attributes(kind: HeapType) -> HeapType {
    let (get_waiter, set_waiter) = object_attribute!(StreamReader, waiter);
    let (get_exception, set_exception) = object_attribute!(StreamReader, exception);
    let (get_transport, set_transport) = object_attribute!(StreamReader, transport);
    let (get_loop, set_loop) = object_attribute!(StreamReader, owner);
    let (get_traceback, set_traceback) = object_attribute!(StreamReader, source_traceback);
    kind.attribute(
        c"_buffer",
        getter!(get_buffer),
        Some(setter!(set_buffer)),
        c"The unread data, a bytearray; changes to it are seen as long as somebody has it.",
    )
    .attribute(c"_limit", getter!(get_limit), Some(setter!(set_limit)), c"The limit in bytes.")
    .attribute(c"_eof", getter!(get_ended), Some(setter!(set_ended)), c"Whether nothing more will come.")
    .attribute(
        c"_paused",
        getter!(get_paused),
        Some(setter!(set_paused)),
        c"Whether the transport is paused.",
    )
    .attribute(c"_waiter", get_waiter, set_waiter, c"The future of the read that waits.")
    .attribute(c"_exception", get_exception, set_exception, c"What every read raises.")
    .attribute(c"_transport", get_transport, set_transport, c"The transport.")
    .attribute(c"_loop", get_loop, set_loop, c"The loop.")
    .attribute(c"_source_traceback", get_traceback, set_traceback, c"In debug mode, where it was made.")
}
