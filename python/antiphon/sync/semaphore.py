"""`Semaphore`, `BoundedSemaphore` and `Lock`, for tasks of several loops and for threads.

A release hands the place to whoever has waited longest, task or thread: nobody who comes later can be faster.

    async with lock: ...      # in a task
    with lock: ...            # in a thread without a loop

Source: Lib/asyncio/locks.py.
"""

import threading
from collections import deque
from types import TracebackType
from typing import Literal

from antiphon.sync.waiter import TaskWaiter, ThreadWaiter, Waiter, Waiters, refuse_in_loop

__all__ = ["BoundedSemaphore", "Lock", "Semaphore"]


class Semaphore:
    """As many places as `value` says.

    Args:
        value: how many may be held at once.

    Raises:
        ValueError: `value` is negative.
    """

    def __init__(self, value: int = 1) -> None:
        if value < 0:
            raise ValueError("Semaphore initial value must be >= 0")
        self._mutex = threading.Lock()
        self._value = value
        self._waiters: Waiters = deque()

    def __repr__(self) -> str:
        state = "locked" if self.locked() else f"unlocked, value:{self._value}"
        return f"<antiphon.sync.{type(self).__name__} [{state}, waiters:{len(self._waiters)}]>"

    def locked(self) -> bool:
        """Whether `acquire` would have to wait."""
        return self._value == 0 or bool(self._waiters)

    async def acquire(self) -> Literal[True]:
        """Takes a place, waiting for it if need be.

        Returns:
            True.
        """
        with self._mutex:
            if self._take():
                return True
            waiter = TaskWaiter()
            self._waiters.append(waiter)
        await waiter.wait(self._give_up)
        return True

    def acquire_blocking(self, timeout: float | None = None) -> bool:
        """Takes a place in a thread without a loop.

        Args:
            timeout: seconds to wait; None waits without limit, 0 does not wait.

        Returns:
            False if there was none in time.

        Raises:
            RuntimeError: a loop runs in this thread.
        """
        refuse_in_loop("await acquire()")
        with self._mutex:
            if self._take():
                return True
            if timeout is not None and timeout <= 0:
                return False
            waiter = ThreadWaiter()
            self._waiters.append(waiter)
        return waiter.wait(timeout, self._give_up, self._leave)

    def release(self) -> None:
        """Gives a place back, to whoever waits longest; may be called in any thread."""
        while True:
            with self._mutex:
                if not self._waiters:
                    self._put_back()
                    return
                waiter = self._waiters.popleft()
                waiter.granted = True
            if waiter.wake():
                return
            with self._mutex:
                if not waiter.revoke():
                    return

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def __enter__(self) -> None:
        refuse_in_loop("async with")
        self.acquire_blocking()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def _take(self) -> bool:
        """Takes a place that nobody has and nobody waits for; under the mutex."""
        if self._value and not self._waiters:
            self._value -= 1
            return True
        return False

    def _put_back(self) -> None:
        """Frees a place; under the mutex."""
        self._value += 1

    def _leave(self, waiter: Waiter) -> bool:
        """Takes a waiter out of the line; tells whether it was granted before, which is the caller's then."""
        with self._mutex:
            if not waiter.granted and waiter in self._waiters:
                self._waiters.remove(waiter)
            return waiter.revoke()

    def _give_up(self, waiter: Waiter) -> None:
        """The same, and hands on what it was granted."""
        if self._leave(waiter):
            self.release()


class BoundedSemaphore(Semaphore):
    """A semaphore that refuses more releases than there were acquisitions."""

    def __init__(self, value: int = 1) -> None:
        super().__init__(value)
        self._bound = value

    def _put_back(self) -> None:
        if self._value >= self._bound:
            raise ValueError("BoundedSemaphore released too many times")
        super()._put_back()


class Lock(Semaphore):
    """A lock; it has no owner, so one thread or task may release what another has acquired, as with asyncio's."""

    def __init__(self) -> None:
        super().__init__(1)

    def locked(self) -> bool:
        """Whether somebody holds the lock."""
        return self._value == 0

    def _put_back(self) -> None:
        if self._value:
            raise RuntimeError("Lock is not acquired.")
        super()._put_back()
