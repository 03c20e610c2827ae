"""Datagram protocols that keep what they are told, and the endpoints and sockets of one test."""

import asyncio
import socket
import sys
from typing import Any

from support.net import Recording

#: Whether this version's transports send empty datagrams; with that came the header in the count of bytes.
SENDS_EMPTY = sys.version_info >= (3, 13)
LARGEST_UDP = 65507
#: More datagrams than a transport receives at a time, fewer than the kernel has room for.
MANY = 100


class DatagramRecorder(Recording, asyncio.DatagramProtocol):
    """A `Recording` for datagrams: keeps them with their senders, and errors."""

    def __init__(self) -> None:
        super().__init__()
        self.datagrams: list[tuple[bytes, Any]] = []
        self.errors: list[Exception] = []

    def connection_made(self, transport: Any) -> None:
        self.transport: Any = transport
        self.note("connection_made")

    def datagram_received(self, data: bytes, addr: Any) -> None:
        assert type(data) is bytes
        self.datagrams.append((data, addr))
        self.note("datagram_received")

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)
        self.note("error_received")

    @property
    def contents(self) -> list[bytes]:
        """The datagrams without their senders."""
        return [data for data, _ in self.datagrams]

    async def got(self, count: int) -> list[bytes]:
        """Waits until `count` datagrams have come and gives all that came."""
        await self.until(lambda: len(self.datagrams) >= count)
        return self.contents


class Echoing(DatagramRecorder):
    """Sends every datagram back to its sender."""

    def datagram_received(self, data: bytes, addr: Any) -> None:
        super().datagram_received(data, addr)
        self.transport.sendto(data, addr)


class Endpoints:
    """Makes a test's endpoints and sockets, and closes them at its end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.sockets: list[socket.socket] = []
        self.transports: list[tuple[Any, Any]] = []

    async def make(self, factory: Any = DatagramRecorder, **options: Any) -> tuple[Any, Any]:
        """Gives the transport and the protocol of a new endpoint."""
        made = await self.loop.create_datagram_endpoint(factory, **options)
        self.transports.append(made)
        return made

    async def udp(self, factory: Any = DatagramRecorder, **options: Any) -> tuple[Any, Any]:
        """Gives those of a new endpoint that is bound on loopback."""
        return await self.make(factory, local_addr=("127.0.0.1", 0), **options)

    def socket(
        self,
        family: int = socket.AF_INET,
        bind_to: Any = None,
        connect_to: Any = None,
    ) -> socket.socket:
        """Gives a non-blocking datagram socket that the test drives by hand; an IPv4 one is bound."""
        sock = socket.socket(family, socket.SOCK_DGRAM)
        self.sockets.append(sock)
        if bind_to is None and family == socket.AF_INET:
            bind_to = ("127.0.0.1", 0)
        if bind_to is not None:
            sock.bind(bind_to)
        if connect_to is not None:
            sock.connect(connect_to)
        sock.setblocking(False)
        return sock

    async def close(self) -> None:
        """Ends everything that is still open."""
        for transport, protocol in self.transports:
            if "connection_lost" not in protocol.events:
                transport.abort()
            await protocol.happened("connection_lost")
        for sock in self.sockets:
            sock.close()


def address_of(transport: asyncio.BaseTransport) -> Any:
    """Gives the address that a transport is bound to."""
    return transport.get_extra_info("sockname")


async def receive(loop: asyncio.AbstractEventLoop, sock: socket.socket, count: int) -> list[bytes]:
    """Gives the next `count` datagrams of a socket."""
    return [await loop.sock_recv(sock, LARGEST_UDP) for _ in range(count)]
