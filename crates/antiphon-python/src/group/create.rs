//! `loop.create_task` for a group's tasks, with the keywords that the running CPython's `TaskGroup.create_task` takes.
//!
//! Source: CPython Lib/asyncio/taskgroups.py (`create_task`).

#[cfg(not(Py_3_14))]
use crate::ffi::call::call_with_keywords;
use crate::ffi::{Args, Owned, Result};
use crate::names::names;

/// `owner.create_task(*args, **keywords)`, where `args` are those of the group's method.
#[cfg(Py_3_14)]
pub fn with_keywords(owner: &Owned, coroutine: &Owned, args: Args<'_>) -> Result {
    let names = names();
    let create = owner.attr(&names.create_task)?;
    if !args.positional().is_empty() {
        return args.forward(&create);
    }
    // The coroutine was given by name; the loop gets it by place.
    // SAFETY: F1; the arguments are alive during the call, keywords come as a tuple of names.
    unsafe {
        let given = Owned::from_new(pyo3::ffi::PyDict_New())?;
        for (place, value) in args.values().iter().enumerate() {
            let name = pyo3::ffi::PyTuple_GET_ITEM(args.keywords(), place as isize);
            if pyo3::ffi::PyUnicode_Compare(name, names.coro.as_ptr()) != 0 {
                crate::ffi::check(pyo3::ffi::PyDict_SetItem(given.as_ptr(), name, *value))?;
            }
        }
        let arguments = Owned::tuple([coroutine.clone()])?;
        Owned::from_new(pyo3::ffi::PyObject_Call(create.as_ptr(), arguments.as_ptr(), given.as_ptr()))
    }
}

/// `owner.create_task(coro, name=name, context=context)`: what is None is left out, for loops that do not know it.
#[cfg(not(Py_3_14))]
pub fn with_keywords(owner: &Owned, coroutine: &Owned, args: Args<'_>) -> Result {
    let names = names();
    let [_, name, context] = args.bind([&names.coro, &names.name, &names.context], 1)?.map(|value| {
        // SAFETY: the arguments are alive during the call.
        value.and_then(|value| unsafe { Owned::from_optional(value) })
    });
    let create = owner.attr(&names.create_task)?;
    let (given, keywords): (Vec<&Owned>, _) = match (&name, &context) {
        (None, None) => (vec![coroutine], None),
        (Some(name), None) => (vec![coroutine, name], Some(&names.name_keyword)),
        (None, Some(context)) => (vec![coroutine, context], Some(&names.context_keyword)),
        (Some(name), Some(context)) => (vec![coroutine, name, context], Some(&names.name_context_keywords)),
    };
    call_with_keywords(&create, &given, keywords)
}
