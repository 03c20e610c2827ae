"""`Queue`, for tasks of several loops and for threads.

An item goes straight to whoever has waited longest for one; a free place goes, with the item that waits for it, to
whoever has waited longest to put one. An item that was handed to a task which is cancelled in that moment goes back
to the head of the queue.

Source: Lib/asyncio/queues.py; queue.Queue for the blocking half.
"""

import asyncio
import sys
import threading
from collections import deque
from typing import Any, Generic, TypeVar

from antiphon.sync.waiter import (
    TaskWaiter,
    ThreadWaiter,
    Waiter,
    Waiters,
    refuse_in_loop,
    wake_all,
)

__all__ = ["Queue", "QueueShutDown"]

T = TypeVar("T")

if sys.version_info >= (3, 13):
    QueueShutDown = asyncio.QueueShutDown
else:

    class QueueShutDown(Exception):
        """The queue was shut down; asyncio's own from Python 3.13 on."""


#: What a waiter is given that is to learn that the queue was shut down.
_SHUT_DOWN: Any = object()


class Queue(Generic[T]):
    """First in, first out.

    Args:
        maxsize: how many items there may be; 0 or less: any number.
    """

    def __init__(self, maxsize: int = 0) -> None:
        self._maxsize = maxsize
        self._mutex = threading.Lock()
        self._items: deque[T] = deque()
        self._getters: Waiters = deque()
        self._putters: Waiters = deque()
        self._joiners: Waiters = deque()
        self._unfinished = 0
        self._is_shut_down = False

    def __repr__(self) -> str:
        return f"<antiphon.sync.Queue maxsize={self._maxsize} items={len(self._items)}>"

    @property
    def maxsize(self) -> int:
        """How many items there may be."""
        return self._maxsize

    def qsize(self) -> int:
        """How many items there are; a moment later that may be wrong, as with all that follow."""
        return len(self._items)

    def empty(self) -> bool:
        """Whether there is no item."""
        return not self._items

    def full(self) -> bool:
        """Whether there is no free place."""
        return 0 < self._maxsize <= len(self._items)

    async def put(self, item: T) -> None:
        """Puts an item, waiting for a place if need be.

        Raises:
            QueueShutDown: the queue was shut down.

        Cancellation: the item is not in the queue, unless somebody had taken it before the cancellation arrived.
        """
        with self._mutex:
            getter = self._put_or_none(item)
            if getter is None:
                waiter = TaskWaiter(item)
                self._putters.append(waiter)
        if getter is not None:
            self._hand_over(getter)
        elif await waiter.wait(self._take_back) is _SHUT_DOWN:
            raise QueueShutDown

    def put_blocking(self, item: T, timeout: float | None = None) -> None:
        """Puts an item in a thread without a loop.

        Args:
            item: what to put.
            timeout: seconds to wait for a place; None waits without limit.

        Raises:
            asyncio.QueueFull: there was no place in time.
            QueueShutDown: the queue was shut down.
            RuntimeError: a loop runs in this thread.
        """
        refuse_in_loop("await put()")
        with self._mutex:
            getter = self._put_or_none(item)
            if getter is None:
                waiter = ThreadWaiter(item)
                self._putters.append(waiter)
        if getter is not None:
            self._hand_over(getter)
        elif not waiter.wait(timeout, self._take_back, self._leave):
            raise asyncio.QueueFull
        elif waiter.value is _SHUT_DOWN:
            raise QueueShutDown

    def put_nowait(self, item: T) -> None:
        """Puts an item at once; may be called in any thread.

        Raises:
            asyncio.QueueFull: there is no place.
            QueueShutDown: the queue was shut down.
        """
        with self._mutex:
            getter = self._put_or_none(item)
        if getter is None:
            raise asyncio.QueueFull
        self._hand_over(getter)

    async def get(self) -> T:
        """Takes an item, waiting for one if need be.

        Raises:
            QueueShutDown: the queue was shut down and is empty.

        Cancellation: no item is lost.
        """
        with self._mutex:
            found, item, putter = self._get_or_none()
            if not found:
                waiter = TaskWaiter()
                self._getters.append(waiter)
        if not found:
            item = await waiter.wait(self._return)
            if item is _SHUT_DOWN:
                raise QueueShutDown
        elif putter is not None:
            putter.wake()
        return item  # type: ignore[no-any-return]

    def get_blocking(self, timeout: float | None = None) -> T:
        """Takes an item in a thread without a loop.

        Args:
            timeout: seconds to wait for one; None waits without limit.

        Raises:
            asyncio.QueueEmpty: there was none in time.
            QueueShutDown: the queue was shut down and is empty.
            RuntimeError: a loop runs in this thread.
        """
        refuse_in_loop("await get()")
        with self._mutex:
            found, item, putter = self._get_or_none()
            if not found:
                waiter = ThreadWaiter()
                self._getters.append(waiter)
        if not found:
            if not waiter.wait(timeout, self._return, self._leave):
                raise asyncio.QueueEmpty
            item = waiter.value
            if item is _SHUT_DOWN:
                raise QueueShutDown
        elif putter is not None:
            putter.wake()
        return item  # type: ignore[no-any-return]

    def get_nowait(self) -> T:
        """Takes an item at once; may be called in any thread.

        Raises:
            asyncio.QueueEmpty: there is none.
            QueueShutDown: the queue was shut down and is empty.
        """
        with self._mutex:
            found, item, putter = self._get_or_none()
        if not found:
            raise asyncio.QueueEmpty
        if putter is not None:
            putter.wake()
        return item  # type: ignore[no-any-return]

    def task_done(self) -> None:
        """Says that the work on an item that was taken is done.

        Raises:
            ValueError: called more often than there were items.
        """
        with self._mutex:
            if self._unfinished <= 0:
                raise ValueError("task_done() called too many times")
            self._unfinished -= 1
            joiners = self._release_joiners()
        wake_all(joiners)

    async def join(self) -> None:
        """Waits until the work on every item is done."""
        with self._mutex:
            if not self._unfinished:
                return
            waiter = TaskWaiter()
            self._joiners.append(waiter)
        await waiter.wait(self._leave)

    def join_blocking(self, timeout: float | None = None) -> bool:
        """Waits for that in a thread without a loop.

        Args:
            timeout: seconds; None waits without limit.

        Returns:
            False if it was not done in time.
        """
        refuse_in_loop("await join()")
        with self._mutex:
            if not self._unfinished:
                return True
            waiter = ThreadWaiter()
            self._joiners.append(waiter)
        return waiter.wait(timeout, self._leave, self._leave)

    def shutdown(self, immediate: bool = False) -> None:
        """Ends the queue: puts fail from now on, gets when it is empty.

        Args:
            immediate: drops the items that are there.
        """
        with self._mutex:
            self._is_shut_down = True
            dropped: list[T] = []
            if immediate:
                dropped.extend(self._items)
                self._items.clear()
                self._unfinished = max(0, self._unfinished - len(dropped))
            # Who waits to put waits at a full queue: it will not have a place. Who waits to get waits at an empty one.
            waiters = [*self._putters, *self._getters]
            self._putters.clear()
            self._getters.clear()
            for waiter in waiters:
                waiter.granted = True
                waiter.value = _SHUT_DOWN
            waiters += self._release_joiners()
        wake_all(waiters)

    def _put_or_none(self, item: T) -> Waiter | None:
        """Gives an item to a getter, or puts it in the queue; under the mutex.

        Returns:
            The getter, to be woken; `_NOBODY` if there was none; None if there is no place.
        """
        if self._is_shut_down:
            raise QueueShutDown
        if self._getters:
            getter = self._getters.popleft()
            getter.granted = True
            getter.value = item
        elif 0 < self._maxsize <= len(self._items):
            return None
        else:
            self._items.append(item)
            getter = _NOBODY
        self._unfinished += 1
        return getter

    def _get_or_none(self) -> tuple[bool, Any, Waiter | None]:
        """Takes an item and fills its place; under the mutex.

        Returns:
            Whether there was one, the item, and the putter to be woken, if one waits.
        """
        if not self._items:
            if self._is_shut_down:
                raise QueueShutDown
            return False, None, None
        item = self._items.popleft()
        putter = None
        if self._putters and len(self._items) < self._maxsize:
            putter = self._putters.popleft()
            putter.granted = True
            self._items.append(putter.value)
            self._unfinished += 1
        return True, item, putter

    def _hand_over(self, getter: Waiter) -> None:
        """Wakes who was given an item; an item for a loop that is closed goes back."""
        if not getter.wake() and self._leave(getter):
            self._return_item(getter.value)

    def _return(self, getter: Waiter) -> None:
        """A getter is cancelled: what it was given goes back."""
        if self._leave(getter) and getter.value is not _SHUT_DOWN:
            self._return_item(getter.value)

    def _return_item(self, item: T) -> None:
        """Gives an item to who waits next, or puts it back where it came from, at the head."""
        while True:
            with self._mutex:
                if not self._getters:
                    self._items.appendleft(item)
                    return
                getter = self._getters.popleft()
                getter.granted = True
                getter.value = item
            if getter.wake() or not self._leave(getter):
                return

    def _take_back(self, putter: Waiter) -> None:
        """A putter is cancelled: its item is taken out again, if it is still there."""
        next_putter = None
        with self._mutex:
            if not putter.revoke():
                if putter in self._putters:
                    self._putters.remove(putter)
                return
            # From the right, where it was put; by identity, for equality is the items' own code.
            for index in range(len(self._items) - 1, -1, -1):
                if self._items[index] is putter.value:
                    del self._items[index]
                    self._unfinished -= 1
                    break
            else:
                return
            if self._putters:
                next_putter = self._putters.popleft()
                next_putter.granted = True
                self._items.append(next_putter.value)
                self._unfinished += 1
        if next_putter is not None:
            next_putter.wake()

    def _leave(self, waiter: Waiter) -> bool:
        """Takes a waiter out of whatever line it stands in.

        Returns:
            Whether it was granted before; what it was given is the caller's then.
        """
        with self._mutex:
            if not waiter.granted:
                for line in (self._getters, self._putters, self._joiners):
                    if waiter in line:
                        line.remove(waiter)
            return waiter.revoke()

    def _release_joiners(self) -> list[Waiter]:
        """Grants those who wait for the end, if it has come; under the mutex."""
        if self._unfinished:
            return []
        joiners = list(self._joiners)
        self._joiners.clear()
        for joiner in joiners:
            joiner.granted = True
        return joiners


class _Nobody(Waiter):
    """Stands where no getter waits."""

    __slots__ = ()

    def wake(self) -> bool:
        return True


_NOBODY = _Nobody()
