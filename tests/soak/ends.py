"""The ends of a connection that are protocols, plain and buffered."""

import asyncio
import random
import socket
from typing import TYPE_CHECKING, Any

from soak.book import Mixed
from soak.exchange import HEADER_BYTES, MOST_BYTES_AT_ONCE, Ending, Exchange, Flow, number_in

if TYPE_CHECKING:
    from soak.life import Life

_LINGER_ZERO = b"\1\0\0\0\0\0\0\0"
#: What TLS has encrypted and not yet sent, at most.
_BATCH_OF_RECORDS_BYTES = 1 << 17
STALL_SECONDS = 0.1


def reset_when_closed(transport: asyncio.BaseTransport) -> None:
    """Makes the socket's close a reset; does nothing to a Unix socket or one that is closed already."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)


def check_bound(exchange: Exchange, transport: Any) -> None:
    """Holds the bytes that a transport keeps against its high-water mark (a slow peer costs no more)."""
    _, high = transport.get_write_buffer_limits()
    kept = transport.get_write_buffer_size()
    records = _BATCH_OF_RECORDS_BYTES if "tls" in exchange.plan.kind else 0
    if kept > high + MOST_BYTES_AT_ONCE + records:
        exchange.book.fail(f"{exchange}: the transport keeps {kept} bytes, its mark is {high}")


class End(asyncio.BaseProtocol):
    """One end: sends its flow as fast as it may, checks the other, ends as planned."""

    transport: Any

    def __init__(self, exchange: Exchange | None, is_server: bool) -> None:
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._is_server = is_server
        self._may_write = True
        self._faulted = False
        if exchange is not None:
            self._join(exchange)
        else:
            self.exchange: Exchange | None = None

    def _join(self, exchange: Exchange) -> None:
        self.exchange = exchange
        name = "server" if self._is_server else "client"
        self._rng = random.Random(f"{exchange.seed}/{name}")
        flows = (exchange.down, exchange.up) if self._is_server else (exchange.up, exchange.down)
        self.sends, self.receives = flows
        self.ends_it = exchange.plan.by_server == self._is_server

    sends: Flow
    receives: Flow

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        if self.exchange is not None:
            if self._rng.random() < 0.3:
                self.transport.set_write_buffer_limits(self._rng.choice((0, 1, 1000, 200_000)))
            self.transport.write(self.exchange.header)
            self.pump()

    def take(self, data: bytes | bytearray | memoryview) -> None:
        """Checks what has come."""
        exchange = self.exchange
        if exchange is None:
            return
        try:
            exchange.book.check(self.receives.incoming, bytes(data), str(exchange))
        except Mixed:
            self.transport.abort()
            return
        if self.receives.incoming.offset > self.receives.total:
            exchange.book.fail(f"{exchange}: more bytes than were sent")
        self.look()

    def pump(self) -> None:
        """Sends on, for this turn."""
        exchange = self.exchange
        if exchange is None:
            return
        for _ in range(self._rng.randrange(1, 5)):
            if not self._may_write or self.transport.is_closing() or self.sends.is_sent:
                break
            size = self._rng.choice((1, 100, 1460, 8192, MOST_BYTES_AT_ONCE))
            chunk = self.sends.next_chunk(size)
            if self._rng.random() < 0.2:
                self.transport.writelines([chunk[:10], bytearray(chunk[10:])])
            else:
                self.transport.write(chunk)
            check_bound(exchange, self.transport)
        self.look()
        if self._may_write and not self.sends.is_sent and not self.transport.is_closing():
            asyncio.get_running_loop().call_soon(self.pump)

    def look(self) -> None:
        """Ends the connection, or interferes with it, if it is time."""
        exchange = self.exchange
        if exchange is None or self.transport.is_closing():
            return
        plan = exchange.plan
        if not self._faulted and self.ends_it:
            self._interfere(exchange)
        if not plan.is_complete:
            return
        if self.sends.is_sent:
            if self.ends_it and self.receives.has_arrived:
                self.transport.close()
            elif not self.ends_it and plan.ending is Ending.HALF_CLOSE:
                self.transport.write_eof()

    def _interfere(self, exchange: Exchange) -> None:
        plan = exchange.plan
        if self.sends.outgoing.offset + self.receives.incoming.offset < plan.fault_at:
            return
        self._faulted = True
        if plan.ending in (Ending.ABORT, Ending.CANCEL):
            self.transport.abort()
        elif plan.ending is Ending.RESET:
            reset_when_closed(self.transport)
            self.transport.abort()
        elif plan.ending is Ending.STALL:
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(STALL_SECONDS, self.transport.resume_reading)

    def pause_writing(self) -> None:
        self._may_write = False

    def resume_writing(self) -> None:
        self._may_write = True
        self.pump()

    def eof_received(self) -> bool:
        exchange = self.exchange
        if exchange is None or exchange.plan.ending is not Ending.HALF_CLOSE:
            return False
        return self.ends_it and not self.sends.is_sent

    def connection_lost(self, exc: BaseException | None) -> None:
        exchange = self.exchange
        if exchange is not None and exchange.plan.is_complete and exc is not None:
            exchange.book.fail(f"{exchange}: lost with {exc!r}")
        self.lost.set_result(None)
        if exchange is not None and self._is_server:
            exchange.server_ended.set_result(None)


class PlainEnd(End, asyncio.Protocol):
    """An `End` that is handed bytes."""

    def data_received(self, data: bytes) -> None:
        self.take(data)


class BufferedEnd(End, asyncio.BufferedProtocol):
    """An `End` that lends its buffer, whose size changes from call to call."""

    def __init__(self, exchange: Exchange | None, is_server: bool) -> None:
        super().__init__(exchange, is_server)
        self._buffer = bytearray(65536)
        self._sizes = random.Random(exchange.seed if exchange is not None else 0)
        self._lent = memoryview(self._buffer)

    def get_buffer(self, sizehint: int) -> memoryview:
        size = self._sizes.choice((1, 777, 16384, len(self._buffer)))
        self._lent = memoryview(self._buffer)[:size]
        return self._lent

    def buffer_updated(self, nbytes: int) -> None:
        self.take(self._lent[:nbytes])


class _Serving(End):
    """A server's end: learns from the header which connection it is."""

    def __init__(self, life: "Life") -> None:
        super().__init__(None, is_server=True)
        self._life = life
        self._header = bytearray()

    def take(self, data: bytes | bytearray | memoryview) -> None:
        if self.exchange is None:
            room = HEADER_BYTES - len(self._header)
            self._header += data[:room]
            data = data[room:]
            if len(self._header) < HEADER_BYTES:
                return
            exchange = self._life.meet(number_in(bytes(self._header)))
            if exchange is None:
                self.transport.abort()
                return
            self._join(exchange)
            self.pump()
            if self.transport.is_closing():
                return
        if data:
            super().take(data)
        else:
            self.look()


class PlainServing(_Serving, PlainEnd):
    """A server's `PlainEnd`."""


class BufferedServing(_Serving, BufferedEnd):
    """A server's `BufferedEnd`."""

    def __init__(self, life: "Life") -> None:
        _Serving.__init__(self, life)
        self._buffer = bytearray(65536)
        self._sizes = random.Random(0)
        self._lent = memoryview(self._buffer)
