//! `TaskGroup`: tasks that end together.
//!
//! Who is cancelled when, and what the group raises, is `antiphon_core::group`'s; this file keeps tasks and exceptions.
//! A derived class that overrides what asyncio's group calls by its private names is run by asyncio's own rules, which are
//! Python ([`Instance::asyncios`], python/antiphon/task_groups.py): such classes rely on asyncio's private attributes, too.
//!
//! Source: CPython Lib/asyncio/taskgroups.py.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::OnceLock;

use antiphon_core::Ended;
use antiphon_core::group::{ChildEnd, Edition, Group, Refusal};
use pyo3::ffi;

use super::identity::IdentitySet;
use super::task_group_block::{Enter, Leave};
use super::waiter::Waiter;
use super::{awaited_by, child, owner};
use crate::ffi::raise;
use crate::ffi::visitor::Visitor;
use crate::ffi::{Args, GilCell, HeapType, Instance, Owned, Payload, Raised, Result, call, call_method};
use crate::names::names;
use crate::{collected_slots, getter, initialiser, method, method_noargs, method_one, unary_slot};

/// The rules of the running CPython.
pub const EDITION: Edition = Edition::of_minor(if cfg!(Py_3_15) {
    15
} else if cfg!(Py_3_14) {
    14
} else if cfg!(Py_3_13) {
    13
} else if cfg!(Py_3_12) {
    12
} else {
    11
});

/// What a group keeps.
pub(super) struct State {
    pub rules: Group,
    pub owner: Option<Owned>,
    pub parent: Option<Owned>,
    /// What was added and is not done, or has not told yet.
    pub tasks: IdentitySet,
    pub errors: Vec<Owned>,
    pub base_error: Option<Owned>,
    /// What the parent waits on in `__aexit__`.
    pub waiter: Option<Waiter>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            rules: Group::new(EDITION),
            owner: None,
            parent: None,
            tasks: IdentitySet::default(),
            errors: Vec::new(),
            base_error: None,
            waiter: None,
        }
    }
}

/// The payload of `TaskGroup`.
#[derive(Default)]
pub struct TaskGroup {
    pub(super) state: GilCell<State>,
}

static TASK_GROUP: OnceLock<usize> = OnceLock::new();

impl Payload for TaskGroup {
    type BaseSlots = ();
    type Dictionary = crate::ffi::instance::DictionarySlot;
    const COLLECTED: bool = true;
    #[inline(always)]
    fn type_object() -> *mut ffi::PyTypeObject {
        TASK_GROUP.get().map_or(ptr::null_mut(), |address| *address as *mut ffi::PyTypeObject)
    }
}

/// Whether an exception is one of those that a group raises alone.
pub fn is_base_error(exception: &Owned) -> bool {
    raise::leaves_loop(exception)
}

/// `RuntimeError("TaskGroup <repr> <what>")`.
#[cold]
pub fn refuse(group: &Owned, what: &std::ffi::CStr) -> Raised {
    // SAFETY: F1; the format takes an object and a C string.
    unsafe {
        ffi::PyErr_Format(
            ffi::PyExc_RuntimeError,
            c"TaskGroup %R %s".as_ptr(),
            group.as_ptr(),
            what.as_ptr(),
        );
    }
    Raised
}

fn init(this: &Instance<TaskGroup>, args: Args<'_>) -> Result<()> {
    if let Some(theirs) = this.asyncios(&names().__init__)? {
        return args.forward_behind(&theirs, &this.owned()).map(drop);
    }
    let [] = args.required([])?;
    drop(this.state.take());
    Ok(())
}

impl Instance<TaskGroup> {
    /// asyncio's own method of this name, if the group is of a class that has to be run by asyncio's rules.
    #[inline]
    fn asyncios(&self, name: &Owned) -> Result<Option<Owned>> {
        if self.is_exact() { Ok(None) } else { self.asyncios_if_derived(name) }
    }

    #[cold]
    fn asyncios_if_derived(&self, name: &Owned) -> Result<Option<Owned>> {
        let names = names();
        // SAFETY: F1; the type of a living object.
        let class = unsafe { Owned::from_borrowed(ffi::Py_TYPE(self.as_ptr()).cast()) };
        if !class.attr(&names._runs_by_asyncios_rules)?.truth()? {
            return Ok(None);
        }
        names.task_group_class.attr(name).map(Some)
    }

    /// Cancels every child that is not done.
    pub fn cancel_children(&self) -> Result<()> {
        for task in self.state.with(|state| state.tasks.to_vec()) {
            if !child::is_done(&task)? {
                child::cancel(&task, None)?;
            }
        }
        Ok(())
    }

    /// Cancels the parent, if it is known.
    pub fn cancel_parent(&self) -> Result<()> {
        match self.state.with(|state| state.parent.clone()) {
            Some(parent) => child::cancel(&parent, None).map(drop),
            None => Ok(()),
        }
    }

    /// A child is done, whether it was added or not.
    pub fn child_done(&self, task: &Owned) -> Result<()> {
        let ended = child::ended(task)?;
        let exception = match ended {
            // Asked for, so that it counts as seen.
            Ended::Raised => child::exception(task)?,
            _ => None,
        };
        let parent = if cfg!(Py_3_14) || exception.is_some() {
            self.state.with(|state| state.parent.clone())
        } else {
            None
        };
        if cfg!(Py_3_14)
            && let Some(parent) = &parent
        {
            awaited_by::discard(task, parent)?;
        }
        let is_base = exception.as_ref().is_some_and(is_base_error);
        let parent_done = match (&exception, &parent) {
            (Some(_), Some(parent)) => child::is_done(parent)?,
            _ => false,
        };
        let (end, member, waiter) = self.state.with(|state| {
            let member = state.tasks.remove(task);
            let end = state.rules.child_done(ended, member.is_some(), is_base, parent_done);
            let waiter = if end.wake_parent { state.waiter.clone() } else { None };
            (end, member, waiter)
        });
        drop(member);
        if let Some(waiter) = waiter {
            waiter.wake()?;
        }
        match exception {
            Some(exception) => self.child_raised(task, exception, is_base, end, parent),
            None => Ok(()),
        }
    }

    #[cold]
    fn child_raised(
        &self,
        task: &Owned,
        exception: Owned,
        is_base: bool,
        end: ChildEnd,
        parent: Option<Owned>,
    ) -> Result<()> {
        self.state.with(|state| {
            if is_base && state.base_error.is_none() {
                state.base_error = Some(exception.clone());
            }
            state.errors.push(exception.clone());
        });
        if end.report {
            return self.report_orphan(task, &exception, parent);
        }
        if end.abort_and_cancel_parent {
            self.cancel_children()?;
            self.cancel_parent()?;
        }
        Ok(())
    }

    fn report_orphan(&self, task: &Owned, exception: &Owned, parent: Option<Owned>) -> Result<()> {
        let (Some(owner), Some(parent)) = (self.state.with(|state| state.owner.clone()), parent) else {
            return Ok(());
        };
        // SAFETY: F1; the format takes two objects; the text is a string.
        let message = unsafe {
            Owned::from_new(ffi::PyUnicode_FromFormat(
                c"Task %R has errored out but its parent task %S is already completed".as_ptr(),
                task.as_ptr(),
                parent.as_ptr(),
            ))?
        };
        owner::report_object(&owner, &message, exception, &[(&names().task, task)])
    }

    /// Shows what it refers to.
    fn traverse(&self, visit: ffi::visitproc, arg: *mut c_void) -> c_int {
        let status = self.traverse_dictionary(visit, arg);
        if status != 0 {
            return status;
        }
        // SAFETY: called from the traverse slot with its own visitor.
        let visitor = unsafe { Visitor::new(visit, arg) };
        self.state.with(|state| {
            let single = [&state.owner, &state.parent, &state.base_error].into_iter().flatten();
            let waiter = state.waiter.as_ref().map(Waiter::future);
            visitor.all(single.chain(waiter).chain(state.tasks.iter()).chain(&state.errors))
        })
    }

    fn clear(&self) {
        self.clear_dictionary();
        drop(self.state.take());
    }
}

/// `create_task(coro, *, name=None, context=None)`, from 3.14 on with whatever the loop's takes.
fn create_task(this: &Instance<TaskGroup>, args: Args<'_>) -> Result {
    if let Some(theirs) = this.asyncios(&names().create_task)? {
        return args.forward_behind(&theirs, &this.owned());
    }
    args.at_most(1)?;
    let coroutine = match (args.positional(), args.keyword(&names().coro)) {
        ([coroutine], _) | ([], Some(coroutine)) => {
            // SAFETY: the argument is alive during the call.
            unsafe { Owned::from_borrowed(*coroutine) }
        }
        _ => return Err(args.at_least(1, &["coro"]).err().unwrap_or(Raised)),
    };
    let (open, owner) = this.state.with(|state| (state.rules.check_open(), state.owner.clone()));
    if let Err(refusal) = open {
        if cfg!(Py_3_13) {
            call_method(&coroutine, &names().close, [])?;
        }
        let what = match refusal {
            Refusal::NotEntered => c"has not been entered",
            Refusal::Finished => c"is finished",
            Refusal::ShuttingDown => c"is shutting down",
        };
        return Err(refuse(&this.owned(), what));
    }
    let owner = owner.unwrap_or_else(Owned::none);
    let task = if args.has_keywords() {
        super::create::with_keywords(&owner, &coroutine, args)?
    } else {
        call_method(&owner, &names().create_task, [&coroutine])?
    };
    this.adopt(task)
}

/// Whether a child that was done when it was made (by an eager start) is judged at once, as 3.12 and 3.13 did until it was
/// seen that the parent may be cancelled too early that way (CPython issue 128588, mended in 3.12.9 and 3.13.2).
static JUDGES_AT_ONCE: OnceLock<bool> = OnceLock::new();

fn judges_at_once() -> Result<bool> {
    let version = crate::names::import("sys", "hexversion")?;
    // SAFETY: F1; an int.
    let version = unsafe { ffi::PyLong_AsLong(version.as_ptr()) };
    Ok(matches!(version, 0x030c_0000..0x030c_0900 | 0x030d_0000..0x030d_0200))
}

impl Instance<TaskGroup> {
    /// Makes a task of the loop one of the group's.
    #[inline]
    fn adopt(&self, task: Owned) -> Result {
        let parent = if cfg!(Py_3_14) { self.state.with(|state| state.parent.clone()) } else { None };
        if let Some(parent) = &parent {
            awaited_by::add(&task, parent)?;
        }
        if JUDGES_AT_ONCE.get().is_some_and(|judges| *judges) && child::is_done(&task)? {
            self.child_done(&task)?;
            return Ok(task);
        }
        let aborting = self.state.with(|state| {
            state.tasks.insert(task.clone());
            state.rules.add_child();
            state.rules.is_aborting()
        });
        if self.is_exact() {
            child::watch(&task, &self.owned())?;
        } else {
            // Observers are known by their exact type.
            let callback = self.owned().attr(&names()._on_task_done)?;
            call_method(&task, &names().add_done_callback, [&callback])?;
        }
        // An eager start may have ended the group before its task belonged to it (CPython issue 155418).
        if aborting && cfg!(Py_3_15) && !child::is_done(&task)? {
            child::cancel(&task, None)?;
        }
        Ok(task)
    }

    /// 3.15's `cancel()`.
    pub fn cancel_group(&self) -> Result<()> {
        let (children, parent) = self.state.with(|state| state.rules.cancel());
        if children {
            self.cancel_children()?;
        }
        if parent {
            self.cancel_parent()?;
        }
        Ok(())
    }
}

#[cfg(Py_3_15)]
fn cancel(this: &Instance<TaskGroup>) -> Result {
    if let Some(theirs) = this.asyncios(&names().cancel)? {
        return call(&theirs, [&this.owned()]);
    }
    this.cancel_group().map(|()| Owned::none())
}

fn abort(this: &Instance<TaskGroup>) -> Result {
    if let Some(theirs) = this.asyncios(&names()._abort)? {
        return call(&theirs, [&this.owned()]);
    }
    this.state.with(|state| state.rules.abort());
    this.cancel_children().map(|()| Owned::none())
}

fn on_task_done(this: &Instance<TaskGroup>, task: &Owned) -> Result {
    if let Some(theirs) = this.asyncios(&names()._on_task_done)? {
        return call(&theirs, [&this.owned(), task]);
    }
    this.child_done(task).map(|()| Owned::none())
}

fn is_base(this: &Instance<TaskGroup>, exception: &Owned) -> Result {
    if let Some(theirs) = this.asyncios(&names()._is_base_error)? {
        return call(&theirs, [&this.owned(), exception]);
    }
    Ok(Owned::bool(is_base_error(exception)))
}

fn aenter(this: &Instance<TaskGroup>) -> Result {
    if let Some(theirs) = this.asyncios(&names().__aenter__)? {
        return call(&theirs, [&this.owned()]);
    }
    Enter::make(this.owned())
}

fn aexit(this: &Instance<TaskGroup>, args: Args<'_>) -> Result {
    let names = names();
    if let Some(theirs) = this.asyncios(&names.__aexit__)? {
        return args.forward_behind(&theirs, &this.owned());
    }
    let [kind, exception, _] = args.exactly([&names.et, &names.exc, &names.tb])?;
    let exception = if kind.is_none() || exception.is_none() { None } else { Some(exception) };
    Leave::make(this.owned(), exception)
}

fn repr(this: &Instance<TaskGroup>) -> Result {
    if let Some(theirs) = this.asyncios(&names().__repr__)? {
        return call(&theirs, [&this.owned()]);
    }
    let text = this.state.with(|state| {
        let mut text = String::from("<TaskGroup");
        if state.tasks.len() > 0 {
            text += &format!(" tasks={}", state.tasks.len());
        }
        if !state.errors.is_empty() {
            text += &format!(" errors={}", state.errors.len());
        }
        if state.rules.is_aborting() {
            text += " cancelling";
        } else if state.rules.is_entered() {
            text += " entered";
        }
        text + ">"
    });
    Owned::str(&text)
}

fn get_tasks(this: &Instance<TaskGroup>) -> Result {
    let tasks = this.state.with(|state| state.tasks.to_vec());
    let set = super::wait::new_set()?;
    for task in tasks {
        // SAFETY: F1; living objects; nobody else knows the set.
        crate::ffi::check(unsafe { ffi::PySet_Add(set.as_ptr(), task.as_ptr()) })?;
    }
    Ok(set)
}

fn get_parent(this: &Instance<TaskGroup>) -> Result {
    Ok(this.state.with(|state| state.parent.clone()).unwrap_or_else(Owned::none))
}

fn get_loop(this: &Instance<TaskGroup>) -> Result {
    Ok(this.state.with(|state| state.owner.clone()).unwrap_or_else(Owned::none))
}

fn get_base_error(this: &Instance<TaskGroup>) -> Result {
    Ok(this.state.with(|state| state.base_error.clone()).unwrap_or_else(Owned::none))
}

fn get_errors(this: &Instance<TaskGroup>) -> Result {
    let (errors, left) = this.state.with(|state| {
        let left = state.rules.is_exiting() && state.parent.is_none();
        (state.errors.clone(), left)
    });
    if left { Ok(Owned::none()) } else { list_of(&errors) }
}

fn get_aborting(this: &Instance<TaskGroup>) -> Result {
    Ok(Owned::bool(this.state.with(|state| state.rules.is_aborting())))
}

fn get_entered(this: &Instance<TaskGroup>) -> Result {
    Ok(Owned::bool(this.state.with(|state| state.rules.is_entered())))
}

fn get_exiting(this: &Instance<TaskGroup>) -> Result {
    Ok(Owned::bool(this.state.with(|state| state.rules.is_exiting())))
}

fn get_parent_cancel_requested(this: &Instance<TaskGroup>) -> Result {
    Ok(Owned::bool(this.state.with(|state| state.rules.is_parent_cancel_requested())))
}

/// A list of these objects.
pub fn list_of(objects: &[Owned]) -> Result {
    // SAFETY: F1; each place is filled once, with a reference that the list takes over.
    unsafe {
        let list = Owned::from_new(ffi::PyList_New(objects.len() as isize))?;
        for (place, object) in objects.iter().enumerate() {
            ffi::PyList_SET_ITEM(list.as_ptr(), place as isize, object.clone().into_ptr());
        }
        Ok(list)
    }
}

fn add_attributes(kind: HeapType) -> HeapType {
    kind.attribute(c"_tasks", getter!(get_tasks), None, c"The tasks that are not done.")
        .attribute(c"_errors", getter!(get_errors), None, c"What the tasks raised.")
        .attribute(c"_base_error", getter!(get_base_error), None, c"What is raised alone.")
        .attribute(c"_parent_task", getter!(get_parent), None, c"The task whose block it is.")
        .attribute(c"_loop", getter!(get_loop), None, c"The loop.")
        .attribute(c"_entered", getter!(get_entered), None, c"Whether the block was entered.")
        .attribute(c"_exiting", getter!(get_exiting), None, c"Whether the block was left.")
        .attribute(c"_aborting", getter!(get_aborting), None, c"Whether the tasks were cancelled.")
        .attribute(
            c"_parent_cancel_requested",
            getter!(get_parent_cancel_requested),
            None,
            c"Whether the group has cancelled the parent task.",
        )
}

/// Makes the type.
pub fn load(module: &Owned) -> Result<()> {
    if TASK_GROUP.get().is_none() {
        let kind = HeapType::new(c"antiphon._antiphon.TaskGroup", Instance::<TaskGroup>::SIZE)
            .doc(c"TaskGroup()\n--\n\nA context manager for tasks that end together.")
            .slot(ffi::Py_tp_repr, unary_slot!(repr))
            .method(
                c"create_task",
                method!(c"TaskGroup.create_task", create_task),
                c"create_task(coro, *, name=None, context=None): a task of this group.",
            )
            .method_noargs(c"_abort", method_noargs!(abort), c"Cancel the tasks.")
            .method_one(c"_on_task_done", method_one!(on_task_done), c"A task is done.")
            .method_one(c"_is_base_error", method_one!(is_base), c"Whether it is raised alone.")
            .method_noargs(c"__aenter__", method_noargs!(aenter), c"Begin the block.")
            .method(c"__aexit__", method!(c"TaskGroup.__aexit__", aexit), c"Wait for the tasks.");
        #[cfg(Py_3_15)]
        let kind = kind.method_noargs(
            c"cancel",
            method_noargs!(cancel),
            c"cancel(): end the block and the tasks, without CancelledError.",
        );
        let kind = add_attributes(kind);
        let made = collected_slots!(kind, TaskGroup, initialiser!(c"TaskGroup.__init__", TaskGroup, init))
            .build(None, Instance::<TaskGroup>::PAYLOAD_OFFSET)?;
        let _ = TASK_GROUP.set(made as usize);
        let _ = JUDGES_AT_ONCE.set(judges_at_once()?);
    }
    crate::add_type(module, c"TaskGroup", TaskGroup::type_object())
}
