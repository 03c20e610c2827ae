//! `ensure_future`: whatever can be awaited as a future, and what counts as which.
//!
//! Source: CPython Lib/asyncio/tasks.py, Lib/asyncio/coroutines.py, Lib/asyncio/futures.py.

use std::sync::OnceLock;

use pyo3::ffi;

use super::{child, owner};
use crate::ffi::raise::{self, type_error, value_error};
use crate::ffi::{Args, Owned, Raised, Result, call, call_method};
use crate::future::FutureRef;
use crate::names::{import, names};
use crate::task::create::explain_generator;

/// Types that were found to be of coroutines, kept alive: asyncio keeps such a list, too, for its question is a slow one.
static COROUTINE_TYPES: [OnceLock<Owned>; 8] = [const { OnceLock::new() }; 8];

#[inline]
fn is_known_coroutine(object: &Owned) -> bool {
    // SAFETY: F1; a living object.
    if unsafe { ffi::PyCoro_CheckExact(object.as_ptr()) } != 0 {
        return true;
    }
    let known = COROUTINE_TYPES.iter().map_while(OnceLock::get);
    known.into_iter().any(|kind| object.is_exactly(kind.as_ptr().cast()))
}

/// Remembers the type of a coroutine, if there is room and no class derives from it.
fn remember_type(object: &Owned) {
    // SAFETY: F1; a living object's type.
    unsafe {
        let kind = ffi::Py_TYPE(object.as_ptr());
        let constant = ffi::PyType_HasFeature(kind, ffi::Py_TPFLAGS_BASETYPE) == 0;
        if constant && let Some(place) = COROUTINE_TYPES.iter().find(|place| place.get().is_none()) {
            let _ = place.set(Owned::from_borrowed(kind.cast()));
        }
    }
}

/// `asyncio.isfuture(object)`.
#[inline]
pub fn is_future(object: &Owned) -> Result<bool> {
    if FutureRef::cast(object).is_some() {
        return Ok(true);
    }
    if is_known_coroutine(object) {
        return Ok(false);
    }
    let names = names();
    call(&names.futures_module.attr(&names.isfuture)?, [object])?.truth()
}

/// `asyncio.iscoroutine(object)`.
#[inline]
pub fn is_coroutine(object: &Owned) -> Result<bool> {
    if is_known_coroutine(object) {
        return Ok(true);
    }
    if FutureRef::cast(object).is_some() {
        return Ok(false);
    }
    let names = names();
    let is_coroutine = call(&names.coroutines_module.attr(&names.iscoroutine)?, [object])?.truth()?;
    if is_coroutine && !is_future(object)? {
        remember_type(object);
    }
    Ok(is_coroutine)
}

/// `inspect.isawaitable(object)`.
pub fn is_awaitable(object: &Owned) -> Result<bool> {
    call(&names().isawaitable, [object])?.truth()
}

/// The object as a future of `owner`, or of the current loop: itself if it is one, else a task.
///
/// # Errors
/// `ValueError` for a future of another loop, `TypeError` for what cannot be awaited.
pub fn ensure_future(object: &Owned, owner: Option<&Owned>) -> Result {
    if is_future(object)? {
        if let Some(owner) = owner
            && child::owner(object)?.as_ptr() != owner.as_ptr()
        {
            return Err(value_error(
                "The future belongs to a different loop than the one specified as the loop argument",
            ));
        }
        return Ok(object.clone());
    }
    let (coroutine, ours_to_close) = if is_coroutine(object)? {
        (object.clone(), true)
    } else if is_awaitable(object)? {
        (call(&import("antiphon.awaitables", "wrap_awaitable")?, [object])?, false)
    } else {
        let refused = type_error("An asyncio.Future, a coroutine or an awaitable is required");
        return Err(explain_generator(object, refused));
    };
    let found;
    let owner = match owner {
        Some(owner) => owner,
        None => {
            found = owner::event_loop()?;
            &found
        }
    };
    call_method(owner, &names().create_task, [&coroutine]).inspect_err(|_| {
        // SAFETY: the class is alive while the interpreter is.
        if ours_to_close && unsafe { raise::matches(ffi::PyExc_RuntimeError) } {
            close_quietly(&coroutine);
        }
    })
}

/// Closes a coroutine that will not run, with an exception on its way.
fn close_quietly(coroutine: &Owned) {
    let pending = raise::take();
    if call_method(coroutine, &names().close, []).is_err() {
        // As in Python: the newer exception wins.
        return;
    }
    if let Some(pending) = pending {
        let Raised = raise::restore(pending);
    }
}

fn function(args: Args<'_>) -> Result {
    let names = names();
    args.at_most(1)?;
    let [object, owner] = args.bind([&names.coro_or_future, &names.loop_], 1)?;
    // SAFETY: the arguments are alive during the call.
    let (object, owner) = unsafe {
        let object = object.map_or_else(Owned::none, |object| Owned::from_borrowed(object));
        (object, owner.and_then(|owner| Owned::from_optional(owner)))
    };
    ensure_future(&object, owner.as_ref())
}

/// The functions of this file.
pub const FUNCTIONS: [crate::ffi::function::Function; 1] = [(
    c"ensure_future",
    crate::function!(c"ensure_future", function),
    c"ensure_future(coro_or_future, *, loop=None)\n--\n\nA future of whatever can be awaited: itself, or a task.",
)];
