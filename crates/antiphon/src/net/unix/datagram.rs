//! Datagrams through paths.

use crate::back_off::until_it_would_not_block;
use crate::runtime::Direction;
use crate::watched::Watched;
use antiphon_engine::partial_writes::allowance_of_messages;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{self as std_unix, SocketAddr};
use std::path::Path;

/// A socket for datagrams within this machine; none is lost on the way.
///
/// ```
/// use antiphon::net::UnixDatagram;
///
/// antiphon::run(async {
///     let (ours, theirs) = UnixDatagram::pair()?;
///     ours.send(b"one").await?;
///     ours.send(b"two").await?;
///     let mut buffer = [0; 8];
///     assert_eq!(theirs.recv(&mut buffer).await?, 3);
///     assert_eq!(&buffer[..3], b"one");
///     Ok::<_, std::io::Error>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct UnixDatagram {
    socket: Watched<std_unix::UnixDatagram>,
}

impl UnixDatagram {
    /// A socket at `path`. The file stays when the socket is dropped.
    ///
    /// # Errors
    /// As bind(2): [`AddrInUse`](io::ErrorKind::AddrInUse) if there is such a file.
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::from_std(std_unix::UnixDatagram::bind(path)?)
    }

    /// A socket without an address, to send from.
    ///
    /// # Errors
    /// As socket(2); with [`NoLoop`](crate::NoLoop) inside: no loop runs here.
    pub fn unbound() -> io::Result<Self> {
        Self::from_std(std_unix::UnixDatagram::unbound()?)
    }

    /// Two sockets, each connected to the other.
    ///
    /// # Errors
    /// As socketpair(2); with [`NoLoop`](crate::NoLoop) inside: no loop runs here.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (first, second) = std_unix::UnixDatagram::pair()?;
        Ok((Self::from_std(first)?, Self::from_std(second)?))
    }

    /// Takes a socket of the standard library's into the running loop.
    ///
    /// # Errors
    /// With [`NoLoop`](crate::NoLoop) inside: no loop runs here. As fcntl(2).
    pub fn from_std(socket: std_unix::UnixDatagram) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket: Watched::new(socket)? })
    }

    /// The socket without a loop. It does not block.
    #[must_use]
    pub fn into_std(self) -> std_unix::UnixDatagram {
        self.socket.into_inner()
    }

    /// Names the one peer that [`send`](Self::send) sends to.
    ///
    /// # Errors
    /// As connect(2).
    pub fn connect(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.socket.get().connect(path)
    }

    /// Sends one datagram to the socket at `path`. While that one's queue is full it tries again, after pauses up to 64 ms: the
    /// kernel tells only connected sockets when there is room.
    ///
    /// # Errors
    /// As sendto(2). With [`Cancelled`](crate::Cancelled) inside: the task was cancelled, and nothing was sent.
    pub async fn send_to(&self, datagram: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        let path = path.as_ref();
        until_it_would_not_block(|| {
            allowance_of_messages(1)?;
            self.socket.get().send_to(datagram, path)
        })
        .await
    }

    /// Waits for a datagram; gives its length and who sent it. What `buffer` has no room for is lost.
    ///
    /// # Errors
    /// As recvfrom(2). With [`Cancelled`](crate::Cancelled) inside: the task was cancelled, and no datagram is lost.
    pub async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.perform(Direction::Read, "a datagram", |socket| socket.recv_from(buffer)).await
    }

    /// Sends one datagram to the [connected](Self::connect) peer; waits while that one's queue is full.
    ///
    /// # Errors
    /// As send(2). With [`Cancelled`](crate::Cancelled) inside: the task was cancelled, and nothing was sent.
    pub async fn send(&self, datagram: &[u8]) -> io::Result<usize> {
        self.socket
            .perform(Direction::Write, "room to write", |socket| {
                allowance_of_messages(1)?;
                socket.send(datagram)
            })
            .await
    }

    /// Waits for a datagram, as [`recv_from`](Self::recv_from).
    ///
    /// # Errors
    /// As [`recv_from`](Self::recv_from).
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.perform(Direction::Read, "a datagram", |socket| socket.recv(buffer)).await
    }

    /// Our address, if it has a name.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.get().local_addr()
    }
}

impl AsFd for UnixDatagram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.get().as_fd()
    }
}
