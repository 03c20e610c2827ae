"""Outgoing stream connections: `create_connection`, `sock_connect`, `connect_accepted_socket`.

A connection is made in three steps, each in a function of its own: addresses are resolved, sockets
are tried (in turn, or racing: happy_eyeballs), and the connected socket gets transport and protocol.
Invariant: a socket made here is owned by a transport or closed, whatever is raised in between.

    transport, protocol = await loop.create_connection(Protocol, "localhost", 8080)

Source: Lib/asyncio/base_events.py, "Opening network connections" of the asyncio documentation.
"""

import asyncio
import socket
import sys
from asyncio.log import logger
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from antiphon.arguments import check_not_ssl, check_stream, refuse_before
from antiphon.happy_eyeballs import interleave_families, staggered_race
from antiphon.resolve import AddressInfo, Resolve
from antiphon.seams import base_events
from antiphon.tls import TlsOptions, requested_tls, wrap

if TYPE_CHECKING:
    import ssl as ssl_module

__all__ = ["Connect", "ProtocolFactory"]

ProtocolFactory = Callable[[], asyncio.BaseProtocol]
Errors = list[list[OSError]]  # one list for each address tried, in order


class Connect(Resolve):
    """The part of the loop that makes stream connections."""

    __slots__ = ()

    async def create_connection(  # type: ignore[override]
        self,
        protocol_factory: ProtocolFactory,
        host: str | bytes | None = None,
        port: int | str | bytes | None = None,
        *,
        ssl: "ssl_module.SSLContext | bool | None" = None,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        sock: socket.socket | None = None,
        local_addr: tuple[str, int] | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        happy_eyeballs_delay: float | None = None,
        interleave: int | None = None,
        all_errors: bool = False,
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        """Connects to a host and port, or takes a connected socket, and puts a protocol on it.

        Args:
            protocol_factory: called without arguments once the connection stands.
            host, port: where to connect; neither may be given together with `sock`.
            ssl: a context, or True for asyncio's default one; None and False speak plain bytes.
            family, proto, flags: limit the addresses that the host may have.
            sock: connected already, of type SOCK_STREAM; owned by the transport afterwards.
            local_addr: `(host, port)` to bind to before connecting.
            server_hostname: the name in the peer's certificate; the host if not given, "" for none.
            ssl_handshake_timeout: seconds; None takes 60.
            ssl_shutdown_timeout: seconds; None takes 30.
            happy_eyeballs_delay: seconds after which the next address is tried beside the last;
                None tries one after the other.
            interleave: how many addresses of the first family come first when families take turns;
                None and 0 keep the resolver's order, but 1 is taken with `happy_eyeballs_delay`.
            all_errors: raise an `ExceptionGroup` with the error of each address (Python 3.12 on).

        Returns:
            The transport and the protocol, after `connection_made`.

        Raises:
            OSError: no address could be connected to.
            ValueError: arguments that exclude or need each other.
        """
        refuse_before((3, 12), "all_errors", all_errors)
        server_hostname = _name_to_verify(ssl, host, server_hostname)
        tls = requested_tls(
            ssl, False, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout
        )
        if sock is not None:
            check_not_ssl(sock)
        if host is not None or port is not None:
            if sock is not None:
                raise ValueError("host/port and sock can not be specified at the same time")
            resolve = partial(self._resolve_endpoint, family=family, proto=proto, flags=flags)
            infos = await _resolve_all(resolve, (host, port))
            local_infos = None
            if local_addr is not None:
                local_infos = await _resolve_all(resolve, local_addr)
            if interleave is None and happy_eyeballs_delay is not None:
                interleave = 1
            if interleave:
                infos = interleave_families(infos, interleave)
            sock = await self._connect_any(infos, local_infos, happy_eyeballs_delay, all_errors)
        elif sock is None:
            raise ValueError("host and port was not specified and no sock specified")
        else:
            check_stream(sock)

        transport, protocol = await self._establish(sock, protocol_factory, tls)
        if self.get_debug():
            logger.debug(
                "%r connected to %s:%r: (%r, %r)",
                transport.get_extra_info("socket"),
                host,
                port,
                transport,
                protocol,
            )
        return transport, protocol

    async def connect_accepted_socket(  # type: ignore[override]
        self,
        protocol_factory: ProtocolFactory,
        sock: socket.socket,
        *,
        ssl: "ssl_module.SSLContext | bool | None" = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        """Puts a protocol on a connection that was accepted outside the loop.

        Args:
            protocol_factory: called without arguments.
            sock: what `accept` returned; owned by the transport afterwards.
            ssl: a context to answer the TLS handshake with.
            ssl_handshake_timeout: seconds; None takes 60.
            ssl_shutdown_timeout: seconds; None takes 30.

        Returns:
            The transport and the protocol, after `connection_made`.
        """
        check_stream(sock)
        tls = requested_tls(ssl, True, "", ssl_handshake_timeout, ssl_shutdown_timeout)
        check_not_ssl(sock)
        transport, protocol = await self._establish(sock, protocol_factory, tls)
        if self.get_debug():
            logger.debug(
                "%r handled: (%r, %r)", transport.get_extra_info("socket"), transport, protocol
            )
        return transport, protocol

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connects a non-blocking socket to an address.

        Args:
            sock: of any type and family.
            address: as for `socket.connect`; names are resolved without blocking.

        Raises:
            OSError: the connection was refused or timed out, or the name cannot be resolved.
        """
        check_not_ssl(sock)
        if self.get_debug() and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        family = sock.family
        if family in (socket.AF_INET, socket.AF_INET6):
            infos = await self._resolve_endpoint(
                address, family=family, kind=sock.type, proto=sock.proto
            )
            address = infos[0][4]
        await self._sock_connect(sock, address)

    async def _connect_any(
        self,
        infos: list[AddressInfo],
        local_infos: list[AddressInfo] | None,
        delay: float | None,
        all_errors: bool,
    ) -> socket.socket:
        """Returns a socket connected to one of the addresses; `delay` None tries them in turn."""
        errors: Errors = []
        sock: socket.socket | None = None
        try:
            if delay is None:
                for info in infos:
                    try:
                        sock = await self._connect_one(info, local_infos, errors)
                        break
                    except OSError:
                        continue
            else:
                sock = await staggered_race(
                    [partial(self._connect_one, info, local_infos, errors) for info in infos],
                    delay,
                    loop=self,
                    discard=socket.socket.close,
                )
            if sock is None:
                raise _combined([error for of_one in errors for error in of_one], all_errors)
            return sock
        finally:
            errors.clear()  # their tracebacks hold this frame: no cycle

    async def _connect_one(
        self, info: AddressInfo, local_infos: list[AddressInfo] | None, errors: Errors
    ) -> socket.socket:
        """Makes, binds and connects one socket; adds what went wrong to `errors`."""
        own_errors: list[OSError] = []
        errors.append(own_errors)
        family, kind, proto, _, address = info
        sock: socket.socket | None = None
        try:
            sock = base_events.socket.socket(family=family, type=kind, proto=proto)
            sock.setblocking(False)
            if local_infos is not None:
                _bind_to_one(sock, family, local_infos, own_errors)
            # By its public name, so that a program that replaces it is heard.
            await self.sock_connect(sock, address)
            return sock
        except BaseException as error:
            if sock is not None:
                # What went wrong before tells more than a socket that cannot be closed.
                with suppress(OSError):
                    sock.close()
            if isinstance(error, OSError):
                own_errors.append(error)
            raise
        finally:
            del own_errors, errors  # held by tracebacks otherwise: no cycle

    async def _establish(
        self, sock: socket.socket, protocol_factory: ProtocolFactory, tls: TlsOptions | None
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        """Gives a connected socket its transport and protocol and waits until they have met."""
        try:
            sock.setblocking(False)
            protocol = protocol_factory()
            waiter: asyncio.Future[None] = self.create_future()
            if tls is None:
                transport = self._make_stream_transport(sock, protocol, waiter)
            else:
                transport = self._make_ssl_transport(
                    sock,
                    protocol,
                    tls.context,
                    waiter,
                    server_side=tls.server_side,
                    server_hostname=tls.server_hostname,
                    ssl_handshake_timeout=tls.handshake_timeout,
                    ssl_shutdown_timeout=tls.shutdown_timeout,
                )
        except BaseException:
            sock.close()
            raise
        try:
            await waiter
        except BaseException:
            transport.close()
            raise
        finally:
            del waiter  # holds the exception whose traceback holds this frame: no cycle
        return transport, protocol

    def _make_ssl_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        sslcontext: "ssl_module.SSLContext | None",
        waiter: asyncio.Future[None],
        *,
        server_side: bool,
        server_hostname: str | None,
        ssl_handshake_timeout: float | None,
        ssl_shutdown_timeout: float | None,
    ) -> asyncio.Transport:
        """Puts a protocol on a connected socket with TLS between them; see `wrap`.

        Under asyncio's name and with its arguments, so that a program that replaces it is heard.
        """
        options = TlsOptions(
            sslcontext, server_side, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout
        )
        return wrap(self, sock, protocol, waiter, options)


def _name_to_verify(ssl: Any, host: Any, server_hostname: str | None) -> str | None:
    """Returns the name that the peer's certificate must have; None without TLS."""
    if not ssl:
        if server_hostname is not None:
            raise ValueError("server_hostname is only meaningful with ssl")
    elif server_hostname is None:
        # "" as server_hostname is the way to say that no name is to be verified.
        if not host:
            raise ValueError("You must set server_hostname when using ssl without a host")
        server_hostname = host
    return server_hostname


async def _resolve_all(resolve: Callable[..., Any], address: tuple[Any, ...]) -> list[AddressInfo]:
    """Returns the addresses of one end, at least one."""
    infos: list[AddressInfo] = await resolve(address)
    if not infos:
        raise OSError("getaddrinfo() returned empty list")
    return infos


def _bind_to_one(
    sock: socket.socket, family: int, local_infos: list[AddressInfo], errors: list[OSError]
) -> None:
    """Binds to the first local address of the family that can be bound to.

    Raises:
        OSError: none could; the errors of the others are in `errors`.
    """
    for local_family, _, _, _, address in local_infos:
        if local_family != family:
            continue
        try:
            sock.bind(address)
            return
        except OSError as error:
            reason = str(error) if sys.version_info >= (3, 13) else error.strerror or str(error)
            errors.append(
                OSError(
                    error.errno,
                    f"error while attempting to bind on address {address!r}: {reason.lower()}",
                )
            )
    if errors:
        raise errors.pop()
    raise OSError(f"no matching local address with {family=} found")


def _combined(errors: list[OSError], all_errors: bool) -> BaseException:
    """Returns the one exception that says why no address could be connected to."""
    if not errors:  # every attempt was cancelled
        return TimeoutError("create_connection failed")
    if all_errors:
        return ExceptionGroup("create_connection failed", errors)
    texts = [str(error) for error in errors]
    if all(text == texts[0] for text in texts):
        return errors[0]
    return OSError("Multiple exceptions: " + ", ".join(texts))
