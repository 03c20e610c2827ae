"""A stream over TCP, a Unix socket or TLS, with a raw peer that tests steer by hand."""

import asyncio
import socket
from typing import Any

from support.net import reset, stream_pair, tcp_pair
from support.tls import Peer, client_context, server_context

KINDS = ("tcp", "unix", "tls")


class End:
    """The far end of a stream.

    Args:
        loop: whose `sock_*` calls it uses.
        sock: connected and non-blocking.
        tls: what speaks TLS over it, if anything does.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, tls: Peer | None
    ) -> None:
        self.loop = loop
        self.sock = sock
        self.tls = tls

    async def send(self, data: bytes) -> None:
        """Sends all of `data`."""
        if self.tls is None:
            await self.loop.sock_sendall(self.sock, data)
        else:
            for start in range(0, len(data), 1 << 20):
                await self.tls.send(data[start : start + (1 << 20)])

    async def read(self, size: int) -> bytes:
        """Reads exactly `size` bytes."""
        if self.tls is not None:
            return await self.tls.read(size)
        got = bytearray()
        while len(got) < size:
            chunk = await self.loop.sock_recv(self.sock, size - len(got))
            assert chunk, f"end of file after {len(got)} of {size} bytes"
            got += chunk
        return bytes(got)

    async def read_to_end(self) -> bytes:
        """Reads until the other end has closed."""
        if self.tls is not None:
            return await self.tls.read_any_end()
        got = bytearray()
        while chunk := await self.loop.sock_recv(self.sock, 1 << 20):
            got += chunk
        return bytes(got)

    async def end(self) -> None:
        """Sends no more."""
        if self.tls is None:
            self.sock.shutdown(socket.SHUT_WR)
        else:
            await self.tls.say_goodbye()

    def reset(self) -> None:
        """Breaks the connection."""
        reset(self.sock)


class Connections:
    """Makes connections of one kind, and closes what is left of them.

    Args:
        loop: the loop under test.
        streams: the module under test.
        kind: one of `KINDS`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, streams: Any, kind: str) -> None:
        self.loop = loop
        self.streams = streams
        self.kind = kind
        self._made: list[tuple[Any, End]] = []

    async def open(self, **options: Any) -> tuple[Any, Any, End]:
        """Gives a reader, a writer, and the far end; `options` are `open_connection`'s."""
        near, far = stream_pair() if self.kind == "unix" else tcp_pair()
        tls = None
        if self.kind == "tls":
            tls = Peer(self.loop, far, server_context(), server_side=True)
            options.update(ssl=client_context(), server_hostname="localhost")
            (reader, writer), _ = await asyncio.gather(
                self.streams.open_connection(sock=near, **options), tls.handshake()
            )
        elif self.kind == "unix":
            reader, writer = await self.streams.open_unix_connection(sock=near, **options)
        else:
            reader, writer = await self.streams.open_connection(sock=near, **options)
        end = End(self.loop, far, tls)
        self._made.append((writer, end))
        return reader, writer, end

    def forget(self) -> None:
        """Leaves what was opened to the caller."""
        self._made.clear()

    async def close(self) -> None:
        """Closes everything that was opened."""
        for writer, end in self._made:
            end.sock.close()
            writer.transport.abort()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)
