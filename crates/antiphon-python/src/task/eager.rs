//! Eager tasks: the first step runs before the constructor returns, and many a task is done by then.
//!
//! Source: CPython Lib/asyncio/tasks.py (`__eager_start`, `create_eager_task_factory`).

use super::{TaskObject, current, registry, task_type};
use crate::ffi::raise;
use crate::ffi::{Args, Owned, Result, check};
use crate::names::names;
use pyo3::ffi;

impl TaskObject {
    /// Runs the first step now, as the current task.
    pub(super) fn start_eagerly(&self) -> Result<()> {
        let owner = self.as_future().owner_or_none();
        let task = self.owned();
        let before = current::swap(&owner, Some(&task))?;
        let registered = registry::register(self);
        let stepped = registered.and_then(|()| self.first_step());
        let exception = if stepped.is_err() { raise::take() } else { None };
        let restored = current::swap(&owner, before.as_ref()).map(drop);
        if self.as_future().state().is_done() {
            drop(self.inner.with(|inner| inner.coro.take()));
        }
        match exception {
            Some(exception) => {
                if restored.is_err() {
                    drop(raise::take());
                }
                Err(raise::restore(exception))
            }
            None => restored,
        }
    }

    fn first_step(&self) -> Result<()> {
        let Some(context) = self.context() else {
            return Ok(());
        };
        // SAFETY: F1; a context that was entered is left again.
        unsafe {
            check(ffi::PyContext_Enter(context.as_ptr()))?;
            let stepped = self.step_here(None);
            let exception = if stepped.is_err() { raise::take() } else { None };
            let left = check(ffi::PyContext_Exit(context.as_ptr())).map(drop);
            match exception {
                Some(exception) => Err(raise::restore(exception)),
                None => left,
            }
        }
    }
}

/// `eager_task_factory(loop, coro, *, name=None, context=None)`: a task factory whose tasks start at once.
fn eager_task_factory(args: Args<'_>) -> Result {
    let names = names();
    let parameters = [&names.loop_, &names.coro, &names.name, &names.context, &names.eager_start];
    let [owner, coro, name, context, eager] = args.bind(parameters, 2)?;
    // SAFETY: F1; the arguments are alive during the call, and so is the type.
    unsafe {
        let given = |value: Option<*mut ffi::PyObject>| {
            value.map_or_else(Owned::none, |value| Owned::from_borrowed(value))
        };
        let class = Owned::from_borrowed(task_type().cast());
        let keywords = Owned::tuple([
            names.loop_.clone(),
            names.name.clone(),
            names.context.clone(),
            names.eager_start.clone(),
        ])?;
        let (coro, owner, name, context) = (given(coro), given(owner), given(name), given(context));
        // create_task(..., eager_start=False) of 3.14 overrules the factory.
        let eager = eager.map_or_else(|| Owned::bool(true), |eager| Owned::from_borrowed(eager));
        let values = [&coro, &owner, &name, &context, &eager];
        crate::ffi::call::call_with_keywords(&class, &values, Some(&keywords))
    }
}

/// The functions of this file; eager tasks came with 3.12.
pub const FUNCTIONS: [crate::ffi::function::Function; 1] = [(
    c"eager_task_factory",
    crate::function!(c"eager_task_factory", eager_task_factory),
    c"eager_task_factory(loop, coro, *, name=None, context=None)\n--\n\nA task whose first step runs at once.",
)];
