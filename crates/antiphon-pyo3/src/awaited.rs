//! Python awaitables as futures.

use crate::step::{Resume, Step};
use pyo3::conversion::FromPyObjectOwned;
use pyo3::exceptions::asyncio::CancelledError;
use pyo3::exceptions::{PyRuntimeError, PyStopIteration, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Awaits what `make` returns: a coroutine, a future, a task, anything with `__await__`. `make` is called at the first poll, in the
/// task's step, and what comes back is converted into a `T`.
///
/// # Errors
/// What `make` or the awaitable raises; what the conversion says; `TypeError` for what cannot be awaited; `RuntimeError` if it is
/// polled outside of a [`coroutine`](crate::coroutine()).
///
/// # Cancellation
/// Exceptions that are thrown into the coroutine are thrown into the awaitable. If this is dropped before its end, the awaitable's
/// iterator is closed.
pub fn awaited<T, M>(make: M) -> Awaited<T, M>
where
    M: for<'py> FnOnce(Python<'py>) -> PyResult<Bound<'py, PyAny>> + Unpin,
{
    Awaited { state: State::Made(make), output: PhantomData }
}

/// Waits for `duration` on the running loop's clock: `asyncio.sleep`.
///
/// # Errors
/// As [`awaited`].
pub async fn sleep(duration: Duration) -> PyResult<()> {
    awaited(move |py| {
        py.import(intern!(py, "asyncio"))?.call_method1(intern!(py, "sleep"), (duration.as_secs_f64(),))
    })
    .await
    .map(|_: Py<PyAny>| ())
}

/// The future of [`awaited`].
#[must_use = "futures do nothing unless awaited"]
pub struct Awaited<T, M> {
    state: State<M>,
    output: PhantomData<fn() -> T>,
}

enum State<M> {
    Made(M),
    /// The awaitable's iterator can make a step.
    Ready(Py<PyAny>),
    Waiting(Py<PyAny>, Waiting),
    Done,
}

/// For a future of asyncio's that the iterator has yielded.
struct Waiting {
    future: Py<PyAny>,
    /// Whether it is a future, and not something else that only its own kind of loop understands.
    is_blocking: bool,
    /// Whether somebody is told when it is done. If not, the coroutine's task waits for it.
    observed: Arc<AtomicBool>,
    /// Who is told, unless it is the coroutine itself.
    waker: Option<Waker>,
}

/// Whether the iterator goes on, and with what.
enum Next {
    Wait,
    Resume(Option<Resume>),
}

impl<T, M> Future for Awaited<T, M>
where
    T: for<'py> FromPyObjectOwned<'py>,
    M: for<'py> FnOnce(Python<'py>) -> PyResult<Bound<'py, PyAny>> + Unpin,
{
    type Output = PyResult<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<PyResult<T>> {
        let Some(step) = Step::current() else {
            let message =
                "a Python awaitable was polled outside of a coroutine made by antiphon_pyo3::coroutine";
            return Poll::Ready(Err(PyRuntimeError::new_err(message)));
        };
        Python::attach(|py| {
            let result = std::task::ready!(self.state.advance(py, &step, context.waker()));
            Poll::Ready(result.and_then(|value| value.bind(py).extract().map_err(Into::into)))
        })
    }
}

impl<M> State<M>
where
    M: for<'py> FnOnce(Python<'py>) -> PyResult<Bound<'py, PyAny>>,
{
    fn advance(&mut self, py: Python<'_>, step: &Step, waker: &Waker) -> Poll<PyResult<Py<PyAny>>> {
        // It is done, unless something below says otherwise.
        let (iterator, resume) = match std::mem::replace(self, Self::Done) {
            Self::Made(make) => {
                let made = match step.take_thrown() {
                    Some(error) => Err(error), // nobody took it before: this is the next await
                    None => make(py).and_then(|awaitable| iterator_of(&awaitable)),
                };
                match made {
                    Ok(iterator) => (iterator.unbind(), None),
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            Self::Ready(iterator) => (iterator, step.take_resume()),
            Self::Waiting(iterator, mut waiting) => match waiting.next(py, step, waker) {
                Ok(Next::Wait) => {
                    *self = Self::Waiting(iterator, waiting);
                    return Poll::Pending;
                }
                Ok(Next::Resume(resume)) => (iterator, resume),
                Err(error) => (iterator, Some(Resume::Throw(error))),
            },
            Self::Done => {
                let message = "a Python awaitable was polled after its end";
                return Poll::Ready(Err(PyRuntimeError::new_err(message)));
            }
        };
        let yielded = match resume_iterator(iterator.bind(py), resume) {
            Ok(yielded) => yielded,
            Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
                return Poll::Ready(error.value(py).getattr(intern!(py, "value")).map(Bound::unbind));
            }
            Err(error) => return Poll::Ready(Err(error)),
        };
        if yielded.is_none() {
            waker.wake_by_ref(); // a bare yield: it goes on in the next turn
            *self = Self::Ready(iterator);
            return Poll::Pending;
        }
        let is_blocking = match take_mark(&yielded) {
            Ok(marked) => marked,
            Err(error) => return Poll::Ready(Err(error)),
        };
        let mut waiting =
            Waiting { future: yielded.unbind(), is_blocking, observed: Arc::default(), waker: None };
        waiting.offer(py, step, waker);
        *self = Self::Waiting(iterator, waiting);
        Poll::Pending
    }
}

impl Waiting {
    fn offer(&mut self, py: Python<'_>, step: &Step, waker: &Waker) {
        self.waker = step.offer(self.future.clone_ref(py), self.is_blocking, waker, &self.observed);
    }

    fn next(&mut self, py: Python<'_>, step: &Step, waker: &Waker) -> PyResult<Next> {
        let future = self.future.bind(py);
        // What is no future is for the task to judge, which waits for it itself.
        let is_done = match future.getattr_opt(intern!(py, "done"))? {
            Some(done) => done.call0()?.is_truthy()?,
            None => true,
        };
        let observed = self.observed.load(Ordering::Relaxed);
        if let Some(error) = step.take_thrown() {
            // As a task does with the future that it waits for: the exception arrives when that is done. If the task itself waited
            // for it, that has happened.
            let is_cancelled = observed && !is_done && error.is_instance_of::<CancelledError>(py);
            if is_cancelled && future.call_method0(intern!(py, "cancel"))?.is_truthy()? {
                return Ok(Next::Wait);
            }
            return Ok(Next::Resume(Some(Resume::Throw(error))));
        }
        if is_done {
            return Ok(Next::Resume(if observed { None } else { step.take_resume() }));
        }
        if !observed || !step.is_known(self.waker.as_ref(), waker) {
            self.offer(py, step, waker);
        }
        Ok(Next::Wait)
    }
}

/// Closes the iterator that nobody will resume any more.
impl<T, M> Drop for Awaited<T, M> {
    fn drop(&mut self) {
        let (State::Ready(iterator) | State::Waiting(iterator, _)) = &self.state else { return };
        // An interpreter that shuts down closes nothing.
        let _ = Python::try_attach(|py| {
            let raised = PyErr::take(py); // it may be on its way while this is dropped
            let iterator = iterator.bind(py);
            let closed = iterator
                .getattr_opt(intern!(py, "close"))
                .and_then(|close| close.map(|close| close.call0()).transpose());
            if let Err(error) = closed {
                error.write_unraisable(py, Some(iterator));
            }
            if let Some(raised) = raised {
                raised.restore(py);
            }
        });
    }
}

impl<T, M> std::fmt::Debug for Awaited<T, M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Awaited").finish_non_exhaustive()
    }
}

/// Takes back the mark that a future was awaited: the next one who awaits it in this step has to find it as the first did.
fn take_mark(yielded: &Bound<'_, PyAny>) -> PyResult<bool> {
    let name = intern!(yielded.py(), "_asyncio_future_blocking");
    let marked = yielded.getattr_opt(name)?.map_or(Ok(false), |mark| mark.is_truthy())?;
    if marked {
        yielded.setattr(name, false)?;
    }
    Ok(marked)
}

/// What `await` iterates over.
fn iterator_of<'py>(awaitable: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    /// `CO_ITERABLE_COROUTINE` of `types.coroutine`.
    const ITERABLE_COROUTINE: u32 = 0x100;
    let py = awaitable.py();
    if let Some(method) = awaitable.getattr_opt(intern!(py, "__await__"))? {
        return method.call0();
    }
    if let Some(code) = awaitable.getattr_opt(intern!(py, "gi_code"))?
        && code.getattr(intern!(py, "co_flags"))?.extract::<u32>()? & ITERABLE_COROUTINE != 0
    {
        return Ok(awaitable.clone());
    }
    let kind = awaitable.get_type().name()?;
    Err(PyTypeError::new_err(format!("object {kind} can't be used in 'await' expression")))
}

/// One step of the iterator: what it yields, or the `StopIteration` with what it returns.
fn resume_iterator<'py>(iterator: &Bound<'py, PyAny>, resume: Option<Resume>) -> PyResult<Bound<'py, PyAny>> {
    let py = iterator.py();
    match resume {
        Some(Resume::Throw(error)) => match iterator.getattr_opt(intern!(py, "throw"))? {
            Some(throw) => throw.call1((error.into_value(py),)),
            None => Err(error), // PEP 380: the `yield from` raises it
        },
        Some(Resume::Send(value)) if !value.is_none(py) => {
            iterator.call_method1(intern!(py, "send"), (value,))
        }
        Some(Resume::Send(_)) | None => iterator.call_method0(intern!(py, "__next__")),
    }
}
