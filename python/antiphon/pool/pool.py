"""`Pool`: coroutine functions spread over the cores, each worker a loop that runs many of them at once.

    async def fetch(url): ...

    async with antiphon.Pool() as pool:
        page = await pool.run(fetch, url)
        pages = await pool.map(fetch, urls)

The pool's own side runs on any asyncio loop; its workers run antiphon's.
"""

import asyncio
import contextvars
import os
import sys
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Sequence,
    Sized,
)
from concurrent.futures import Executor
from types import TracebackType
from typing import Any, TypeVar, TypeVarTuple

from antiphon.pool.call import Call, name_of
from antiphon.pool.call_maker import CallMaker, CallsOf
from antiphon.pool.carried import locate
from antiphon.pool.errors import PoolClosed, WorkerLost
from antiphon.pool.functions import Functions
from antiphon.pool.link import WorkerLink
from antiphon.pool.progress import Progress, Wish, make_progress
from antiphon.pool.results import Mapped, completed, streamed
from antiphon.pool.scheduler import Scheduler
from antiphon.pool.stats import PoolStats, WorkerStats

__all__ = ["Pool"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
#: A coroutine function, or a plain one (which blocks its worker while it runs).
Function = Callable[..., Coroutine[Any, Any, T] | Awaitable[T] | T]

#: Seconds in which the end of a killed worker is seen: it ends at once, but on a busy machine it has to be its turn.
_END_OF_KILLED_S = 15.0
#: Workers that end before they were sent a call: after so many in a row there is no use in more.
_VAIN_STARTS = 3


class Pool:
    """Workers that run coroutine functions.

    Leaving the block waits for all calls; leaving it by an exception, Ctrl-C and cancellation included, cancels them.
    No worker outlives the block, nor the process.

    Args:
        workers: how many; None: as many as this process may use cores, or as the executor says. With an executor it
            is how many batches of calls it is given at a time.
        kind: "process", "thread", or "auto": processes with the GIL, threads without.
        concurrency: how many calls one worker runs at once.
        executor: where the workers are instead: anything with the interface of `concurrent.futures.Executor`, such as
            Dask's `client.get_executor()`; it stays the caller's to shut down.
        initializer, initargs: called in each worker before its first call.
        carry: context variables whose values go along with calls; each must be a global of a module.
        most_losses: an idempotent call is run again when its worker dies, until so many have died of it.
        start_timeout: seconds that a worker may take to start.
        grace: seconds in which a worker has to answer a cancellation, or to end; then it is left to itself or killed.
    """

    def __init__(
        self,
        workers: int | None = None,
        kind: str = "auto",
        concurrency: int = 1000,
        executor: Executor | None = None,
        *,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        carry: Sequence[contextvars.ContextVar[Any]] = (),
        most_losses: int = 3,
        start_timeout: float = 60.0,
        grace: float = 5.0,
    ) -> None:
        if workers is not None and workers < 1:
            raise ValueError(f"a pool has at least one worker, not {workers}")
        if concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, not {concurrency}")
        if kind not in ("auto", "process", "thread"):
            raise ValueError(f"kind must be 'auto', 'process' or 'thread', not {kind!r}")
        if executor is not None and initializer is not None:
            raise ValueError("an executor starts its workers itself: give the initializer to it")
        if executor is not None and kind != "auto":
            raise ValueError(
                "kind and executor exclude each other: the executor says what its workers are"
            )
        if kind == "auto":
            kind = "process" if getattr(sys, "_is_gil_enabled", lambda: True)() else "thread"
        self._kind = kind if executor is None else "executor"
        self._count = (
            workers or getattr(executor, "_max_workers", None) or len(os.sched_getaffinity(0))
        )
        self._concurrency = concurrency
        self._executor = executor
        self._initializer = initializer
        self._initargs = initargs
        self._carry = list(carry)
        self._places = locate(carry) if self._kind != "thread" else []
        self._most_losses = most_losses
        self._start_timeout = start_timeout
        self._grace = grace
        self._functions = Functions(foreign=executor is not None)
        self._scheduler: Scheduler | None = None
        self._keepers: list[asyncio.Task[None]] = []
        self._closing = False
        self._lost = 0
        self._finished_before = 0
        self._serial = 0

    async def __aenter__(self) -> "Pool":
        if self._scheduler is not None:
            raise PoolClosed("a pool is entered once; make another one")
        if self._kind == "process":
            _refuse_in_starting_worker()
        loop = asyncio.get_running_loop()
        self._scheduler = Scheduler(loop, self._concurrency, self._grace, self._most_losses)
        self._make_link = self._link_maker(loop)
        self._maker = CallMaker(
            self._entered,
            None if self._kind == "thread" else self._functions,
            self._executor is not None,
            self._carry,
        )
        starts = [loop.create_future() for _ in range(self._count)]
        self._keepers = [
            loop.create_task(self._keep(start), name=f"antiphon pool: worker {place}")
            for place, start in enumerate(starts)
        ]
        try:
            await asyncio.gather(*starts)
        except BaseException:
            for start in starts:
                if start.done() and not start.cancelled():
                    start.exception()
            self._closing = True
            await self._end(kill=True)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        scheduler = self._entered()
        try:
            if kind is None:
                await scheduler.all_done()
        finally:
            # By whatever the wait ended: from here on there are no new calls.
            self._closing = True
            try:
                if scheduler.unfinished:
                    scheduler.cancel_all()
                    await scheduler.all_done()
            finally:
                await self._end(kill=False)

    async def run(
        self,
        function: Function[T],
        *args: Any,
        idempotent: bool = False,
        timeout: float | None = None,
    ) -> T:
        """Calls a coroutine function in a worker and waits for its result.

        Args:
            function: a coroutine function, or a plain one; keyword arguments by `functools.partial`.
            args: its arguments.
            idempotent: running it twice does no harm: if its worker dies, another one runs it.
            timeout: seconds; then the call is cancelled.

        Returns:
            What it returns.

        Raises:
            WorkerLost: its worker ended while it ran.
            TransferError: the function, its arguments or its result cannot be brought to the other process.
            TimeoutError: it took longer than `timeout`.
            PoolClosed: the pool is not open.
            BaseException: what the function raised; its cause is the traceback that it had in the worker.
        """
        return await self.spawn(function, *args, idempotent=idempotent, timeout=timeout)

    def spawn(
        self,
        function: Function[T],
        *args: Any,
        idempotent: bool = False,
        timeout: float | None = None,
    ) -> Call[T]:
        """Starts a call as `run` does, without waiting for it.

        Returns:
            Its handle, a future: await it, cancel it, add callbacks to it.

        Raises:
            TransferError: the function or its arguments cannot be pickled.
            PoolClosed: the pool is not open.
        """
        return self._calls_of(function, idempotent, timeout).submit(args)

    def map(
        self,
        function: Function[T],
        *iterables: Iterable[Any],
        limit: int | None = None,
        idempotent: bool = False,
        timeout: float | None = None,
        progress: Wish = None,
    ) -> Mapped[T]:
        """Calls a function with each item of an iterable, or with items of several side by side.

        Args:
            function: as for `run`.
            iterables: as for the built-in `map`; may be endless where the results are iterated.
            limit: how many calls may be ahead of the results taken; None: twice what the workers run at once.
            idempotent, timeout: as for `run`, for each call.
            progress: True, "tqdm", "rich" or a callable that takes (done, total).

        Returns:
            Something to await for the list of results, or to iterate with `async for`, in order of the inputs.
        """
        calls = self._calls_of(function, idempotent, timeout)
        inputs, shown = self._inputs(function, iterables, progress)
        return Mapped(inputs, calls.submit_mapped, self._limit(limit), shown)

    def as_completed(
        self,
        function: Function[T],
        *iterables: Iterable[Any],
        limit: int | None = None,
        idempotent: bool = False,
        timeout: float | None = None,
        progress: Wish = None,
    ) -> AsyncIterator[Call[T]]:
        """As `map`, in order of completion.

        Returns:
            An asynchronous iterator of calls that are done: `await call` gives the result, or raises what the function
            did; `call.arguments` says which it is.
        """
        calls = self._calls_of(function, idempotent, timeout)
        inputs, shown = self._inputs(function, iterables, progress)
        return completed(inputs, calls.submit, self._limit(limit), shown)

    def stream(
        self,
        function: Function[T],
        inputs: AsyncIterable[Any],
        *,
        limit: int | None = None,
        idempotent: bool = False,
        timeout: float | None = None,
        progress: Wish = None,
    ) -> AsyncIterator[T]:
        """Calls a function with each item of an asynchronous iterable, as fast as the results are taken.

        Args:
            limit: an input is taken only while fewer results than this are due or wait to be taken; None: as many as
                the workers run at once.

        Returns:
            An asynchronous iterator of the results, in order of the inputs.
        """
        calls = self._calls_of(function, idempotent, timeout)
        shown = make_progress(progress, name_of(function), None)
        return streamed(inputs, calls.submit, limit or self._count * self._concurrency, shown)

    async def broadcast(self, function: Function[T], *args: Any) -> list[T]:
        """Calls a function once in every worker that is ready.

        Returns:
            The results, in order of the workers.

        Raises:
            ValueError: the workers are an executor's, which chooses for itself.
            BaseException: what the first of them raised; the others are cancelled.
        """
        scheduler = self._entered()
        if self._kind == "executor":
            raise ValueError(
                "an executor chooses its workers itself, so no call can go to each of them"
            )
        make = self._maker.of(function, False, None).make
        calls = []
        for link in scheduler.links:
            if link.ready:
                call = make(args)
                scheduler.submit_to(link, call)
                calls.append(call)
        try:
            return list(await asyncio.gather(*calls))
        finally:
            for call in calls:
                call.cancel()

    def stats(self) -> PoolStats:
        """Says what the pool and its workers have done and have to do."""
        scheduler = self._scheduler
        links = [] if scheduler is None else scheduler.links
        workers = tuple(
            WorkerStats(link.name, link.pid, link.ready, len(link.calls), link.finished)
            for link in links
        )
        return PoolStats(
            workers=workers,
            waiting=0 if scheduler is None else len(scheduler.waiting),
            unfinished=0 if scheduler is None else scheduler.unfinished,
            finished=self._finished_before + sum(worker.finished for worker in workers),
            lost=self._lost,
        )

    def _calls_of(
        self, function: Callable[..., Any], idempotent: bool, timeout: float | None
    ) -> CallsOf:
        self._entered()
        return self._maker.of(function, idempotent, timeout)

    def _inputs(
        self, function: Callable[..., Any], iterables: Sequence[Iterable[Any]], progress: Wish
    ) -> tuple[Iterable[tuple[Any, ...]], Progress]:
        """Gives the arguments of each call that `map` or `as_completed` makes, and what shows how far they are."""
        totals = [len(iterable) for iterable in iterables if isinstance(iterable, Sized)]
        shown = make_progress(progress, name_of(function), min(totals, default=None))
        return zip(*iterables, strict=False), shown

    def _limit(self, limit: int | None) -> int:
        if limit is None:
            return 2 * self._count * self._concurrency
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        return limit

    def _entered(self) -> Scheduler:
        if self._scheduler is None:
            raise PoolClosed("the pool was not entered: async with antiphon.Pool() as pool: ...")
        if self._closing and not self._keepers:
            raise PoolClosed("the pool was left")
        return self._scheduler

    def _link_maker(self, loop: asyncio.AbstractEventLoop) -> Callable[[], WorkerLink]:
        """Gives what makes the next worker; the kinds' modules are imported where they are needed."""
        scheduler = self._entered()
        if self._kind == "thread":
            from antiphon.pool.thread_worker import ThreadLink

            return lambda: ThreadLink(
                loop, scheduler, self._next_name(), self._initializer, self._initargs, self._carry
            )
        if self._executor is not None:
            from antiphon.pool.executor_link import ExecutorLink

            executor = self._executor
            return lambda: ExecutorLink(
                loop, scheduler, self._next_name(), executor, self._functions, self._places
            )
        from antiphon.pool.process_link import ProcessLink, Setup

        setup = Setup(self._initializer, self._initargs, self._places)
        return lambda: ProcessLink(loop, scheduler, self._next_name(), setup, self._functions)

    def _next_name(self) -> str:
        self._serial += 1
        return f"worker {self._serial}"

    async def _keep(self, first: asyncio.Future[None]) -> None:
        """Keeps one worker: starts it, and another one in its place when it is lost."""
        scheduler = self._entered()
        vain = 0
        while not self._closing:
            link = self._make_link()
            scheduler.links.append(link)
            try:
                try:
                    await link.start(self._start_timeout)
                    if not first.done():
                        first.set_result(None)
                    await link.ended()
                    error = None
                except WorkerLost as lost:
                    error = lost
                    if not first.done():
                        first.set_exception(lost)
                        return
            finally:
                self._finished_before += link.finished
                scheduler.links.remove(link)
            if self._closing:
                return
            self._lost += 1
            vain = 0 if link.begun() else vain + 1
            if vain >= _VAIN_STARTS:
                broken = PoolClosed(
                    f"the pool has no workers: {vain} in a row ended before their first call"
                )
                broken.__cause__ = error
                if len(scheduler.links) == 0:
                    scheduler.fail_waiting(broken)
                return

    async def _end(self, kill: bool) -> None:
        """Ends the workers, by force when the grace period is over or this wait is cancelled."""
        scheduler = self._entered()
        for link in list(scheduler.links):
            if kill:
                link.kill()
            else:
                link.stop()
        keepers, self._keepers = self._keepers, []
        if not keepers:
            return
        try:
            await asyncio.wait(keepers, timeout=self._grace)
        finally:
            for link in list(scheduler.links):
                link.kill()
            # Their end has to be seen, or they would stay as zombies.
            await asyncio.wait(keepers, timeout=max(self._grace, _END_OF_KILLED_S))
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)


def _refuse_in_starting_worker() -> None:
    """Refuses a pool in a program that runs it when it is merely imported, which would make workers without end."""
    worker = sys.modules.get("antiphon.pool.process_worker")
    if worker is not None and worker.is_starting():
        raise RuntimeError(
            "this program makes a pool when it is imported, and workers import it: put what starts it under "
            "`if __name__ == '__main__':`"
        )
