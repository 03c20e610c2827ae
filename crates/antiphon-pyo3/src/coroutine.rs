//! A Rust future as a coroutine object.

use crate::step::{Offer, Resume, Step};
use crate::wake::WakeCell;
use pyo3::exceptions::{
    PyBaseException, PyRuntimeError, PyRuntimeWarning, PyStopIteration, PyTypeError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyTuple, PyType};
use pyo3::{IntoPyObjectExt, intern};
use std::any::TypeId;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

type Body = Pin<Box<dyn Future<Output = PyResult<Py<PyAny>>> + Send>>;

/// Makes a coroutine object of a Rust future. `name` is what Python shows of it.
///
/// It does nothing until it is awaited, or made a task of; then `future` is polled in the steps of the task that awaits it. It
/// may await Python's awaitables by [`awaited`](crate::awaited()), and anything else whose waker may be used from any thread.
///
/// # Errors
/// The interpreter is out of memory.
///
/// # Panics
/// A panic in `future` is raised as PyO3's `PanicException`.
pub fn coroutine<'py, F, T>(py: Python<'py>, name: &str, future: F) -> PyResult<Bound<'py, Coroutine>>
where
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'a> IntoPyObject<'a> + Send + 'static,
{
    let body: Body = Box::pin(async move {
        let value = future.await?;
        Python::attach(|py| {
            // PyO3 makes an empty tuple of it; as from a function, it is to be `None`.
            let is_unit = TypeId::of::<T>() == TypeId::of::<()>();
            if is_unit { Ok(py.None()) } else { value.into_py_any(py) }
        })
    });
    let state = Mutex::new(State::Created(body));
    Bound::new(py, Coroutine { name: name.to_owned(), state, wake: Arc::default() })
}

/// Makes a task of a Rust future, on the running loop: `asyncio.create_task(coroutine)`.
///
/// # Errors
/// `RuntimeError`: no loop runs on this thread.
pub fn create_task<'py, F, T>(py: Python<'py>, name: &str, future: F) -> PyResult<Bound<'py, PyAny>>
where
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'a> IntoPyObject<'a> + Send + 'static,
{
    let event_loop = running_loop(py)?; // before there is a coroutine that nobody awaits
    event_loop.call_method1(intern!(py, "create_task"), (coroutine(py, name, future)?,))
}

pub(crate) fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    py.import(intern!(py, "asyncio"))?.call_method0(intern!(py, "get_running_loop"))
}

/// A Rust future as Python sees it: `collections.abc.Coroutine`. Made by [`coroutine`](crate::coroutine()).
#[pyclass(frozen, weakref, name = "RustCoroutine", module = "antiphon_pyo3")]
pub struct Coroutine {
    name: String,
    state: Mutex<State>,
    wake: Arc<WakeCell>,
}

enum State {
    Created(Body),
    Suspended(Body),
    /// A step has the body.
    Running,
    Finished,
}

impl Coroutine {
    fn replace(&self, state: State) -> State {
        // Nothing panics while it is held, and nothing of Python's runs.
        std::mem::replace(&mut *self.state.lock().unwrap_or_else(PoisonError::into_inner), state)
    }

    /// Takes the body for a step, and tells whether it has begun before.
    fn take(&self) -> PyResult<(Body, bool)> {
        match self.replace(State::Running) {
            State::Created(body) => Ok((body, false)),
            State::Suspended(body) => Ok((body, true)),
            State::Running => Err(PyValueError::new_err("coroutine already executing")),
            State::Finished => {
                self.replace(State::Finished);
                Err(PyRuntimeError::new_err("cannot reuse already awaited coroutine"))
            }
        }
    }

    /// One step: what it yields, or `StopIteration` with what it returns.
    fn resume(&self, py: Python<'_>, with: Resume) -> PyResult<Py<PyAny>> {
        let (mut body, begun) = self.take()?;
        if !begun && let Some((error, keep)) = refuse_at_first(py, &with) {
            self.replace(if keep { State::Created(body) } else { State::Finished });
            return Err(error);
        }
        self.wake.begin();
        let waker = Waker::from(Arc::clone(&self.wake));
        let (step, entered) = Step::enter(with, &waker);
        // A panic leaves the body as it is, to be dropped and not polled again.
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| {
            body.as_mut().poll(&mut Context::from_waker(&waker))
        }));
        drop(entered);
        let (thrown, offers) = (step.take_thrown(), step.take_offers());
        drop((step, waker));
        let suspended = match polled {
            Ok(Poll::Pending) => match thrown {
                // It has reached nobody: a future of others is cancelled by dropping it.
                Some(error) => Err(error),
                None => self.suspend(py, offers),
            },
            Ok(Poll::Ready(Ok(value))) => Err(PyStopIteration::new_err((value,))),
            Ok(Poll::Ready(Err(error))) => Err(stop_iteration_is_an_error(py, error)),
            Err(panic) => {
                self.replace(State::Finished);
                drop(body);
                std::panic::resume_unwind(panic);
            }
        };
        self.replace(if suspended.is_ok() { State::Suspended(body) } else { State::Finished });
        suspended
    }

    /// What to yield, so that the task comes back when there is something to do.
    fn suspend(&self, py: Python<'_>, mut offers: Vec<Offer>) -> PyResult<Py<PyAny>> {
        // Nobody else has a waker: the task can wait for that future itself, as if Python had awaited it.
        let alone = Arc::strong_count(&self.wake) == 1 && !self.wake.is_woken();
        if alone
            && offers.len() == 1
            && let Some(offer) = offers.pop_if(|offer| offer.waker.is_none())
        {
            if offer.is_blocking {
                offer.future.setattr(py, intern!(py, "_asyncio_future_blocking"), true)?;
            }
            return Ok(offer.future);
        }
        for offer in offers {
            self.observe(py, offer)?;
        }
        if !self.wake.is_woken() {
            let parked = running_loop(py)?.call_method0(intern!(py, "create_future"))?;
            if self.wake.park(&parked)? {
                parked.setattr(intern!(py, "_asyncio_future_blocking"), true)?;
                return Ok(parked.unbind());
            }
        }
        Ok(py.None()) // there is something to do already: in the next turn
    }

    /// Lets whoever waits for the future be woken when it is done.
    fn observe(&self, py: Python<'_>, offer: Offer) -> PyResult<()> {
        let future = offer.future.bind(py);
        if !offer.is_blocking {
            return Err(PyRuntimeError::new_err(format!("Task got bad yield: {}", future.repr()?)));
        }
        let waker = offer.waker.unwrap_or_else(|| Waker::from(Arc::clone(&self.wake)));
        let wake = PyCFunction::new_closure(py, None, None, move |_, _| waker.wake_by_ref())?;
        future.call_method1(intern!(py, "add_done_callback"), (wake,))?;
        offer.observed.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// What a coroutine that has not begun does not take, and whether it may still begin.
fn refuse_at_first(py: Python<'_>, with: &Resume) -> Option<(PyErr, bool)> {
    match with {
        Resume::Throw(error) => Some((error.clone_ref(py), false)),
        Resume::Send(value) if value.is_none(py) => None,
        Resume::Send(_) => {
            Some((PyTypeError::new_err("can't send non-None value to a just-started coroutine"), true))
        }
    }
}

/// PEP 479: a `StopIteration` from inside would look like a return.
fn stop_iteration_is_an_error(py: Python<'_>, error: PyErr) -> PyErr {
    if !error.is_instance_of::<PyStopIteration>(py) {
        return error;
    }
    let outer = PyRuntimeError::new_err("coroutine raised StopIteration");
    outer.set_cause(py, Some(error));
    outer
}

#[pymethods]
impl Coroutine {
    const fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    const fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.resume(py, Resume::Send(py.None()))
    }

    /// Resumes it with `value`, which must be `None` at first. Returns what it yields; raises `StopIteration` when it returns.
    fn send(&self, py: Python<'_>, value: Py<PyAny>) -> PyResult<Py<PyAny>> {
        self.resume(py, Resume::Send(value))
    }

    /// Raises an exception where it waits. Returns what it yields then; raises what it does not handle.
    #[pyo3(signature = (exception, value=None, traceback=None, /))]
    fn throw(
        &self,
        exception: &Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let error = error_of(exception, value, traceback)?;
        self.resume(exception.py(), Resume::Throw(error))
    }

    /// Ends it where it waits: its future is dropped, and the awaitable that it waits for is closed.
    fn close(&self) -> PyResult<()> {
        match self.replace(State::Running) {
            State::Running => return Err(PyValueError::new_err("coroutine already executing")),
            State::Created(body) | State::Suspended(body) => {
                self.replace(State::Finished);
                drop(body);
            }
            State::Finished => drop(self.replace(State::Finished)),
        }
        Ok(())
    }

    #[getter]
    fn __name__(&self) -> &str {
        &self.name
    }

    #[getter]
    fn __qualname__(&self) -> &str {
        &self.name
    }

    /// Whether a step of it runs at this moment.
    #[getter]
    fn cr_running(&self) -> bool {
        matches!(*self.state.lock().unwrap_or_else(PoisonError::into_inner), State::Running)
    }

    /// `None`: it has no frame of Python's.
    #[getter]
    const fn cr_frame(&self) -> Option<Py<PyAny>> {
        None
    }

    fn __repr__(slf: &Bound<'_, Self>) -> String {
        format!("<coroutine object {} at {:p}>", slf.get().name, slf.as_ptr())
    }
}

/// What `throw` is given, as an exception.
fn error_of(
    exception: &Bound<'_, PyAny>,
    value: Option<Bound<'_, PyAny>>,
    traceback: Option<Bound<'_, PyAny>>,
) -> PyResult<PyErr> {
    let kind = exception.cast::<PyType>();
    let is_exception = match kind {
        Ok(kind) => kind.is_subclass_of::<PyBaseException>()?,
        Err(_) => exception.is_instance_of::<PyBaseException>(),
    };
    if !is_exception {
        let name = exception.get_type().name()?;
        let message =
            format!("exceptions must be classes or instances deriving from BaseException, not {name}");
        return Err(PyTypeError::new_err(message));
    }
    let instance = match (kind, value) {
        (Err(_), None) => exception.clone(),
        (Err(_), Some(_)) => {
            return Err(PyTypeError::new_err("instance exception may not have a separate value"));
        }
        (Ok(kind), None) => kind.call0()?,
        (Ok(kind), Some(value)) if value.is_instance(kind)? => value,
        (Ok(kind), Some(value)) => match value.cast::<PyTuple>() {
            Ok(arguments) => kind.call1(arguments)?,
            Err(_) => kind.call1((value,))?,
        },
    };
    if let Some(traceback) = traceback {
        instance.call_method1(intern!(exception.py(), "with_traceback"), (traceback,))?;
    }
    Ok(PyErr::from_value(instance)) // a TypeError, if the class made something else
}

/// As Python's coroutines, it complains if nobody has awaited it.
impl Drop for Coroutine {
    fn drop(&mut self) {
        if !matches!(self.replace(State::Finished), State::Created(_)) {
            return;
        }
        let _ = Python::try_attach(|py| {
            let raised = PyErr::take(py); // it may be on its way while this is dropped
            let warning = format!("coroutine '{}' was never awaited\0", self.name.replace('\0', ""));
            let warned = std::ffi::CStr::from_bytes_with_nul(warning.as_bytes())
                .map_or(Ok(()), |text| PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), text, 1));
            if let Err(error) = warned {
                error.write_unraisable(py, None); // a filter made an error of it
            }
            if let Some(raised) = raised {
                raised.restore(py);
            }
        });
    }
}

impl std::fmt::Debug for Coroutine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coroutine").field("name", &self.name).finish_non_exhaustive()
    }
}
