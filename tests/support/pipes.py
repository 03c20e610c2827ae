"""Pipes under transports, for tests that hold the other end."""

import asyncio
import contextlib
import os
from collections.abc import Iterator
from typing import Any

from support.net import Recording

PIPE_FILLING_BYTES = 1 << 20
"""More than any pipe takes without a reader (its capacity is 64 KiB unless somebody raised it)."""


class PipeRecorder(Recording, asyncio.Protocol):
    """A `Recording` for either end of a pipe."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.note("connection_made")

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.data += data
        self.note("data_received")


class Pipe:
    """A pipe whose ends a test may give away or close; what is left is closed in the end."""

    def __init__(self, ends: tuple[int, int]) -> None:
        reader, writer = ends
        self.reader: Any = open(reader, "rb", buffering=0)  # noqa: SIM115
        self.writer: Any = open(writer, "wb", buffering=0)  # noqa: SIM115

    def close(self) -> None:
        """Closes both ends."""
        self.reader.close()
        self.writer.close()

    def read_available(self) -> bytes:
        """Empties the pipe; the writing end may stay open."""
        os.set_blocking(self.reader.fileno(), False)
        chunks = []
        while chunk := self.reader.read(1 << 16):
            chunks.append(chunk)
        return b"".join(chunks)


@contextlib.contextmanager
def new_pipe() -> Iterator[Pipe]:
    """Gives a pipe, and closes it."""
    pipe = Pipe(os.pipe())
    try:
        yield pipe
    finally:
        pipe.close()


async def read_from(
    loop: asyncio.AbstractEventLoop, file: Any
) -> tuple[asyncio.ReadTransport, PipeRecorder]:
    """Puts a reading end under a transport."""
    return await loop.connect_read_pipe(PipeRecorder, file)


async def write_to(
    loop: asyncio.AbstractEventLoop, file: Any
) -> tuple[asyncio.WriteTransport, PipeRecorder]:
    """Puts a writing end under a transport."""
    return await loop.connect_write_pipe(PipeRecorder, file)


def is_open(fd: int) -> bool:
    """Tells whether a descriptor is open."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
