//! The call graph's edges that no `await` draws: a task waits for these children (from CPython 3.14 on).
//!
//! Source: CPython Lib/asyncio/graph.py, Modules/_asynciomodule.c (`future_add_to_awaited_by`).

use super::owner;
use crate::ffi::{Owned, Result, call};
use crate::names::names;

/// The running task, where edges are drawn at all.
#[inline]
pub fn current(owner: &Owned) -> Result<Option<Owned>> {
    if cfg!(Py_3_14) { owner::current_task(owner) } else { Ok(None) }
}

/// `task` waits for `child`.
pub fn add(child: &Owned, task: &Owned) -> Result<()> {
    let names = names();
    call(&names.futures_module.attr(&names.future_add_to_awaited_by)?, [child, task]).map(drop)
}

/// It does not wait any more.
pub fn discard(child: &Owned, task: &Owned) -> Result<()> {
    let names = names();
    call(&names.futures_module.attr(&names.future_discard_from_awaited_by)?, [child, task]).map(drop)
}
