//! `Coroutine`: the phases of a native coroutine and the ways between them.

use std::mem::offset_of;

use pyo3::ffi;

use super::{Operation, Resume, Step};
use crate::ffi::raise::{self, runtime_error, type_error, value_error};
use crate::ffi::step_cell::{Phase, StepCell};
use crate::ffi::{Instance, Owned, Payload, Raised, Result};

/// The payload of a native coroutine.
pub struct Coroutine<O> {
    qualified_name: &'static str,
    pub(super) operation: StepCell<O>,
    /// Set where looking up a special method makes the coroutine: see [`super::special`].
    call: Option<ffi::vectorcallfunc>,
    /// The object that the special method belongs to.
    pub(super) bound_to: Option<Owned>,
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
    let operation = StepCell::new(operation);
    O::class().create(Coroutine { qualified_name, operation, call: None, bound_to: None })
}

/// The same, of `object`'s special method, to be called by `call` before it can be awaited.
#[inline]
pub(super) fn make_bound<O: Operation>(
    qualified_name: &'static str,
    operation: O,
    object: Owned,
    call: ffi::vectorcallfunc,
) -> Result {
    let operation = StepCell::withheld(operation);
    O::class().create(Coroutine { qualified_name, operation, call: Some(call), bound_to: Some(object) })
}

impl<O: Operation> Coroutine<O> {
    /// Where instances of its type keep the function that calls them.
    pub(super) const CALL_OFFSET: usize = Instance::<Self>::PAYLOAD_OFFSET + offset_of!(Self, call);
}

impl<O: Operation> Instance<Coroutine<O>> {
    /// One step.
    ///
    /// # Errors
    /// What the operation raises; `TypeError` for a value that is sent before anybody asked, `ValueError` during a step,
    /// `RuntimeError` after the end.
    #[inline]
    pub fn step(&self, resume: Resume<'_>) -> Result<Step> {
        let (phase, mut operation) = match self.operation.take() {
            Ok(taken) => taken,
            Err(Phase::Finished) => return Err(runtime_error("cannot reuse already awaited coroutine")),
            Err(Phase::Withheld) => return Err(not_called()),
            Err(_) => return Err(value_error("coroutine already executing")),
        };
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
            operation.give_back(Phase::Suspended);
        }
        stepped
    }

    /// `close()`: cleans up and ends, wherever it is.
    ///
    /// # Errors
    /// What the clean-up raises; `ValueError` during a step; `RuntimeError` if the operation goes on.
    pub fn close(&self) -> Result<()> {
        if self.is_finished() {
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
        self.operation.phase() == Phase::Running
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
    pub(super) fn bound_to(&self) -> Option<&Owned> {
        self.bound_to.as_ref()
    }

    /// As [`Self::qualified_name`].
    pub(super) fn static_name(&self) -> &'static str {
        self.qualified_name
    }

    /// Whether somebody awaits it: it yielded and has not ended.
    pub fn is_suspended(&self) -> bool {
        self.operation.phase() == Phase::Suspended
    }

    /// `Lock.acquire` and the like.
    pub fn qualified_name(&self) -> Result {
        Owned::str(self.qualified_name)
    }

    /// The last part of that.
    pub fn name(&self) -> Result {
        Owned::str(self.qualified_name.rsplit('.').next().unwrap_or(self.qualified_name))
    }
}

/// For who awaits a method instead of calling it.
#[cold]
pub(super) fn not_called() -> Raised {
    type_error("object builtin_function_or_method can't be used in 'await' expression")
}
