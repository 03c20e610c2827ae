//! UDP sockets.

use super::{Address, resolve};
use crate::runtime::Direction;
use crate::watched::Watched;
use antiphon_engine::partial_writes::allowance_of_messages;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

/// A socket for datagrams.
///
/// ```
/// use antiphon::net::UdpSocket;
///
/// antiphon::run(async {
///     let ours = UdpSocket::bind("127.0.0.1:0").await?;
///     let theirs = UdpSocket::bind("127.0.0.1:0").await?;
///     ours.send_to(b"hello", theirs.local_addr()?).await?;
///     let mut buffer = [0; 64];
///     let (len, from) = theirs.recv_from(&mut buffer).await?;
///     assert_eq!((&buffer[..len], from), (&b"hello"[..], ours.local_addr()?));
///     Ok::<_, std::io::Error>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// All methods take `&self`: several tasks may receive, and each datagram is one's.
#[derive(Debug)]
pub struct UdpSocket {
    socket: Watched<std::net::UdpSocket>,
}

impl UdpSocket {
    /// A socket at `address`: at the first that is free, if it stands for several.
    ///
    /// # Errors
    /// As [`resolve`]; as bind(2), of the last address.
    pub async fn bind(address: impl Into<Address>) -> io::Result<Self> {
        let mut failure = io::Error::new(io::ErrorKind::InvalidInput, "no address to bind to");
        for address in resolve(address).await? {
            match Self::bind_to(address) {
                Ok(socket) => return Ok(socket),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn bind_to(address: SocketAddr) -> io::Result<Self> {
        let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::DGRAM, flags, None)?;
        bind(&socket, &address)?;
        Ok(Self { socket: Watched::new(socket.into())? })
    }

    /// Takes a socket of the standard library's into the running loop.
    ///
    /// # Errors
    /// With [`NoLoop`](crate::NoLoop) inside: no loop runs here. As fcntl(2).
    pub fn from_std(socket: std::net::UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket: Watched::new(socket)? })
    }

    /// The socket without a loop. It does not block.
    #[must_use]
    pub fn into_std(self) -> std::net::UdpSocket {
        self.socket.into_inner()
    }

    /// Names the one peer that [`send`](Self::send) sends to and that is listened to.
    ///
    /// # Errors
    /// As [`resolve`]; as connect(2), of the last address.
    pub async fn connect(&self, address: impl Into<Address>) -> io::Result<()> {
        let mut outcome = Err(io::Error::new(io::ErrorKind::InvalidInput, "no address to connect to"));
        for address in resolve(address).await? {
            outcome = self.socket.get().connect(address);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    /// Sends one datagram.
    ///
    /// # Errors
    /// As sendto(2), such as `EMSGSIZE` for what no datagram can hold. With [`Cancelled`](crate::Cancelled) inside: the task was
    /// cancelled, and nothing was sent.
    pub async fn send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<usize> {
        self.socket
            .perform(Direction::Write, "room to write", |socket| {
                allowance_of_messages(1)?;
                socket.send_to(datagram, to)
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

    /// Sends one datagram to the [connected](Self::connect) peer.
    ///
    /// # Errors
    /// As [`send_to`](Self::send_to); [`ConnectionRefused`](io::ErrorKind::ConnectionRefused): an earlier one reached nobody.
    pub async fn send(&self, datagram: &[u8]) -> io::Result<usize> {
        self.socket
            .perform(Direction::Write, "room to write", |socket| {
                allowance_of_messages(1)?;
                socket.send(datagram)
            })
            .await
    }

    /// Waits for a datagram of the [connected](Self::connect) peer, as [`recv_from`](Self::recv_from).
    ///
    /// # Errors
    /// As [`recv_from`](Self::recv_from).
    pub async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.perform(Direction::Read, "a datagram", |socket| socket.recv(buffer)).await
    }

    /// As [`recv_from`](Self::recv_from), and leaves the datagram for the next one.
    ///
    /// # Errors
    /// As [`recv_from`](Self::recv_from).
    pub async fn peek_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.perform(Direction::Read, "a datagram", |socket| socket.peek_from(buffer)).await
    }

    /// Whether datagrams may be sent to broadcast addresses.
    ///
    /// # Errors
    /// As setsockopt(2).
    pub fn set_broadcast(&self, allowed: bool) -> io::Result<()> {
        self.socket.get().set_broadcast(allowed)
    }

    /// Our address.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.get().local_addr()
    }

    /// The [connected](Self::connect) peer's address.
    ///
    /// # Errors
    /// As getpeername(2).
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket.get().peer_addr()
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.get().as_fd()
    }
}
