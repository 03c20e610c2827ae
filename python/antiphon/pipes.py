"""Pipes: `connect_read_pipe` and `connect_write_pipe`.

The transports are native. What may be connected is what the kernel can wait for: pipes, FIFOs,
sockets, and character devices such as terminals; a file on disk is refused.

    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

Source: "Working with pipes" of the asyncio documentation, Lib/asyncio/base_events.py, unix_events.py.
"""

import asyncio
from asyncio.log import logger
from collections.abc import Callable
from typing import Any, TypeVar

from antiphon._antiphon import LoopBase

__all__ = ["Pipes"]

P = TypeVar("P", bound=asyncio.BaseProtocol)


class Pipes(LoopBase):
    """The part of the loop that reads from pipes and writes to them."""

    __slots__ = ()

    async def connect_read_pipe(
        self, protocol_factory: Callable[[], P], pipe: Any
    ) -> tuple[asyncio.ReadTransport, P]:
        """Puts a protocol on the reading end of a pipe.

        Args:
            protocol_factory: called without arguments.
            pipe: a file object; it becomes non-blocking, and the transport closes it.

        Returns:
            The transport and the protocol, after `connection_made`.

        Raises:
            ValueError: it is neither pipe nor socket nor character device.
        """
        protocol = protocol_factory()
        waiter = self.create_future()
        transport = self._make_read_pipe_transport(pipe, protocol, waiter)
        await self._connected("Read", pipe, transport, protocol, waiter)
        return transport, protocol

    async def connect_write_pipe(
        self, protocol_factory: Callable[[], P], pipe: Any
    ) -> tuple[asyncio.WriteTransport, P]:
        """Puts a protocol on the writing end of a pipe.

        Args:
            protocol_factory: called without arguments.
            pipe: a file object; it becomes non-blocking, and the transport closes it.

        Returns:
            The transport and the protocol, after `connection_made`.

        Raises:
            ValueError: it is neither pipe nor socket nor character device.
        """
        protocol = protocol_factory()
        waiter = self.create_future()
        transport = self._make_write_pipe_transport(pipe, protocol, waiter)
        await self._connected("Write", pipe, transport, protocol, waiter)
        return transport, protocol

    async def _connected(
        self,
        direction: str,
        pipe: Any,
        transport: asyncio.BaseTransport,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None],
    ) -> None:
        """Waits until the protocol knows its transport; closes the transport if it is given up."""
        try:
            await waiter
        except BaseException:
            transport.close()
            raise
        if self.get_debug():
            logger.debug(
                "%s pipe %r connected: (%r, %r)", direction, pipe.fileno(), transport, protocol
            )
