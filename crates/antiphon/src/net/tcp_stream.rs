//! TCP connections.

use super::connect::connect_to_any;
use super::connection::connection_methods;
use super::{Address, resolve};
use crate::watched::{Watched, reading_methods, reading_traits, writing_methods, writing_traits};
use std::io;
use std::net::{Shutdown, SocketAddr};

/// A TCP connection. Small writes leave at once (`TCP_NODELAY`), as in asyncio.
///
/// ```
/// use antiphon::net::{TcpListener, TcpStream};
/// use std::net::Shutdown;
///
/// antiphon::run(async {
///     let listener = TcpListener::bind("localhost:0").await?;
///     let client = TcpStream::connect(listener.local_addr()?).await?;
///     let (server, _) = listener.accept().await?;
///     client.write_all(b"that is all").await?;
///     client.shutdown(Shutdown::Write)?; // the other direction goes on
///     let mut buffer = [0; 64];
///     assert_eq!(server.read(&mut buffer).await?, 11);
///     assert_eq!(server.read(&mut buffer).await?, 0);
///     Ok::<_, std::io::Error>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Reading and writing take `&self`, so that one task can read while another one writes.
#[derive(Debug)]
pub struct TcpStream {
    socket: Watched<std::net::TcpStream>,
}

impl TcpStream {
    /// Connects to `address`. If it stands for several, IPv6 and IPv4 take turns, each tried 250 ms after the one before or as
    /// soon as that has failed, and the first connection is taken (RFC 8305).
    ///
    /// # Errors
    /// As [`resolve`]; as connect(2); with [`ConnectErrors`](super::ConnectErrors) inside if several addresses failed. With
    /// [`Cancelled`](crate::Cancelled) inside: the task was cancelled, and every attempt is closed.
    pub async fn connect(address: impl Into<Address>) -> io::Result<Self> {
        let socket = connect_to_any(resolve(address).await?).await?;
        socket.get().set_nodelay(true)?;
        Ok(Self { socket })
    }

    /// `stream` does not block.
    pub(super) fn new(stream: std::net::TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { socket: Watched::new(stream)? })
    }

    /// Ends the writing direction; a peer that is gone already does not mind.
    fn end_writing(&self) -> io::Result<()> {
        match self.shutdown(Shutdown::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            outcome => outcome,
        }
    }

    /// Whether small writes leave at once.
    ///
    /// # Errors
    /// As setsockopt(2).
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.socket.get().set_nodelay(nodelay)
    }

    /// Whether small writes leave at once.
    ///
    /// # Errors
    /// As getsockopt(2).
    pub fn nodelay(&self) -> io::Result<bool> {
        self.socket.get().nodelay()
    }
}

connection_methods!(TcpStream, std::net::TcpStream, SocketAddr);
reading_methods!(TcpStream);
writing_methods!(TcpStream);
reading_traits!(TcpStream, &TcpStream);
writing_traits!(|stream| stream.end_writing(); TcpStream, &TcpStream);
