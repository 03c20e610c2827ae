"""Workers that an executor has: `concurrent.futures`' own, Dask's, Ray's, MPI's, on this machine or on others.

Nothing is known of an executor but that it calls a function and gives the result later. So calls go to it in batches,
one batch at a time for each of the pool's workers: each batch is run by one of the executor's workers in a loop of
its own, all its calls at once, and answers when the last of them has ended. A call that is cancelled is given up here
at once; there it runs on unless all calls of its batch were given up before it began.
"""

import asyncio
from concurrent.futures import CancelledError, Executor, Future
from typing import TYPE_CHECKING, Any

from antiphon.pool.call import AnyCall
from antiphon.pool.channel import Parcel, pack_inline, unpack_inline
from antiphon.pool.executor_worker import run_batch
from antiphon.pool.functions import Functions
from antiphon.pool.pickled_link import PickledLink
from antiphon.pool.pickling import Pickled

if TYPE_CHECKING:
    from antiphon.pool.scheduler import Scheduler

__all__ = ["ExecutorLink"]


class ExecutorLink(PickledLink):
    """One batch at a time of an executor.

    Args:
        executor: who runs the batches.
        functions: the pool's functions by key.
        carried: modules and names of context variables.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        scheduler: "Scheduler",
        name: str,
        executor: Executor,
        functions: Functions,
        carried: list[tuple[str, str]],
    ) -> None:
        super().__init__(loop, scheduler, name, functions)
        self._executor = executor
        self._carried = carried
        self._running: Future[Any] | None = None
        self._over: asyncio.Future[None] = loop.create_future()

    def begun(self) -> int:
        return self._sent  # what an executor has begun it does not tell

    def room(self) -> int:
        return 0 if self._running is not None else super().room()

    async def start(self, timeout: float) -> None:
        self._become_ready()

    def flush(self) -> None:
        if not self._outbox:
            return
        batch, self._outbox = self._outbox, []
        self._known.clear()  # the next batch may be run by another worker
        try:
            self._running = self._executor.submit(run_batch, batch, self._carried)
        except Exception as error:
            # Not from within the scheduler's round, for it may have this link in hand.
            self._loop.call_soon(self._failed, error)
        else:
            self._running.add_done_callback(self._tell_done)

    def cancel(self, call: AnyCall, msg: Any | None) -> None:
        call.settle_cancelled(msg)
        if self._running is not None and all(left.done() for left in self.calls.values()):
            self._running.cancel()

    def stop(self) -> None:
        self.ready = False
        if self._running is None and not self._over.done():
            self._over.set_result(None)

    async def ended(self) -> None:
        await asyncio.shield(self._over)

    def kill(self) -> None:
        self.ready = False
        if self._running is not None:
            self._running.cancel()
        if not self._over.done():
            self._over.set_result(None)

    def _pack(self, pickled: Pickled) -> Parcel:
        return pack_inline(pickled)

    def _tell_done(self, future: Future[Any]) -> None:
        """The batch has ended; called in one of the executor's threads."""
        try:
            self._loop.call_soon_threadsafe(self._done, future)
        except RuntimeError:
            if not self._loop.is_closed():
                raise

    def _done(self, future: Future[Any]) -> None:
        self._running = None
        if not self.ready and not self._over.done():
            self._over.set_result(None)
        try:
            answers = future.result()
        except (Exception, CancelledError, asyncio.CancelledError) as error:
            self._failed(error)
        else:
            self.receive(answers)

    def _failed(self, error: BaseException) -> None:
        """The executor could not run the batch, or lost the worker that ran it."""
        self.lost = f"was lost by {type(self._executor).__name__} ({type(error).__name__}: {error})"
        self._begun = self._sent
        self.fail_calls(self._sent)
        self._scheduler.dispatch_soon()

    def _ask_cancel(self, number: int, msg: str | None) -> None:
        raise AssertionError("calls of an executor are given up, not cancelled")

    def _ask_back(self) -> bool:
        return False

    def _unpack(self, parcel: Parcel) -> tuple[bytes | memoryview, list[memoryview]]:
        return unpack_inline(parcel)
