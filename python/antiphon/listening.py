"""Listening: `create_server` binds sockets for TCP and gives them to a `Server`.

Invariant: either all sockets belong to the returned server, or all are closed and an exception is
raised. A host name that stands for addresses of both families makes one socket for each: dual-stack
sockets are switched off, so that the same port may be bound in IPv4 and IPv6.

    server = await loop.create_server(Protocol, ["127.0.0.1", "::1"], 8080)

Source: Lib/asyncio/base_events.py, "Creating network servers" of the asyncio documentation.
"""

import asyncio
import errno
import itertools
import os
import socket
import sys
from asyncio.log import logger
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from antiphon.arguments import (
    check_not_ssl,
    check_stream,
    refuse_before,
    set_reuse_port,
)
from antiphon.connect import ProtocolFactory
from antiphon.resolve import AddressInfo, Resolve
from antiphon.seams import base_events
from antiphon.server import Server
from antiphon.tls import requested_tls_of_server, wrapped_with

if TYPE_CHECKING:
    import ssl as ssl_module

__all__ = ["Serve"]

# From 3.13 on an address that this machine does not have is passed over while others can be bound.
_SKIPS_MISSING_ADDRESSES = sys.version_info >= (3, 13)


@dataclass(slots=True)
class _SocketOptions:
    """What is set on a listening socket before it is bound."""

    reuse_address: bool
    reuse_port: bool
    keep_alive: bool


class Serve(Resolve):
    """The part of the loop that makes TCP servers."""

    __slots__ = ()

    async def create_server(  # type: ignore[override]
        self,
        protocol_factory: ProtocolFactory,
        host: str | Iterable[str] | None = None,
        port: int | str | None = None,
        *,
        family: int = socket.AF_UNSPEC,
        flags: int = socket.AI_PASSIVE,
        sock: socket.socket | None = None,
        backlog: int = 100,
        ssl: "ssl_module.SSLContext | None" = None,
        reuse_address: bool | None = None,
        reuse_port: bool | None = None,
        keep_alive: bool | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
    ) -> Server:
        """Binds sockets and makes a server of them.

        Args:
            protocol_factory: called without arguments for each connection.
            host: a name or address, several of them, or None or "" for all interfaces.
            port: 0 and None let the kernel choose; then each socket has a port of its own.
            family, flags: limit the addresses that a host may have.
            sock: bound already, of type SOCK_STREAM, in place of host and port.
            backlog: connections that the kernel queues until they are accepted.
            ssl: a context to answer TLS handshakes with; None speaks plain bytes.
            reuse_address: SO_REUSEADDR; None means yes on POSIX systems.
            reuse_port: SO_REUSEPORT, for several servers on one port.
            keep_alive: SO_KEEPALIVE on the sockets and their connections (Python 3.13 on).
            ssl_handshake_timeout: seconds; None takes 60.
            ssl_shutdown_timeout: seconds; None takes 30.
            start_serving: False leaves that to `Server.start_serving` or `Server.serve_forever`.

        Returns:
            The server; its sockets are in the order of the resolved addresses.

        Raises:
            OSError: an address cannot be bound; the text names it.
            ValueError: arguments that exclude or need each other.
        """
        refuse_before((3, 13), "keep_alive", keep_alive)
        tls = requested_tls_of_server(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        if sock is not None:
            check_not_ssl(sock)
        if host is not None or port is not None:
            if sock is not None:
                raise ValueError("host/port and sock can not be specified at the same time")
            if reuse_address is None:
                reuse_address = os.name == "posix" and sys.platform != "cygwin"
            options = _SocketOptions(reuse_address, bool(reuse_port), bool(keep_alive))
            infos = await self._resolve_hosts(host, port, family, flags)
            sockets = self._bind_all(infos, options)
        elif sock is None:
            raise ValueError("Neither host/port nor sock were specified")
        else:
            check_stream(sock)
            sockets = [sock]

        for listener in sockets:
            listener.setblocking(False)
        server = Server(self, sockets, protocol_factory, backlog, wrapped_with(tls))
        if start_serving:
            await server.start_serving()
        if self.get_debug():
            logger.info("%r is serving", server)
        return server

    async def _resolve_hosts(
        self, host: Any, port: Any, family: int, flags: int
    ) -> list[AddressInfo]:
        """Returns all addresses of all hosts; one that comes up twice is listed once."""
        if host == "":
            hosts: Iterable[Any] = [None]
        elif isinstance(host, str) or not isinstance(host, Iterable):
            hosts = [host]
        else:
            hosts = host
        found = await asyncio.gather(
            *[self._resolve_host(each, port, family, flags) for each in hosts]
        )
        return list(dict.fromkeys(itertools.chain.from_iterable(found)))

    async def _resolve_host(
        self, host: Any, port: Any, family: int, flags: int
    ) -> list[AddressInfo]:
        """Returns the addresses of one host, at least one."""
        infos = await self._resolve_endpoint((host, port), family=family, flags=flags)
        if not infos:
            raise OSError(f"getaddrinfo({host!r}) returned empty list")
        return infos

    def _bind_all(self, infos: list[AddressInfo], options: _SocketOptions) -> list[socket.socket]:
        """Returns one bound socket for each address; on failure none stays open."""
        sockets: list[socket.socket] = []
        try:
            for info in infos:
                sock = self._bind_one(info, options)
                if sock is not None:
                    sockets.append(sock)
            if _SKIPS_MISSING_ADDRESSES and not sockets:
                addresses = [info[4] for info in infos]
                raise OSError(f"could not bind on any address out of {addresses!r}")
        except BaseException:
            for sock in sockets:
                sock.close()
            raise
        return sockets

    def _bind_one(self, info: AddressInfo, options: _SocketOptions) -> socket.socket | None:
        """Returns a bound socket, or None for an address that this machine has no use for."""
        family, kind, proto, _, address = info
        try:
            sock: socket.socket = base_events.socket.socket(family, kind, proto)
        except OSError:
            # The resolver may list families that the kernel was built without.
            if self.get_debug():
                logger.warning(
                    "create_server() failed to create socket.socket(%r, %r, %r)",
                    family,
                    kind,
                    proto,
                    exc_info=True,
                )
            return None
        try:
            _set_options(sock, family, options)
            sock.bind(address)
            return sock
        except OSError as error:
            sock.close()
            reason = str(error) if _SKIPS_MISSING_ADDRESSES else error.strerror or str(error)
            message = f"error while attempting to bind on address {address!r}: {reason.lower()}"
            if _SKIPS_MISSING_ADDRESSES and error.errno == errno.EADDRNOTAVAIL:
                if self.get_debug():
                    logger.warning(message)
                return None
            raise OSError(error.errno, message) from None
        except BaseException:
            sock.close()
            raise


def _set_options(sock: socket.socket, family: int, options: _SocketOptions) -> None:
    """Sets what a listening TCP socket needs before it is bound."""
    if options.reuse_address:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, True)
    # Linux refuses SO_REUSEPORT outside of IPv4 and IPv6 since 6.12.9.
    if options.reuse_port and family in (socket.AF_INET, socket.AF_INET6):
        set_reuse_port(sock)
    if options.keep_alive:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, True)
    if socket.has_ipv6 and family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, True)
