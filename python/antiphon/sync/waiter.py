"""`Waiter`: somebody who waits for something, a task in a loop or a thread.

Invariant Q1: a waiter is granted what it waits for at most once, under the mutex of the object that it waits at,
and leaves that object's line in the same moment. Whoever grants wakes it afterwards, without the mutex. A waiter
that gives up (a cancellation, a timeout, Ctrl-C) asks under the mutex whether it was granted meanwhile: then it has
what it waited for, and either keeps it (timeout) or hands it on (cancellation). What is granted to a task whose
loop is closed is revoked, once, and goes to the next. So nothing is lost between two who wait, and nothing doubled.
"""

import asyncio
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["TaskWaiter", "ThreadWaiter", "Waiter", "Waiters", "refuse_in_loop", "wake_all"]


class Waiter(ABC):
    """Somebody who waits.

    Attributes:
        granted: whether it was given what it waits for; written under the mutex.
        value: what it was given, or wants to give.
    """

    __slots__ = ("granted", "value")

    def __init__(self, value: Any = None) -> None:
        self.granted = False
        self.value = value

    @abstractmethod
    def wake(self) -> bool:
        """Wakes it, from whatever thread; called once, after it was granted.

        Returns:
            False if its loop is closed: nobody is there to take what it was given.
        """

    def revoke(self) -> bool:
        """Takes back what it was granted; under the mutex.

        Returns:
            False if it has given it up itself.
        """
        granted, self.granted = self.granted, False
        return granted


Waiters = deque[Waiter]


class TaskWaiter(Waiter):
    """A task of the running loop."""

    __slots__ = ("_future", "_loop")

    def __init__(self, value: Any = None) -> None:
        super().__init__(value)
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] = self._loop.create_future()

    def wake(self) -> bool:
        if asyncio._get_running_loop() is self._loop:
            _settle(self._future)
            return True
        try:
            self._loop.call_soon_threadsafe(_settle, self._future)
        except RuntimeError:
            if not self._loop.is_closed():
                raise
            return False
        return True

    async def wait(self, give_up: Callable[[Waiter], object]) -> Any:
        """Waits until it is granted.

        Args:
            give_up: called when the wait is cancelled; hands on what was granted, if anything was.

        Returns:
            What it was given.
        """
        try:
            await self._future
        except BaseException:
            give_up(self)
            raise
        return self.value


class ThreadWaiter(Waiter):
    """A thread."""

    __slots__ = ("_gate",)

    def __init__(self, value: Any = None) -> None:
        super().__init__(value)
        self._gate = threading.Lock()
        self._gate.acquire()

    def wake(self) -> bool:
        self._gate.release()
        return True

    def wait(
        self,
        timeout: float | None,
        give_up: Callable[[Waiter], object],
        leave: Callable[[Waiter], bool],
    ) -> bool:
        """Blocks until it is granted, or until the time is over.

        Args:
            timeout: seconds; None waits without limit.
            give_up: called when the wait is interrupted; hands on what was granted, if anything was.
            leave: called when the time is over; tells whether it was granted after all.

        Returns:
            Whether it was granted.
        """
        try:
            if self._gate.acquire(timeout=-1 if timeout is None else max(timeout, 0)):
                return True
        except BaseException:  # KeyboardInterrupt
            give_up(self)
            raise
        return leave(self)


def wake_all(waiters: Iterable[Waiter]) -> None:
    """Wakes waiters that need not hand on what they were given."""
    for waiter in waiters:
        waiter.wake()


def refuse_in_loop(instead: str) -> None:
    """Refuses to block a thread that runs a loop.

    Args:
        instead: what to write there.

    Raises:
        RuntimeError: a loop runs in this thread.
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError(f"this would block the running event loop; use {instead} there")


def _settle(future: asyncio.Future[None]) -> None:
    """Ends a wait, unless it was cancelled in the meantime."""
    if not future.done():
        future.set_result(None)
