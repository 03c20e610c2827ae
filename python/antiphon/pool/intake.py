"""`Intake`: what a worker does with the calls that it is sent, in the worker's own loop.

Calls wait in a deque and are begun in order, each as a task; a task makes its first step at once where CPython knows
eager tasks (3.12 on). Beginning calls is interrupted every few milliseconds, so that answers leave and cancellations
arrive. Another thread may take calls from the far end of the deque (`give_back`), and revoke those that are unread
while a call blocks the loop: they were never begun.
"""

import asyncio
import contextvars
import inspect
import sys
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import count, repeat
from time import perf_counter
from types import CoroutineType
from typing import Any

from antiphon.pool import messages

__all__ = ["Intake"]

#: Seconds of beginning calls, after which the loop has its turn.
_SLICE_S = 0.002

if sys.version_info >= (3, 12):
    from antiphon._antiphon import eager_task_factory

    def _begin_task(loop: Any, awaitable: Any, context: contextvars.Context) -> Any:
        return eager_task_factory(loop, _ending_here(awaitable), context=context)

    #: Calls begun between two looks at the clock.
    _BURST = 8
else:

    def _begin_task(loop: Any, awaitable: Any, context: contextvars.Context) -> Any:
        task = loop.create_task(_ending_here(awaitable), context=context)
        if inspect.iscoroutine(awaitable):
            # A task that is cancelled before its first step never comes to it; one that has ended does not mind.
            task.add_done_callback(lambda _: awaitable.close(), context=context)
        return task

    # A task is stepped by the loop; so that few calls count as begun that are not, the loop comes soon.
    _BURST = 1
    _SLICE_S = 0.0


class Intake(ABC):
    """Runs a worker's calls.

    Args:
        loop: the worker's loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[tuple[Any, ...]] = deque()
        self._running: dict[int, asyncio.Task[Any]] = {}
        self._cancelled_early: dict[int, str | None] = {}
        # What was read, and what is not to be run when it is; the steward's thread asks, too. It alone can be kept
        # waiting by what the collector runs under the lock.
        self._lock = threading.Lock()
        self._received = 0
        self._revoked: set[int] = set()
        self._revoked_to = 0
        self._begun = 0
        self._pump_is_due = False
        self._stopping = False
        self._context = contextvars.copy_context()

    def receive(self, received: Iterable[tuple[Any, ...]]) -> None:
        """Does what the pool's messages say."""
        for message in received:
            kind = message[0]
            if kind == messages.CALL:
                self._queue(message[1], (self._take(message),))
            elif kind == messages.CALLS:
                _, first, key, several = message
                calls = zip(repeat(kind), count(first), repeat(key), several)
                self._queue(first + len(several) - 1, calls)
            elif kind == messages.CANCEL:
                self._cancel(message[1], message[2])
            elif kind == messages.STOP:
                self._stopping = True
            else:
                self._other(message)
        if not self._pump_is_due:
            self._pump_is_due = True
            self._loop.call_soon(self._pump)

    def give_back(self, sent: int) -> list[int]:
        """Gives calls back that were not begun; may be called in any thread.

        Args:
            sent: the number of the last call that the pool has sent.

        Returns:
            The numbers of half of those that wait here, and of all that the loop, which may be blocked, has not read.
        """
        taken = []
        for _ in range((len(self._waiting) + 1) // 2):
            try:
                taken.append(self._waiting.pop()[1])
            except IndexError:  # the loop was quicker
                break
        with self._lock:
            unread = range(max(self._received, self._revoked_to) + 1, sent + 1)
            self._revoked.update(unread)
            self._revoked_to = max(self._revoked_to, sent)
        taken.extend(unread)
        return taken

    def _queue(self, last: int, calls: Iterable[tuple[Any, ...]]) -> None:
        """Has calls wait, but not those that were given back before they were read."""
        with self._lock:
            self._received = last
            if self._revoked:
                calls = [call for call in calls if call[1] not in self._revoked]
                self._revoked = {number for number in self._revoked if number > last}
            self._waiting.extend(calls)

    def _pump(self) -> None:
        """Begins calls, for a while."""
        self._pump_is_due = False
        waiting = self._waiting
        began = perf_counter()
        end = began + _SLICE_S
        begun = 0
        while waiting:
            try:
                message = waiting.popleft()
            except IndexError:  # they were given back
                break
            self._begin(message)
            begun += 1
            if begun % _BURST == 0 and perf_counter() > end:
                break
        if begun:
            try:
                up_to = waiting[0][1] - 1
            except IndexError:
                up_to = self._received
            self._report((messages.PROGRESS, up_to, perf_counter() - began))
            self._flush()
        if waiting:
            self._pump_is_due = True
            self._loop.call_soon(self._pump)
        elif self._stopping and not self._running:
            self._loop.stop()

    def _begin(self, message: tuple[Any, ...]) -> None:
        """Begins one call; if it ends in its first step, it is answered."""
        number = self._begun = message[1]
        if self._cancelled_early and number in self._cancelled_early:
            self._report((messages.CANCELLED, number, self._cancelled_early.pop(number)))
            return
        self._note_begun(number)
        context = self._context.copy()
        try:
            function, arguments = self._open(message, context)
            result = context.run(function, *arguments)
            if type(result) is not CoroutineType and not inspect.isawaitable(result):
                self._returned(number, result)
                return
            task = _begin_task(self._loop, result, context)
        except asyncio.CancelledError as error:
            self._report((messages.CANCELLED, number, _words(error)))
        except BaseException as error:
            self._raised(number, error)
        else:
            if task.done():
                self._answer(number, task)
            else:
                self._running[number] = task
                task.add_done_callback(partial(self._answer, number))

    def _answer(self, number: int, task: asyncio.Task[Any]) -> None:
        """Tells what became of a task."""
        self._running.pop(number, None)
        try:
            result = task.result()
        except asyncio.CancelledError as error:
            self._report((messages.CANCELLED, number, _words(error)))
        except BaseException as error:
            self._raised(number, error)
        else:
            if type(result) is _Exit:
                self._raised(number, result.error)
            else:
                self._returned(number, result)
        if self._stopping and not self._running and not self._pump_is_due:
            self._pump_is_due = True
            self._loop.call_soon(self._pump)

    def _cancel(self, number: int, msg: str | None) -> None:
        task = self._running.get(number)
        if task is not None:
            task.cancel(msg)
        elif self._begun < number <= self._received:
            # It waits, or was given back just now: then nobody asks for this number again.
            self._cancelled_early[number] = msg

    @abstractmethod
    def _take(self, message: tuple[Any, ...]) -> tuple[Any, ...]:
        """Prepares a call's message to wait."""

    @abstractmethod
    def _open(
        self, message: tuple[Any, ...], context: contextvars.Context
    ) -> tuple[Callable[..., Any], Iterable[Any]]:
        """Gives a call's function and arguments, and puts carried context variables into its context."""

    @abstractmethod
    def _note_begun(self, number: int) -> None:
        """Leaves word that the call is begun, for the time when this worker cannot be asked any more."""

    @abstractmethod
    def _returned(self, number: int, value: object) -> None: ...

    @abstractmethod
    def _raised(self, number: int, error: BaseException) -> None: ...

    @abstractmethod
    def _report(self, message: tuple[Any, ...]) -> None: ...

    @abstractmethod
    def _flush(self) -> None: ...

    @abstractmethod
    def _other(self, message: tuple[Any, ...]) -> None:
        """Does what a message says that not all kinds of workers know."""


class _Exit:
    """What a task gives that SystemExit or KeyboardInterrupt has ended."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


async def _ending_here(awaitable: Any) -> Any:
    """Awaits; what would end the loop is an answer like others."""
    try:
        return await awaitable
    except (SystemExit, KeyboardInterrupt) as error:
        return _Exit(error)


def _words(error: BaseException) -> str | None:
    return str(error.args[0]) if error.args else None
