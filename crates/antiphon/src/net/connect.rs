//! Connecting to a host that has several addresses.
//!
//! The families take turns, and the next address is tried when the one before has failed or has not answered for a while; the
//! first connection that is made is taken, and the others are closed.
//!
//! Source: RFC 8305 (Happy Eyeballs), sections 4 and 5; CPython Lib/asyncio/base_events.py (`create_connection`).

use crate::runtime::Direction;
use crate::time::{Sleep, sleep};
use crate::watched::Watched;
use crate::{Cancelled, Failure};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};
use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// RFC 8305's connection attempt delay.
const NEXT_ATTEMPT: Duration = Duration::from_millis(250);

/// No address of several could be connected to; inside of an [`io::Error`], whose kind is the first one's.
///
/// ```
/// use antiphon::net::{ConnectErrors, TcpListener, TcpStream};
///
/// antiphon::run(async {
///     let closed = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
///     let error = TcpStream::connect(vec![closed, closed]).await.unwrap_err();
///     let inner = error.get_ref().unwrap().downcast_ref::<ConnectErrors>().unwrap();
///     assert_eq!(inner.errors().len(), 2);
///     Ok::<_, std::io::Error>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ConnectErrors(Vec<(SocketAddr, io::Error)>);

impl ConnectErrors {
    /// Every address, and why it failed, in the order of the failures.
    #[must_use]
    pub fn errors(&self) -> &[(SocketAddr, io::Error)] {
        &self.0
    }
}

impl fmt::Display for ConnectErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no address could be connected to")?;
        self.0.iter().try_for_each(|(address, error)| write!(f, "; {address}: {error}"))
    }
}

impl Error for ConnectErrors {}

/// Connects to the first of `addresses` that answers.
pub(super) async fn connect_to_any(addresses: Vec<SocketAddr>) -> io::Result<Watched<TcpStream>> {
    let mut race =
        Race { left: interleave(addresses), running: Vec::new(), failures: Vec::new(), delay: None };
    poll_fn(|context| race.poll(context)).await
}

/// IPv6 and IPv4 by turns, the first one's family first, and each in its order.
fn interleave(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let mut second = second.into_iter();
    let mut all = VecDeque::new();
    for address in first {
        all.push_back(address);
        all.extend(second.next());
    }
    all.extend(second);
    all
}

/// A connection that is being made.
struct Attempt {
    address: SocketAddr,
    socket: Watched<TcpStream>,
}

struct Race {
    left: VecDeque<SocketAddr>,
    running: Vec<Attempt>,
    failures: Vec<(SocketAddr, io::Error)>,
    /// Until the next one is tried.
    delay: Option<Sleep>,
}

impl Race {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Watched<TcpStream>>> {
        loop {
            let failures_before = self.failures.len();
            if let Some(outcome) = self.poll_running(context) {
                return Poll::Ready(outcome);
            }
            let failed = self.failures.len() > failures_before;
            if !(self.running.is_empty() || failed || self.poll_delay(context)?) {
                return Poll::Pending;
            }
            let Some(address) = self.left.pop_front() else {
                if self.running.is_empty() {
                    return Poll::Ready(Err(self.failure()));
                }
                self.delay = None;
                return Poll::Pending;
            };
            match begin(address) {
                Ok(socket) => self.running.push(Attempt { address, socket }),
                Err(error) => self.failures.push((address, error)),
            }
            self.delay = (!self.left.is_empty()).then(|| sleep(NEXT_ATTEMPT));
        }
    }

    /// The first connection that is made, or a cancellation.
    fn poll_running(&mut self, context: &mut Context<'_>) -> Option<io::Result<Watched<TcpStream>>> {
        let mut place = 0;
        while let Some(attempt) = self.running.get(place) {
            match attempt.poll(context) {
                Poll::Pending => place += 1,
                Poll::Ready(Ok(())) => return Some(Ok(self.running.swap_remove(place).socket)),
                Poll::Ready(Err(error)) if error.is_cancelled() => return Some(Err(error)),
                Poll::Ready(Err(error)) => {
                    let attempt = self.running.swap_remove(place);
                    self.failures.push((attempt.address, error));
                }
            }
        }
        None
    }

    /// Whether the next address is to be tried although the others have not failed.
    fn poll_delay(&mut self, context: &mut Context<'_>) -> Result<bool, Cancelled> {
        let Some(delay) = &mut self.delay else { return Ok(false) };
        match Pin::new(delay).poll(context) {
            Poll::Pending => Ok(false),
            Poll::Ready(outcome) => outcome.map(|()| true),
        }
    }

    fn failure(&mut self) -> io::Error {
        let mut failures = std::mem::take(&mut self.failures);
        match (failures.len(), failures.pop()) {
            (_, None) => io::Error::new(io::ErrorKind::InvalidInput, "no address to connect to"),
            (1, Some((_, only))) => only,
            (_, Some(last)) => {
                failures.push(last);
                io::Error::new(failures[0].1.kind(), ConnectErrors(failures))
            }
        }
    }
}

/// Begins to connect.
fn begin(address: SocketAddr) -> io::Result<Watched<TcpStream>> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = TcpStream::from(socket_with(family, SocketType::STREAM, flags, None)?);
    match connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let socket = Watched::new(socket)?;
    socket.would_block(Direction::Write); // until the connection is made, or cannot be
    Ok(socket)
}

impl Attempt {
    fn poll(&self, context: &Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_by_trait(Direction::Write, "a connection", context, |socket| {
            Ok(sockopt::socket_error(socket)??)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_and_what_is_left_follows() {
        let [a, b, c]: [SocketAddr; 3] = ["[::1]:1", "[::1]:2", "[::1]:3"].map(|text| text.parse().unwrap());
        let [d, e]: [SocketAddr; 2] = ["127.0.0.1:4", "127.0.0.1:5"].map(|text| text.parse().unwrap());
        assert_eq!(interleave(vec![a, b, c, d]), [a, d, b, c]);
        assert_eq!(interleave(vec![d, a, b, e]), [d, a, e, b]);
        assert!(interleave(vec![]).is_empty());
    }
}
