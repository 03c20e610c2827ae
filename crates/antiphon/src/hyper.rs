//! hyper over antiphon: its traits for connections, timers and executors (feature `hyper`).
//!
//! ```
//! use antiphon::hyper::{HyperIo, HyperTimer};
//! use antiphon::net::{TcpListener, TcpStream};
//! use antiphon::{cancellable, spawn};
//! use http_body_util::{BodyExt, Empty, Full};
//! use hyper::body::Bytes;
//! use hyper::{Request, Response, service::service_fn};
//! use std::convert::Infallible;
//! use std::error::Error;
//!
//! antiphon::run(async {
//!     let listener = TcpListener::bind("127.0.0.1:0").await?;
//!     let address = listener.local_addr()?;
//!     let _server = spawn(async move {
//!         let (stream, _peer) = listener.accept().await?;
//!         let service = service_fn(async |_| Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("hello"))));
//!         let connection = hyper::server::conn::http1::Builder::new()
//!             .timer(HyperTimer)
//!             .serve_connection(HyperIo::new(stream), service);
//!         Ok::<_, Box<dyn Error>>(cancellable(connection).await??)
//!     });
//!
//!     let stream = TcpStream::connect(address).await?;
//!     let (mut sender, connection) = hyper::client::conn::http1::handshake(HyperIo::new(stream)).await?;
//!     let _driver = spawn(async move { Ok::<_, Box<dyn Error>>(cancellable(connection).await??) });
//!     let answer = sender.send_request(Request::new(Empty::<Bytes>::new())).await?;
//!     assert_eq!(answer.into_body().collect().await?.to_bytes(), "hello");
//!     Ok::<_, Box<dyn Error>>(())
//! })??;
//! # Ok::<(), Box<dyn Error>>(())
//! ```
//!
//! # Cancellation
//! hyper's futures are not antiphon's: [`cancellable`](crate::cancellable) is where waiting for them ends.

use crate::runtime::{Loop, Work};
use crate::spawn;
use ::hyper::rt::{Executor, Read, ReadBufCursor, Sleep, Timer, Write};
use antiphon_engine::{Inbox, TimerKey};
use futures_io::{AsyncRead, AsyncWrite};
use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

/// So much is read at once.
const SCRATCH_LEN: usize = 16 * 1024;

/// A connection as hyper reads and writes it: a [`TcpStream`](crate::net::TcpStream), or anything with the traits of `futures-io`.
///
/// ```
/// use antiphon::{hyper::HyperIo, net::UnixStream};
///
/// antiphon::run(async {
///     let (stream, _peer) = UnixStream::pair()?;
///     let stream: UnixStream = HyperIo::new(stream).into_inner(); // the module's example serves one
///     stream.shutdown(std::net::Shutdown::Both)
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct HyperIo<S> {
    stream: S,
    /// hyper's buffers may be uninitialised, which safe code cannot read into.
    scratch: Box<[u8]>,
}

impl<S> HyperIo<S> {
    /// `stream` for hyper.
    pub fn new(stream: S) -> Self {
        Self { stream, scratch: vec![0; SCRATCH_LEN].into_boxed_slice() }
    }

    /// The stream itself, as after an upgrade.
    pub fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin> Read for HyperIo<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let own = self.get_mut();
        let len = buffer.remaining().min(own.scratch.len());
        let len = ready!(Pin::new(&mut own.stream).poll_read(context, &mut own.scratch[..len]))?;
        buffer.put_slice(&own.scratch[..len]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> Write for HyperIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(context)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, data)
    }
}

/// Spawns what hyper wants to run beside a connection, on the running loop.
///
/// ```
/// use antiphon::hyper::HyperExecutor;
/// use antiphon::yield_now;
/// use hyper::rt::Executor;
/// use std::{cell::Cell, rc::Rc};
///
/// antiphon::run(async {
///     let ran = Rc::new(Cell::new(false));
///     let seen = Rc::clone(&ran);
///     HyperExecutor.execute(async move { seen.set(true) });
///     yield_now().await.unwrap();
///     assert!(ran.get());
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
#[derive(Copy, Clone, Debug, Default)]
pub struct HyperExecutor;

impl<F> Executor<F> for HyperExecutor
where
    F: Future<Output: 'static> + 'static,
{
    fn execute(&self, future: F) {
        drop(spawn(async move {
            future.await;
            Ok::<(), Infallible>(())
        }));
    }
}

/// hyper's timeouts on the running loop's clock.
///
/// ```
/// use antiphon::hyper::HyperTimer;
/// use hyper::rt::Timer;
/// use std::time::{Duration, Instant};
///
/// antiphon::Runner::new().virtual_clock().run(async {
///     HyperTimer.sleep(Duration::from_secs(3600)).await;
///     HyperTimer.sleep_until(Instant::now() + Duration::from_secs(3600)).await;
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
#[derive(Copy, Clone, Debug, Default)]
pub struct HyperTimer;

impl Timer for HyperTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(HyperSleep { duration, armed: None })
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(deadline.saturating_duration_since(Instant::now()))
    }
}

/// hyper wants its sleeps to be `Send`: this one holds no part of its loop, only names for them.
struct HyperSleep {
    duration: Duration,
    armed: Option<Armed>,
}

struct Armed {
    /// The loop whose timer it is.
    inbox: Arc<Inbox<Work>>,
    key: TimerKey,
    deadline: antiphon_engine::Instant,
    waker: Waker,
}

impl Sleep for HyperSleep {}

impl Future for HyperSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let own = match Loop::running() {
            Ok(own) => own,
            Err(error) => panic!("{error}"),
        };
        let deadline = match &self.armed {
            Some(armed) if own.now() >= armed.deadline => {
                self.armed = None;
                return Poll::Ready(());
            }
            Some(armed) if armed.waker.will_wake(context.waker()) => return Poll::Pending,
            Some(armed) => armed.deadline,
            None => own.now().saturating_add(self.duration),
        };
        let waker = context.waker().clone();
        let key = own.arm(deadline, Work::Wake(Box::new(waker.clone())));
        self.armed = Some(Armed { inbox: Arc::clone(&own.inbox), key, deadline, waker });
        Poll::Pending
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        // Dropped elsewhere, it leaves its timer to go off for nothing.
        if let Ok(own) = Loop::running()
            && Arc::ptr_eq(&own.inbox, &self.inbox)
        {
            drop(own.take_timer(self.key));
        }
    }
}
