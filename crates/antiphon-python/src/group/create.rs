//! `loop.create_task` for a group's tasks, with the keywords that the running CPython's `TaskGroup.create_task` takes.
//!
//! Source: CPython Lib/asyncio/taskgroups.py (`create_task`).

use crate::ffi::call::call_with_keywords;
use crate::ffi::{Args, Owned, Result};
use crate::names::names;

/// `owner.create_task(*args, **keywords)`, where `args` are those of the group's method.
#[cfg(Py_3_14)]
pub fn with_keywords(owner: &Owned, args: Args<'_>) -> Result {
    args.forward(&owner.attr(&names().create_task)?)
}

/// `owner.create_task(coro, name=name, context=context)`: what is None is left out, for loops that do not know it.
#[cfg(not(Py_3_14))]
pub fn with_keywords(owner: &Owned, args: Args<'_>) -> Result {
    let names = names();
    let [coroutine, name, context] = args.bind([&names.coro, &names.name, &names.context], 1)?.map(|value| {
        // SAFETY: the arguments are alive during the call.
        value.and_then(|value| unsafe { Owned::from_optional(value) })
    });
    let coroutine = coroutine.unwrap_or_else(Owned::none);
    let create = owner.attr(&names.create_task)?;
    let (given, keywords): (Vec<&Owned>, _) = match (&name, &context) {
        (None, None) => (vec![&coroutine], None),
        (Some(name), None) => (vec![&coroutine, name], Some(&names.name_keyword)),
        (None, Some(context)) => (vec![&coroutine, context], Some(&names.context_keyword)),
        (Some(name), Some(context)) => (vec![&coroutine, name, context], Some(&names.name_context_keywords)),
    };
    call_with_keywords(&create, &given, keywords)
}
