//! Listening for connections at a path.

use super::UnixStream;
use crate::net::accept::accept_connection;
use crate::runtime::Direction;
use crate::watched::Watched;
use futures_core::Stream;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{self as std_unix, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A socket that takes connections at a path. The file stays when the listener is dropped.
///
/// ```
/// use antiphon::net::{UnixListener, UnixStream};
///
/// # let path = std::env::temp_dir().join(format!("antiphon-doc-{}", std::process::id()));
/// antiphon::run(async {
///     let listener = UnixListener::bind(&path)?;
///     let client = UnixStream::connect(&path).await?;
///     let server = listener.accept().await?;
///     client.write_all(b"hello").await?;
///     let mut text = [0; 5];
///     server.read_exact(&mut text).await?;
///     assert_eq!(&text, b"hello");
///     std::fs::remove_file(&path)
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct UnixListener {
    socket: Watched<std_unix::UnixListener>,
}

impl UnixListener {
    /// Listens at `path`.
    ///
    /// # Errors
    /// As bind(2): [`AddrInUse`](io::ErrorKind::AddrInUse) if there is such a file, which a listener that has ended leaves behind.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::from_std(std_unix::UnixListener::bind(path)?)
    }

    /// Takes a listening socket of the standard library's into the running loop.
    ///
    /// # Errors
    /// With [`NoLoop`](crate::NoLoop) inside: no loop runs here. As fcntl(2).
    pub fn from_std(listener: std_unix::UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { socket: Watched::new(listener)? })
    }

    /// The socket without a loop. It does not block.
    #[must_use]
    pub fn into_std(self) -> std_unix::UnixListener {
        self.socket.into_inner()
    }

    /// Waits for a connection. Several tasks may wait.
    ///
    /// # Errors
    /// As accept(2). With [`Cancelled`](crate::Cancelled) inside: the task was cancelled, and no connection is lost.
    pub async fn accept(&self) -> io::Result<UnixStream> {
        self.socket.perform(Direction::Read, "a connection", accept).await
    }

    /// The connections as they come, without end.
    pub const fn incoming(&self) -> UnixIncoming<'_> {
        UnixIncoming { listener: self }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.get().local_addr()
    }
}

impl AsFd for UnixListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.get().as_fd()
    }
}

/// The stream of [`UnixListener::incoming`].
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct UnixIncoming<'a> {
    listener: &'a UnixListener,
}

impl Stream for UnixIncoming<'_> {
    type Item = io::Result<UnixStream>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.listener.socket.poll_by_trait(Direction::Read, "a connection", context, accept).map(Some)
    }
}

fn accept(listener: &std_unix::UnixListener) -> io::Result<UnixStream> {
    let (socket, _) = accept_connection(listener)?;
    UnixStream::new(socket.into())
}
