//! Waking a coroutine that waits for something that is not Python's.
//!
//! Its task waits for a future of asyncio's then, the parked one, and a wake sets its result. Only the task keeps that future: here is
//! a weak reference, so that a task which nobody can reach any more can go.

use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Wake;
use std::thread::ThreadId;

#[derive(Default)]
pub(crate) struct WakeCell {
    state: Mutex<WakeState>,
}

#[derive(Default)]
struct WakeState {
    /// Since the step began.
    woken: bool,
    parked: Option<Parked>,
}

struct Parked {
    future: Py<PyWeakrefReference>,
    /// Where the loop runs.
    thread: ThreadId,
}

impl WakeCell {
    /// A step begins: it sees everything that wakes before this have told of.
    pub(crate) fn begin(&self) {
        let former = {
            let mut state = self.lock();
            state.woken = false;
            state.parked.take()
        };
        drop(former);
    }

    pub(crate) fn is_woken(&self) -> bool {
        self.lock().woken
    }

    /// Waits with `future`; false if the coroutine was woken meanwhile.
    pub(crate) fn park(&self, future: &Bound<'_, PyAny>) -> PyResult<bool> {
        let parked =
            Parked { future: PyWeakrefReference::new(future)?.unbind(), thread: std::thread::current().id() };
        let mut state = self.lock();
        if state.woken {
            drop(state);
            drop(parked);
            return Ok(false);
        }
        state.parked = Some(parked);
        Ok(true)
    }

    fn lock(&self) -> MutexGuard<'_, WakeState> {
        // Nothing panics while it is held, and nothing of Python's runs.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for WakeCell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let parked = {
            let mut state = self.lock();
            state.woken = true;
            state.parked.take()
        };
        if let Some(parked) = parked {
            // An interpreter that shuts down has no more steps to make.
            let _ = Python::try_attach(|py| {
                if let Err(error) = parked.wake(py) {
                    error.write_unraisable(py, None);
                }
            });
        }
    }
}

impl Parked {
    fn wake(&self, py: Python<'_>) -> PyResult<()> {
        let Some(future) = self.future.bind(py).upgrade() else { return Ok(()) };
        if std::thread::current().id() == self.thread {
            return resolve(&future);
        }
        let resolve = pyo3::wrap_pyfunction!(resolve, py)?;
        let event_loop = future.call_method0("get_loop")?;
        if event_loop.call_method0("is_closed")?.is_truthy()? {
            return Ok(()); // its tasks have no more steps to make
        }
        event_loop.call_method1("call_soon_threadsafe", (resolve, future)).map(drop)
    }
}

/// Sets the result of a future, unless it is done: cancelled, most likely.
#[pyfunction]
pub(crate) fn resolve(future: &Bound<'_, PyAny>) -> PyResult<()> {
    if !future.call_method0("done")?.is_truthy()? {
        future.call_method1("set_result", (future.py().None(),))?;
    }
    Ok(())
}
