"""Blocking calls in threads: `run_in_executor` and the life of the default executor.

The default executor is made on first use, its threads are named `asyncio_<n>`. Once
`shutdown_default_executor` was called, or the loop closed, the default executor takes no more work;
executors of the program stay usable.

Source: Lib/asyncio/base_events.py.
"""

import asyncio
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Executor as AbstractExecutor
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, TypeVarTuple

from antiphon.arguments import refuse_before
from antiphon.faults import Faults

__all__ = ["Executor"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Executor(Faults):
    """The part of the loop that runs blocking calls in threads."""

    __slots__ = ()

    _default_executor: ThreadPoolExecutor | None = None
    _executor_shutdown_called = False

    def run_in_executor(
        self, executor: AbstractExecutor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Calls `func(*args)` in a thread of an executor.

        Args:
            executor: any `concurrent.futures` executor; None takes the default one.
            func: what to call; it must not be a coroutine function.
            args: its arguments.

        Returns:
            A future of this loop with the result. Cancelling it cancels a call that has not begun;
            one that runs goes on and its result is dropped.

        Raises:
            RuntimeError: the loop is closed, or its default executor was shut down.
        """
        self._check_closed()
        if self.get_debug():
            self._check_callback(func, "run_in_executor")
        if executor is None:
            executor = self._usable_default_executor()
        return asyncio.wrap_future(executor.submit(func, *args), loop=self)

    def set_default_executor(self, executor: ThreadPoolExecutor) -> None:  # type: ignore[override]
        """Makes `executor` the default one.

        Raises:
            TypeError: `executor` is not a `ThreadPoolExecutor`.
        """
        if not isinstance(executor, ThreadPoolExecutor):
            raise TypeError("executor must be ThreadPoolExecutor instance")
        self._default_executor = executor

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Waits until the calls in the default executor are done and ends its threads.

        Args:
            timeout: seconds to wait (Python 3.12 on); None waits without limit. When they are over a RuntimeWarning
                is given and the threads are left to themselves.
        """
        refuse_before((3, 12), "timeout", timeout)
        self._executor_shutdown_called = True
        executor = self._default_executor
        if executor is None:
            return
        ended = self.create_future()
        # Joining the threads blocks, so it happens in a thread of its own.
        joiner = threading.Thread(target=self._join_executor, args=(executor, ended))
        joiner.start()
        try:
            async with asyncio.timeout(timeout):
                await ended
        except TimeoutError:
            warnings.warn(
                f"The executor did not finishing joining its threads within {timeout} seconds.",
                RuntimeWarning,
                stacklevel=2,
            )
            executor.shutdown(wait=False)
        else:
            joiner.join()

    def _usable_default_executor(self) -> ThreadPoolExecutor:
        """Returns the default executor, made now if there is none yet."""
        if self._executor_shutdown_called:
            raise RuntimeError("Executor shutdown has been called")
        executor = self._default_executor
        if executor is None:
            executor = ThreadPoolExecutor(thread_name_prefix="asyncio")
            self._default_executor = executor
        return executor

    def _join_executor(self, executor: ThreadPoolExecutor, ended: asyncio.Future[None]) -> None:
        """Waits for the executor in a thread and tells the loop's future how that ended."""
        try:
            executor.shutdown(wait=True)
        except Exception as error:
            self._tell(ended, ended.set_exception, error)
        else:
            self._tell(ended, ended.set_result, None)

    def _tell(
        self, waiter: asyncio.Future[None], settle: Callable[[Any], None], value: Any
    ) -> None:
        """Settles a future of this loop from another thread, unless it was given up meanwhile."""
        try:
            self.call_soon_threadsafe(_unless_done, waiter, settle, value)
        except RuntimeError:
            # The loop was closed without waiting: nobody is left to be told.
            if not self.is_closed():
                raise

    def _release_executor(self) -> None:
        """Lets go of the default executor without waiting; the loop closes."""
        self._executor_shutdown_called = True
        executor = self._default_executor
        if executor is not None:
            self._default_executor = None
            executor.shutdown(wait=False)


def _unless_done(waiter: asyncio.Future[None], settle: Callable[[Any], None], value: Any) -> None:
    """Runs `settle(value)` while the future still waits: a timeout may have cancelled it."""
    if not waiter.done():
        settle(value)
