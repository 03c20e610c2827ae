//! `Coroutine`: the phases of a native coroutine and the ways between them.

use std::mem::offset_of;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::ffi;

use super::binding::{Binding, LookedUp};
use super::{Operation, Resume, Step};
use crate::ffi::raise::{self, runtime_error, type_error, value_error};
use crate::ffi::static_str::StaticStr;
use crate::ffi::step_cell::{Lent, Phase, StepCell};
use crate::ffi::{Instance, Owned, Payload, Raised, Result};

/// The payload of a native coroutine.
pub struct Coroutine<O: Operation> {
    qualified_name: StaticStr,
    pub(super) operation: StepCell<O>,
    /// What looking up a special method leaves here: see [`super::special`].
    pub(super) binding: O::Binding,
    /// Whether its finalizer ran: the interpreter will not run it again.
    finalized: AtomicBool,
    /// Whether the collector knows it.
    tracked: AtomicBool,
}

impl<O: Operation> Coroutine<O> {
    #[inline(always)]
    fn new(qualified_name: &'static str, operation: StepCell<O>) -> Self {
        Self {
            qualified_name: StaticStr::new(qualified_name),
            operation,
            binding: O::Binding::default(),
            finalized: AtomicBool::new(false),
            tracked: AtomicBool::new(false),
        }
    }
}

impl<O: Operation> Payload for Coroutine<O> {
    type BaseSlots = ();
    type Dictionary = ();
    const COLLECTED: bool = true;
    #[inline(always)]
    fn type_object() -> *mut ffi::PyTypeObject {
        O::class().type_object()
    }
}

/// Makes a coroutine of `operation`. `qualified_name` is what the `async def` would be called: `Lock.acquire`.
#[inline]
pub fn make<O: Operation>(qualified_name: &'static str, operation: O) -> Result {
    O::class().create(Coroutine::new(qualified_name, StepCell::new(operation)))
}

/// The same, of `object`'s special method, to be called by `call` before it can be awaited.
#[inline]
pub(super) fn make_bound<O: Operation<Binding = LookedUp>>(
    qualified_name: &'static str,
    operation: O,
    object: Owned,
    call: ffi::vectorcallfunc,
) -> Result {
    let mut made = Coroutine::new(qualified_name, StepCell::withheld(operation));
    made.binding = LookedUp::new(object, call);
    O::class().create(made)
}

impl<O: Operation<Binding = LookedUp>> Coroutine<O> {
    /// Where instances of its type keep the function that calls them.
    pub(super) const CALL_OFFSET: usize =
        Instance::<Self>::PAYLOAD_OFFSET + offset_of!(Self, binding) + LookedUp::CALL_OFFSET;
}

impl<O: Operation> Instance<Coroutine<O>> {
    /// One step.
    ///
    /// # Errors
    /// What the operation raises; `TypeError` for a value that is sent before anybody asked, `ValueError` during a step,
    /// `RuntimeError` after the end.
    #[inline]
    pub fn step(&self, resume: Resume<'_>) -> Result<Step> {
        let (phase, mut operation) = self.operation.take().map_err(refuse)?;
        if matches!(resume, Resume::Close) {
            operation.note_ending();
        }
        if phase == Phase::Created {
            match resume {
                Resume::Send(None) => {}
                Resume::Send(Some(_)) => {
                    operation.give_back(Phase::Created);
                    return Err(type_error("can't send non-None value to a just-started coroutine"));
                }
                // It ends before its first line: there is nothing to clean up.
                Resume::Throw(_) | Resume::Close => {
                    drop(operation);
                    return Err(resume.check().err().unwrap_or(Raised));
                }
            }
        }
        let stepped = operation.step(resume);
        if let Ok(Step::Yielded(_)) = stepped {
            self.suspend(operation);
        }
        stepped
    }

    /// [`Self::step`] with nothing, which is what nearly every `await` does.
    ///
    /// # Errors
    /// As there.
    #[inline(always)]
    pub(super) fn advance(&self) -> Result<Step> {
        let (_, mut operation) = self.operation.take().map_err(refuse)?;
        let stepped = operation.step(Resume::Send(None));
        if let Ok(Step::Yielded(_)) = stepped {
            self.suspend(operation);
        }
        stepped
    }

    /// It waits from here on, perhaps in a cycle with what it waits for.
    #[inline(always)]
    fn suspend(&self, operation: Lent<'_, O>) {
        operation.suspended(self);
        let refers = operation.refers();
        operation.give_back(Phase::Suspended);
        if refers {
            self.track();
        }
    }

    /// Makes it known to the collector, unless it is.
    #[inline(always)]
    pub(super) fn track(&self) {
        if !self.tracked.load(Ordering::Relaxed) {
            self.tracked.store(true, Ordering::Relaxed);
            // SAFETY: F1; complete, and not tracked.
            unsafe { ffi::PyObject_GC_Track(self.as_ptr().cast()) };
        }
    }

    /// Has the collector forget it, if it knows it.
    #[inline(always)]
    pub(super) fn untrack(&self) {
        if self.tracked.load(Ordering::Relaxed) {
            self.tracked.store(false, Ordering::Relaxed);
            // SAFETY: F1; an object of a collected type.
            unsafe { ffi::PyObject_GC_UnTrack(self.as_ptr().cast()) };
        }
    }

    /// Short access to the operation where it waits; `None`: it does not. `f` must not run Python code.
    #[inline]
    pub fn while_suspended<R>(&self, f: impl FnOnce(&mut O) -> R) -> Option<R> {
        let (phase, mut operation) = self.operation.take().ok()?;
        let result = (phase == Phase::Suspended).then(|| f(&mut operation));
        operation.give_back(phase);
        result
    }

    /// Has the collector forget it where it waits, if it refers to nothing there.
    #[inline(always)]
    pub fn rest_untracked(&self) {
        if self.while_suspended(|operation| !operation.refers()) == Some(true) {
            self.untrack();
        }
    }

    /// Has the collector know it where it waits.
    pub fn rest_tracked(&self) {
        self.track();
    }

    /// What `await` of it iterates: itself.
    ///
    /// # Errors
    /// `RuntimeError` while somebody awaits it; `TypeError` before it was called.
    #[inline(always)]
    pub(super) fn begin_await(&self) -> Result {
        match self.operation.phase() {
            Phase::Created | Phase::Finished => Ok(self.owned()),
            Phase::Withheld => Err(not_called()),
            Phase::Running | Phase::Ending | Phase::Suspended => {
                Err(runtime_error("coroutine is being awaited already"))
            }
        }
    }

    /// `close()`: cleans up and ends, wherever it is.
    ///
    /// One that is being closed is left to that. The collector closes coroutines in any order: what the clean-up of one
    /// drops may be the last reference to the task that awaits it, which then closes its coroutines from the outermost on.
    ///
    /// # Errors
    /// What the clean-up raises; `ValueError` during a step; `RuntimeError` if the operation goes on.
    pub fn close(&self) -> Result<()> {
        if matches!(self.operation.phase(), Phase::Finished | Phase::Ending) {
            return Ok(());
        }
        match self.step(Resume::Close) {
            Ok(Step::Returned(_)) => Ok(()),
            Ok(Step::Yielded(_)) => Err(runtime_error("coroutine ignored GeneratorExit")),
            Err(raised) => {
                // SAFETY: both classes are alive while the interpreter is.
                let ended = unsafe {
                    raise::matches(ffi::PyExc_GeneratorExit) || raise::matches(ffi::PyExc_StopIteration)
                };
                if !ended {
                    return Err(raised);
                }
                drop(raise::take());
                Ok(())
            }
        }
    }

    /// Whether it returned, raised or was closed.
    pub fn is_finished(&self) -> bool {
        self.operation.phase() == Phase::Finished
    }

    /// Whether a step is on.
    pub fn is_running(&self) -> bool {
        matches!(self.operation.phase(), Phase::Running | Phase::Ending)
    }

    /// Whether nobody has awaited it yet.
    pub fn is_unstarted(&self) -> bool {
        self.operation.phase() == Phase::Created
    }

    /// Whether it has to be called before it can be awaited.
    pub fn is_withheld(&self) -> bool {
        self.operation.phase() == Phase::Withheld
    }

    /// Takes the call that lets it be awaited; whether it needed one.
    pub(super) fn set_callable_off(&self) -> bool {
        self.operation.release()
    }

    /// The object whose special method made it.
    pub(super) fn bound_to(&self) -> Option<Owned> {
        self.binding.object()
    }

    /// The same, given away; for one that ended.
    #[inline(always)]
    pub(super) fn take_bound_to(&self) -> Option<Owned> {
        self.binding.take_object()
    }

    /// Whether its finalizer ran.
    #[inline(always)]
    pub(super) fn was_finalized(&self) -> bool {
        self.finalized.load(Ordering::Relaxed)
    }

    /// See [`Self::was_finalized`].
    pub(super) fn note_finalized(&self) {
        self.finalized.store(true, Ordering::Relaxed);
    }

    /// As [`Self::qualified_name`].
    pub(super) fn static_name(&self) -> &'static str {
        self.qualified_name.get()
    }

    /// Whether somebody awaits it: it yielded and has not ended.
    pub fn is_suspended(&self) -> bool {
        self.operation.phase() == Phase::Suspended
    }

    /// `Lock.acquire` and the like.
    pub fn qualified_name(&self) -> Result {
        Owned::str(self.static_name())
    }

    /// The last part of that.
    pub fn name(&self) -> Result {
        let name = self.static_name();
        Owned::str(name.rsplit('.').next().unwrap_or(name))
    }
}

/// Why nobody can make a step of one in this phase.
#[cold]
fn refuse(phase: Phase) -> Raised {
    match phase {
        Phase::Finished => runtime_error("cannot reuse already awaited coroutine"),
        Phase::Withheld => not_called(),
        _ => value_error("coroutine already executing"),
    }
}

/// For who awaits a method instead of calling it.
#[cold]
fn not_called() -> Raised {
    type_error("object builtin_function_or_method can't be used in 'await' expression")
}
