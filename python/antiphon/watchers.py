"""Child watchers, which Python had until 3.13: what the loop does when a program installed one.

The loop reaps its children by itself and asks for no watcher. `asyncio.get_child_watcher()` still gives
the policy's, which works on this loop for processes that a program starts on its own. And a watcher
that a program chose, other than the two which asyncio takes by default, is told of the loop's
children in the loop's place, as asyncio does: a program may count on it, and some reap all children
of the process, so that nobody else could.

Source: Lib/asyncio/unix_events.py (3.11 to 3.13), "Process Watchers" of the asyncio documentation.
"""

import asyncio
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

__all__ = ["enter_watcher"]

_DEFAULT_WATCHERS = ("PidfdChildWatcher", "ThreadedChildWatcher")


def enter_watcher(context: ExitStack) -> Any:
    """Gives the child watcher that the program installed, ready for a new child.

    Args:
        context: is left once the watcher knows the child, or that there is none.

    Returns:
        The watcher; None if the loop is to reap the child.

    Raises:
        RuntimeError: the watcher is not active.
    """
    if sys.version_info >= (3, 14):
        return None
    watcher = getattr(asyncio.get_event_loop_policy(), "_watcher", None)
    if watcher is None or type(watcher) in _default_types():
        return None
    context.enter_context(_entered(watcher))
    if not watcher.is_active():
        raise RuntimeError(
            "asyncio.get_child_watcher() is not activated, subprocess support is not installed."
        )
    return watcher


@contextmanager
def _entered(watcher: Any) -> Iterator[None]:
    # A `with` statement of its own: the watcher may be any object that one accepts.
    with watcher:
        yield


def _default_types() -> list[type]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return [getattr(asyncio, name) for name in _DEFAULT_WATCHERS]
