//! What connections have in common, over TCP and through a path.

/// The methods of a connection `$stream` of the standard library's `$std`, whose addresses are `$address`es.
macro_rules! connection_methods {
    ($stream:ident, $std:ty, $address:ty) => {
        impl $stream {
            /// Takes a connection of the standard library's into the running loop.
            ///
            /// # Errors
            /// With [`NoLoop`](crate::NoLoop) inside: no loop runs here. As fcntl(2).
            pub fn from_std(stream: $std) -> std::io::Result<Self> {
                stream.set_nonblocking(true)?;
                Ok(Self { socket: crate::watched::Watched::new(stream)? })
            }

            /// The connection without a loop, to be taken to another one by [`from_std`](Self::from_std). It does not block.
            #[must_use]
            pub fn into_std(self) -> $std {
                self.socket.into_inner()
            }

            /// Two halves that own the connection together.
            #[must_use]
            pub fn into_split(self) -> ($crate::net::ReadHalf<Self>, $crate::net::WriteHalf<Self>) {
                crate::net::halves::split(self)
            }

            /// Our address; a Unix socket's may have no name.
            ///
            /// # Errors
            /// As getsockname(2).
            pub fn local_addr(&self) -> std::io::Result<$address> {
                self.socket.get().local_addr()
            }

            /// The other end's address; a Unix socket's may have no name.
            ///
            /// # Errors
            /// As getpeername(2), such as [`NotConnected`](std::io::ErrorKind::NotConnected) when the connection was reset.
            pub fn peer_addr(&self) -> std::io::Result<$address> {
                self.socket.get().peer_addr()
            }

            /// Ends one direction or both; whoever waits there is told.
            ///
            /// # Errors
            /// As shutdown(2).
            pub fn shutdown(&self, how: std::net::Shutdown) -> std::io::Result<()> {
                self.socket.get().shutdown(how)
            }
        }

        impl std::os::fd::AsFd for $stream {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.socket.get().as_fd()
            }
        }
    };
}

pub(crate) use connection_methods;
