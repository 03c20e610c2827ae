//! Who waits for children until a rule is met, and is woken by a native future: the inside of `wait`, and of the wait for
//! a child that was cancelled.
//!
//! Source: CPython Lib/asyncio/tasks.py (`_wait`, `_cancel_and_wait`, `_release_waiter`).

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::OnceLock;

use antiphon_core::{Ended, ReturnWhen, Wait};
use pyo3::ffi;

use super::alarm::Alarm;
use super::waiter::Waiter;
use super::{awaited_by, child};
use crate::coroutine::{Resume, Step};
use crate::ffi::instance::Typed;
use crate::ffi::visitor::Visitor;
use crate::ffi::{GilCell, HeapType, Instance, Owned, Payload, Result, raise};
use crate::future::FutureRef;
use crate::method_noargs;

/// The payload of the observer.
pub struct Waiting {
    rules: GilCell<Wait>,
    until: ReturnWhen,
    owner: Owned,
    waiter: Waiter,
    /// The task that waits, for the call graph.
    task: Option<Owned>,
    alarm: Alarm,
}

static WAITING: OnceLock<usize> = OnceLock::new();

impl Payload for Waiting {
    type BaseSlots = ();
    type Dictionary = ();
    const COLLECTED: bool = true;
    #[inline(always)]
    fn type_object() -> *mut ffi::PyTypeObject {
        WAITING.get().map_or(ptr::null_mut(), |address| *address as *mut ffi::PyTypeObject)
    }
}

/// A reference to one.
pub type WaitingRef = Typed<Waiting>;

/// Waits for `children`, which are all different, in a loop that runs.
pub fn begin(owner: Owned, children: &[Owned], until: ReturnWhen) -> Result<WaitingRef> {
    let made = Instance::<Waiting>::create(Waiting {
        rules: GilCell::new(Wait::new(children.len(), until)),
        until,
        waiter: Waiter::new(&owner)?,
        task: awaited_by::current(&owner)?,
        owner,
        alarm: Alarm::default(),
    })?;
    for child in children {
        child::watch(child, &made)?;
    }
    // SAFETY: made above.
    let made = unsafe { WaitingRef::new_unchecked(made) };
    if let Some(task) = &made.task {
        for child in children {
            awaited_by::add(child, task)?;
        }
    }
    Ok(made)
}

impl Instance<Waiting> {
    /// Wakes the waiter in `delay` seconds at the latest.
    pub fn limit(&self, delay: &Owned) -> Result<()> {
        let this = self.owned();
        self.alarm.set_in(&self.owner, &this, delay, || this.attr(&crate::names::names().release))
    }

    /// What the coroutine yields.
    #[inline]
    pub fn step(&self) -> Result<Step> {
        self.waiter.step()
    }

    /// Ends the wait for `children`, whatever became of it.
    ///
    /// # Errors
    /// What was thrown.
    pub fn end(&self, children: &[Owned], resume: Resume<'_>) -> Result<()> {
        let resumed = self.waiter.resumed(resume);
        let pending = if resumed.is_err() { raise::take() } else { None };
        // As in a `finally`: what goes wrong here replaces what was on its way.
        self.clean_up(children)?;
        match pending {
            None => resumed,
            Some(exception) => Err(raise::restore(exception)),
        }
    }

    /// Ends the wait before it has begun, with an exception of the caller's taken aside.
    pub fn give_up(&self, children: &[Owned]) {
        if self.clean_up(children).is_err() {
            raise::write_unraisable(Some(&self.owned()));
        }
    }

    /// Whether all children are done, and have told so.
    pub fn is_complete(&self) -> bool {
        self.rules.with(|rules| rules.is_complete())
    }

    fn clean_up(&self, children: &[Owned]) -> Result<()> {
        self.alarm.cancel(&self.owner)?;
        if self.is_complete() {
            return Ok(());
        }
        let this = self.owned();
        for child in children {
            // Ours that are done have told, or will tell in vain.
            if !FutureRef::cast(child).is_some_and(FutureRef::is_done) {
                child::unwatch(child, &this)?;
            }
            if let Some(task) = &self.task {
                awaited_by::discard(child, task)?;
            }
        }
        Ok(())
    }

    /// A child is done.
    pub fn child_done(&self, child: &Owned) -> Result<()> {
        let ended = match self.until {
            // Only who waits for exceptions looks at them.
            ReturnWhen::FirstException => child::ended(child)?,
            _ => Ended::Returned,
        };
        if ended == Ended::Raised
            && let Some(native) = FutureRef::cast(child)
        {
            native.silence();
        }
        if self.rules.with(|rules| rules.child_done(ended)) {
            self.alarm.cancel(&self.owner)?;
            self.waiter.wake()?;
        }
        match &self.task {
            Some(task) => awaited_by::discard(child, task),
            None => Ok(()),
        }
    }

    /// Its turn has come: the time is up.
    pub fn on_alarm(&self) -> Result<()> {
        if self.alarm.rang() { self.waiter.wake() } else { Ok(()) }
    }
}

fn release(this: &Instance<Waiting>) -> Result {
    this.waiter.wake().map(|()| Owned::none())
}

unsafe extern "C" fn traverse(object: *mut ffi::PyObject, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: F2, and `visit` is the collector's own.
    unsafe {
        let status = visit(ffi::Py_TYPE(object).cast(), arg);
        if status != 0 {
            return status;
        }
        let this = Instance::<Waiting>::from_ptr(object);
        let visitor = Visitor::new(visit, arg);
        let status = this.alarm.traverse(|handle| visitor.all([handle]));
        if status != 0 {
            return status;
        }
        visitor.all([&this.owner, this.waiter.future()].into_iter().chain(&this.task))
    }
}

unsafe extern "C" fn clear(object: *mut ffi::PyObject) -> c_int {
    // SAFETY: F2. The rest never changes; cycles are broken at the children and at the coroutine.
    unsafe { Instance::<Waiting>::from_ptr(object) }.alarm.clear();
    0
}

unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: the object is unreachable.
    unsafe {
        ffi::PyObject_GC_UnTrack(object.cast());
        let kind = ffi::Py_TYPE(object);
        Instance::<Waiting>::finish(object);
        ffi::PyObject_GC_Del(object.cast());
        ffi::Py_DECREF(kind.cast());
    }
}

/// Makes the type.
pub fn load(module: &Owned) -> Result<()> {
    if WAITING.get().is_none() {
        let made = HeapType::new(c"antiphon._antiphon.Waiting", Instance::<Waiting>::SIZE)
            .collected()
            .no_constructor()
            .doc(c"Who waits for children.")
            .slot(ffi::Py_tp_traverse, traverse as *mut c_void)
            .slot(ffi::Py_tp_clear, clear as *mut c_void)
            .slot(ffi::Py_tp_dealloc, dealloc as *mut c_void)
            .weak_references(Instance::<Waiting>::WEAKREF_OFFSET)
            .method_noargs(c"release", method_noargs!(release), c"The time is up.")
            .build(None, Instance::<Waiting>::PAYLOAD_OFFSET)?;
        let _ = WAITING.set(made as usize);
    }
    crate::add_type(module, c"Waiting", Waiting::type_object())
}
