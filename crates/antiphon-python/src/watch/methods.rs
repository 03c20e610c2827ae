//! The loop's methods for `antiphon.watchdog`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use antiphon_engine::watch::Watched;

use super::reporter::Reporter;
use super::thread::WatchdogThread;
use super::{Driver, OnBlock, Watch};
use crate::child::process::integer;
use crate::event_loop::EventLoop;
use crate::event_loop::schedule::seconds;
use crate::ffi::raise::{runtime_error, type_error, value_error};
use crate::ffi::{Args, HeapType, Instance, Owned, Result};
use crate::{method, method_noargs};

/// `_watch(watchdog, key, on_block, block_after)`.
fn watch(this: &Instance<EventLoop>, args: Args<'_>) -> Result {
    args.at_least(4, &["watchdog", "key", "on_block", "block_after"])?;
    // SAFETY: the arguments are alive during the call.
    let [watchdog, key, on_block, block_after] =
        [0, 1, 2, 3].map(|place| unsafe { Owned::from_borrowed(args.positional()[place]) });
    let (watchdog, findings) = Instance::<WatchdogThread>::downcast(&watchdog)
        .map(|thread| (Arc::clone(&thread.watchdog), Arc::clone(&thread.findings)))
        .ok_or_else(|| type_error("a Watchdog is needed"))?;
    let on_block = match integer(&on_block)? {
        1 => OnBlock::Report,
        2 => OnBlock::Raise,
        3 => OnBlock::HandOff,
        other => return Err(value_error(&format!("there is no way {other} to treat blocking steps"))),
    };
    let block_after = Duration::try_from_secs_f64(seconds(&block_after)?)
        .map_err(|_| value_error("block_after must be a positive number of seconds"))?;
    if this.is_running() {
        return Err(runtime_error("a running loop cannot begin to be watched"));
    }
    let bell = match on_block {
        OnBlock::HandOff => Some(Arc::clone(this.begin_hand_off()?.bell())),
        OnBlock::Report | OnBlock::Raise => None,
    };
    let (driver, key) = (Arc::new(Driver::default()), integer(&key)? as u64);
    let turn_budget = bell.is_some();
    let hook = Box::new(Reporter {
        key,
        driver: Arc::clone(&driver),
        findings: Arc::clone(&findings),
        bell,
        rung: AtomicU64::new(0),
        asked: AtomicU64::new(0),
        told: AtomicU64::new(0),
    });
    let watched = Arc::new(Watched::new(block_after, turn_budget, hook));
    let condemns = AtomicBool::new(false);
    let watch = Watch { watched: Arc::clone(&watched), watchdog, driver, on_block, findings, key, condemns };
    watch.watchdog.watch(watched);
    let refused = this.set_watch(watch);
    if let Some(watch) = refused {
        watch.watchdog.forget(&watch.watched);
        return Err(runtime_error("the loop is watched already"));
    }
    Ok(Owned::none())
}

fn unwatch(this: &Instance<EventLoop>) -> Result {
    if let Some(watch) = this.watch_for_blocking() {
        watch.watchdog.forget(&watch.watched);
    }
    Ok(Owned::none())
}

fn step_number(this: &Instance<EventLoop>) -> Result {
    Owned::int(this.watch_for_blocking().map_or(0, |watch| watch.watched.word.step()) as i64)
}

fn overdue_count(this: &Instance<EventLoop>) -> Result {
    Owned::int(this.watch_for_blocking().map_or(0, |watch| watch.watched.word.overdue_count()) as i64)
}

/// Adds this file's methods to the type.
pub fn add_methods(kind: HeapType) -> HeapType {
    kind.method(
        c"_watch",
        method!(c"_watch", watch),
        c"_watch(watchdog, key, on_block, block_after): let steps be watched; on_block: 1 report, 2 raise, 3 hand off.",
    )
    .method_noargs(c"_unwatch", method_noargs!(unwatch), c"Let them be watched no more.")
    .method_noargs(
        c"_step_number",
        method_noargs!(step_number),
        c"The number of the present step; numbers never repeat.",
    )
    .method_noargs(
        c"_overdue_count",
        method_noargs!(overdue_count),
        c"How many steps have blocked the loop for longer than it allows.",
    )
}
