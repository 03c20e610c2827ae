"""Happy eyeballs: connection attempts that start one after the other and race (RFC 8305).

An attempt starts when the one before it failed or after a delay; the first to succeed wins.
Invariants: when the race returns or raises, no attempt of it runs any more, and of all results
exactly the winner's is not discarded.

Source: RFC 8305 section 5; behaviour of Lib/asyncio/staggered.py.
"""

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

__all__ = ["interleave_families", "staggered_race"]

T = TypeVar("T")
Row = TypeVar("Row", bound=tuple[Any, ...])


def interleave_families(infos: Iterable[Row], first_family_count: int) -> list[Row]:
    """Orders addresses so that their families take turns (RFC 8305 section 4).

    Args:
        infos: addresses as `getaddrinfo` lists them; the family comes first in each.
        first_family_count: how many addresses of the first family come before the turns begin.

    Returns:
        A new list of the same addresses; each family keeps its own order.

    >>> interleave_families([("v6", 1), ("v6", 2), ("v4", 3)], 1)
    [('v6', 1), ('v4', 3), ('v6', 2)]
    """
    families: dict[Any, list[Row]] = {}
    for info in infos:
        families.setdefault(info[0], []).append(info)
    lists = list(families.values())
    head: list[Row] = []
    if lists and first_family_count > 1:
        head = lists[0][: first_family_count - 1]
        lists[0] = lists[0][first_family_count - 1 :]
    turns = itertools.chain.from_iterable(itertools.zip_longest(*lists))
    return head + [info for info in turns if info is not None]


async def staggered_race(
    attempts: Sequence[Callable[[], Coroutine[Any, Any, T]]],
    delay: float,
    *,
    loop: asyncio.AbstractEventLoop,
    discard: Callable[[T], object],
) -> T | None:
    """Runs attempts with staggered starts and returns the result of the first that succeeds.

    Args:
        attempts: coroutine functions in order of preference. One that cannot succeed raises
            `OSError`, which means "try the others".
        delay: seconds to wait for an attempt before the next one starts beside it.
        loop: the running loop.
        discard: called with the result of every attempt that succeeded too late to win.

    Returns:
        The winner's result; None when all attempts failed or were cancelled.

    Raises:
        BaseException: whatever an attempt raised that is no `OSError`; the race ends with it.

    Cancellation:
        All attempts are cancelled and waited for before the cancellation goes on.
    """
    started: list[asyncio.Task[T]] = []
    winner: asyncio.Task[T] | None = None
    try:
        for attempt in attempts:
            started.append(loop.create_task(attempt()))
            winner = await _wait_for_turn(started, delay, loop)
            if winner is not None:
                break
        else:
            winner = await _wait_for_turn(started, None, loop)
    except BaseException:
        await _end(started, None, discard)
        raise
    try:
        await _end(started, winner, discard)
    except BaseException:
        if winner is not None:
            discard(winner.result())
        raise
    return None if winner is None else winner.result()


async def _wait_for_turn(
    started: list[asyncio.Task[T]], delay: float | None, loop: asyncio.AbstractEventLoop
) -> asyncio.Task[T] | None:
    """Waits until an attempt succeeds, or the next one may start.

    Args:
        started: all attempts so far, in order.
        delay: seconds until the next may start although the last one still runs; None when there
            is no next one: then all attempts are waited for.

    Returns:
        The attempt that succeeded (the earliest started if there are several), or None.
    """
    deadline = None if delay is None else loop.time() + delay
    while True:
        for task in started:
            if _succeeded(task):
                return task
        running = [task for task in started if not task.done()]
        if deadline is None:
            if not running:
                return None
            remaining = None
        else:
            if started[-1].done():
                return None
            remaining = deadline - loop.time()
            if remaining <= 0:
                return None
        await asyncio.wait(running, timeout=remaining, return_when=asyncio.FIRST_COMPLETED)


def _succeeded(task: asyncio.Task[Any]) -> bool:
    """Tells whether an attempt is done with a result; raises what must end the race."""
    if not task.done() or task.cancelled():
        return False
    error = task.exception()
    if error is not None and not isinstance(error, OSError):
        raise error
    return error is None


async def _end(
    started: list[asyncio.Task[T]],
    winner: asyncio.Task[T] | None,
    discard: Callable[[T], object],
) -> None:
    """Cancels all attempts but the winner, waits for them, discards results that came too late.

    A cancellation of the caller is kept back until all have ended, and raised then.
    """
    losers = [task for task in started if task is not winner]
    for task in losers:
        task.cancel()
    cancellation: asyncio.CancelledError | None = None
    while running := [task for task in losers if not task.done()]:
        try:
            await asyncio.wait(running)
        except asyncio.CancelledError as error:
            cancellation = error
    for task in losers:
        if not task.cancelled() and task.exception() is None:
            discard(task.result())
    if cancellation is not None:
        try:
            raise cancellation
        finally:
            cancellation = None  # its traceback holds this frame: no cycle
