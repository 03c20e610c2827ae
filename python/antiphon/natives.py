"""What `antiphon.install()` puts in asyncio's place, name by name.

A name is listed with the module of asyncio that defines it. Releases of CPython differ in what they have: a name that
the running one lacks is left out. What is not listed asks the loop, or asyncio's own lists of tasks, which antiphon
keeps too: `all_tasks`, `current_task`, `to_thread`, `wrap_future`.
"""

import importlib
from collections.abc import Iterator
from typing import Any

from antiphon import _antiphon, coroutine_functions, eager, streams, task_groups, threads

__all__ = ["NAMES", "ours", "replacements"]

# What runs once per connection or per call is Python; that comes before the native part it is made of.
_HOMES = (streams, threads, eager, _antiphon)
# Imported for what it does to the native class.
_COMPLETED = (task_groups,)

# Module of asyncio: names that it defines and antiphon has natively.
NAMES: dict[str, tuple[str, ...]] = {
    "asyncio.futures": ("Future",),
    "asyncio.tasks": (
        "Task",
        "as_completed",
        "create_task",
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


def ours(name: str) -> Any:
    """Gives antiphon's object of this name; `None` where this release of CPython has no such thing."""
    return next((getattr(home, name) for home in _HOMES if hasattr(home, name)), None)


for _module, _names in NAMES.items():
    for _name in _names:
        coroutine_functions.declare(
            _name, ours(_name), getattr(importlib.import_module(_module), _name, None)
        )

# Module of asyncio, name, antiphon's object.
_NATIVES = [
    (module, name, ours(name)) for module, names in NAMES.items() for name in names if ours(name)
]


def _pairs() -> Iterator[tuple[Any, Any]]:
    """Yields asyncio's object and antiphon's, for every name that both have.

    What a program has put under a name (a mock, say) is not asyncio's, and stays.
    """
    for module_name, name, own in _NATIVES:
        theirs = getattr(importlib.import_module(module_name), name, None)
        if getattr(theirs, "__module__", None) in (module_name, "_asyncio"):
            yield theirs, own


def replacements() -> dict[int, tuple[Any, Any]]:
    """Gives asyncio's objects and antiphon's.

    Returns:
        By `id` of asyncio's object, that object and antiphon's. Empty while they are antiphon's already.
    """
    return {id(theirs): (theirs, own) for theirs, own in _pairs() if theirs is not own}
