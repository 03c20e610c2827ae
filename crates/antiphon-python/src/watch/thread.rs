//! `Watchdog`: the watchdog of a process with its thread, and what it finds for the Python thread that reports.
//!
//! That one is a Python thread so that what it calls (logging, callbacks of the program) runs on a thread with a name.

use std::ffi::c_void;
use std::ptr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Builder;
use std::time::Duration;

use antiphon_engine::watch::{Stall, Watchdog};
use antiphon_engine::{Clock, Monotonic, SignalMask};
use pyo3::ffi;

use super::reporter::{Finding, Findings, corrected, note_collection};
use crate::ffi::raise::runtime_error;
use crate::ffi::{Args, HeapType, Instance, Owned, Payload, Result, check, detached, guard};
use crate::{getter, method_noargs};

/// The payload of `Watchdog`.
pub struct WatchdogThread {
    /// The watchdog.
    pub watchdog: Arc<Watchdog>,
    /// What it finds.
    pub findings: Arc<Findings>,
    /// Whether its thread runs; the condition tells that it has ended.
    running: Arc<(Mutex<bool>, Condvar)>,
}

static WATCHDOG: OnceLock<usize> = OnceLock::new();

impl Payload for WatchdogThread {
    type BaseSlots = ();
    type Dictionary = ();
    const COLLECTED: bool = false;
    fn type_object() -> *mut ffi::PyTypeObject {
        WATCHDOG.get().map_or(ptr::null_mut(), |address| *address as *mut ffi::PyTypeObject)
    }
}

unsafe extern "C" fn new(
    _kind: *mut ffi::PyTypeObject,
    _args: *mut ffi::PyObject,
    _keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    guard(|| {
        Instance::create(WatchdogThread {
            watchdog: Arc::default(),
            findings: Arc::default(),
            running: Arc::default(),
        })
    })
}

/// Starts the watchdog's thread.
fn start(this: &Instance<WatchdogThread>) -> Result {
    let (watchdog, running) = (Arc::clone(&this.watchdog), Arc::clone(&this.running));
    let mut is_running = lock(&this.running.0);
    if *is_running {
        return Err(runtime_error("the watchdog runs already"));
    }
    let thread = Builder::new().name("antiphon-watch".to_owned()).spawn(move || {
        // Signals are for the threads of the program: one that came here would not end the loop's wait.
        let _ = SignalMask::block_all();
        watchdog.run();
        *lock(&running.0) = false;
        running.1.notify_all();
    });
    thread.map_err(|_| runtime_error("can't start new thread"))?;
    *is_running = true;
    Ok(Owned::none())
}

/// Ends the thread and waits for its end; whoever takes findings gets what there is, and then None.
fn stop(this: &Instance<WatchdogThread>) -> Result {
    this.watchdog.stop();
    detached(|| {
        let running = lock(&this.running.0);
        drop(this.running.1.wait_while(running, |running| *running).unwrap_or_else(PoisonError::into_inner));
    });
    this.findings.close();
    Ok(Owned::none())
}

fn lock(running: &Mutex<bool>) -> MutexGuard<'_, bool> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for findings: a list of `(key, number, seconds, stall, in_step, ident, rescued)`, `stall` None where the step has
/// ended or come back.
fn take(this: &Instance<WatchdogThread>) -> Result {
    let taken = detached(|| this.findings.take().map(|(found, waited)| (found, waited, Monotonic.now())));
    let Some((found, had_waited, asked)) = taken else {
        return Ok(Owned::none());
    };
    let waited = Monotonic.now().saturating_duration_since(asked);
    // SAFETY: F1; gives a new reference or null.
    let list = unsafe { Owned::from_new(ffi::PyList_New(0))? };
    for finding in found {
        let object = object_of(finding, had_waited.then_some(waited))?;
        // SAFETY: F1; the list takes a reference of its own.
        check(unsafe { ffi::PyList_Append(list.as_ptr(), object.as_ptr()) })?;
    }
    Ok(list)
}

/// A finding as Python gets it. `waited`: how long this thread has waited for the interpreter since it was found.
fn object_of(finding: Finding, waited: Option<Duration>) -> Result {
    let (key, number, seconds, stall, in_step, ident, rescued) = match finding {
        Finding::Ended { key, number, took, rescued } => {
            (key, number, took, Owned::none(), false, 0, rescued)
        }
        Finding::Rescued { key, number, age, ident } => {
            (key, number, age, Owned::str(Stall::Blocked.as_str())?, true, ident, true)
        }
        Finding::Overdue { key, number, stall, in_step, age, ident, thread, seen } => {
            let stall = waited.map_or(stall, |waited| corrected(stall, thread, &seen, waited));
            (key, number, age, Owned::str(stall.as_str())?, in_step, ident, false)
        }
    };
    Owned::tuple([
        Owned::int(key as i64)?,
        Owned::int(number as i64)?,
        Owned::float(seconds.as_secs_f64())?,
        stall,
        Owned::bool(in_step),
        Owned::int(ident as i64)?,
        Owned::bool(rescued),
    ])
}

fn looks(this: &Instance<WatchdogThread>) -> Result {
    Owned::int(this.watchdog.looks() as i64)
}

unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    // SAFETY: the object is unreachable.
    unsafe {
        let kind = ffi::Py_TYPE(object);
        Instance::<WatchdogThread>::finish(object);
        ffi::PyObject_Free(object.cast());
        ffi::Py_DECREF(kind.cast());
    }
}

/// `_note_collection(phase, info)`: a member of `gc.callbacks` while somebody watches.
fn collection(args: Args<'_>) -> Result {
    args.at_least(2, &["phase", "info"])?;
    // SAFETY: F1; a living object is compared with a string.
    let differs = unsafe { ffi::PyUnicode_CompareWithASCIIString(args.positional()[0], c"start".as_ptr()) };
    note_collection(differs == 0);
    Ok(Owned::none())
}

/// Makes the type.
pub fn load(module: &Owned) -> Result<()> {
    if WatchdogThread::type_object().is_null() {
        let made = HeapType::new(c"antiphon._antiphon.Watchdog", Instance::<WatchdogThread>::SIZE)
            .doc(c"Watches loops for steps that block, from a thread that needs no interpreter.")
            .slot(ffi::Py_tp_new, new as *mut c_void)
            .slot(ffi::Py_tp_dealloc, dealloc as *mut c_void)
            .method_noargs(c"start", method_noargs!(start), c"Start the thread that watches.")
            .method_noargs(c"stop", method_noargs!(stop), c"End that thread, for good.")
            .method_noargs(
                c"take",
                method_noargs!(take),
                c"Wait for findings, (key, number, seconds, stall or None, in_step, ident, rescued); None after stop().",
            )
            .attribute(c"looks", getter!(looks), None, c"How often it has looked at the loops.")
            .weak_references(Instance::<WatchdogThread>::WEAKREF_OFFSET)
            .build(None, Instance::<WatchdogThread>::PAYLOAD_OFFSET)?;
        let _ = WATCHDOG.set(made as usize);
    }
    crate::ffi::function::add_functions(
        module,
        [(
            c"_note_collection",
            crate::function!(c"_note_collection", collection),
            c"_note_collection(phase, info)\n--\n\nFor gc.callbacks: tells the watchdog that a collection begins or ends.",
        )],
    )?;
    crate::add_type(module, c"Watchdog", WatchdogThread::type_object())
}
