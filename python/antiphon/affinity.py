"""Libraries whose objects belong to a thread, while loops with `on_block="handoff"` are open.

Another thread runs such a loop while a step blocks. Two libraries are helped over it, as soon as they are imported:

- SQLAlchemy's asyncio layer runs its synchronous half in greenlets, and a greenlet can only be switched to in its own
  thread. Each call of `greenlet_spawn` is pinned: it begins and goes on in the thread that runs the loop
  (`antiphon.pinned`).
- `sqlite3` refuses connections in another thread than they were made in, unless `check_same_thread=False`. That is the
  default for connections made in such a loop, if SQLite was compiled to be used by several threads at once: what a
  program does with them goes on one step at a time in any case. `check_same_thread=True` is heard.

With the close of the last such loop all is as it was.

Source: docs/hand-off.md, "What may not".
"""

import asyncio
import functools
import threading
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

from antiphon._antiphon import LoopBase
from antiphon.on_import import when_imported
from antiphon.pinned import pinned

__all__ = ["begin", "end"]

CHECK_SAME_THREAD_PLACE = 4
"""Where `check_same_thread` is among `connect`'s arguments."""

_lock = threading.Lock()
_loops = 0
_undo: list[Callable[[], None]] = []


def begin() -> None:
    """One more loop may be handed off."""
    global _loops
    with _lock:
        _loops += 1
        if _loops == 1:
            _undo.append(when_imported("sqlite3", _adapt_sqlite3))
            _undo.append(when_imported("sqlalchemy.util.concurrency", _adapt_sqlalchemy))


def end() -> None:
    """One less."""
    global _loops
    with _lock:
        _loops -= 1
        while not _loops and _undo:
            _undo.pop()()


def _is_handed_off() -> bool:
    """Whether a loop that may be handed off runs in this thread."""
    loop = asyncio._get_running_loop()
    return isinstance(loop, LoopBase) and loop._can_be_handed_off()


def _adapt_sqlite3(module: ModuleType) -> None:
    """Gives connections of a step their other default."""
    dbapi2, original = module.dbapi2, module.connect
    if dbapi2.threadsafety != 3:
        return  # such a library may not be used by two threads at once, whatever Python allows

    @functools.wraps(original)
    def connect(*args: Any, **kwargs: Any) -> Any:
        if len(args) <= CHECK_SAME_THREAD_PLACE and _is_handed_off():
            kwargs.setdefault("check_same_thread", False)
        return original(*args, **kwargs)

    def undo() -> None:
        for place in (module, dbapi2):
            if vars(place)["connect"] is connect:
                vars(place)["connect"] = original

    for place in (module, dbapi2):
        vars(place)["connect"] = connect
    _undo.append(undo)


async def _pinned_spawn(fn: Any, *args: Any, _require_await: bool = False, **kwargs: Any) -> Any:
    """Takes the place of `greenlet_spawn`'s code, wherever that was imported; its globals are SQLAlchemy's."""
    from antiphon.affinity import spawn

    return await spawn(fn, *args, _require_await=_require_await, **kwargs)


_original_spawn: Callable[..., Any] | None = None


async def spawn(*args: Any, **kwargs: Any) -> Any:
    """SQLAlchemy's `greenlet_spawn`, in the thread that runs the loop from its beginning to its end."""
    original = _original_spawn
    if original is None:
        raise RuntimeError("the last event loop with on_block='handoff' was closed meanwhile")
    if not _is_handed_off():
        return await original(*args, **kwargs)
    async with pinned():
        return await original(*args, **kwargs)


def _adapt_sqlalchemy(module: ModuleType) -> None:
    """Pins the tasks that run greenlets, from before the greenlet is made."""
    global _original_spawn
    function = module.greenlet_spawn
    code = function.__code__
    if code.co_freevars or code.co_varnames[:1] != ("fn",):
        return  # another SQLAlchemy than is known
    original = FunctionType(code, function.__globals__, function.__name__, function.__defaults__)
    original.__kwdefaults__ = function.__kwdefaults__
    _original_spawn = original
    function.__code__ = _pinned_spawn.__code__

    def undo() -> None:
        function.__code__ = code

    _undo.append(undo)
