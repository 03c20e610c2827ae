"""`create_task` off the short path: with a task factory, or in debug mode.

The native `create_task` calls `asyncio.Task` itself while neither is there.

Source: Lib/asyncio/base_events.py, `loop.set_task_factory` in the asyncio documentation.
"""

import asyncio
import contextvars
import sys
from collections.abc import Coroutine
from typing import Any

from antiphon._antiphon import LoopBase

__all__ = ["Tasks"]

# From 3.14 on a task factory gets all keywords; before, no name, and a context only if there is one.
_FACTORY_GETS_ALL = sys.version_info >= (3, 14)


class Tasks(LoopBase):
    """The part of the loop that makes tasks by way of a factory."""

    __slots__ = ()

    def _create_task_slow(self, coro: Coroutine[Any, Any, Any], **keywords: Any) -> Any:
        """Makes a task of a coroutine.

        Args:
            coro: the coroutine.
            keywords: `name`, `context` and whatever else the interpreter's tasks take.

        Returns:
            What the task factory returns, or an `asyncio.Task`.
        """
        factory = self.get_task_factory()
        if factory is None:
            task = asyncio.tasks.Task(coro, loop=self, **keywords)
            stack = getattr(task, "_source_traceback", None)
            if stack:
                del stack[-1]  # this frame says nothing about where the task was made
        elif _FACTORY_GETS_ALL:
            return factory(self, coro, **keywords)
        else:
            task = _made_by_older_rules(self, factory, coro, **keywords)
        try:
            return task
        finally:
            # An eager task may have failed already: its traceback holds this frame, no cycle.
            del task


def _made_by_older_rules(
    loop: LoopBase,
    factory: Any,
    coro: Coroutine[Any, Any, Any],
    *,
    name: str | None = None,
    context: contextvars.Context | None = None,
    **keywords: Any,
) -> Any:
    """Calls a task factory as Python 3.11 to 3.13 do."""
    if context is not None:
        keywords["context"] = context
    task = factory(loop, coro, **keywords)
    set_name = getattr(task, "set_name", None)
    if name is not None and set_name is not None:
        set_name(name)
    return task
