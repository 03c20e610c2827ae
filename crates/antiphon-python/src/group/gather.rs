//! `gather`: its arguments as children of one future.
//!
//! Source: CPython Lib/asyncio/tasks.py (`gather`).

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use pyo3::ffi;

use super::gathering_future::{self, GatheringRef};
use super::identity::AddressHasher;
use super::task_group::list_of;
use super::{awaited_by, child, ensure, owner, task};
use crate::ffi::{Args, Owned, Raised, Result, call, call_method, check};
use crate::future::FutureRef;
use crate::names::names;

/// Which arguments came already, and as which child. As in a dict, equal arguments are one; nearly all are equal to
/// themselves only, and those are not asked.
#[derive(Default)]
struct Seen {
    identical: HashMap<usize, Owned, BuildHasherDefault<AddressHasher>>,
    equal: Option<Owned>,
}

/// Whether objects of its type are equal to themselves only.
#[inline]
fn is_only_itself(object: &Owned) -> bool {
    // SAFETY: living types; their slots are compared, not called.
    unsafe {
        let kind = &*ffi::Py_TYPE(object.as_ptr());
        let plain = &raw const ffi::PyBaseObject_Type;
        let same = |one: Option<ffi::hashfunc>, other: Option<ffi::hashfunc>| {
            one.map(|slot| slot as usize) == other.map(|slot| slot as usize)
        };
        same(kind.tp_hash, (*plain).tp_hash)
            && kind.tp_richcompare.map(|slot| slot as usize)
                == (*plain).tp_richcompare.map(|slot| slot as usize)
    }
}

impl Seen {
    fn find(&self, argument: &Owned) -> Result<Option<Owned>> {
        if is_only_itself(argument) {
            return Ok(self.identical.get(&(argument.as_ptr() as usize)).cloned());
        }
        let Some(equal) = &self.equal else {
            // As a dict does it: what cannot be hashed cannot be looked up.
            // SAFETY: F1; a living object.
            check(unsafe { ffi::PyObject_Hash(argument.as_ptr()) } as i32)?;
            return Ok(None);
        };
        // SAFETY: F1; living objects; gives a borrowed reference, or null with or without an error.
        unsafe {
            let found = ffi::PyDict_GetItemWithError(equal.as_ptr(), argument.as_ptr());
            if found.is_null() && !ffi::PyErr_Occurred().is_null() {
                return Err(Raised);
            }
            Ok(Owned::from_optional(found))
        }
    }

    fn insert(&mut self, argument: &Owned, child: &Owned) -> Result<()> {
        if is_only_itself(argument) {
            self.identical.insert(argument.as_ptr() as usize, child.clone());
            return Ok(());
        }
        // SAFETY: F1; living objects.
        unsafe {
            let equal = match self.equal.take() {
                Some(equal) => equal,
                None => Owned::from_new(ffi::PyDict_New())?,
            };
            let added = check(ffi::PyDict_SetItem(equal.as_ptr(), argument.as_ptr(), child.as_ptr()));
            self.equal = Some(equal);
            added.map(drop)
        }
    }
}

/// A `gather` whose arguments are being looked at.
struct Gatherer {
    outer: Option<GatheringRef>,
    owner: Option<Owned>,
    task: Option<Owned>,
    return_exceptions: bool,
    seen: Seen,
    /// Children that were done from the start.
    done: Vec<Owned>,
}

impl Gatherer {
    /// `only`: there is no other argument that this one could be equal to.
    fn add(&mut self, argument: &Owned, only: bool) -> Result<()> {
        if !only
            && let Some(child) = self.seen.find(argument)?
            && let Some(outer) = &self.outer
        {
            outer.add(child, false);
            return Ok(());
        }
        let child = ensure::ensure_future(argument, self.owner.as_ref())?;
        if self.owner.is_none() {
            self.owner = Some(child::owner(&child)?);
        }
        if child.as_ptr() != argument.as_ptr() {
            task::ignore_loss(&child)?;
        }
        if !only {
            self.seen.insert(argument, &child)?;
        }
        let outer = self.outer()?;
        outer.add(child.clone(), true);
        // Before CPython 3.12 tasks did not start eagerly, and what was done was told so in the next turn.
        if cfg!(Py_3_12) && child::is_done(&child)? {
            self.done.push(child);
            return Ok(());
        }
        outer.watch(&child)
    }

    fn outer(&mut self) -> Result<&GatheringRef> {
        if self.outer.is_none() {
            let owner = self.owner.clone().unwrap_or_else(Owned::none);
            let outer = gathering_future::make(owner, self.task.clone(), self.return_exceptions)?;
            self.outer = Some(outer);
        }
        self.outer.as_ref().ok_or(Raised)
    }
}

/// A future with an empty list.
fn gather_nothing() -> Result {
    let owner = owner::event_loop()?;
    let outer = owner::create_future(&owner)?;
    let empty = list_of(&[])?;
    match FutureRef::cast(&outer) {
        Some(native) => native.set_result(empty)?,
        None => drop(call_method(&outer, &names().set_result, [&empty])?),
    }
    Ok(outer)
}

/// The running loop and its task, where edges of the call graph are drawn (from 3.14 on).
fn running_task() -> Result<(Option<Owned>, Option<Owned>)> {
    if !cfg!(Py_3_14) {
        return Ok((None, None));
    }
    let names = names();
    let running = call(&names.events_module.attr(&names._get_running_loop)?, [])?;
    if running.is_none() {
        return Ok((None, None));
    }
    let task = awaited_by::current(&running)?;
    Ok((Some(running), task))
}

fn gather(args: Args<'_>) -> Result {
    let return_exceptions = match args.only_keyword(&names().return_exceptions)? {
        // SAFETY: the argument is alive during the call.
        Some(value) => unsafe { Owned::from_borrowed(*value) }.truth()?,
        None => false,
    };
    let arguments = args.positional();
    if arguments.is_empty() {
        return gather_nothing();
    }
    let (owner, task) = running_task()?;
    let mut gatherer =
        Gatherer { outer: None, owner, task, return_exceptions, seen: Seen::default(), done: Vec::new() };
    for argument in arguments {
        // SAFETY: the arguments are alive during the call.
        let argument = unsafe { Owned::from_borrowed(*argument) };
        if let Err(raised) = gatherer.add(&argument, arguments.len() == 1) {
            if let Some(outer) = &gatherer.outer {
                outer.abandon();
            }
            return Err(raised);
        }
    }
    let outer = gatherer.outer.take().ok_or(Raised)?;
    for child in &gatherer.done {
        outer.child_done(child)?;
    }
    Ok(outer.into_object())
}

/// The functions of this file.
pub const FUNCTIONS: [crate::ffi::function::Function; 1] = [(
    c"gather",
    crate::function!(c"gather", gather),
    c"gather(*coros_or_futures, return_exceptions=False)\n--\n\nA future of the list of what they return.",
)];
