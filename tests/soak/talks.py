"""The ends of a connection that are coroutines: over streams, and over a socket by the `sock_*` calls."""

import asyncio
import contextlib
import random
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from soak.book import Mixed
from soak.ends import STALL_SECONDS, check_bound, reset_when_closed
from soak.exchange import HEADER_BYTES, MOST_BYTES_AT_ONCE, Ending, Exchange, number_in

if TYPE_CHECKING:
    from soak.life import Life

#: What the other end's fault may look like here.
_CONSEQUENCES = (OSError, EOFError)


class _Interfered(Exception):
    """This end has ended the connection out of order, as planned."""


class _Talk:
    """One end as a conversation: sends and receives at the same time."""

    def __init__(self, exchange: Exchange, is_server: bool) -> None:
        self.exchange = exchange
        self.plan = exchange.plan
        name = "server" if is_server else "client"
        self.rng = random.Random(f"{exchange.seed}/{name}")
        flows = (exchange.down, exchange.up) if is_server else (exchange.up, exchange.down)
        self.sends, self.receives = flows
        self.ends_it = self.plan.by_server == is_server
        self._faulted = False

    async def write(self, data: bytes) -> None:
        """Sends `data`, and waits while the other end has no room for more."""
        raise NotImplementedError

    async def read(self, size: int) -> bytes:
        """Receives at most `size` bytes; nothing is the end."""
        raise NotImplementedError

    def send_end(self) -> None:
        """Says that nothing more will be sent."""
        raise NotImplementedError

    def abort(self, reset: bool) -> None:
        """Ends the connection at once."""
        raise NotImplementedError

    async def close(self) -> None:
        """Ends the connection in order."""
        raise NotImplementedError

    async def run(self) -> None:
        """Does all that is planned.

        Raises:
            OSError, EOFError: what the other end's fault looks like here.
        """
        failure = await self._both_ways()
        if failure is not None:
            self.abort(False)
            if isinstance(failure, (_Interfered, Mixed)):
                return
            raise failure
        if not self.ends_it:
            left = await self.read(MOST_BYTES_AT_ONCE)
            if left:
                self.exchange.book.fail(f"{self.exchange}: {len(left)} bytes more than were sent")
        await self.close()

    async def _both_ways(self) -> BaseException | None:
        """Sends and receives; gives what ended it early, if something did.

        No task group: one that dies with its loop cannot wait for its tasks.
        """
        tasks = [asyncio.ensure_future(self._send()), asyncio.ensure_future(self._receive())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
        await asyncio.wait(tasks)
        failures = [task.exception() for task in tasks if not task.cancelled()]
        return next((failure for failure in failures if failure is not None), None)

    async def _send(self) -> None:
        while not self.sends.is_sent:
            size = self.rng.choice((1, 100, 1460, 8192, MOST_BYTES_AT_ONCE))
            await self.write(self.sends.next_chunk(size))
            await self._interfere()
        if self.plan.ending is Ending.HALF_CLOSE and not self.ends_it:
            self.send_end()

    async def _receive(self) -> None:
        while not self.receives.has_arrived:
            data = await self.read(self.rng.choice((1, 1000, 65536)))
            if not data:
                return
            self.exchange.book.check(self.receives.incoming, data, str(self.exchange))
            await self._interfere()

    async def _interfere(self) -> None:
        progress = self.sends.outgoing.offset + self.receives.incoming.offset
        if self._faulted or not self.ends_it or progress < self.plan.fault_at:
            return
        self._faulted = True
        if self.plan.ending in (Ending.ABORT, Ending.RESET):
            self.abort(self.plan.ending is Ending.RESET)
            raise _Interfered
        if self.plan.ending is Ending.CANCEL:
            # The next await of this task raises, and the group ends with it.
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                raise _Interfered from None
        if self.plan.ending is Ending.STALL:
            await asyncio.sleep(STALL_SECONDS)


class StreamTalk(_Talk):
    """An end over a `StreamReader` and a `StreamWriter`."""

    def __init__(
        self,
        exchange: Exchange,
        is_server: bool,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        super().__init__(exchange, is_server)
        self.reader = reader
        self.writer = writer

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        check_bound(self.exchange, self.writer.transport)
        await self.writer.drain()

    async def read(self, size: int) -> bytes:
        left = self.receives.total - self.receives.incoming.offset
        if size < left and self.rng.random() < 0.3:
            return await self.reader.readexactly(size)
        return await self.reader.read(size)

    def send_end(self) -> None:
        self.writer.write_eof()

    def abort(self, reset: bool) -> None:
        if reset:
            reset_when_closed(self.writer.transport)
        self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


class SocketTalk(_Talk):
    """An end over a socket of its own."""

    def __init__(self, exchange: Exchange, sock: socket.socket, is_server: bool = False) -> None:
        super().__init__(exchange, is_server)
        self.sock = sock
        self.loop = asyncio.get_running_loop()

    async def write(self, data: bytes) -> None:
        await self.loop.sock_sendall(self.sock, data)

    async def read(self, size: int) -> bytes:
        if self.rng.random() < 0.5:
            return await self.loop.sock_recv(self.sock, size)
        buffer = bytearray(size)
        count = await self.loop.sock_recv_into(self.sock, buffer)
        return bytes(buffer[:count])

    def send_end(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def abort(self, reset: bool) -> None:
        if reset and self.sock.fileno() >= 0:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        # Not before the other half of the talk has taken its waiting back.
        asyncio.get_running_loop().call_soon(self.sock.close)

    async def close(self) -> None:
        self.sock.close()


async def finish(exchange: Exchange, talk: Awaitable[None]) -> None:
    """Runs a talk; errors are consequences, unless nobody interfered."""
    try:
        await talk
    except _CONSEQUENCES as error:
        if exchange.plan.is_complete:
            exchange.book.fail(f"{exchange}: {error!r}")


def serving(life: "Life") -> Callable[[Any, Any], Awaitable[None]]:
    """Gives the handler of a streams server."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        exchange = None
        with contextlib.suppress(*_CONSEQUENCES):
            exchange = life.meet(number_in(await reader.readexactly(HEADER_BYTES)))
        if exchange is None:
            writer.transport.abort()
            return
        await finish(exchange, StreamTalk(exchange, True, reader, writer).run())
        writer.transport.abort()  # does nothing to one that is closed
        exchange.server_ended.set_result(None)

    return serve
