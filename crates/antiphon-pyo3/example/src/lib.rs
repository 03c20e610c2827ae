//! An extension module whose async functions are Rust futures.

use antiphon_pyo3::{AsyncFd, Coroutine, Direction, awaited, cancellable, coroutine, create_task, sleep};
use futures_util::future::{Either, join, select};
use futures_util::stream::{FuturesUnordered, StreamExt};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use std::future::{pending, poll_fn};
use std::io::{Read, Write};
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::task::Poll;
use std::thread;
use std::time::Duration;

type Made<'py> = PyResult<Bound<'py, Coroutine>>;

/// Twice `number`, after `seconds`.
#[pyfunction]
fn double(py: Python<'_>, number: i64, seconds: f64) -> Made<'_> {
    let duration =
        Duration::try_from_secs_f64(seconds).map_err(|error| PyValueError::new_err(error.to_string()))?;
    coroutine(py, "double", async move {
        sleep(duration).await?;
        Ok(number * 2)
    })
}

/// What `await function()` returns, twice, added up.
#[pyfunction]
fn twice(py: Python<'_>, function: Py<PyAny>) -> Made<'_> {
    coroutine(py, "twice", async move {
        let first: i64 = awaited(|py| function.bind(py).call0()).await?;
        let second: i64 = awaited(|py| function.bind(py).call0()).await?;
        Ok(first + second)
    })
}

/// Awaits one awaitable and returns what it returns.
#[pyfunction]
fn pass_through(py: Python<'_>, awaitable: Py<PyAny>) -> Made<'_> {
    coroutine(
        py,
        "pass_through",
        async move { awaited::<Py<PyAny>, _>(|py| Ok(awaitable.into_bound(py))).await },
    )
}

/// Awaits two awaitables at once; a pair of what they return.
#[pyfunction]
fn both(py: Python<'_>, one: Py<PyAny>, other: Py<PyAny>) -> Made<'_> {
    coroutine(py, "both", async move {
        let one = awaited::<Py<PyAny>, _>(|py| Ok(one.into_bound(py)));
        let other = awaited::<Py<PyAny>, _>(|py| Ok(other.into_bound(py)));
        let (one, other) = join(one, other).await;
        Ok((one?, other?))
    })
}

/// Awaits all awaitables at once; what they return, in the order in which they end.
#[pyfunction]
fn as_they_end(py: Python<'_>, awaitables: Vec<Py<PyAny>>) -> Made<'_> {
    coroutine(py, "as_they_end", async move {
        let mut each: FuturesUnordered<_> = awaitables
            .into_iter()
            .map(|awaitable| awaited::<Py<PyAny>, _>(|py| Ok(awaitable.into_bound(py))))
            .collect();
        let mut results = Vec::new();
        while let Some(result) = each.next().await {
            results.push(result?);
        }
        Ok(results)
    })
}

/// Returns what the first of both returns; the other one is closed.
#[pyfunction]
fn first(py: Python<'_>, one: Py<PyAny>, other: Py<PyAny>) -> Made<'_> {
    coroutine(py, "first", async move {
        let one = awaited::<Py<PyAny>, _>(|py| Ok(one.into_bound(py)));
        let other = awaited::<Py<PyAny>, _>(|py| Ok(other.into_bound(py)));
        match select(one, other).await {
            Either::Left((result, _)) | Either::Right((result, _)) => result,
        }
    })
}

/// The sum of `count` numbers that a thread sends, and calls `seen` with each.
#[pyfunction]
fn sum_from_thread(py: Python<'_>, count: u64, seen: Py<PyAny>) -> Made<'_> {
    coroutine(py, "sum_from_thread", async move {
        let (sender, receiver) = antiphon::channel(0);
        let sending = thread::spawn(move || {
            for number in 0..count {
                if sender.try_send(number).is_err() {
                    return;
                }
                thread::yield_now();
            }
        });
        let mut sum = 0;
        while let Ok(number) = receiver.recv().await {
            Python::attach(|py| seen.call1(py, (number,)))?;
            sum += number;
        }
        // Detached: its last wake may still wait for the interpreter.
        let joined = Python::attach(|py| py.detach(|| sending.join()));
        joined.map_err(|_| PyRuntimeError::new_err("the thread panicked"))?;
        Ok(sum)
    })
}

/// Gives way `count` times without waiting for anything.
#[pyfunction]
fn give_way(py: Python<'_>, count: u32) -> Made<'_> {
    coroutine(py, "give_way", async move {
        let mut left = count;
        poll_fn(|context| {
            if left == 0 {
                return Poll::Ready(Ok(()));
            }
            left -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    })
}

/// Calls `dropped` when it is dropped.
struct CallsWhenDropped(Py<PyAny>);

impl Drop for CallsWhenDropped {
    fn drop(&mut self) {
        Python::attach(|py| {
            if let Err(error) = self.0.call0(py) {
                error.write_unraisable(py, None);
            }
        });
    }
}

/// Waits forever for what is nobody's; calls `dropped` at its end.
#[pyfunction]
fn forever(py: Python<'_>, dropped: Py<PyAny>) -> Made<'_> {
    coroutine(py, "forever", async move {
        let _dropped = CallsWhenDropped(dropped);
        pending::<PyResult<()>>().await
    })
}

/// Waits forever, and awaits `clean_up(exception)` before it passes an exception on.
#[pyfunction]
fn forever_cleanly(py: Python<'_>, clean_up: Py<PyAny>) -> Made<'_> {
    coroutine(py, "forever_cleanly", async move {
        let error = match cancellable(pending::<()>()).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let _: Py<PyAny> = awaited(|py| clean_up.bind(py).call1((error.value(py),))).await?;
        Err(error)
    })
}

/// The values of a `ContextVar` before and after an await; sets it to "rust" at the end.
#[pyfunction]
fn context_of(py: Python<'_>, variable: Py<PyAny>) -> Made<'_> {
    coroutine(py, "context_of", async move {
        let get = || Python::attach(|py| variable.call_method0(py, "get"));
        let before = get()?;
        sleep(Duration::ZERO).await?;
        let after = get()?;
        Python::attach(|py| variable.call_method1(py, "set", ("rust",)))?;
        Ok((before, after))
    })
}

/// Starts a task of a Rust future and awaits it.
#[pyfunction]
fn in_a_task(py: Python<'_>, number: i64) -> Made<'_> {
    coroutine(py, "in_a_task", async move {
        awaited::<i64, _>(|py| {
            create_task(py, "inner", async move {
                sleep(Duration::ZERO).await?;
                Ok(number + 1)
            })
        })
        .await
    })
}

/// Panics after its first step unless `number` is positive.
#[pyfunction]
fn positive(py: Python<'_>, number: i64) -> Made<'_> {
    coroutine(py, "positive", async move {
        sleep(Duration::ZERO).await?;
        assert!(number > 0, "on purpose");
        Ok(number)
    })
}

/// One end of a socket pair, and a coroutine that sends back on it in capitals what comes, until the end; it returns how many
/// bytes that were.
#[pyfunction]
fn shout(py: Python<'_>) -> PyResult<(i32, Bound<'_, Coroutine>)> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let ours = AsyncFd::new(ours);
    let shouting = coroutine(py, "shout", async move {
        let mut buffer = vec![0; 64 * 1024];
        let mut count = 0;
        loop {
            let len = ours.perform(Direction::Read, |mut ours| ours.read(&mut buffer)).await?;
            if len == 0 {
                return Ok(count);
            }
            count += len;
            buffer[..len].make_ascii_uppercase();
            let mut sent = 0;
            while sent < len {
                let rest = &buffer[sent..len];
                sent += ours.perform(Direction::Write, |mut ours| ours.write(rest)).await?;
            }
        }
    })?;
    Ok((theirs.into_raw_fd(), shouting))
}

/// One end of a socket pair, and a coroutine in which two futures wait to read from the other end; what the second one is told.
#[pyfunction]
fn read_twice(py: Python<'_>) -> PyResult<(i32, Bound<'_, Coroutine>)> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let ours = AsyncFd::new(ours);
    let reading = coroutine(py, "read_twice", async move {
        let (first, second) = join(ours.ready(Direction::Read), ours.ready(Direction::Read)).await;
        first?;
        ours.ready(Direction::Write).await?; // the other direction is nobody's
        Ok(second.err().map(|error| error.to_string()))
    })?;
    Ok((theirs.into_raw_fd(), reading))
}

/// Polls an awaitable where no coroutine is.
#[pyfunction]
fn poll_outside(awaitable: Py<PyAny>) -> PyResult<()> {
    let awaiting = pin!(awaited::<Py<PyAny>, _>(|py| Ok(awaitable.into_bound(py))));
    match awaiting.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        Poll::Ready(result) => result.map(drop),
        Poll::Pending => Ok(()),
    }
}

/// Rust futures for Python.
#[pymodule(gil_used = false)]
mod rust_futures {
    #[pymodule_export]
    use super::{
        as_they_end, both, context_of, double, first, forever, forever_cleanly, give_way, in_a_task,
        pass_through, poll_outside, positive, read_twice, shout, sum_from_thread, twice,
    };
}
