"""Datagrams: `create_datagram_endpoint` for UDP and Unix datagram sockets.

Addresses are resolved and paired by family, the first pair that a socket can be made for is taken,
and the socket gets transport and protocol. Invariant: a socket made here is owned by a transport or
closed, whatever is raised in between.

    transport, protocol = await loop.create_datagram_endpoint(Protocol, local_addr=("127.0.0.1", 0))

Source: Lib/asyncio/base_events.py, "Opening network connections" of the asyncio documentation.
"""

import asyncio
import socket
import sys
from asyncio.log import logger
from collections.abc import Callable
from typing import Any

from antiphon.arguments import set_reuse_port
from antiphon.connect import Connect
from antiphon.seams import base_events
from antiphon.unix import is_file, remove_stale_socket

__all__ = ["Datagrams"]

DatagramProtocolFactory = Callable[[], asyncio.BaseProtocol]
# What a socket is made from: family and protocol, local and remote address (None: none).
Endpoint = tuple[tuple[int, int], tuple[Any, Any]]

# From 3.13 on every socket but a stream is taken (raw sockets, sequenced packets).
_TAKES_ALL_BUT_STREAMS = sys.version_info >= (3, 13)


class Datagrams(Connect):
    """The part of the loop that speaks in datagrams."""

    __slots__ = ()

    async def create_datagram_endpoint(  # type: ignore[override]
        self,
        protocol_factory: DatagramProtocolFactory,
        local_addr: tuple[str, int] | str | None = None,
        remote_addr: tuple[str, int] | str | None = None,
        *,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        reuse_port: bool | None = None,
        allow_broadcast: bool | None = None,
        sock: socket.socket | None = None,
    ) -> tuple[asyncio.DatagramTransport, asyncio.BaseProtocol]:
        """Makes a datagram socket, or takes one, and puts a protocol on it.

        Args:
            protocol_factory: called without arguments once the socket stands.
            local_addr: where to bind; `(host, port)`, or a path or abstract name for AF_UNIX.
            remote_addr: the only address to send to and receive from; with `allow_broadcast` the
                socket is not connected, so that whoever answers is heard.
            family, proto, flags: limit the addresses that a host may have. Without addresses the
                family must be given.
            reuse_port: SO_REUSEPORT, for several sockets on one port.
            allow_broadcast: SO_BROADCAST.
            sock: bound or connected already, in place of everything above; owned by the transport
                afterwards.

        Returns:
            The transport and the protocol, after `connection_made`.

        Raises:
            OSError: no socket could be made, bound and connected; the error of the first address.
            TypeError: an address is not of the form that its family has.
            ValueError: arguments that exclude or need each other.
        """
        given = sock is not None
        address = None
        if sock is not None:
            _check_datagram(sock)
            _check_alone(
                local_addr=local_addr,
                remote_addr=remote_addr,
                family=family,
                proto=proto,
                flags=flags,
                reuse_port=reuse_port,
                allow_broadcast=allow_broadcast,
            )
            sock.setblocking(False)
        else:
            endpoints = await self._resolve_endpoints(local_addr, remote_addr, family, proto, flags)
            sock, address = await self._open_any(endpoints, bool(reuse_port), bool(allow_broadcast))
        try:
            protocol = protocol_factory()
            waiter: asyncio.Future[None] = self.create_future()
            transport = self._make_datagram_transport(sock, protocol, address, waiter)
        except BaseException:
            if not given:
                sock.close()
            raise
        if self.get_debug():
            self._log_endpoint(local_addr, remote_addr, transport, protocol)
        try:
            await waiter
        except BaseException:
            transport.close()
            raise
        return transport, protocol

    async def _resolve_endpoints(
        self, local_addr: Any, remote_addr: Any, family: int, proto: int, flags: int
    ) -> list[Endpoint]:
        """Returns what sockets can be made from, in the order in which to try, at least one."""
        if not (local_addr or remote_addr):
            if family == 0:
                raise ValueError("unexpected address family")
            return [((family, proto), (None, None))]
        if family == socket.AF_UNIX:
            for name in (local_addr, remote_addr):
                if name is not None and not isinstance(name, str):
                    raise TypeError("string is expected")
            if local_addr and is_file(local_addr):
                remove_stale_socket(local_addr)
            return [((family, proto), (local_addr, remote_addr))]

        found: dict[tuple[int, int], list[Any]] = {}
        for side, address in enumerate((local_addr, remote_addr)):
            if address is None:
                continue
            if not (isinstance(address, tuple) and len(address) == 2):
                raise TypeError("2-tuple is expected")
            infos = await self._resolve_endpoint(
                address, family=family, kind=socket.SOCK_DGRAM, proto=proto, flags=flags
            )
            if not infos:
                raise OSError("getaddrinfo() returned empty list")
            for info in infos:
                found.setdefault((info[0], info[2]), [None, None])[side] = info[4]
        # A socket needs both addresses to be of its own family and protocol.
        endpoints: list[Endpoint] = [
            (key, (local, remote))
            for key, (local, remote) in found.items()
            if not (local_addr and local is None) and not (remote_addr and remote is None)
        ]
        if not endpoints:
            raise ValueError("can not get address information")
        return endpoints

    async def _open_any(
        self, endpoints: list[Endpoint], reuse_port: bool, allow_broadcast: bool
    ) -> tuple[socket.socket, Any]:
        """Returns a socket for the first endpoint that one can be made for, and its only target."""
        first_error: OSError | None = None
        try:
            for (family, proto), (local, remote) in endpoints:
                try:
                    sock: socket.socket = base_events.socket.socket(
                        family=family, type=socket.SOCK_DGRAM, proto=proto
                    )
                except OSError as error:
                    first_error = first_error or error
                    continue
                try:
                    if reuse_port:
                        set_reuse_port(sock)
                    if allow_broadcast:
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                    sock.setblocking(False)
                    if local:
                        sock.bind(local)
                    if remote and not allow_broadcast:
                        await self.sock_connect(sock, remote)
                    return sock, remote or None
                except OSError as error:
                    sock.close()
                    first_error = first_error or error
                except BaseException:
                    sock.close()
                    raise
            assert first_error is not None  # there is an endpoint, and it failed
            raise first_error
        finally:
            del first_error  # its traceback holds this frame: no cycle

    def _log_endpoint(self, local_addr: Any, remote_addr: Any, *made: object) -> None:
        """Logs a new endpoint, as asyncio does in debug mode."""
        if local_addr:
            logger.info(
                "Datagram endpoint local_addr=%r remote_addr=%r created: (%r, %r)",
                local_addr,
                remote_addr,
                *made,
            )
        else:
            logger.debug("Datagram endpoint remote_addr=%r created: (%r, %r)", remote_addr, *made)


def _check_datagram(sock: socket.socket) -> None:
    """Refuses a socket of a type that asyncio does not take here."""
    if _TAKES_ALL_BUT_STREAMS:
        if sock.type == socket.SOCK_STREAM:
            raise ValueError(f"A datagram socket was expected, got {sock!r}")
    elif sock.type != socket.SOCK_DGRAM:
        raise ValueError(f"A UDP Socket was expected, got {sock!r}")


def _check_alone(**options: object) -> None:
    """Refuses everything that would change a socket which is given ready-made."""
    given = {name: value for name, value in options.items() if value}
    if given:
        problems = ", ".join(f"{name}={value}" for name, value in given.items())
        raise ValueError(
            "socket modifier keyword arguments can not be used when sock is specified. "
            f"({problems})"
        )
