//! The future protocol of `SocketWaiter`, as far as tasks speak it.
//!
//! Source: asyncio's documentation of Future; CPython Lib/asyncio/futures.py, Modules/_asynciomodule.c
//! (`task_step_handle_result_impl`).

use std::ffi::c_void;

use pyo3::ffi;

use crate::ffi::raise::{runtime_error, type_error};
use crate::ffi::{Args, HeapType, Instance, Owned, Payload, Raised, Result, check};
use crate::names::names;
use crate::{getter, method, method_noargs, method_one, setter, unary_slot};

use super::waiter::{self, SocketWaiter};

fn add_done_callback(this: &Instance<SocketWaiter>, args: Args<'_>) -> Result {
    args.at_least(1, &["fn"])?;
    let context = args.only_keyword(&names().context)?;
    // SAFETY: F1; the arguments are alive during the call.
    unsafe {
        let function = Owned::from_borrowed(args.positional()[0]);
        let context = match context.and_then(|context| Owned::from_optional(*context)) {
            Some(context) => context,
            None => Owned::from_new(ffi::PyContext_CopyCurrent())?,
        };
        this.add(function, context);
    }
    Ok(Owned::none())
}

fn remove_done_callback(this: &Instance<SocketWaiter>, function: &Owned) -> Result {
    Owned::int(this.remove(function)?)
}

fn cancel(this: &Instance<SocketWaiter>, args: Args<'_>) -> Result {
    let [message] = args.bind([&names().msg], 0)?;
    // SAFETY: the argument is alive during the call.
    let message = message.and_then(|message| unsafe { Owned::from_optional(message) });
    Ok(Owned::bool(this.cancel(message)))
}

fn cancelled(this: &Instance<SocketWaiter>) -> Result {
    Ok(Owned::bool(this.is_cancelled()))
}

fn done(this: &Instance<SocketWaiter>) -> Result {
    Ok(Owned::bool(!this.is_pending()))
}

fn result(this: &Instance<SocketWaiter>) -> Result {
    this.check_done().map(|()| Owned::none())
}

/// `_loop`, where asyncio looks when an object has no `get_loop`; it saves the task a call.
fn get_loop(this: &Instance<SocketWaiter>) -> Result {
    Ok(this.owner().owned())
}

fn get_blocking(this: &Instance<SocketWaiter>) -> Result {
    Ok(Owned::bool(this.blocking()))
}

fn set_blocking(this: &Instance<SocketWaiter>, value: Option<&Owned>) -> Result<()> {
    let value = value.ok_or_else(|| type_error("_asyncio_future_blocking cannot be deleted"))?;
    // SAFETY: F1; a living object.
    let blocking = check(unsafe { ffi::PyObject_IsTrue(value.as_ptr()) })? != 0;
    this.set_blocking(blocking);
    Ok(())
}

fn iter(this: &Instance<SocketWaiter>) -> Result {
    Ok(this.owned())
}

/// One step of `await waiter`: itself while the wait goes on, then the end.
fn next(this: &Instance<SocketWaiter>) -> Result {
    this.check_not_cancelled()?;
    if !this.is_pending() {
        return Err(Raised);
    }
    if this.set_blocking(true) {
        return Err(runtime_error("await wasn't used with future"));
    }
    Ok(this.owned())
}

fn repr(this: &Instance<SocketWaiter>) -> Result {
    Owned::str(match (this.is_pending(), this.is_cancelled()) {
        (true, _) => "<SocketWaiter pending>",
        (_, true) => "<SocketWaiter cancelled>",
        _ => "<SocketWaiter finished>",
    })
}

/// Makes the type and adds it to the module.
pub fn load(module: &Owned) -> Result<()> {
    if SocketWaiter::type_object().is_null() {
        let made = HeapType::new(c"antiphon._antiphon.SocketWaiter", Instance::<SocketWaiter>::SIZE)
            .collected()
            .no_constructor()
            .doc(c"What a task waits for while a sock_* operation waits for its socket.")
            .slot(ffi::Py_tp_traverse, waiter::traverse as *mut c_void)
            .slot(ffi::Py_tp_clear, waiter::clear as *mut c_void)
            .slot(ffi::Py_tp_dealloc, waiter::dealloc as *mut c_void)
            .slot(ffi::Py_tp_repr, unary_slot!(repr))
            .slot(ffi::Py_am_await, unary_slot!(iter))
            .slot(ffi::Py_tp_iter, unary_slot!(iter))
            .slot(ffi::Py_tp_iternext, unary_slot!(next))
            .weak_references(Instance::<SocketWaiter>::WEAKREF_OFFSET)
            .method(
                c"add_done_callback",
                method!(c"add_done_callback", add_done_callback),
                c"add_done_callback(fn, *, context=None): call it when the wait is over.",
            )
            .method_one(
                c"remove_done_callback",
                method_one!(remove_done_callback),
                c"Take a callback back; how many there were.",
            )
            .method(
                c"cancel",
                method!(c"cancel", cancel),
                c"cancel(msg=None): end the wait; whether it went on.",
            )
            .method_noargs(c"cancelled", method_noargs!(cancelled), c"Whether it was cancelled.")
            .method_noargs(c"done", method_noargs!(done), c"Whether the wait is over.")
            .method_noargs(c"result", method_noargs!(result), c"None once the wait is over.")
            .method_noargs(c"exception", method_noargs!(result), c"None once the wait is over.")
            .attribute(c"_loop", getter!(get_loop), None, c"The loop.")
            .attribute(
                c"_asyncio_future_blocking",
                getter!(get_blocking),
                Some(setter!(set_blocking)),
                c"Whether it is on its way to a task (asyncio's protocol).",
            )
            .build(None, Instance::<SocketWaiter>::PAYLOAD_OFFSET)?;
        waiter::set_type(made)?;
    }
    crate::add_type(module, c"SocketWaiter", SocketWaiter::type_object())
}
