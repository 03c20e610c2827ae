//! `wait`: two sets, of what is done and of what is not.
//!
//! Source: CPython Lib/asyncio/tasks.py (`wait`).

use std::ffi::{CStr, c_int};

use antiphon_core::ReturnWhen;
use pyo3::ffi;

use super::waiting::{self, WaitingRef};
use super::{child, ensure};
use crate::coroutine::{self, Class, Operation, Resume, Step};
use crate::ffi::raise::{type_error, value_error};
use crate::ffi::visitor::Visitor;
use crate::ffi::{Args, Owned, Raised, Result, check, raise};
use crate::names::names;

/// `wait(fs, *, timeout=None, return_when=ALL_COMPLETED)`.
pub struct WaitForMany(Phase);

enum Phase {
    Start {
        children: Owned,
        limit: Option<Owned>,
        return_when: Option<Owned>,
    },
    Waiting {
        /// A set of our own.
        all: Owned,
        children: Vec<Owned>,
        waiting: WaitingRef,
    },
    /// In a step, or finished.
    Moving,
}

static CLASS: Class = Class::new();

/// The name of an object's type, as in error messages.
pub fn type_name(object: &Owned) -> String {
    // SAFETY: F1; a living object's type has a name, dotted for C types.
    let name = unsafe { CStr::from_ptr((*ffi::Py_TYPE(object.as_ptr())).tp_name) }.to_string_lossy();
    name.rsplit('.').next().unwrap_or(&name).to_owned()
}

/// `return_when` by its value.
fn rule(given: Option<&Owned>) -> Result<ReturnWhen> {
    let names = names();
    let Some(given) = given else {
        return Ok(ReturnWhen::AllCompleted);
    };
    let rules = [
        (&names.FIRST_COMPLETED, ReturnWhen::FirstCompleted),
        (&names.FIRST_EXCEPTION, ReturnWhen::FirstException),
        (&names.ALL_COMPLETED, ReturnWhen::AllCompleted),
    ];
    for (name, rule) in rules {
        // SAFETY: F1; living objects.
        if check(unsafe { ffi::PyObject_RichCompareBool(given.as_ptr(), name.as_ptr(), ffi::Py_EQ) })? != 0 {
            return Ok(rule);
        }
    }
    // SAFETY: F1; the format takes an object.
    unsafe {
        ffi::PyErr_Format(ffi::PyExc_ValueError, c"Invalid return_when value: %S".as_ptr(), given.as_ptr());
    }
    Err(Raised)
}

/// `set(iterable)`, and what is in it.
pub fn distinct(iterable: &Owned) -> Result<(Owned, Vec<Owned>)> {
    let set = new_set()?;
    let mut items = Vec::new();
    // SAFETY: F1; living objects; the iterator gives new references, or null with or without an error. Hashing may run
    // Python code, which does not know the set.
    unsafe {
        let iterator = Owned::from_new(ffi::PyObject_GetIter(iterable.as_ptr()))?;
        while let Ok(item) = Owned::from_new(ffi::PyIter_Next(iterator.as_ptr())) {
            check(ffi::PySet_Add(set.as_ptr(), item.as_ptr()))?;
            if ffi::PySet_Size(set.as_ptr()) as usize > items.len() {
                items.push(item);
            }
        }
        if ffi::PyErr_Occurred().is_null() { Ok((set, items)) } else { Err(Raised) }
    }
}

/// An empty set.
pub fn new_set() -> Result {
    // SAFETY: F1; null stands for nothing to put in.
    unsafe { Owned::from_new(ffi::PySet_New(std::ptr::null_mut())) }
}

impl WaitForMany {
    fn begin(&mut self, given: &Owned, limit: Option<&Owned>, return_when: Option<&Owned>) -> Result<Step> {
        if ensure::is_future(given)? || ensure::is_coroutine(given)? {
            return Err(type_error(&format!("expect a list of futures, not {}", type_name(given))));
        }
        if !given.truth()? {
            return Err(value_error("Set of Tasks/Futures is empty."));
        }
        let until = rule(return_when)?;
        let (all, children) = distinct(given)?;
        for child in &children {
            if ensure::is_coroutine(child)? {
                return Err(type_error("Passing coroutines is forbidden, use tasks explicitly."));
            }
        }
        let owner = crate::event_loop::running()?;
        if children.is_empty() {
            // Something that counts as true and has nothing in it.
            return Err(raise::assertion_error("Set of Futures is empty."));
        }
        let waiting = waiting::begin(owner, &children, until)?;
        if let Some(limit) = limit
            && let Err(raised) = waiting.limit(limit)
        {
            let exception = raise::take();
            waiting.give_up(&children);
            return Err(exception.map_or(raised, raise::restore));
        }
        let step = waiting.step()?;
        self.0 = Phase::Waiting { all, children, waiting };
        Ok(step)
    }
}

/// `(done, pending)`.
fn sort_out(all: Owned, children: &[Owned], complete: bool) -> Result {
    let empty = new_set()?;
    if complete {
        return Owned::tuple([all, empty]);
    }
    let mut pending = Vec::new();
    for child in children {
        if !child::is_done(child)? {
            pending.push(child);
        }
    }
    // The set is ours: what is not done moves from it to the other one.
    for child in pending {
        // SAFETY: F1; living objects; both sets are known to nobody else.
        unsafe {
            check(ffi::PySet_Add(empty.as_ptr(), child.as_ptr()))?;
            check(ffi::PySet_Discard(all.as_ptr(), child.as_ptr()))?;
        }
    }
    Owned::tuple([all, empty])
}

impl Operation for WaitForMany {
    const TYPE_NAME: &'static CStr = c"antiphon._antiphon.WaitForMany";
    type Binding = ();

    fn class() -> &'static Class {
        &CLASS
    }

    fn step(&mut self, resume: Resume<'_>) -> Result<Step> {
        match std::mem::replace(&mut self.0, Phase::Moving) {
            Phase::Start { children, limit, return_when } => {
                self.begin(&children, limit.as_ref(), return_when.as_ref())
            }
            Phase::Waiting { all, children, waiting } => {
                waiting.end(&children, resume)?;
                sort_out(all, &children, waiting.is_complete()).map(Step::Returned)
            }
            Phase::Moving => Err(raise::runtime_error("cannot reuse already awaited coroutine")),
        }
    }

    fn traverse(&self, visitor: Visitor) -> c_int {
        match &self.0 {
            Phase::Start { children, limit, return_when } => {
                visitor.all([children].into_iter().chain(limit).chain(return_when))
            }
            Phase::Waiting { all, children, waiting } => {
                visitor.all([all, waiting.object()].into_iter().chain(children))
            }
            Phase::Moving => 0,
        }
    }
}

fn wait(args: Args<'_>) -> Result {
    let names = names();
    args.at_most(1)?;
    let [children, limit, return_when] = args.bind([&names.fs, &names.timeout, &names.return_when], 1)?;
    // SAFETY: the arguments are alive during the call.
    let (children, limit, return_when) = unsafe {
        (
            children.map_or_else(Owned::none, |children| Owned::from_borrowed(children)),
            limit.and_then(|limit| Owned::from_optional(limit)),
            return_when.map(|return_when| Owned::from_borrowed(return_when)),
        )
    };
    coroutine::make("wait", WaitForMany(Phase::Start { children, limit, return_when }))
}

/// The functions of this file.
pub const FUNCTIONS: [crate::ffi::function::Function; 1] = [(
    c"wait",
    crate::function!(c"wait", wait),
    c"wait(fs, *, timeout=None, return_when='ALL_COMPLETED')\n--\n\nWait for futures; two sets: done and pending.",
)];

/// Makes the type.
pub fn load(module: &Owned) -> Result<()> {
    coroutine::load::<WaitForMany>(module)
}
