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
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

__all__ = ["Watching", "installed_watcher"]

_DEFAULT_WATCHERS = ("PidfdChildWatcher", "ThreadedChildWatcher")


def installed_watcher() -> Any:
    """Gives the child watcher that the program installed; None if the loop is to reap its children."""
    if sys.version_info >= (3, 14):
        return None
    watcher = getattr(asyncio.get_event_loop_policy(), "_watcher", None)
    if watcher is None or type(watcher) in _default_types():
        return None
    return watcher


def _default_types() -> list[type]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return [getattr(asyncio, name) for name in _DEFAULT_WATCHERS]


class Watching:
    """A child watcher that expects a child, as every watcher wants to be told before there is one."""

    def __init__(self, watcher: Any) -> None:
        """Begins to expect a child.

        Raises:
            RuntimeError: the watcher is not active.
        """
        with ExitStack() as context:
            entered = context.enter_context(_entered(watcher))
            # Python 3.11 asks what `with` gives, which may be another object.
            self._watcher = entered if sys.version_info < (3, 12) else watcher
            if not self._watcher.is_active():
                raise RuntimeError(
                    "asyncio.get_child_watcher() is not activated, "
                    "subprocess support is not installed."
                )
            self._context = context.pop_all()

    def add(self, pid: int, callback: Callable[[int, int], object]) -> None:
        """The child is there: `callback(pid, returncode)` is called on its end, on any thread."""
        with self._context:
            self._watcher.add_child_handler(pid, callback)

    def give_up(self) -> None:
        """There is no child."""
        self._context.close()


@contextmanager
def _entered(watcher: Any) -> Iterator[Any]:
    # A `with` statement of its own: the watcher may be any object that one accepts.
    with watcher as entered:
        yield entered
