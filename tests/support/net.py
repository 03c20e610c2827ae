"""Sockets and protocols that tests steer by hand.

Nothing here waits by the clock. `io_barrier` is the way to say "whatever the kernel had ready by now has been
delivered": a byte through a fresh socket pair can only arrive in a look at the kernel that came after.
"""

import asyncio
import contextlib
import random
import socket
from collections.abc import Callable
from typing import Any


def has_ipv6() -> bool:
    """Says whether ::1 can be bound here (containers often have no IPv6)."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


HAS_IPV6 = has_ipv6()


def pattern(seed: int, size: int) -> bytes:
    """Gives `size` bytes that only `seed` gives, so that no two connections can be taken for each other."""
    return random.Random(seed).randbytes(size)


def stream_pair() -> tuple[socket.socket, socket.socket]:
    """Gives two connected non-blocking Unix sockets; the caller closes them."""
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    return left, right


def listening_socket(host: str = "127.0.0.1", backlog: int = 16) -> socket.socket:
    """Gives a non-blocking TCP socket listening on a free port; the caller closes it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.bind((host, 0))
    sock.listen(backlog)
    sock.setblocking(False)
    return sock


def free_port() -> int:
    """Gives a TCP port that nobody has on any interface.

    It is none that the kernel gives to whoever asks for any, so nobody is given it before the caller takes it.

    Source: ip(7), ip_local_port_range.
    """
    while True:
        port = random.randrange(15000, 32000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("0.0.0.0", port))
            return port


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Gives two connected non-blocking TCP sockets over loopback; the caller closes them."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        near = socket.socket()
        near.connect(listener.getsockname())
        far, _ = listener.accept()
    near.setblocking(False)
    far.setblocking(False)
    return near, far


def closed_port(host: str = "127.0.0.1") -> int:
    """Gives a port that nobody listens on, free a moment ago."""
    with listening_socket(host) as sock:
        return sock.getsockname()[1]


async def io_barrier(loop: asyncio.AbstractEventLoop) -> None:
    """Returns once everything that the kernel had ready at the call has been dispatched and run."""
    for _ in range(2):
        near, far = stream_pair()
        with near, far:
            arrived = loop.create_future()
            loop.add_reader(near, lambda done=arrived: done.done() or done.set_result(None))
            far.send(b"x")
            await arrived
            loop.remove_reader(near)


async def turns(count: int) -> None:
    """Lets the loop take `count` turns."""
    for _ in range(count):
        await asyncio.sleep(0)


async def others_done() -> None:
    """Waits until every other task of the loop has ended, however it ended."""
    current = asyncio.current_task()
    await asyncio.gather(*(asyncio.all_tasks() - {current}), return_exceptions=True)


class Recording(asyncio.BaseProtocol):
    """Keeps what a stream transport told it, and lets a test await it.

    `events` has the names of the calls in order, runs of `data_received` folded into one; `data` all bytes.
    """

    def __init__(self, keep_open: bool = False) -> None:
        self.events: list[str] = []
        self.data = bytearray()
        self.keep_open = keep_open
        self.transport: asyncio.Transport | None = None
        self.lost_with: BaseException | None = None
        self._watchers: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    def note(self, event: str) -> None:
        """Adds `event` and wakes whoever's condition now holds."""
        if not (event == "data_received" and self.events and self.events[-1] == event):
            self.events.append(event)
        for condition, waiter in self._watchers:
            if condition() and not waiter.done():
                waiter.set_result(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.note("connection_made")

    def eof_received(self) -> bool:
        self.note("eof_received")
        return self.keep_open

    def pause_writing(self) -> None:
        self.note("pause_writing")

    def resume_writing(self) -> None:
        self.note("resume_writing")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost_with = exc
        self.note("connection_lost")

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for `condition`, which is looked at after every event."""
        if condition():
            return
        waiter = asyncio.get_running_loop().create_future()
        watcher = (condition, waiter)
        self._watchers.append(watcher)
        try:
            await waiter
        finally:
            self._watchers.remove(watcher)

    async def happened(self, event: str) -> None:
        """Waits for the event called `event`."""
        await self.until(lambda: event in self.events)

    async def received(self, size: int) -> bytes:
        """Waits until at least `size` bytes have come and gives all that came."""
        await self.until(lambda: len(self.data) >= size)
        return bytes(self.data)


class Recorder(Recording, asyncio.Protocol):
    """A `Recording` of the plain kind: the transport hands it bytes."""

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.data += data
        self.note("data_received")


class BufferedRecorder(Recording, asyncio.BufferedProtocol):
    """A `Recording` that lends its own buffer of `buffer_len` bytes to the transport."""

    def __init__(self, buffer_len: int = 65536, keep_open: bool = False) -> None:
        super().__init__(keep_open)
        self.buffer = bytearray(buffer_len)
        self.size_hints: list[int] = []

    def get_buffer(self, sizehint: int) -> bytearray:
        self.size_hints.append(sizehint)
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data += self.buffer[:nbytes]
        self.note("data_received")


class Echo(asyncio.Protocol):
    """Sends back what it gets."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def connect_recorder(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, factory: Callable[[], Any] = Recorder
) -> tuple[asyncio.Transport, Any]:
    """Puts a connected socket under a transport; gives the transport and its protocol."""
    return await loop.create_connection(factory, sock=sock)


def reset(sock):
    """Closes a TCP socket so that the peer gets a reset (SO_LINGER with zero seconds)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()


class Link:
    """A transport with its recording protocol, and the raw socket at the other end."""

    def __init__(self, loop, transport, protocol, far):
        self.loop = loop
        self.transport = transport
        self.protocol = protocol
        self.far = far

    async def read(self, size):
        """Reads exactly `size` bytes at the far end."""
        got = bytearray()
        while len(got) < size:
            chunk = await self.loop.sock_recv(self.far, size - len(got))
            assert chunk, f"end of file after {len(got)} of {size} bytes"
            got += chunk
        return bytes(got)

    async def read_to_end(self):
        """Reads at the far end until end of file."""
        got = bytearray()
        while chunk := await self.loop.sock_recv(self.far, (1 << 20)):
            got += chunk
        return bytes(got)

    async def fill(self):
        """Writes more than the kernel takes, so that data stays with the transport; gives the data."""
        data = pattern(99, 16 << 20)
        self.transport.write(data)
        await io_barrier(self.loop)
        assert self.transport.get_write_buffer_size() > 0
        return data
