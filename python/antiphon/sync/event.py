"""`Event`, for tasks of several loops and for threads.

Source: Lib/asyncio/locks.py.
"""

import threading
from collections import deque
from typing import Literal

from antiphon.sync.waiter import (
    TaskWaiter,
    ThreadWaiter,
    Waiter,
    Waiters,
    refuse_in_loop,
    wake_all,
)

__all__ = ["Event"]


class Event:
    """A flag that is waited for."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._is_set = False
        self._waiters: Waiters = deque()

    def __repr__(self) -> str:
        state = "set" if self._is_set else f"unset, waiters:{len(self._waiters)}"
        return f"<antiphon.sync.Event [{state}]>"

    def is_set(self) -> bool:
        """Whether the flag is set."""
        return self._is_set

    def set(self) -> None:
        """Sets the flag and wakes all who wait; may be called in any thread."""
        with self._mutex:
            self._is_set = True
            waiters, self._waiters = self._waiters, deque()
            for waiter in waiters:
                waiter.granted = True
        wake_all(waiters)

    def clear(self) -> None:
        """Takes the flag back; who was woken stays so."""
        with self._mutex:
            self._is_set = False

    async def wait(self) -> Literal[True]:
        """Waits until the flag is set.

        Returns:
            True.
        """
        with self._mutex:
            if self._is_set:
                return True
            waiter = TaskWaiter()
            self._waiters.append(waiter)
        await waiter.wait(self._leave)
        return True

    def wait_blocking(self, timeout: float | None = None) -> bool:
        """Waits in a thread without a loop.

        Args:
            timeout: seconds; None waits without limit.

        Returns:
            False if the flag was not set in time.

        Raises:
            RuntimeError: a loop runs in this thread.
        """
        refuse_in_loop("await wait()")
        with self._mutex:
            if self._is_set:
                return True
            waiter = ThreadWaiter()
            self._waiters.append(waiter)
        return waiter.wait(timeout, self._leave, self._leave)

    def _leave(self, waiter: Waiter) -> bool:
        with self._mutex:
            if not waiter.granted:
                self._waiters.remove(waiter)
            return waiter.granted
