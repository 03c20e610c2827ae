//! Descriptors on the running loop: sockets and pipes inside of Rust futures, without a reactor of their own.
//!
//! Who waits for one is told by the loop's `add_reader` or `add_writer`, which every loop of asyncio's kind on Unix has.
//!
//! Invariant: a registration ends before its descriptor is closed, for the wait that it belongs to borrows the [`AsyncFd`]. Only a
//! coroutine that is dropped on another thread leaves it to its loop, which has to be asked then.

use crate::awaited::awaited;
use crate::coroutine::running_loop;
use crate::wake::resolve;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ThreadId};

/// Which of a descriptor's two directions.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Direction {
    /// Data to read, a connection to accept, the end.
    Read,
    /// Room to write, a connection made.
    Write,
}

/// What has a descriptor that does not block, for futures that a [`coroutine`](crate::coroutine()) polls: a socket or a pipe of the
/// standard library's, or of another crate's.
///
/// ```text
/// let stream = std::net::TcpStream::connect(address)?;
/// stream.set_nonblocking(true)?;
/// let stream = AsyncFd::new(stream);
/// coroutine(py, "first_bytes", async move {
///     let mut buffer = [0; 64];
///     let len = stream.perform(Direction::Read, |mut stream| stream.read(&mut buffer)).await?;
///     Ok(buffer[..len].to_vec())
/// })
/// ```
///
/// One future at a time can wait for each direction. asyncio knows one reader and one writer of a number: Python code that calls
/// `add_reader` for the same one takes the place of a future that waits.
#[derive(Debug)]
pub struct AsyncFd<T> {
    io: T,
    /// Whether somebody waits: to read, to write.
    waits: [AtomicBool; 2],
}

impl<T: AsFd> AsyncFd<T> {
    /// `io` must not block.
    pub const fn new(io: T) -> Self {
        Self { io, waits: [AtomicBool::new(false), AtomicBool::new(false)] }
    }

    /// What it was made of.
    pub const fn get_ref(&self) -> &T {
        &self.io
    }

    /// What it was made of.
    pub fn into_inner(self) -> T {
        self.io
    }

    /// Waits until a call in this direction would not block: because there is something, or an error to be told.
    ///
    /// # Errors
    /// `RuntimeError`: no loop runs here, another future waits for the same direction, or it is polled outside of a
    /// [`coroutine`](crate::coroutine()). What the loop's `add_reader` raises: `PermissionError` for a file on disk. What is
    /// thrown into the coroutine, such as its cancellation; then it waits no more, and nothing is lost.
    pub async fn ready(&self, direction: Direction) -> PyResult<()> {
        let _only = Only::one(&self.waits[direction as usize])?;
        let fd = self.io.as_fd().as_raw_fd();
        let mut watch = None; // dropped after the future, which does not need it any more
        let made: Py<PyAny> = awaited(|py| {
            let (own, future) = Watch::begin(py, fd, direction)?;
            watch = Some(own);
            Ok(future)
        })
        .await?;
        drop((made, watch));
        Ok(())
    }

    /// Makes `call`, and waits and makes it again as often as it says that it would block.
    ///
    /// # Errors
    /// What `call` fails with, as `OSError`; as [`ready`](Self::ready).
    pub async fn perform<R>(
        &self,
        direction: Direction,
        mut call: impl FnMut(&T) -> io::Result<R>,
    ) -> PyResult<R> {
        loop {
            match call(&self.io) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.ready(direction).await?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => return Ok(outcome?),
            }
        }
    }
}

/// The only one who waits, until it is dropped.
struct Only<'a>(&'a AtomicBool);

impl<'a> Only<'a> {
    fn one(waits: &'a AtomicBool) -> PyResult<Self> {
        if waits.swap(true, Ordering::Acquire) {
            let message = "another future waits for this direction of the descriptor already";
            return Err(PyRuntimeError::new_err(message));
        }
        Ok(Self(waits))
    }
}

impl Drop for Only<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// A descriptor that a loop watches, until it is dropped.
struct Watch {
    /// Weak: a loop that nobody can reach any more can go, with all that waits.
    event_loop: Py<PyWeakrefReference>,
    fd: RawFd,
    direction: Direction,
    /// Where the loop runs.
    thread: ThreadId,
}

impl Watch {
    /// The watch, and a future that is done when the descriptor is ready.
    fn begin(py: Python<'_>, fd: RawFd, direction: Direction) -> PyResult<(Self, Bound<'_, PyAny>)> {
        let event_loop = running_loop(py)?;
        let weak = PyWeakrefReference::new(&event_loop)?;
        let future = event_loop.call_method0(intern!(py, "create_future"))?;
        let resolve = pyo3::wrap_pyfunction!(resolve, py)?;
        let add = match direction {
            Direction::Read => intern!(py, "add_reader"),
            Direction::Write => intern!(py, "add_writer"),
        };
        event_loop.call_method1(add, (fd, resolve, &future))?;
        let watch = Self { event_loop: weak.unbind(), fd, direction, thread: thread::current().id() };
        Ok((watch, future))
    }

    fn end(&self, py: Python<'_>) -> PyResult<()> {
        let Some(event_loop) = self.event_loop.bind(py).upgrade() else { return Ok(()) };
        if event_loop.call_method0(intern!(py, "is_closed"))?.is_truthy()? {
            return Ok(()); // which watches nothing
        }
        let remove = match self.direction {
            Direction::Read => intern!(py, "remove_reader"),
            Direction::Write => intern!(py, "remove_writer"),
        };
        if self.thread == thread::current().id() {
            return event_loop.call_method1(remove, (self.fd,)).map(drop);
        }
        let remove = event_loop.getattr(remove)?;
        event_loop.call_method1(intern!(py, "call_soon_threadsafe"), (remove, self.fd)).map(drop)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // An interpreter that shuts down runs no loops.
        let _ = Python::try_attach(|py| {
            let raised = PyErr::take(py); // it may be on its way while this is dropped
            if let Err(error) = self.end(py) {
                error.write_unraisable(py, None);
            }
            if let Some(raised) = raised {
                raised.restore(py);
            }
        });
    }
}
