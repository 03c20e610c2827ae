"""`Channel`: a bounded queue that is closed by who sends and iterated by who receives, in loops and in threads.

async for item in channel: ...     # in a task; ends when the channel is closed and empty
for item in channel: ...           # in a thread without a loop
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Generic, TypeVar

from antiphon.sync.queue import Queue, QueueShutDown

__all__ = ["Channel", "ChannelClosed"]

T = TypeVar("T")


class ChannelClosed(Exception):
    """The channel was closed: nothing can be sent, and all that was sent has been received."""


class Channel(Generic[T]):
    """Many senders, many receivers; each item goes to one of them.

    Args:
        capacity: how many items may be on their way.

    Raises:
        ValueError: `capacity` is less than 1.
    """

    def __init__(self, capacity: int = 1) -> None:
        if capacity < 1:
            raise ValueError(f"a channel's capacity is at least 1, not {capacity}")
        self._queue: Queue[T] = Queue(capacity)
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<antiphon.sync.Channel [{state}, items:{len(self)}]>"

    def __len__(self) -> int:
        return self._queue.qsize()

    @property
    def closed(self) -> bool:
        """Whether it was closed; there may be items left."""
        return self._closed

    async def send(self, item: T) -> None:
        """Sends an item, waiting for room if need be.

        Raises:
            ChannelClosed: the channel is closed.
        """
        try:
            await self._queue.put(item)
        except QueueShutDown:
            raise ChannelClosed from None

    def send_blocking(self, item: T, timeout: float | None = None) -> None:
        """Sends an item in a thread without a loop.

        Raises:
            TimeoutError: there was no room within `timeout` seconds.
            ChannelClosed: the channel is closed.
        """
        try:
            self._queue.put_blocking(item, timeout)
        except QueueShutDown:
            raise ChannelClosed from None
        except asyncio.QueueFull:
            raise TimeoutError(f"nobody has received for {timeout} s") from None

    async def receive(self) -> T:
        """Receives an item, waiting for one if need be.

        Raises:
            ChannelClosed: the channel is closed and empty.
        """
        try:
            return await self._queue.get()
        except QueueShutDown:
            raise ChannelClosed from None

    def receive_blocking(self, timeout: float | None = None) -> T:
        """Receives an item in a thread without a loop.

        Raises:
            TimeoutError: there was none within `timeout` seconds.
            ChannelClosed: the channel is closed and empty.
        """
        try:
            return self._queue.get_blocking(timeout)
        except QueueShutDown:
            raise ChannelClosed from None
        except asyncio.QueueEmpty:
            raise TimeoutError(f"nobody has sent for {timeout} s") from None

    def close(self) -> None:
        """Lets nothing more be sent; what was sent is still received. May be called in any thread, and again."""
        self._closed = True
        self._queue.shutdown()

    async def __aiter__(self) -> AsyncIterator[T]:
        while True:
            try:
                item = await self.receive()
            except ChannelClosed:
                return
            yield item

    def __iter__(self) -> Iterator[T]:
        while True:
            try:
                item = self.receive_blocking()
            except ChannelClosed:
                return
            yield item
