//! Sockets: TCP, UDP, Unix, and the names of hosts.
//!
//! A call is tried at once and waits only if it would block. Each socket belongs to the loop that it was made in: used in
//! another one, it fails with [`WrongLoop`](crate::WrongLoop) inside the [`io::Error`](std::io::Error).
//!
//! ```
//! use antiphon::net::{TcpListener, TcpStream};
//! use antiphon::spawn;
//! use std::io;
//!
//! antiphon::run(async {
//!     let listener = TcpListener::bind("127.0.0.1:0").await?;
//!     let address = listener.local_addr()?;
//!     let server = spawn(async move {
//!         let (stream, _peer) = listener.accept().await?;
//!         let mut buffer = [0; 64];
//!         let len = stream.read(&mut buffer).await?;
//!         stream.write_all(&buffer[..len]).await
//!     });
//!     let client = TcpStream::connect(address).await?;
//!     client.write_all(b"hello").await?;
//!     let mut echoed = [0; 5];
//!     client.read_exact(&mut echoed).await?;
//!     assert_eq!(&echoed, b"hello");
//!     server.await.map_err(|error| error.failed().expect("an error of I/O"))
//! })??;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Cancellation
//! Where a call would wait and its task is cancelled, it fails with [`Cancelled`](crate::Cancelled) inside the
//! [`io::Error`](std::io::Error), which [`Failure`](crate::Failure) finds there. Then it has read, written and accepted nothing:
//! what comes is the next call's. A call that need not wait succeeds, and the next one that waits fails.
//!
//! # Virtual time
//! Peers live in the system's time. On a loop with a [virtual clock](crate::Runner::virtual_clock) the time jumps when no socket
//! had anything for 20 real milliseconds, so that peers of the same loop always answer in time.

mod accept;
mod address;
mod connect;
mod connection;
mod halves;
mod tcp_listener;
mod tcp_stream;
mod udp_socket;
mod unix;

pub use address::{Address, ResolveError, resolve};
pub use connect::ConnectErrors;
pub use halves::{ReadHalf, WriteHalf};
pub use tcp_listener::{Incoming, ListenOptions, TcpListener};
pub use tcp_stream::TcpStream;
pub use udp_socket::UdpSocket;
pub use unix::{UnixDatagram, UnixIncoming, UnixListener, UnixStream};
