"""`sock_sendfile`: a file straight from the page cache into a socket.

The kernel copies (`os.sendfile`) where it can; for everything else that can be read the file goes
through a buffer of Python's, read in a thread. Invariant: whatever way, and however it ends, the
file's position afterwards is behind the last byte that the socket took.

Source: sendfile(2); Lib/asyncio/unix_events.py, Lib/asyncio/base_events.py.
"""

import asyncio
import errno
import io
import os
import socket
import sys
from asyncio import constants
from asyncio.exceptions import SendfileNotAvailableError
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from antiphon._antiphon import _allowance
from antiphon.arguments import check_not_ssl
from antiphon.executor import Executor
from antiphon.seams import unix_events

__all__ = ["SockSendfile", "check_file_arguments"]

# Linux sends at most 2 GiB a call; on 32-bit machines a larger number would not fit the C type.
_MOST_BYTES_PER_CALL = sys.maxsize // 2 + 1


class SockSendfile(Executor):
    """The part of the loop that sends files through sockets."""

    __slots__ = ()

    async def sock_sendfile(  # type: ignore[override]
        self,
        sock: socket.socket,
        file: Any,
        offset: int = 0,
        count: int | None = None,
        *,
        fallback: bool = True,
    ) -> int:
        """Sends a file through a socket.

        Args:
            sock: connected, non-blocking, of type SOCK_STREAM.
            file: open for reading bytes.
            offset: the byte of the file to begin with.
            count: bytes to send; None sends up to the file's end.
            fallback: read and send by hand what `os.sendfile` cannot.

        Returns:
            How many bytes were sent.

        Raises:
            asyncio.SendfileNotAvailableError: `os.sendfile` cannot, and `fallback` is false.

        Cancellation:
            Bytes that were sent stay sent; the file's position tells how many.
        """
        if self.get_debug() and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        check_not_ssl(sock)
        if sock.type != socket.SOCK_STREAM:
            raise ValueError("only SOCK_STREAM type sockets are supported")
        check_file_arguments(file, offset, count)
        try:
            return await self._sock_sendfile_native(sock, file, offset, count)
        except SendfileNotAvailableError:
            if not fallback:
                raise
        return await self._sendfile_by_hand(sock, file, offset, count)

    async def _sock_sendfile_native(
        self, sock: socket.socket, file: Any, offset: int, count: int | None
    ) -> int:
        """Lets the kernel copy into a socket."""
        wait_until_writable = partial(self._wait_until_writable, sock)
        return await self._sendfile_by_kernel(sock, wait_until_writable, file, offset, count)

    async def _sendfile_by_kernel(
        self,
        sock: Any,
        wait_until_writable: Callable[[], Awaitable[None]],
        file: Any,
        offset: int,
        count: int | None,
    ) -> int:
        """Lets the kernel copy, as much at a time as the socket takes.

        Args:
            sock: whatever has the descriptor to write to.
            wait_until_writable: waits until that takes more.
            file, offset, count: see `sock_sendfile`.

        Returns:
            How many bytes were sent.

        Raises:
            asyncio.SendfileNotAvailableError: the kernel cannot; nothing was sent.
        """
        file_fd = _regular_fileno(file)
        remaining = count if count is not None else os.fstat(file_fd).st_size
        sent_in_all = 0
        try:
            while remaining > 0:
                sent = _send_part(sock, file_fd, offset + sent_in_all, remaining, sent_in_all > 0)
                if sent == 0:
                    break  # the file ended
                if sent is not None:
                    sent_in_all += sent
                    if count is not None:
                        remaining -= sent
                # Even a socket that took everything: a fast reader must not keep the loop busy.
                if remaining > 0:
                    await wait_until_writable()
            return sent_in_all
        except SendfileNotAvailableError:
            file_fd = -1  # untouched, and perhaps of a kind that has no position
            raise
        finally:
            if file_fd >= 0:
                os.lseek(file_fd, offset + sent_in_all, os.SEEK_SET)

    async def _sendfile_by_hand(
        self, sock: socket.socket, file: Any, offset: int, count: int | None
    ) -> int:
        """Reads the file in a thread and sends what was read."""
        if hasattr(file, "seek"):
            file.seek(offset)
        block = memoryview(bytearray(constants.SENDFILE_FALLBACK_READBUFFER_SIZE))
        sent_in_all = 0
        try:
            while count is None or sent_in_all < count:
                part = block if count is None else block[: count - sent_in_all]
                read = await self.run_in_executor(None, file.readinto, part)
                if not read:
                    break  # the file ended
                await self.sock_sendall(sock, part[:read])
                sent_in_all += read
            return sent_in_all
        finally:
            if hasattr(file, "seek"):
                file.seek(offset + sent_in_all)

    async def _wait_until_writable(self, sock: socket.socket) -> None:
        """Waits until the socket takes more."""
        writable = self.create_future()
        fd = sock.fileno()
        self._add_writer(fd, _settle, writable)
        try:
            await writable
        finally:
            self._remove_writer(fd)


def _settle(future: asyncio.Future[None]) -> None:
    """Ends the wait of a future, once."""
    if not future.done():
        future.set_result(None)


def _regular_fileno(file: Any) -> int:
    """Returns the descriptor of a file that the kernel may be able to send."""
    if not hasattr(unix_events.os, "sendfile"):
        raise SendfileNotAvailableError("os.sendfile() is not available")
    try:
        fileno: int = file.fileno()
        os.fstat(fileno)
    except (AttributeError, io.UnsupportedOperation, OSError):
        raise SendfileNotAvailableError("not a regular file") from None
    return fileno


def _send_part(sock: Any, file_fd: int, offset: int, most: int, is_under_way: bool) -> int | None:
    """Lets the kernel copy a part of a file.

    Args:
        is_under_way: whether bytes of this file were sent already.

    Returns:
        How many bytes the socket took; 0 at the end of the file, None when the socket is full.

    Raises:
        asyncio.SendfileNotAvailableError: the first call failed: a file or socket of a kind that
            the kernel does not copy, or a broken connection, which sending by hand will meet too.
    """
    try:
        sock_fd = sock.fileno()
        most = _allowance(sock_fd, min(most, _MOST_BYTES_PER_CALL))
        return os.sendfile(sock_fd, file_fd, offset, most)
    except (BlockingIOError, InterruptedError):
        return None
    except OSError as error:
        if not is_under_way:
            raise SendfileNotAvailableError("os.sendfile call failed") from error
        if error.errno == errno.ENOTCONN:
            # The one error of a connection that breaks which is not a ConnectionError by itself.
            raise ConnectionError("socket is not connected", errno.ENOTCONN) from error
        raise


def check_file_arguments(file: Any, offset: Any, count: Any) -> None:
    """Refuses text files and numbers that are none or negative."""
    if "b" not in getattr(file, "mode", "b"):
        raise ValueError("file should be opened in binary mode")
    if count is not None:
        if not isinstance(count, int):
            raise TypeError(f"count must be a positive integer (got {count!r})")
        if count <= 0:
            raise ValueError(f"count must be a positive integer (got {count!r})")
    if not isinstance(offset, int):
        raise TypeError(f"offset must be a non-negative integer (got {offset!r})")
    if offset < 0:
        raise ValueError(f"offset must be a non-negative integer (got {offset!r})")
