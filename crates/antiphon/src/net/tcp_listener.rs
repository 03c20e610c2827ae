//! Listening for TCP connections.

use super::accept::accept_connection;
use super::{Address, TcpStream, resolve};
use crate::runtime::Direction;
use crate::watched::Watched;
use futures_core::Stream;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

/// A socket that takes TCP connections.
///
/// ```
/// use antiphon::net::{TcpListener, TcpStream};
///
/// antiphon::run(async {
///     let listener = TcpListener::bind("127.0.0.1:0").await?; // a free port
///     let client = TcpStream::connect(listener.local_addr()?).await?;
///     let (_server, peer) = listener.accept().await?;
///     assert_eq!(peer, client.local_addr()?);
///     Ok::<_, std::io::Error>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TcpListener {
    socket: Watched<std::net::TcpListener>,
}

/// How a [`TcpListener`] is made.
///
/// ```
/// use antiphon::net::ListenOptions;
///
/// antiphon::run(async {
///     let options = ListenOptions::new().backlog(64).reuse_port(true);
///     let first = options.bind("127.0.0.1:0").await?;
///     let second = options.bind(first.local_addr()?).await?; // the kernel shares connections out
///     assert_eq!(first.local_addr()?, second.local_addr()?);
///     Ok::<_, std::io::Error>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "options do nothing until bind is called"]
pub struct ListenOptions {
    backlog: u16,
    reuse_port: bool,
    only_v6: Option<bool>,
}

impl ListenOptions {
    /// At most 1024 connections wait to be accepted, and the port is nobody else's.
    pub const fn new() -> Self {
        Self { backlog: 1024, reuse_port: false, only_v6: None }
    }

    /// How many connections may wait to be accepted; the kernel has a limit of its own.
    pub const fn backlog(mut self, connections: u16) -> Self {
        self.backlog = connections;
        self
    }

    /// Lets several sockets listen at the port if all of them say so; the kernel shares connections out between them.
    pub const fn reuse_port(mut self, reuse: bool) -> Self {
        self.reuse_port = reuse;
        self
    }

    /// Whether an IPv6 socket takes no IPv4 connections; the system decides if nothing is said.
    pub const fn only_v6(mut self, only: bool) -> Self {
        self.only_v6 = Some(only);
        self
    }

    /// Listens at `address`: at the first that is free, if it stands for several.
    ///
    /// # Errors
    /// As [`resolve`]; as bind(2) and listen(2), of the last address.
    pub async fn bind(&self, address: impl Into<Address>) -> io::Result<TcpListener> {
        let mut failure = io::Error::new(io::ErrorKind::InvalidInput, "no address to listen at");
        for address in resolve(address).await? {
            match self.bind_to(address) {
                Ok(listener) => return Ok(listener),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Listens at this very address, which needs no waiting.
    ///
    /// # Errors
    /// As bind(2) and listen(2); with [`NoLoop`](crate::NoLoop) inside: no loop runs here.
    pub fn bind_to(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        // A port whose connections linger in TIME_WAIT can be had at once.
        sockopt::set_socket_reuseaddr(&socket, true)?;
        if self.reuse_port {
            sockopt::set_socket_reuseport(&socket, true)?;
        }
        if let (Some(only), true) = (self.only_v6, address.is_ipv6()) {
            sockopt::set_ipv6_v6only(&socket, only)?;
        }
        bind(&socket, &address)?;
        listen(&socket, self.backlog.into())?;
        Ok(TcpListener { socket: Watched::new(socket.into())? })
    }
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl TcpListener {
    /// Listens at `address`, with [`ListenOptions::new`].
    ///
    /// # Errors
    /// As [`ListenOptions::bind`].
    pub async fn bind(address: impl Into<Address>) -> io::Result<Self> {
        ListenOptions::new().bind(address).await
    }

    /// Takes a listening socket of the standard library's into the running loop.
    ///
    /// # Errors
    /// With [`NoLoop`](crate::NoLoop) inside: no loop runs here. As fcntl(2).
    pub fn from_std(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { socket: Watched::new(listener)? })
    }

    /// The socket without a loop, to be taken to another one by [`from_std`](Self::from_std). It does not block.
    #[must_use]
    pub fn into_std(self) -> std::net::TcpListener {
        self.socket.into_inner()
    }

    /// Waits for a connection; gives it, and who made it. Several tasks may wait.
    ///
    /// # Errors
    /// As accept(2), such as `EMFILE` when the process is out of descriptors: the connection is still there then. With
    /// [`Cancelled`](crate::Cancelled) inside: the task was cancelled, and no connection is lost.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.socket.perform(Direction::Read, "a connection", accept).await
    }

    /// The connections as they come, without end.
    ///
    /// ```
    /// use antiphon::net::{TcpListener, TcpStream};
    /// use futures_core::Stream;
    /// use std::{future::poll_fn, pin::pin};
    ///
    /// antiphon::run(async {
    ///     let listener = TcpListener::bind("127.0.0.1:0").await?;
    ///     let _client = TcpStream::connect(listener.local_addr()?).await?;
    ///     let mut incoming = pin!(listener.incoming());
    ///     let next = poll_fn(|context| incoming.as_mut().poll_next(context)).await;
    ///     assert!(next.is_some_and(|connection| connection.is_ok()));
    ///     Ok::<_, std::io::Error>(())
    /// })??;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub const fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.get().local_addr()
    }
}

impl AsFd for TcpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.get().as_fd()
    }
}

/// The stream of [`TcpListener::incoming`].
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
}

impl Stream for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let accepted = self.listener.socket.poll_by_trait(Direction::Read, "a connection", context, accept);
        accepted.map(|outcome| Some(outcome.map(|(stream, _)| stream)))
    }
}

fn accept(listener: &std::net::TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (socket, address) = accept_connection(listener)?;
    let address = address.and_then(|address| SocketAddr::try_from(address).ok());
    let stream = TcpStream::new(socket.into())?;
    let peer = address.map_or_else(|| stream.peer_addr(), Ok)?;
    Ok((stream, peer))
}
