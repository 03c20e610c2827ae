//! Addresses as programs write them, and their resolution.

use crate::runtime::Loop;
use crate::{Cancelled, JoinError, to_thread};
use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs};

/// Where to connect or listen: a socket's address, several, or a host's name and a port.
///
/// ```
/// use antiphon::net::{Address, resolve};
///
/// antiphon::run(async {
///     let literal = resolve("[::1]:80").await?;
///     assert_eq!(literal, [std::net::SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 80))]);
///     let by_name = resolve(("localhost", 80)).await?;
///     assert!(by_name.iter().all(|address| address.ip().is_loopback()));
///     Ok::<_, std::io::Error>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Address(Kind);

#[derive(Clone, Eq, PartialEq, Debug)]
enum Kind {
    Known(Vec<SocketAddr>),
    /// A host's name or number, and a port.
    Host(String, u16),
    /// `HOST:PORT`
    Text(String),
}

/// A host's name that has no address; inside of an [`io::Error`].
///
/// ```
/// use antiphon::net::{ResolveError, resolve};
///
/// antiphon::run(async {
///     let error = resolve(("no such host", 80)).await.unwrap_err();
///     let inner = error.get_ref().unwrap().downcast_ref::<ResolveError>().unwrap();
///     assert_eq!(inner.host(), "no such host");
/// })?;
/// # Ok::<(), antiphon::RunError>(())
/// ```
#[derive(Debug)]
pub struct ResolveError {
    host: String,
    source: Option<io::Error>,
}

impl ResolveError {
    /// The name.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) => write!(f, "no address of {:?}: {source}", self.host),
            None => write!(f, "no address of {:?}", self.host),
        }
    }
}

impl Error for ResolveError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

/// The addresses of a host, in the resolver's order. Names are looked up on a thread of the loop's pool: `loop.getaddrinfo`.
///
/// ```
/// use antiphon::net::resolve;
///
/// antiphon::run(async {
///     assert_eq!(resolve("127.0.0.1:80").await?, ["127.0.0.1:80".parse().unwrap()]);
///     assert!(resolve(("localhost", 80)).await?.iter().all(|address| address.ip().is_loopback()));
///     assert!(resolve("no port").await.is_err());
///     Ok::<_, std::io::Error>(())
/// })??;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`]: not `HOST:PORT`. With [`ResolveError`] inside: no address is known, or the resolver failed. With
/// [`NoLoop`](crate::NoLoop) inside: no loop runs here.
///
/// # Cancellation
/// The look-up goes on in its thread, for nobody.
pub async fn resolve(address: impl Into<Address>) -> io::Result<Vec<SocketAddr>> {
    let (host, port) = match address.into().0 {
        Kind::Known(addresses) => return Ok(addresses),
        Kind::Host(host, port) => (host, port),
        Kind::Text(text) => match text.parse() {
            Ok(address) => return Ok(vec![address]),
            Err(_) => split(&text)?,
        },
    };
    if let Ok(number) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(number, port)]);
    }
    Loop::running()?;
    let name = host.clone();
    let looked_up = to_thread(move || Ok((name.as_str(), port).to_socket_addrs()?.collect::<Vec<_>>()));
    let source = match looked_up.await {
        Ok(Ok(addresses)) if !addresses.is_empty() => return Ok(addresses),
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error),
        Err(JoinError::Cancelled) => return Err(Cancelled.into()),
        Err(JoinError::Failed(error)) => return Err(error.into()),
        Err(error) => return Err(io::Error::other(error.to_string())),
    };
    let kind = source.as_ref().map_or(io::ErrorKind::NotFound, io::Error::kind);
    Err(io::Error::new(kind, ResolveError { host, source }))
}

fn split(text: &str) -> io::Result<(String, u16)> {
    let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    match parts {
        Some((host, port)) if !host.is_empty() => Ok((host.to_owned(), port)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{text:?} is not HOST:PORT"))),
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self(Kind::Known(vec![address]))
    }
}

impl From<SocketAddrV4> for Address {
    fn from(address: SocketAddrV4) -> Self {
        SocketAddr::from(address).into()
    }
}

impl From<SocketAddrV6> for Address {
    fn from(address: SocketAddrV6) -> Self {
        SocketAddr::from(address).into()
    }
}

impl From<(IpAddr, u16)> for Address {
    fn from(address: (IpAddr, u16)) -> Self {
        SocketAddr::from(address).into()
    }
}

impl From<(Ipv4Addr, u16)> for Address {
    fn from(address: (Ipv4Addr, u16)) -> Self {
        SocketAddr::from(address).into()
    }
}

impl From<(Ipv6Addr, u16)> for Address {
    fn from(address: (Ipv6Addr, u16)) -> Self {
        SocketAddr::from(address).into()
    }
}

impl From<Vec<SocketAddr>> for Address {
    fn from(addresses: Vec<SocketAddr>) -> Self {
        Self(Kind::Known(addresses))
    }
}

impl From<&[SocketAddr]> for Address {
    fn from(addresses: &[SocketAddr]) -> Self {
        addresses.to_vec().into()
    }
}

impl From<(&str, u16)> for Address {
    fn from((host, port): (&str, u16)) -> Self {
        Self(Kind::Host(host.to_owned(), port))
    }
}

impl From<(String, u16)> for Address {
    fn from((host, port): (String, u16)) -> Self {
        Self(Kind::Host(host, port))
    }
}

impl From<&str> for Address {
    fn from(text: &str) -> Self {
        Self(Kind::Text(text.to_owned()))
    }
}

impl From<String> for Address {
    fn from(text: String) -> Self {
        Self(Kind::Text(text))
    }
}
