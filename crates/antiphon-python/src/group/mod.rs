//! What waits for several things at once, or not for ever: `gather`, `wait`, `wait_for`, `as_completed`, `shield`,
//! `timeout`, `TaskGroup`.
//!
//! The rules are `antiphon_core`'s state machines. Here they meet Python: children are futures of ours, which tell an
//! observer natively, or anybody's that keep asyncio's protocol; deadlines go to the timer heap without a handle; what
//! is an `async def` in asyncio is a native coroutine.
//!
//! | module | is |
//! |---|---|
//! | [`gather`], [`gathering_future`] | `gather` and the future it gives |
//! | [`wait`], [`waiting`] | `wait`, and who waits in it |
//! | [`wait_for`], `wait_for_312`, `wait_for_311`, [`cancel_and_wait`] | `wait_for`, from 3.12 on and before |
//! | [`as_completed`], [`next_completed`] | the iterator, and the wait for one of its children |
//! | [`shield`] | `shield` |
//! | [`timeout`], [`timeout_block`] | `Timeout`, entering and leaving it |
//! | [`task_group`], [`task_group_block`], [`create`] | `TaskGroup`, entering and leaving it, its tasks |
//! | [`ensure`] | `ensure_future`, and what counts as awaitable |
//! | [`child`] | a future, whoever's |
//! | [`owner`], [`task`] | a loop and a task, whoever's |
//! | [`waiter`] | what a native coroutine blocks on |
//! | [`alarm`] | a deadline without a handle |
//! | [`awaited_by`] | edges of the call graph |
//! | [`identity`] | a set by identity |
//!
//! Source: CPython Lib/asyncio/tasks.py, taskgroups.py, timeouts.py.

mod alarm;
mod as_completed;
mod awaited_by;
mod cancel_and_wait;
mod child;
mod create;
mod ensure;
mod gather;
mod gathering_future;
mod identity;
mod next_completed;
mod owner;
mod shield;
mod task;
mod task_group;
mod task_group_block;
mod timeout;
mod timeout_block;
mod wait;
mod wait_for;
#[cfg(not(Py_3_12))]
mod wait_for_311;
#[cfg(Py_3_12)]
mod wait_for_312;
mod waiter;
mod waiting;

use crate::ffi::function::add_functions;
use crate::ffi::{Instance, Owned, Payload, Result};
use crate::future::{FutureRef, register_observer};
use as_completed::Completing;
use shield::Shield;
use task_group::TaskGroup;
use timeout::Timeout;
use waiting::Waiting;

/// Gives an object its turn: its alarm rang. `None`: it is none of this module's.
#[inline]
pub fn run(object: &Owned) -> Option<Result<()>> {
    if let Some(timeout) = Instance::<Timeout>::downcast(object) {
        return Some(timeout.on_alarm());
    }
    if let Some(waiting) = Instance::<Waiting>::downcast(object) {
        return Some(waiting.on_alarm());
    }
    if let Some(completing) = Instance::<Completing>::downcast(object) {
        return Some(completing.on_alarm());
    }
    timeout::derived(object).map(Instance::<Timeout>::on_alarm)
}

/// Tells an observer that a child is done.
fn child_done(observer: &Owned, child: &Owned) -> Result<()> {
    if gathering_future::is_gathering(observer) {
        return gathering_future::child_done(observer, child);
    }
    if let Some(group) = Instance::<TaskGroup>::downcast(observer) {
        return group.child_done(child);
    }
    if let Some(waiting) = Instance::<Waiting>::downcast(observer) {
        return waiting.child_done(child);
    }
    if let Some(completing) = Instance::<Completing>::downcast(observer) {
        return completing.child_done(child);
    }
    match Instance::<Shield>::downcast(observer) {
        Some(shield) => shield.child_done(child),
        None => Ok(()),
    }
}

fn register_observers() -> Result<()> {
    register_observer(gathering_future::type_object(), |observer, done: &FutureRef| {
        gathering_future::child_done(observer, done.object())
    })?;
    let others =
        [TaskGroup::type_object(), Waiting::type_object(), Completing::type_object(), Shield::type_object()];
    for kind in others {
        register_observer(kind, |observer, done| child_done(observer, done.object()))?;
    }
    Ok(())
}

/// Makes the types and functions, and adds them to the module.
pub fn load(module: &Owned) -> Result<()> {
    gathering_future::load(module)?;
    waiting::load(module)?;
    wait::load(module)?;
    wait_for::load(module)?;
    as_completed::load(module)?;
    next_completed::load(module)?;
    shield::load(module)?;
    timeout::load(module)?;
    timeout_block::load(module)?;
    task_group::load(module)?;
    task_group_block::load(module)?;
    register_observers()?;
    add_functions(module, gather::FUNCTIONS)?;
    add_functions(module, wait::FUNCTIONS)?;
    add_functions(module, wait_for::FUNCTIONS)?;
    add_functions(module, as_completed::FUNCTIONS)?;
    add_functions(module, shield::FUNCTIONS)?;
    add_functions(module, timeout::FUNCTIONS)?;
    add_functions(module, ensure::FUNCTIONS)
}
