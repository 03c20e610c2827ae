//! `Task`'s methods and attributes; those it shares with `Future` are in [`crate::future::methods`].
//!
//! Source: "Task Object" in the asyncio documentation; CPython Modules/_asynciomodule.c.

use super::TaskObject;
use crate::ffi::raise::{runtime_error, type_error};
use crate::ffi::{Args, HeapType, Owned, Result, call};
use crate::future::attributes::cannot_delete;
use crate::names::{import, names};
use crate::{getter, method, method_noargs, method_one, setter, unary_slot};
use pyo3::ffi;

fn or_none(value: Option<Owned>) -> Owned {
    value.unwrap_or_else(Owned::none)
}

fn cancel(this: &TaskObject, args: Args<'_>) -> Result {
    this.as_future().check_initialised()?;
    let [message] = args.bind([&names().msg], 0)?;
    // SAFETY: the argument is alive during the call.
    let message = message.and_then(|message| unsafe { Owned::from_optional(message) });
    this.cancel_task(message.as_ref()).map(Owned::bool)
}

fn uncancel(this: &TaskObject) -> Result {
    Owned::int(this.uncancel().into())
}

fn cancelling(this: &TaskObject) -> Result {
    Owned::int(this.cancelling().into())
}

fn set_result(_this: &TaskObject, _value: &Owned) -> Result {
    Err(runtime_error("Task does not support set_result operation"))
}

fn set_exception(_this: &TaskObject, _value: &Owned) -> Result {
    Err(runtime_error("Task does not support set_exception operation"))
}

fn get_name(this: &TaskObject) -> Result {
    this.name()
}

fn set_name(this: &TaskObject, name: &Owned) -> Result {
    this.set_name(super::create::text(name.clone())?);
    Ok(Owned::none())
}

fn get_coro(this: &TaskObject) -> Result {
    Ok(or_none(this.inner.with(|inner| inner.coro.clone())))
}

fn get_context(this: &TaskObject) -> Result {
    Ok(or_none(this.context()))
}

fn get_waiter(this: &TaskObject) -> Result {
    this.shown_waiter().map(or_none)
}

fn get_must_cancel(this: &TaskObject) -> Result {
    Ok(Owned::bool(this.inner.with(|inner| inner.cancellation.is_due())))
}

fn get_log_destroy_pending(this: &TaskObject) -> Result {
    Ok(Owned::bool(this.inner.with(|inner| inner.reports_its_loss)))
}

fn set_log_destroy_pending(this: &TaskObject, value: Option<&Owned>) -> Result<()> {
    let reports = value.ok_or_else(cannot_delete)?.truth()?;
    this.inner.with(|inner| inner.reports_its_loss = reports);
    Ok(())
}

/// asyncio's function of that name with the task, and the keywords of the call in this order.
fn by_asyncio<const N: usize>(
    this: &TaskObject,
    args: Args<'_>,
    function: &str,
    keywords: [&Owned; N],
) -> Result {
    if !args.positional().is_empty() {
        return Err(type_error("no positional arguments are taken here"));
    }
    let given = args.bind(keywords, 0)?;
    let function = import("asyncio.base_tasks", function)?;
    let mut values = vec![this.owned()];
    // SAFETY: the arguments are alive during the call.
    values.extend(
        given.map(|value| value.map_or_else(Owned::none, |value| unsafe { Owned::from_borrowed(value) })),
    );
    let values: Vec<&Owned> = values.iter().collect();
    crate::ffi::call::call_with_keywords(&function, &values, None)
}

fn get_stack(this: &TaskObject, args: Args<'_>) -> Result {
    by_asyncio(this, args, "_task_get_stack", [&names().limit])
}

fn print_stack(this: &TaskObject, args: Args<'_>) -> Result {
    by_asyncio(this, args, "_task_print_stack", [&names().limit, &names().file])
}

fn repr(this: &TaskObject) -> Result {
    this.as_future().check_initialised()?;
    call(&import("asyncio.base_tasks", "_task_repr")?, [&this.owned()])
}

/// Adds the members that are a task's own.
pub fn add(kind: HeapType) -> HeapType {
    let kind = kind
        .slot(ffi::Py_tp_repr, unary_slot!(repr))
        .method(c"cancel", method!(c"cancel", cancel), c"cancel(msg=None): throw CancelledError into it.")
        .method_noargs(
            c"uncancel",
            method_noargs!(uncancel),
            c"Take one request to cancel back; how many remain.",
        )
        .method_noargs(
            c"cancelling",
            method_noargs!(cancelling),
            c"How many requests to cancel were not taken back.",
        )
        .method_one(c"set_result", method_one!(set_result), c"Not for tasks.")
        .method_one(c"set_exception", method_one!(set_exception), c"Not for tasks.")
        .method_noargs(c"get_name", method_noargs!(get_name), c"The task's name.")
        .method_one(c"set_name", method_one!(set_name), c"Name the task.")
        .method_noargs(c"get_coro", method_noargs!(get_coro), c"The coroutine that it runs.")
        .method(
            c"get_stack",
            method!(c"get_stack", get_stack),
            c"get_stack(*, limit=None): the frames where it is suspended, or of its traceback.",
        )
        .method(
            c"print_stack",
            method!(c"print_stack", print_stack),
            c"print_stack(*, limit=None, file=None): print those frames.",
        )
        .attribute(c"_coro", getter!(get_coro), None, c"The coroutine.")
        .attribute(c"_fut_waiter", getter!(get_waiter), None, c"What it waits for.")
        .attribute(
            c"_must_cancel",
            getter!(get_must_cancel),
            None,
            c"Whether its next step throws CancelledError.",
        )
        .attribute(
            c"_log_destroy_pending",
            getter!(get_log_destroy_pending),
            Some(setter!(set_log_destroy_pending)),
            c"Whether it is reported if it is dropped before it is done.",
        );
    if cfg!(Py_3_12) {
        kind.method_noargs(c"get_context", method_noargs!(get_context), c"The context that it runs in.")
    } else {
        kind
    }
}
