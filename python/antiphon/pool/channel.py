"""Messages between two processes: a Unix socket for them, and one beside it for descriptors.

A message is a tuple of what `marshal` knows; everything sent in one turn of the loop is one frame: eight bytes of
length, then a marshalled pair of what concerns shared memory and the list of messages. Objects cross as parcels:
their pickle, and where their large buffers are. A descriptor is sent before the frame that speaks of it, so it is
there when the frame is read. Both ends are the same interpreter, which marshal requires.

    parent  channel.send((CALL, 7, ...)); channel.flush()   ->   receive([(CALL, 7, ...)])   child

Source: unix(7), Lib/marshal.
"""

import asyncio
import contextlib
import marshal
import socket
import struct
from collections.abc import Callable
from typing import Any

from antiphon.pool import pickling
from antiphon.pool.pickling import Pickled
from antiphon.pool.segments import Incoming, Outgoing

__all__ = ["Channel", "Parcel", "pack_inline", "receive_frame", "send_frame", "unpack_inline"]

_HEADER = struct.Struct("<Q")
_LENGTH = _HEADER.unpack_from
# Without references to equal objects, which would cost a look-up each.
_MARSHAL_VERSION = 2
# About shared memory: a segment was let go of; a segment is not used again.
_LET_GO, _FORGET = 1, 2

Message = tuple[Any, ...]
#: The pickle alone; or the pickle (None if it is the first buffer), the segment's number and size, the lengths of the
#: buffers there, and the buffers themselves where no segment could be had.
Parcel = bytes | tuple[bytes | None, tuple[int, int] | None, tuple[int, ...], tuple[bytes, ...]]


class Channel(asyncio.Protocol):
    """One end of the connection between a pool and a worker process.

    Args:
        loop: the loop that the connection is on.
        descriptors: the socket for descriptors, non-blocking, which the channel then owns; None if no parcels come or
            go.
        receive: called with each list of messages.
        lost: called once when the connection is gone.

    Attributes:
        outbox: the messages that leave with the next `flush`; who adds some sees to that itself.
        paused: the kernel takes no more just now.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        descriptors: socket.socket | None,
        receive: Callable[[list[Message]], None],
        lost: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._descriptors = descriptors
        self._receive = receive
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self.outbox: list[Message] = []
        self._about_memory: list[tuple[int, int]] = []
        self._flush_is_due = False
        self._pending = bytearray()
        self._outgoing = Outgoing(self._send_descriptor, self._forget)
        self._incoming = Incoming(self._receive_descriptor, self._let_go)
        self.paused = False

    def send(self, message: Message) -> None:
        """Queues a message; it leaves with `flush`, or at the latest in the next turn of the loop."""
        self.outbox.append(message)
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self.flush)

    def send_alone(self, message: Message) -> None:
        """Writes a message as a frame of its own, for `receive_frame`."""
        assert self._transport is not None
        body = marshal.dumps(message, _MARSHAL_VERSION)
        self._transport.write(_HEADER.pack(len(body)) + body)

    def flush(self) -> None:
        """Writes the messages that were queued."""
        self._flush_is_due = False
        if not self.outbox and not self._about_memory:
            return
        body = marshal.dumps((self._about_memory, self.outbox), _MARSHAL_VERSION)
        self.outbox.clear()
        self._about_memory.clear()
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.write(_HEADER.pack(len(body)) + body)

    def pack(self, pickled: Pickled) -> Parcel:
        """Makes a parcel; its large buffers are copied to shared memory at once."""
        data, buffers = pickled
        if not buffers and len(data) < pickling.OUT_OF_BAND_BYTES:
            return data
        in_segment: list[memoryview | bytes] = [*buffers]
        small: bytes | None = data
        if len(data) >= pickling.OUT_OF_BAND_BYTES:
            in_segment.insert(0, data)
            small = None
        segment = self._outgoing.store(in_segment)
        if segment is None:
            return pack_inline(pickled)
        return small, segment, tuple(memoryview(buffer).nbytes for buffer in in_segment), ()

    def unpack(self, parcel: Parcel) -> tuple[bytes | memoryview, list[memoryview]]:
        """Opens a parcel, in the order in which parcels came.

        Raises:
            OSError: its shared memory could not be mapped.
        """
        if isinstance(parcel, bytes):
            return parcel, []
        data, segment, lengths, _ = parcel
        if segment is None:
            return unpack_inline(parcel)
        views = self._incoming.views(*segment, lengths)
        return (views[0], views[1:]) if data is None else (data, views)

    def close(self) -> None:
        """Ends the connection at once; `lost` is called later."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, exc: BaseException | None) -> None:
        self._transport = None
        self.outbox.clear()
        self._about_memory.clear()
        if self._descriptors is not None:
            self._descriptors.close()
        self._outgoing.close()
        self._incoming.close()
        self._lost()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False

    def data_received(self, data: bytes | bytearray) -> None:
        if self._pending:
            self._pending += data
            data = self._pending
        elif len(data) >= _HEADER.size and len(data) == _HEADER.size + _LENGTH(data)[0]:
            # One whole frame, as nearly always.
            self._handle(*marshal.loads(memoryview(data)[_HEADER.size :]))
            return
        start, end = 0, len(data)
        with memoryview(data) as view:
            while end - start >= _HEADER.size:
                begin = start + _HEADER.size
                stop = begin + _LENGTH(data, start)[0]
                if stop > end:
                    break
                with view[begin:stop] as body:
                    about_memory, messages = marshal.loads(body)
                start = stop
                self._handle(about_memory, messages)
            rest = bytearray(view[start:]) if start or data is not self._pending else None
        if rest is not None:
            self._pending = rest

    def _handle(self, about_memory: list[tuple[int, int]], messages: list[Message]) -> None:
        for kind, number in about_memory:
            if kind == _LET_GO:
                self._outgoing.take_back(number)
            else:
                self._incoming.forget(number)
        if messages:
            self._receive(messages)

    def _forget(self, number: int) -> None:
        """Tells the other side that a segment will not be used again."""
        self._about_memory.append((_FORGET, number))

    def _let_go(self, number: int) -> None:
        """Tells the other side that nobody here looks at a segment any more; called in any thread."""
        # A loop that is closed has closed the connection.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._tell_let_go, number)

    def _tell_let_go(self, number: int) -> None:
        self._about_memory.append((_LET_GO, number))
        self.flush()

    def _send_descriptor(self, descriptor: int) -> None:
        assert self._descriptors is not None
        socket.send_fds(self._descriptors, [b"d"], [descriptor])

    def _receive_descriptor(self) -> int:
        assert self._descriptors is not None
        _, descriptors, _, _ = socket.recv_fds(self._descriptors, 1, 1)
        if not descriptors:
            raise OSError("no descriptor could be received: is RLIMIT_NOFILE too low?")
        return descriptors[0]


def pack_inline(pickled: Pickled) -> Parcel:
    """Makes a parcel without shared memory."""
    data, buffers = pickled
    return (data, None, (), tuple(bytes(buffer) for buffer in buffers)) if buffers else data


def unpack_inline(parcel: Parcel) -> tuple[bytes, list[memoryview]]:
    """Opens a parcel that was made without shared memory."""
    if isinstance(parcel, bytes):
        return parcel, []
    data, _, _, buffers = parcel
    assert data is not None  # left out with shared memory alone
    # What is writable at one end is at the other; the pickle knows which is not.
    return data, [memoryview(bytearray(buffer)) for buffer in buffers]


def send_frame(sock: socket.socket, message: Any) -> None:
    """Sends one frame on a blocking socket."""
    body = marshal.dumps(message, _MARSHAL_VERSION)
    sock.sendall(_HEADER.pack(len(body)) + body)


def receive_frame(sock: socket.socket) -> Any:
    """Receives one frame on a blocking socket.

    Raises:
        EOFError: the other side is gone.
    """
    header = _receive_exactly(sock, _HEADER.size)
    return marshal.loads(_receive_exactly(sock, _HEADER.unpack(header)[0]))


def _receive_exactly(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = sock.recv(min(size - len(data), 1 << 20))
        if not part:
            raise EOFError("the other side of the channel is gone")
        data += part
    return bytes(data)
