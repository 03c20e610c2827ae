"""`run_coroutine_threadsafe`: a coroutine of another thread's loop, and a future to wait for in this one.

asyncio's own costs half as much again, for closures and questions of which kind each future is. Its `wrap_future` and
`to_thread` have been measured beside versions like this one: nothing is to be had there but in the futures themselves.

Source: Lib/asyncio/tasks.py (`run_coroutine_threadsafe`), futures.py (`_chain_future`).
"""

import asyncio
import concurrent.futures
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["run_coroutine_threadsafe"]

T = TypeVar("T")

# The future of the thread that waits.
Far = concurrent.futures.Future[Any]

# From 3.14 on what happens in the loop's own thread takes no detour by way of its queue.
_AT_ONCE_IN_THE_LOOP = sys.version_info >= (3, 14)


def _asyncios_form(error: BaseException) -> BaseException:
    """Gives asyncio's form of an exception that `concurrent.futures` has a class of its own for, as asyncio does."""
    kind = type(error)
    if kind is concurrent.futures.CancelledError:
        return asyncio.CancelledError(*error.args).with_traceback(error.__traceback__)
    if kind is concurrent.futures.InvalidStateError:
        return asyncio.InvalidStateError(*error.args).with_traceback(error.__traceback__)
    return error


def _is_here(loop: asyncio.AbstractEventLoop) -> bool:
    """Tells whether something of the loop may be touched at once."""
    return _AT_ONCE_IN_THE_LOOP and asyncio._get_running_loop() is loop


class _Submitted:
    """A coroutine on its way into a loop, and the far future for who waits elsewhere."""

    __slots__ = ("coro", "far", "loop", "task")

    def __init__(self, coro: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop) -> None:
        self.coro: Any = coro
        self.far: Far = concurrent.futures.Future()
        self.loop = loop
        self.task: Any = None

    def start(self) -> None:
        """Makes the task; in the loop's thread."""
        coro, self.coro = self.coro, None
        try:
            self.task = task = asyncio.ensure_future(coro, loop=self.loop)
            self.far.add_done_callback(self.far_is_done)
            task.add_done_callback(self.task_is_done)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            if self.far.set_running_or_notify_cancel():
                self.far.set_exception(error)
            raise

    def far_is_done(self, far: Far) -> None:
        """Passes a cancellation on; in any thread."""
        if far.cancelled():
            if _is_here(self.loop):
                self.task.cancel()
            else:
                self.loop.call_soon_threadsafe(self.task.cancel)

    def task_is_done(self, task: asyncio.Future[Any]) -> None:
        """Ends the far future as the task has ended."""
        far = self.far
        if task.cancelled():
            far.cancel()
        if not far.set_running_or_notify_cancel():
            return
        error = task.exception()
        if error is not None:
            far.set_exception(_asyncios_form(error))
        else:
            far.set_result(task.result())


def run_coroutine_threadsafe(
    coro: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop
) -> concurrent.futures.Future[T]:
    """Runs a coroutine in a loop that another thread runs.

    Args:
        coro: the coroutine; it runs in a copy of the caller's context.
        loop: a loop, of any kind.

    Returns:
        A future to wait for in this thread. Cancelling it cancels the task.

    Raises:
        TypeError: this is no coroutine.
        RuntimeError: the loop is closed.
    """
    if not asyncio.iscoroutine(coro):
        raise TypeError("A coroutine object is required")
    submitted = _Submitted(coro, loop)
    loop.call_soon_threadsafe(submitted.start)
    return submitted.far
