"""The echo programs themselves, one for each way in which asyncio lets a server be written."""

import asyncio
import socket
from typing import cast

READ_BYTES = 256 * 1024
STREAM_LIMIT_BYTES = 1 << 20
HEAD_BYTES = 128


class Echo(asyncio.Protocol):
    """Writes back what it receives."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no instance of it

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class OneWrite(Echo):
    """Answers with a head and a body, joined."""

    def data_received(self, data: bytes) -> None:
        head, body = data[:HEAD_BYTES], data[HEAD_BYTES:]
        self.transport.write(head + body)


class TwoWrites(Echo):
    """Answers with a head and a body, each written by itself."""

    def data_received(self, data: bytes) -> None:
        head, body = data[:HEAD_BYTES], data[HEAD_BYTES:]
        self.transport.write(head)
        self.transport.write(body)


class BufferedEcho(asyncio.BufferedProtocol):
    """Receives into its own buffer and writes back a copy."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no instance of it
        self.view = memoryview(bytearray(READ_BYTES))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.view

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(bytes(self.view[:nbytes]))


class DatagramEcho(asyncio.DatagramProtocol):
    """Sends back what it receives."""

    transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data, addr)


async def echo_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The same over streams, with a drain after each write."""
    try:
        while data := await reader.read(READ_BYTES):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()


async def accept_and_echo(listener: socket.socket) -> None:
    """The same over ``sock_accept``, ``sock_recv`` and ``sock_sendall``, a task per connection."""
    loop = asyncio.get_running_loop()

    async def echo(connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while data := await loop.sock_recv(connection, READ_BYTES):
                await loop.sock_sendall(connection, data)
        except OSError:
            pass
        connection.close()

    echoing = set()
    while True:
        connection, _ = await loop.sock_accept(listener)
        task = loop.create_task(echo(connection))
        echoing.add(task)
        task.add_done_callback(echoing.discard)
