"""What `antiphon.install()` puts in asyncio's place, name by name.

A name is listed with the module of asyncio that defines it. Releases of CPython differ in what they have: a name that
the running one lacks is left out.
"""

import importlib
from collections.abc import Iterator
from typing import Any

from antiphon import _antiphon, streams

__all__ = ["NAMES", "replacements"]

# Module of asyncio: names that it defines and antiphon has natively.
NAMES: dict[str, tuple[str, ...]] = {
    "asyncio.futures": ("Future", "wrap_future"),
    "asyncio.tasks": (
        "Task",
        "all_tasks",
        "as_completed",
        "create_task",
        "current_task",
        "eager_task_factory",
        "ensure_future",
        "gather",
        "run_coroutine_threadsafe",
        "shield",
        "sleep",
        "wait",
        "wait_for",
    ),
    "asyncio.locks": ("Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "Semaphore"),
    "asyncio.queues": ("LifoQueue", "PriorityQueue", "Queue"),
    "asyncio.streams": (
        "StreamReader",
        "StreamReaderProtocol",
        "StreamWriter",
        "open_connection",
        "open_unix_connection",
        "start_server",
        "start_unix_server",
    ),
    "asyncio.taskgroups": ("TaskGroup",),
    "asyncio.timeouts": ("Timeout", "timeout", "timeout_at"),
}


def _pairs() -> Iterator[tuple[Any, Any]]:
    """Yields asyncio's object and antiphon's, for every name that both have."""
    for module_name, names in NAMES.items():
        module = importlib.import_module(module_name)
        for name in names:
            # What runs once per connection is in Python.
            home = streams if hasattr(streams, name) else _antiphon
            if hasattr(module, name) and hasattr(home, name):
                yield getattr(module, name), getattr(home, name)


def replacements() -> dict[int, tuple[Any, Any]]:
    """Gives asyncio's objects and antiphon's.

    Returns:
        By `id` of asyncio's object, that object and antiphon's. Empty parts: the objects are antiphon's already.
    """
    return {id(theirs): (theirs, ours) for theirs, ours in _pairs() if theirs is not ours}
