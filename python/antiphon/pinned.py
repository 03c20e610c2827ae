"""`pinned`: code that has to run on the thread that runs the loop, whoever blocks (`on_block="handoff"`).

    async with antiphon.pinned():
        connection = sqlite3.connect("file.db")  # used by this thread alone, across awaits
        ...

    @antiphon.pinned()
    async def uses_greenlets(): ...

Source: docs/hand-off.md, "What may not".
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from antiphon._antiphon import LoopBase

__all__ = ["pinned"]

P = ParamSpec("P")
T = TypeVar("T")


class pinned:  # a context manager and decorator, named as such are
    """Keeps the task on the thread that called `run_until_complete`, from here to the end of the block.

    The block begins there, if need be when that thread has the loop again, and goes on there after every await: while
    that thread is blocked, the task waits, as all tasks do in asyncio. Other tasks, those that it starts included, are
    not affected. With any other `on_block`, and on other loops, it does nothing. It counts: blocks may be nested. For
    antiphon's own tasks.
    """

    def __init__(self) -> None:
        self._entered: list[tuple[LoopBase, Any]] = []

    async def __aenter__(self) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        if not isinstance(loop, LoopBase) or task is None:
            return
        is_there = loop._pin(task, True)
        self._entered.append((loop, task))
        if is_there:
            return
        try:
            await asyncio.sleep(0)  # the next step is on that thread
        except BaseException:
            self._leave()
            raise

    async def __aexit__(self, *exc_info: object) -> None:
        self._leave()

    def _leave(self) -> None:
        if self._entered:
            loop, task = self._entered.pop()
            loop._pin(task, False)

    def __call__(self, function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        """Makes a coroutine function that runs as in the block.

        Args:
            function: the coroutine function.

        Returns:
            The wrapped one.
        """

        @functools.wraps(function)
        async def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
            async with pinned():
                return await function(*args, **kwargs)

        return wrapper
