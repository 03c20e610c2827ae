//! Entering and leaving a [`TaskGroup`]'s block.
//!
//! Source: CPython Lib/asyncio/taskgroups.py (`__aenter__`, `__aexit__`).

use std::ffi::{CStr, c_int};

use antiphon_core::group::{Left, Verdict};
use pyo3::ffi;

use super::task_group::{TaskGroup, is_base_error, list_of, refuse};
use super::waiter::Waiter;
use super::{child, owner, task};
use crate::coroutine::{self, Class, Operation, Resume, Step};
use crate::ffi::raise::{self, raise_object};
use crate::ffi::visitor::Visitor;
use crate::ffi::{Instance, Owned, Raised, Result, call};
use crate::names::{import, names};

/// `TaskGroup.__aenter__()`.
pub struct Enter(Owned);

static ENTER: Class = Class::new();
static LEAVE: Class = Class::new();

fn of(group: &Owned) -> &Instance<TaskGroup> {
    // SAFETY: the coroutines of this file are made by methods of `TaskGroup` only (F2).
    unsafe { Instance::from_ptr(group.as_ptr()) }
}

impl Enter {
    /// `group`: a `TaskGroup`.
    pub fn make(group: Owned) -> Result {
        coroutine::make("TaskGroup.__aenter__", Self(group))
    }

    fn enter(&self) -> Result<()> {
        let this = of(&self.0);
        let (entered, known) = this.state.with(|state| (state.rules.is_entered(), state.owner.clone()));
        if entered {
            return Err(refuse(&self.0, c"has already been entered"));
        }
        let owner = match known {
            Some(owner) => owner,
            None => crate::event_loop::running()?,
        };
        let Some(parent) = owner::current_task(&owner)? else {
            return Err(refuse(&self.0, c"cannot determine the parent task"));
        };
        let (before, cancel) = this.state.with(|state| {
            let before = (state.owner.replace(owner), state.parent.replace(parent));
            (before, state.rules.enter())
        });
        drop(before);
        if cancel { this.cancel_group() } else { Ok(()) }
    }
}

impl Operation for Enter {
    const TYPE_NAME: &'static CStr = c"antiphon._antiphon.TaskGroupEnter";
    type Binding = ();

    fn class() -> &'static Class {
        &ENTER
    }

    fn step(&mut self, resume: Resume<'_>) -> Result<Step> {
        resume.check()?;
        self.enter()?;
        Ok(Step::Returned(self.0.clone()))
    }

    fn traverse(&self, visitor: Visitor) -> c_int {
        visitor.all([&self.0])
    }
}

/// `TaskGroup.__aexit__(et, exc, tb)`.
pub struct Leave {
    group: Owned,
    /// What left the block.
    exception: Option<Owned>,
    /// The cancellation to pass on, if it is to be.
    cancellation: Option<Owned>,
    /// The last one that came while the group waited.
    late_cancellation: Option<Owned>,
    waiter: Option<Waiter>,
}

/// Whether it is a cancellation: before 3.13 one of asyncio's very class.
fn is_cancellation(exception: &Owned) -> bool {
    let class = names().cancelled_error.as_ptr();
    // SAFETY: F1; a living exception.
    unsafe {
        if cfg!(Py_3_13) {
            ffi::PyErr_GivenExceptionMatches(exception.as_ptr(), class) != 0
        } else {
            ffi::Py_TYPE(exception.as_ptr()).cast() == class
        }
    }
}

impl Leave {
    /// `group`: a `TaskGroup`.
    pub fn make(group: Owned, exception: Option<Owned>) -> Result {
        coroutine::make(
            "TaskGroup.__aexit__",
            Self { group, exception, cancellation: None, late_cancellation: None, waiter: None },
        )
    }

    fn this(&self) -> &Instance<TaskGroup> {
        of(&self.group)
    }

    fn left(&mut self) -> Left {
        match &self.exception {
            None => Left::Normally,
            Some(exception) if is_base_error(exception) => {
                let base = exception.clone();
                self.this().state.with(|state| {
                    if state.base_error.is_none() {
                        state.base_error = Some(base);
                    }
                });
                Left::BaseError
            }
            Some(exception) if is_cancellation(exception) => {
                self.cancellation = Some(exception.clone());
                Left::Cancelled
            }
            Some(_) => Left::Raised,
        }
    }

    fn uncancel_parent(&self) -> Result<()> {
        if let Some(parent) = self.this().state.with(|state| state.parent.clone()) {
            let left = task::uncancel(&parent)?;
            self.this().state.with(|state| state.rules.uncancelled(left));
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<Step> {
        let left = self.left();
        let (cancel_children, uncancel) =
            self.this().state.with(|state| (state.rules.leave(left), state.rules.uncancels_on_leaving()));
        if uncancel {
            self.uncancel_parent()?;
        }
        if cancel_children {
            self.this().cancel_children()?;
        }
        self.wait_or_finish()
    }

    fn wait_or_finish(&mut self) -> Result<Step> {
        let (children, owner) = self.this().state.with(|state| (state.rules.children(), state.owner.clone()));
        match owner {
            Some(owner) if children > 0 => {
                let waiter = Waiter::new(&owner)?;
                let before = self.this().state.with(|state| {
                    state.rules.wait();
                    state.waiter.replace(waiter.clone())
                });
                drop(before);
                let step = waiter.step()?;
                self.waiter = Some(waiter);
                Ok(step)
            }
            _ => self.finish().map(Step::Returned),
        }
    }

    /// The wait is over for now: the last child is done, or somebody cancelled the parent.
    fn go_on(&mut self, waiter: &Waiter, resume: Resume<'_>) -> Result<Step> {
        let waited = waiter.resumed(resume);
        let cancellation = match waited {
            Ok(()) => None,
            Err(Raised) if raise::matches(names().cancelled_error.as_ptr()) => raise::take(),
            // Whoever throws something else here has no use for the group any more.
            Err(raised) => return Err(raised),
        };
        let (cancel_children, before) =
            self.this().state.with(|state| (state.rules.waited(cancellation.is_some()), state.waiter.take()));
        drop(before);
        if cancel_children {
            self.cancellation.clone_from(&cancellation);
            self.this().cancel_children()?;
        }
        if cancellation.is_some() {
            self.late_cancellation = cancellation;
        }
        self.wait_or_finish()
    }

    /// The last child is done.
    fn finish(&mut self) -> Result {
        let base_error = self.this().state.with(|state| state.base_error.clone());
        if self.this().state.with(|state| state.rules.uncancels_at_end()) {
            self.uncancel_parent()?;
        }
        let verdict = self.this().state.with(|state| state.rules.verdict());
        let outcome = match (verdict, base_error) {
            (Verdict::BaseError, Some(base_error)) => Err(raise_object(&base_error)),
            (Verdict::Cancellation, _) => {
                let cancellation = self.cancellation.take().or_else(|| self.late_cancellation.take());
                Err(cancellation.map_or(Raised, |cancellation| raise_object(&cancellation)))
            }
            (Verdict::Errors { with_blocks_own, recancel_parent }, _) => {
                self.raise_errors(with_blocks_own, recancel_parent)
            }
            // From 3.15 on nothing that deserves to be raised is left.
            (Verdict::Nothing | Verdict::BaseError, _) if cfg!(Py_3_15) => Ok(Owned::bool(true)),
            (Verdict::Nothing | Verdict::BaseError, _) => Ok(Owned::none()),
        };
        self.let_go();
        outcome
    }

    fn raise_errors(&mut self, with_blocks_own: bool, recancel_parent: bool) -> Result {
        let mut errors = self.this().state.with(|state| std::mem::take(&mut state.errors));
        if with_blocks_own {
            errors.extend(self.exception.clone());
        }
        if recancel_parent && let Some(parent) = self.this().state.with(|state| state.parent.clone()) {
            // Others want the parent cancelled: it is told again, which leaves their count as it was.
            if task::cancelling(&parent)? > 0 {
                task::uncancel(&parent)?;
                child::cancel(&parent, None)?;
            }
        }
        if cfg!(Py_3_15) && with_blocks_own && errors.len() == 1 {
            // An async generator that is closed inside of a group ends as one without a group.
            // SAFETY: F1; a living exception, and the class is alive while the interpreter is.
            let closed = unsafe {
                ffi::PyErr_GivenExceptionMatches(errors[0].as_ptr(), ffi::PyExc_GeneratorExit) != 0
            };
            if closed {
                return Err(raise_object(&errors[0]));
            }
        }
        let message = Owned::str("unhandled errors in a TaskGroup")?;
        let group = call(&import("builtins", "BaseExceptionGroup")?, [&message, &list_of(&errors)?])?;
        let raised = raise_object(&group);
        // `from None`.
        // SAFETY: F1; a living exception.
        unsafe { ffi::PyException_SetCause(group.as_ptr(), std::ptr::null_mut()) };
        Err(raised)
    }

    /// A group that has ended keeps nobody alive. (asyncio's keeps the parent and the base error until 3.13.)
    fn let_go(&mut self) {
        let pending = raise::take();
        let dropped = self
            .this()
            .state
            .with(|state| (state.parent.take(), state.base_error.take(), std::mem::take(&mut state.errors)));
        drop(dropped);
        if let Some(pending) = pending {
            raise::restore(pending);
        }
    }
}

impl Operation for Leave {
    const TYPE_NAME: &'static CStr = c"antiphon._antiphon.TaskGroupLeave";
    type Binding = ();

    fn class() -> &'static Class {
        &LEAVE
    }

    fn step(&mut self, resume: Resume<'_>) -> Result<Step> {
        match self.waiter.take() {
            None => self.begin(),
            Some(waiter) => self.go_on(&waiter, resume),
        }
    }

    fn traverse(&self, visitor: Visitor) -> c_int {
        let exceptions = [&self.exception, &self.cancellation, &self.late_cancellation].into_iter().flatten();
        let waiter = self.waiter.as_ref().map(Waiter::future);
        visitor.all([&self.group].into_iter().chain(exceptions).chain(waiter))
    }
}

/// Makes the types.
pub fn load(module: &Owned) -> Result<()> {
    coroutine::load::<Enter>(module)?;
    coroutine::load::<Leave>(module)
}
