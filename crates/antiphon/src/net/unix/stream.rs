//! Connections through a path.

use crate::back_off::until_it_would_not_block;
use crate::net::connection::connection_methods;
use crate::watched::{Watched, reading_methods, reading_traits, writing_methods, writing_traits};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::io;
use std::net::Shutdown;
use std::os::unix::net::{self as std_unix, SocketAddr};
use std::path::Path;

/// A connection within this machine.
///
/// ```
/// use antiphon::net::UnixStream;
///
/// antiphon::run(async {
///     let (ours, theirs) = UnixStream::pair()?;
///     ours.write_all(b"hello").await?;
///     let mut text = [0; 5];
///     theirs.read_exact(&mut text).await?;
///     assert_eq!(&text, b"hello");
///     Ok::<_, std::io::Error>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct UnixStream {
    socket: Watched<std_unix::UnixStream>,
}

impl UnixStream {
    /// Connects to a listener's path. While the listener's queue is full it asks again, after pauses up to 64 ms: the kernel tells
    /// nobody when there is room.
    ///
    /// # Errors
    /// As connect(2). With [`Cancelled`](crate::Cancelled) inside: the task was cancelled.
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        let address = SocketAddrUnix::new(path.as_ref())?;
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        until_it_would_not_block(|| Ok(connect(&socket, &address)?)).await?;
        Self::new(socket.into())
    }

    /// Two connected ends.
    ///
    /// # Errors
    /// As socketpair(2); with [`NoLoop`](crate::NoLoop) inside: no loop runs here.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (first, second) = std_unix::UnixStream::pair()?;
        Ok((Self::from_std(first)?, Self::from_std(second)?))
    }

    /// `stream` does not block.
    pub(super) fn new(stream: std_unix::UnixStream) -> io::Result<Self> {
        Ok(Self { socket: Watched::new(stream)? })
    }
}

connection_methods!(UnixStream, std_unix::UnixStream, SocketAddr);
reading_methods!(UnixStream);
writing_methods!(UnixStream);
reading_traits!(UnixStream, &UnixStream);
writing_traits!(|stream| stream.shutdown(Shutdown::Write); UnixStream, &UnixStream);
