"""Many calls of one function: `Mapped` (ordered), `completed` (in order of completion), `streamed` (back-pressure).

All three keep at most `limit` calls ahead of who consumes the results, so that inputs may be endless and results pile
up nowhere.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable
from itertools import islice
from typing import Any, Generic, TypeVar

from antiphon.pool.call import AnyCall, Call
from antiphon.pool.mapped_call import MappedCall
from antiphon.pool.progress import Progress

__all__ = ["Mapped", "completed", "streamed"]

T = TypeVar("T")
Submit = Callable[[tuple[Any, ...]], Call[T]]
SubmitMapped = Callable[[list[tuple[Any, ...]]], list[MappedCall]]


class Mapped(Generic[T], Awaitable[list[T]], AsyncIterable[T]):
    """The results of `Pool.map`: a list where awaited, one after the other with `async for`; in order of the inputs.

    The first call that raises ends it: its exception comes out at its place, the calls after it are cancelled.
    """

    def __init__(
        self,
        inputs: Iterable[tuple[Any, ...]],
        submit: SubmitMapped,
        limit: int,
        progress: Progress,
    ) -> None:
        self._inputs = iter(inputs)
        self._submit = submit
        self._limit = limit
        self._progress = progress

    def __await__(self) -> Generator[Any, None, list[T]]:
        return self._collect().__await__()

    def __aiter__(self) -> AsyncIterator[T]:
        return self._iterate()

    async def _collect(self) -> list[T]:
        results: list[T] = []
        half, advance = self._limit // 2, self._progress.advance
        ahead: deque[MappedCall] = deque()
        with self._progress:
            try:
                self._refill(ahead)
                while ahead:
                    call = ahead[0]
                    if not call.done():
                        await call.wait()
                    results.append(call.result())
                    ahead.popleft()
                    advance()
                    if len(ahead) <= half:
                        self._refill(ahead)
            finally:
                _give_up(ahead)
        return results

    async def _iterate(self) -> AsyncIterator[T]:
        ahead: deque[MappedCall] = deque()
        with self._progress:
            try:
                self._refill(ahead)
                while ahead:
                    await ahead[0].wait()
                    result = ahead.popleft().result()
                    self._progress.advance()
                    yield result
                    if len(ahead) <= self._limit // 2:
                        self._refill(ahead)
            finally:
                _give_up(ahead)

    def _refill(self, ahead: deque[MappedCall]) -> None:
        # Half of what may be ahead is sent at a time: a message for each would cost more than the call.
        inputs = list(islice(self._inputs, self._limit - len(ahead)))
        if inputs:
            ahead.extend(self._submit(inputs))


async def completed(
    inputs: Iterable[tuple[Any, ...]], submit: Submit[T], limit: int, progress: Progress
) -> AsyncIterator[Call[T]]:
    """Yields calls as they are done; those that are left are cancelled when the iteration is given up."""
    remaining = iter(inputs)
    done: asyncio.Queue[Call[T]] = asyncio.Queue()
    ahead: set[Call[T]] = set()

    def refill() -> None:
        for arguments in islice(remaining, limit - len(ahead)):
            call = submit(arguments)
            ahead.add(call)
            call.add_done_callback(done.put_nowait)

    with progress:
        try:
            refill()
            while ahead:
                call = await done.get()
                ahead.remove(call)
                progress.advance()
                yield call
                if len(ahead) <= limit // 2:
                    refill()
        finally:
            _give_up(ahead)


async def streamed(
    inputs: AsyncIterable[Any], submit: Submit[T], limit: int, progress: Progress
) -> AsyncIterator[T]:
    """Yields results in order of the inputs; the next input is taken only while fewer than `limit` results are due."""
    ahead: asyncio.Queue[Call[T] | None] = asyncio.Queue()
    room = asyncio.Semaphore(limit)

    async def feed() -> None:
        try:
            async for value in inputs:
                await room.acquire()
                ahead.put_nowait(submit((value,)))
        finally:
            ahead.put_nowait(None)

    feeder = asyncio.create_task(feed(), name="antiphon pool: inputs of stream()")
    with progress:
        try:
            while (call := await ahead.get()) is not None:
                try:
                    result = await call
                finally:
                    call.cancel()
                room.release()
                progress.advance()
                yield result
            await feeder  # an exception of the inputs is the consumer's
        finally:
            feeder.cancel()
            await asyncio.gather(feeder, return_exceptions=True)
            while not ahead.empty():
                left = ahead.get_nowait()
                if left is not None:
                    _give_up([left])


def _give_up(calls: Iterable[AnyCall]) -> None:
    """Cancels calls whose results nobody will take; what they have raised already is nobody's business either."""
    for call in calls:
        if not call.cancel() and isinstance(call, Call) and not call.cancelled():
            call.exception()
