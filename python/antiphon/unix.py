"""Streams over Unix domain sockets: `create_unix_connection` and `create_unix_server`.

The transports and the server are those of TCP; what is special is the address, a path in the file
system or a name that begins with a zero byte (abstract, Linux). Invariant: a socket file is removed
only if it is a stale socket, or, when a server closes, still the very file that the server bound.

Source: Lib/asyncio/unix_events.py, unix(7).
"""

import asyncio
import errno
import os
import socket
import stat
import sys
from asyncio.log import logger
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from antiphon.arguments import refuse_before
from antiphon.connect import Connect, ProtocolFactory
from antiphon.seams import unix_events
from antiphon.server import Server
from antiphon.tls import requested_tls, requested_tls_of_server, wrapped_with

if TYPE_CHECKING:
    import ssl as ssl_module

__all__ = ["UnixStreams", "is_file", "remove_stale_socket"]

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]

# From 3.13 on a server takes its socket file away when it closes.
_REMOVES_SOCKET_FILE = sys.version_info >= (3, 13)


class UnixStreams(Connect):
    """The part of the loop that speaks over Unix domain sockets."""

    __slots__ = ()

    async def create_unix_connection(  # type: ignore[override]
        self,
        protocol_factory: ProtocolFactory,
        path: Path | None = None,
        *,
        ssl: "ssl_module.SSLContext | bool | None" = None,
        sock: socket.socket | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        """Connects to a Unix domain socket and puts a protocol on the connection.

        Args:
            protocol_factory: called without arguments once the connection stands.
            path: where to connect; may not be given together with `sock`.
            ssl: a context, or True for asyncio's default one; needs `server_hostname`.
            sock: connected already, AF_UNIX and SOCK_STREAM; owned by the transport afterwards.
            server_hostname: the name that the peer's certificate must have, "" for none.
            ssl_handshake_timeout: seconds; None takes 60.
            ssl_shutdown_timeout: seconds; None takes 30.

        Returns:
            The transport and the protocol, after `connection_made`.

        Raises:
            OSError: nobody listens at the path.
            ValueError: arguments that exclude or need each other.
        """
        if ssl and server_hostname is None:
            raise ValueError("you have to pass server_hostname when using ssl")
        if not ssl and server_hostname is not None:
            raise ValueError("server_hostname is only meaningful with ssl")
        tls = requested_tls(
            ssl, False, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout
        )
        if path is not None:
            if sock is not None:
                raise ValueError("path and sock can not be specified at the same time")
            sock = _unix_socket()
            try:
                sock.setblocking(False)
                await self._sock_connect(sock, os.fspath(path))
            except BaseException:
                sock.close()
                raise
        elif sock is None:
            raise ValueError("no path and sock were specified")
        else:
            _check_unix_stream(sock)

        return await self._establish(sock, protocol_factory, tls)

    async def create_unix_server(  # type: ignore[override]
        self,
        protocol_factory: ProtocolFactory,
        path: Path | None = None,
        *,
        sock: socket.socket | None = None,
        backlog: int = 100,
        ssl: "ssl_module.SSLContext | None" = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
        cleanup_socket: bool = _REMOVES_SOCKET_FILE,
    ) -> Server:
        """Binds a Unix domain socket and makes a server of it.

        Args:
            protocol_factory: called without arguments for each connection.
            path: where to bind; a stale socket file there is removed first.
            sock: bound already, AF_UNIX and SOCK_STREAM, in place of a path.
            backlog: connections that the kernel queues until they are accepted.
            ssl: a context to answer TLS handshakes with; None speaks plain bytes.
            ssl_handshake_timeout: seconds; None takes 60.
            ssl_shutdown_timeout: seconds; None takes 30.
            start_serving: False leaves that to `Server.start_serving` or `Server.serve_forever`.
            cleanup_socket: remove the socket file when the server closes (Python 3.13 on).

        Returns:
            The server.

        Raises:
            OSError: the path cannot be bound.
            ValueError: arguments that exclude or need each other.
        """
        refuse_before((3, 13), "cleanup_socket", cleanup_socket)
        tls = requested_tls_of_server(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        if path is not None:
            if sock is not None:
                raise ValueError("path and sock can not be specified at the same time")
            sock = _bind(os.fspath(path))
        elif sock is None:
            raise ValueError("path was not specified, and no sock specified")
        else:
            _check_unix_stream(sock)

        on_socket_closed = _file_remover(sock) if cleanup_socket else None
        sock.setblocking(False)
        server = Server(
            self, [sock], protocol_factory, backlog, wrapped_with(tls), on_socket_closed
        )
        if start_serving:
            await server.start_serving()
        return server


def _unix_socket() -> socket.socket:
    """Makes a socket by the name that asyncio's own loop makes it by."""
    sock: socket.socket = unix_events.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    return sock


def _check_unix_stream(sock: socket.socket) -> None:
    """Refuses a socket of another family or type."""
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
        raise ValueError(f"A UNIX Domain Stream Socket was expected, got {sock!r}")


def is_file(path: Any) -> bool:
    """Tells a path in the file system from an abstract name."""
    return bool(path) and path[0] not in (0, "\x00")


def _bind(path: str | bytes) -> socket.socket:
    """Returns a socket bound to a path, or to an abstract name."""
    sock = _unix_socket()
    try:
        if is_file(path):
            remove_stale_socket(path)
        sock.bind(path)
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            message = f"Address {path!r} is already in use"
            raise OSError(errno.EADDRINUSE, message) from None
        raise
    return sock


def remove_stale_socket(path: str | bytes) -> None:
    """Removes a socket file, whose last owner did not; leaves every other kind of file."""
    try:
        if stat.S_ISSOCK(os.stat(path).st_mode):
            os.remove(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        # A directory may allow to create files and not to list or remove them.
        logger.error("Unable to check or remove stale UNIX socket %r: %r", path, error)


def _file_remover(sock: socket.socket) -> Callable[[socket.socket], None] | None:
    """Returns what removes the file of a bound socket, or None if it has none.

    The file is known by its inode: another server may have bound the same path meanwhile.
    """
    path = sock.getsockname()
    if not is_file(path):
        return None
    try:
        inode = os.stat(path).st_ino
    except FileNotFoundError:
        return None

    def remove(_closed: socket.socket) -> None:
        try:
            if os.stat(path).st_ino == inode:
                os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            logger.error("Unable to clean up listening UNIX socket %r: %r", path, error)

    return remove
