//! `Future`'s methods.
//!
//! Source: "Futures" in the asyncio documentation; CPython Modules/_asynciomodule.c.

use pyo3::ffi;

use super::outcome::invalid_state;
use super::{FutureObject, FutureRef};
use crate::ffi::{Args, HeapType, Owned, Result, call};
use crate::names::names;
use crate::{method, method_noargs, method_one, unary_slot};

/// `result` and `exception` say it with another class than the other methods.
fn check_has_outcome(this: &FutureObject) -> Result<()> {
    if this.is_initialised() { Ok(()) } else { Err(invalid_state("Future object is not initialized.")) }
}

fn result(this: &FutureObject) -> Result {
    check_has_outcome(this)?;
    this.get_result()
}

fn exception(this: &FutureObject) -> Result {
    check_has_outcome(this)?;
    Ok(this.get_exception()?.unwrap_or_else(Owned::none))
}

fn set_result(this: &FutureObject, value: &Owned) -> Result {
    this.check_initialised()?;
    this.finish(value.clone()).map(|()| Owned::none())
}

fn set_exception(this: &FutureObject, exception: &Owned) -> Result {
    this.check_initialised()?;
    this.fail_with(exception).map(|()| Owned::none())
}

fn add_done_callback(this: &FutureObject, args: Args<'_>) -> Result {
    this.check_initialised()?;
    if let ([function], false) = (args.positional(), args.has_keywords()) {
        // SAFETY: the argument is alive during the call.
        let function = unsafe { Owned::from_borrowed(*function) };
        return this.add_callback(function, None).map(|()| Owned::none());
    }
    args.at_least(1, &["fn"])?;
    args.at_most(1)?;
    let context = if args.has_keywords() { args.only_keyword(&names().context)? } else { None };
    // SAFETY: the arguments are alive during the call.
    let (function, context) = unsafe {
        (
            Owned::from_borrowed(args.positional()[0]),
            context.and_then(|context| Owned::from_optional(*context)),
        )
    };
    this.add_callback(function, context).map(|()| Owned::none())
}

fn remove_done_callback(this: &FutureObject, function: &Owned) -> Result {
    this.check_initialised()?;
    Owned::int(this.remove_callback(function)? as i64)
}

fn cancel(this: &FutureObject, args: Args<'_>) -> Result {
    this.check_initialised()?;
    let [message] = args.bind([&names().msg], 0)?;
    // SAFETY: the argument is alive during the call.
    let message = message.and_then(|message| unsafe { Owned::from_optional(message) });
    this.cancel_plainly(message.as_ref()).map(Owned::bool)
}

/// False, as for CPython's, where `__init__` never ran.
fn cancelled(this: &FutureObject) -> Result {
    Ok(Owned::bool(this.state().is_cancelled()))
}

fn done(this: &FutureObject) -> Result {
    Ok(Owned::bool(this.state().is_done()))
}

fn get_loop(this: &FutureObject) -> Result {
    this.check_initialised()?;
    Ok(this.owner_or_none())
}

fn make_cancelled_error(this: &FutureObject) -> Result {
    this.make_cancelled_error()
}

fn repr(this: &FutureObject) -> Result {
    this.check_initialised()?;
    call(&names().future_repr, [&this.owned()])
}

fn iter(this: &FutureObject) -> Result {
    this.check_initialised()?;
    super::iterator::new(&FutureRef(this.owned()))
}

/// Adds those of this file's methods that tasks have as well.
pub fn add_shared(kind: HeapType) -> HeapType {
    kind.slot(ffi::Py_tp_iter, unary_slot!(iter))
        .method_over_slot(
            c"__await__",
            method_noargs!(iter),
            c"An iterator that yields the future until it is done.",
        )
        .method_noargs(
            c"result",
            method_noargs!(result),
            c"The result; raises the exception if there is one.",
        )
        .method_noargs(c"exception", method_noargs!(exception), c"The exception, None if there is a result.")
        .method(
            c"add_done_callback",
            method!(c"add_done_callback", add_done_callback),
            c"add_done_callback(fn, *, context=None): call fn(future) when it is done.",
        )
        .method_one(
            c"remove_done_callback",
            method_one!(remove_done_callback),
            c"Take a callback back; how many there were.",
        )
        .method_noargs(c"cancelled", method_noargs!(cancelled), c"Whether it was cancelled.")
        .method_noargs(c"done", method_noargs!(done), c"Whether it is finished or cancelled.")
        .method_noargs(c"get_loop", method_noargs!(get_loop), c"The loop it belongs to.")
        .method_noargs(
            c"_make_cancelled_error",
            method_noargs!(make_cancelled_error),
            c"The CancelledError to raise for a cancelled future.",
        )
}

/// Adds those that tasks have their own of.
pub fn add_own(kind: HeapType) -> HeapType {
    kind.slot(ffi::Py_tp_repr, unary_slot!(repr))
        .method_one(c"set_result", method_one!(set_result), c"Finish it with a result.")
        .method_one(
            c"set_exception",
            method_one!(set_exception),
            c"Finish it with an exception or a class of them.",
        )
        .method(
            c"cancel",
            method!(c"cancel", cancel),
            c"cancel(msg=None): cancel it; whether it was pending.",
        )
}
