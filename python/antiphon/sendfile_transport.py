"""`sendfile`: a file through a transport, between what was written before and what is written after.

Where the transport is a plain socket it lends it: all written bytes leave, then the kernel copies the
file into the socket (`antiphon.sendfile`). Elsewhere, over TLS above all, the file is read in a thread
and written to the transport, whose flow control a stand-in for the protocol follows meanwhile.

    transport.write(header)
    await loop.sendfile(transport, file)
    transport.write(trailer)

Source: Lib/asyncio/base_events.py (`sendfile`), Lib/asyncio/selector_events.py.
"""

import asyncio
from asyncio import constants
from asyncio.exceptions import SendfileNotAvailableError
from typing import Any

from antiphon._antiphon import StreamTransport
from antiphon.sendfile import SockSendfile, check_file_arguments

__all__ = ["Sendfile"]

_Mode = constants._SendfileMode


class Sendfile(SockSendfile):
    """The part of the loop that sends files through transports."""

    __slots__ = ()

    async def sendfile(
        self,
        transport: Any,
        file: Any,
        offset: int = 0,
        count: int | None = None,
        *,
        fallback: bool = True,
    ) -> int:
        """Sends a file through a transport.

        Args:
            transport: of this loop; a stream socket, plain or with TLS.
            file: open for reading bytes.
            offset: the byte of the file to begin with.
            count: bytes to send; None sends up to the file's end.
            fallback: read and write by hand what the kernel cannot copy.

        Returns:
            How many bytes were sent; the file's position is behind the last of them.

        Raises:
            RuntimeError: the transport is closing, or of a kind that sends no files, or one that the
                kernel cannot copy to and `fallback` is false.
            asyncio.SendfileNotAvailableError: the kernel cannot copy this file, and `fallback` is
                false.
            ConnectionError: the connection ended on the way.

        Cancellation:
            Bytes that were sent stay sent; the file's position tells how many. The transport goes on.
        """
        if transport.is_closing():
            raise RuntimeError("Transport is closing")
        mode = _mode_of(transport)
        if mode is _Mode.UNSUPPORTED:
            raise RuntimeError(f"sendfile is not supported for transport {transport!r}")
        if mode is _Mode.TRY_NATIVE:
            try:
                return await self._sendfile_native(transport, file, offset, count)
            except SendfileNotAvailableError:
                if not fallback:
                    raise
        if not fallback:
            raise RuntimeError(
                f"fallback is disabled and native sendfile is not supported for transport {transport!r}"
            )
        return await self._sendfile_through(transport, file, offset, count)

    async def _sendfile_native(
        self, transport: Any, file: Any, offset: int, count: int | None
    ) -> int:
        """Lets the kernel copy into the socket of a transport, which writes nothing meanwhile."""
        sock = transport.get_extra_info("socket")
        check_file_arguments(file, offset, count)

        async def wait_until_writable() -> None:
            writable = self.create_future()
            transport._wait_writable(writable)
            await writable

        resumes_reading = transport.is_reading()
        sent_before = self.create_future()
        transport._lend(sent_before)
        try:
            transport.pause_reading()
            await sent_before
            return await self._sendfile_by_kernel(sock, wait_until_writable, file, offset, count)
        finally:
            transport._take_back()
            if resumes_reading:
                transport.resume_reading()

    async def _sendfile_through(
        self, transport: Any, file: Any, offset: int, count: int | None
    ) -> int:
        """Reads the file in a thread and writes what was read to a transport."""
        check_file_arguments(file, offset, count)
        if hasattr(file, "seek"):
            file.seek(offset)
        most = constants.SENDFILE_FALLBACK_READBUFFER_SIZE
        written = 0
        stand_in = _StandIn(transport)
        try:
            while count is None or written < count:
                # A new block each time: the transport may keep the one before until it is sent.
                block = memoryview(bytearray(most if count is None else min(most, count - written)))
                read = await self.run_in_executor(None, file.readinto, block)
                if not read:
                    break  # the file ended
                await stand_in.wait_for_room()
                transport.write(block[:read])
                written += read
            return written
        finally:
            if written > 0 and hasattr(file, "seek"):
                file.seek(offset + written)
            stand_in.leave()


class _StandIn(asyncio.Protocol):
    """Stands in for a transport's protocol while a file is written: follows flow control, reads nothing.

    Args:
        transport: goes on with its own protocol after `leave`.
    """

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._protocol: asyncio.BaseProtocol = transport.get_protocol()
        self._resumes_reading = transport.is_reading()
        self._was_paused = bool(getattr(transport, "_protocol_paused", False))
        self._room: asyncio.Future[None] | None = None
        self._loss: Exception | None = None
        transport.pause_reading()
        transport.set_protocol(self)
        if self._was_paused:
            self.pause_writing()

    async def wait_for_room(self) -> None:
        """Waits until the transport takes more.

        Raises:
            ConnectionError: the connection ended.
        """
        if self._room is not None:
            await self._room
        if self._loss is not None:
            raise self._loss
        if self._transport.is_closing():
            raise ConnectionError("Connection closed by peer")

    def leave(self) -> None:
        """Gives the transport back to its protocol, which is told if flow control changed meanwhile."""
        self._transport.set_protocol(self._protocol)
        if self._resumes_reading:
            self._transport.resume_reading()
        is_paused = self._room is not None
        if self._loss is not None or is_paused == self._was_paused:
            return
        if is_paused:
            self._protocol.pause_writing()
        else:
            self._protocol.resume_writing()

    def pause_writing(self) -> None:
        """There is no room until `resume_writing`."""
        self._room = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """There is room again."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._room = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the wait for room, and tells the protocol."""
        self._loss = exc or ConnectionError("Connection is closed by peer")
        self.resume_writing()
        self._protocol.connection_lost(exc)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Cannot happen: files are sent through connections that stand."""
        raise RuntimeError("Invalid state: connection should have been established already.")

    def data_received(self, data: bytes) -> None:
        """Cannot happen: reading is paused."""
        raise RuntimeError("Invalid state: reading should be paused")

    def eof_received(self) -> bool | None:
        """Cannot happen: reading is paused."""
        raise RuntimeError("Invalid state: reading should be paused")


def _mode_of(transport: Any) -> Any:
    """Returns how files go through a transport; transports say it by asyncio's own attribute."""
    by_default = _Mode.TRY_NATIVE if isinstance(transport, StreamTransport) else _Mode.UNSUPPORTED
    return getattr(transport, "_sendfile_compatible", by_default)
