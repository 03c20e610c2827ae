"""Tasks off the short path: `create_task` with a task factory, and `all_tasks` for who asks asyncio.

The native `create_task` makes tasks itself while there is no factory.

Source: Lib/asyncio/base_events.py, `loop.set_task_factory` in the asyncio documentation; Lib/asyncio/tasks.py.
"""

import asyncio
import contextvars
import sys
import types
from collections.abc import Coroutine
from typing import Any

from antiphon._antiphon import LoopBase

__all__ = ["Tasks", "all_tasks"]

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


def all_tasks(loop: asyncio.AbstractEventLoop | None = None) -> set[Any]:
    """Lists the tasks that are not done.

    Args:
        loop: whose tasks; `None`: those of the running loop.

    Returns:
        Our loops' tasks, which the loop keeps, and those that registered themselves with asyncio.
    """
    if loop is None:
        loop = asyncio.get_running_loop()
    tasks: set[Any] = _registered_tasks(loop)
    if isinstance(loop, LoopBase):
        tasks.update(task for task in loop._unfinished_tasks() if not task.done())
    return tasks


def _make_all_tasks_know_ours() -> None:
    """Lets `asyncio.all_tasks` ask our loops, wherever a program has got the function from.

    From 3.14 on tasks are in the interpreter's own list. Before, asyncio keeps a weak set in Python, and to
    enter a task there costs more than to make it; its `all_tasks` is a Python function, which gets other code.
    """

    def asks_antiphon(loop: asyncio.AbstractEventLoop | None = None) -> set[Any]:
        # This runs as asyncio's function, with asyncio's globals.
        from antiphon.tasks import all_tasks

        return all_tasks(loop)

    asyncio.tasks.all_tasks.__code__ = asks_antiphon.__code__


if sys.version_info < (3, 14):
    _registered_tasks: Any = types.FunctionType(
        asyncio.tasks.all_tasks.__code__, asyncio.tasks.__dict__, argdefs=(None,)
    )
    _make_all_tasks_know_ours()
else:
    _registered_tasks = asyncio.tasks.all_tasks
