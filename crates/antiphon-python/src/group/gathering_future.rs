//! `_GatheringFuture`: the future that `gather` gives. Cancelling it cancels its children, and it ends when they have.
//!
//! It is its own observer of the children, so that a child costs no object of its own here. What a child's end means is
//! `antiphon_core::gather`'s to say.
//!
//! Source: CPython Lib/asyncio/tasks.py (`gather`, `_GatheringFuture`).

use std::ffi::{c_int, c_void};

use antiphon_core::{Ended, Gather, GatherStep};
use pyo3::ffi;

use super::task_group::list_of;
use super::{awaited_by, child};
use crate::ffi::derived::{Derived, DerivedPayload, TypeCell, allocate, payload_offset};
use crate::ffi::visitor::Visitor;
use crate::ffi::{Args, GilCell, HeapType, Owned, Result, This, call};
use crate::future::{FutureData, FutureObject, FutureRef, future_type};
use crate::names::names;
use crate::{getter, method, setter};

/// What a gathering future keeps beside a future's own.
struct Gathering {
    rules: Gather,
    /// In the order of the arguments, one for each.
    children: Vec<Owned>,
    /// The task that asked, for the call graph.
    task: Option<Owned>,
    /// `gather` itself has failed: the children's exceptions count as seen.
    abandoned: bool,
}

/// The payload: a future's, then its own (F4).
#[repr(C)]
pub struct GatheringData {
    future: FutureData,
    gathering: GilCell<Gathering>,
}

impl DerivedPayload for GatheringData {}

type GatheringObject = Derived<GatheringData>;

static GATHERING: TypeCell = TypeCell::new();

/// A reference to one.
pub struct GatheringRef(Owned);

/// Makes a pending one of the loop.
pub fn make(owner: Owned, task: Option<Owned>, return_exceptions: bool) -> Result<GatheringRef> {
    let gathering =
        Gathering { rules: Gather::new(return_exceptions), children: Vec::new(), task, abandoned: false };
    let made = allocate(
        GATHERING.get(),
        GatheringData { future: FutureData::default(), gathering: GilCell::new(gathering) },
    )?;
    // SAFETY: made above; the payload begins with a future's.
    unsafe { FutureObject::from_ptr(made.as_ptr()) }.initialise(Some(owner))?;
    Ok(GatheringRef(made))
}

impl GatheringRef {
    fn this(&self) -> &GatheringObject {
        // SAFETY: made by `make`.
        unsafe { GatheringObject::from_ptr(self.0.as_ptr()) }
    }

    /// The future.
    pub fn into_object(self) -> Owned {
        self.0
    }

    /// One more argument's child. `first`: it was not among those before.
    #[inline]
    pub fn add(&self, child: Owned, first: bool) {
        self.this().gathering.with(|gathering| {
            if first {
                gathering.rules.add_child();
            }
            gathering.children.push(child);
        });
    }

    /// Watches a child that is not done.
    #[inline]
    pub fn watch(&self, child: &Owned) -> Result<()> {
        if let Some(task) = self.this().gathering.with(|gathering| gathering.task.clone()) {
            awaited_by::add(child, &task)?;
        }
        child::watch(child, &self.0)
    }

    /// A child was done from the start.
    pub fn child_done(&self, child: &Owned) -> Result<()> {
        child_done(&self.0, child)
    }

    /// `gather` has failed; the children that are watched already go on.
    pub fn abandon(&self) {
        self.this().gathering.with(|gathering| gathering.abandoned = true);
    }
}

/// Whether `observer` is a gathering future.
pub fn is_gathering(observer: &Owned) -> bool {
    observer.is_exactly(GATHERING.get())
}

/// A child of `outer`, a gathering future, is done.
pub fn child_done(outer: &Owned, child: &Owned) -> Result<()> {
    // SAFETY: by the caller's word.
    let this = unsafe { GatheringObject::from_ptr(outer.as_ptr()) };
    let Some(future) = FutureRef::cast(outer) else {
        return Ok(());
    };
    let ended = child::ended(child)?;
    let outer_done = future.is_done();
    let (step, task) = this.gathering.with(|gathering| {
        let settled = outer_done || gathering.abandoned;
        (gathering.rules.child_done(ended, settled), gathering.task.clone())
    });
    if let Some(task) = &task {
        awaited_by::discard(child, task)?;
    }
    match step {
        GatherStep::Wait => Ok(()),
        GatherStep::Ignore => {
            if ended == Ended::Raised {
                child::exception(child)?;
            }
            Ok(())
        }
        GatherStep::Fail => {
            let exception = match ended {
                Ended::Cancelled => Some(child::make_cancelled_error(child)?),
                _ => child::exception(child)?,
            };
            if let Some(task) = &task {
                for child in this.children() {
                    awaited_by::discard(&child, task)?;
                }
            }
            exception.map_or(Ok(()), |exception| future.set_exception(exception))
        }
        GatherStep::Finish => future.set_result(this.results()?),
        GatherStep::Cancel => {
            // As in asyncio, everybody's exception counts as seen.
            drop(this.results()?);
            match this.children().last() {
                Some(last) => future.set_exception(child::make_cancelled_error(last)?),
                None => Ok(()),
            }
        }
    }
}

impl GatheringObject {
    fn children(&self) -> Vec<Owned> {
        self.gathering.with(|gathering| gathering.children.clone())
    }

    /// A list of what became of each child.
    fn results(&self) -> Result {
        let children = self.children();
        // SAFETY: F1; each place is filled once. A list with empty places is seen by nobody: asking a child runs Python
        // code only for futures of others, for which the results are collected first.
        unsafe {
            if children.iter().all(|child| FutureRef::cast(child).is_some()) {
                let list = Owned::from_new(ffi::PyList_New(children.len() as isize))?;
                for (place, child) in children.iter().enumerate() {
                    ffi::PyList_SET_ITEM(list.as_ptr(), place as isize, outcome_of(child)?.into_ptr());
                }
                return Ok(list);
            }
        }
        list_of(&children.iter().map(outcome_of).collect::<Result<Vec<_>>>()?)
    }

    fn cancel(&self, message: Option<&Owned>) -> Result<bool> {
        let mut reached_any = false;
        for child in self.children() {
            reached_any |= child::cancel(&child, message)?;
        }
        Ok(self.gathering.with(|gathering| gathering.rules.cancel(reached_any)))
    }
}

/// A child's result, or its exception as a result.
#[inline]
fn outcome_of(child: &Owned) -> Result {
    match child::ended(child)? {
        Ended::Returned => child::result(child),
        Ended::Raised => child::exception(child).map(|exception| exception.unwrap_or_else(Owned::none)),
        Ended::Cancelled => {
            let names = names();
            let message = child.attr(&names._cancel_message)?;
            let message = if message.is_none() { Owned::str("")? } else { message };
            call(&names.cancelled_error, [&message])
        }
    }
}

fn cancel(this: &GatheringObject, args: Args<'_>) -> Result {
    let [message] = args.optional([&names().msg])?;
    let this_object = this.owned();
    if FutureRef::cast(&this_object).is_some_and(FutureRef::is_done) {
        return Ok(Owned::bool(false));
    }
    let message = message.filter(|message| !message.is_none());
    this.cancel(message.as_ref()).map(Owned::bool)
}

fn get_children(this: &GatheringObject) -> Result {
    list_of(&this.children())
}

fn get_cancel_requested(this: &GatheringObject) -> Result {
    Ok(Owned::bool(this.gathering.with(|gathering| gathering.rules.is_cancel_requested())))
}

fn set_cancel_requested(this: &GatheringObject, value: Option<&Owned>) -> Result<()> {
    let requested = value.map_or(Ok(false), Owned::truth)?;
    this.gathering.with(|gathering| gathering.rules.set_cancel_requested(requested));
    Ok(())
}

unsafe extern "C" fn traverse(object: *mut ffi::PyObject, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: F2, and the visitor is the collector's own; the base's slot visits the type.
    unsafe {
        if let Some(base) = (*future_type()).tp_traverse {
            let status = base(object, visit, arg);
            if status != 0 {
                return status;
            }
        }
        let visitor = Visitor::new(visit, arg);
        GatheringObject::from_ptr(object)
            .gathering
            .with(|gathering| visitor.all(gathering.children.iter().chain(&gathering.task)))
    }
}

unsafe extern "C" fn clear(object: *mut ffi::PyObject) -> c_int {
    // SAFETY: F2.
    unsafe {
        let dropped = GatheringObject::from_ptr(object)
            .gathering
            .with(|gathering| (std::mem::take(&mut gathering.children), gathering.task.take()));
        drop(dropped);
        (*future_type()).tp_clear.map_or(0, |base| base(object))
    }
}

unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: the object is unreachable, unless its finalizer, which needs it tracked, makes it reachable again. What is
    // added to a future is emptied here (nothing of it is left to be freed), the rest is the base's.
    unsafe {
        if ffi::PyObject_CallFinalizerFromDealloc(object) < 0 {
            return;
        }
        ffi::PyObject_GC_UnTrack(object.cast());
        let dropped = GatheringObject::from_ptr(object)
            .gathering
            .with(|gathering| (std::mem::take(&mut gathering.children), gathering.task.take()));
        drop(dropped);
        if let Some(base) = (*future_type()).tp_dealloc {
            base(object);
        }
    }
}

/// Makes the type.
pub fn load(module: &Owned) -> Result<()> {
    if GATHERING.get().is_null() {
        let size = payload_offset() + size_of::<GatheringData>();
        // SAFETY: a type object is an object.
        let base = unsafe { Owned::from_borrowed(future_type().cast()) };
        let made = HeapType::new(c"antiphon._antiphon._GatheringFuture", size)
            .collected()
            .no_constructor()
            .doc(c"What gather() gives.")
            .slot(ffi::Py_tp_traverse, traverse as *mut c_void)
            .slot(ffi::Py_tp_clear, clear as *mut c_void)
            .slot(ffi::Py_tp_dealloc, dealloc as *mut c_void)
            .method(c"cancel", method!(c"cancel", cancel), c"cancel(msg=None): cancel the children.")
            .attribute(c"_children", getter!(get_children), None, c"The futures gathered.")
            .attribute(
                c"_cancel_requested",
                getter!(get_cancel_requested),
                Some(setter!(set_cancel_requested)),
                c"Whether a cancellation has reached the children.",
            )
            .derive(&Owned::tuple([base])?)?;
        GATHERING.set(made);
    }
    crate::add_type(module, c"_GatheringFuture", GATHERING.get())
}

/// The type object, for who registers observers.
pub fn type_object() -> *mut ffi::PyTypeObject {
    GATHERING.get()
}
