"""`install()` and `uninstall()`: antiphon's tasks, locks, queues and streams under asyncio's own names.

    import antiphon
    antiphon.install()

    import asyncio
    asyncio.run(main())         # antiphon's loop, and asyncio.Lock is antiphon's

Every module that has one of asyncio's objects under some name gets antiphon's in its place, whether it imported the
name before or looks it up later: the modules of `sys.modules` are searched, by identity. What a program took elsewhere
before (a base class, a default argument, an instance) stays asyncio's, and works beside antiphon's.

Source: the asyncio documentation, for what is public; Lib/asyncio/__init__.py.
"""

import _asyncio
import asyncio
import sys
import threading
import types
import warnings
from dataclasses import dataclass, field
from typing import Any

from antiphon import natives
from antiphon.loop import Loop

__all__ = ["install", "is_installed", "uninstall"]

# Modules that must keep asyncio's own: the C module, and we, who fall back on it.
_KEEP_THEIRS = ("_asyncio", "antiphon")
# asyncio's names for "the C one" and "the Python one": tests and debuggers mean exactly these.
_EXACT_PREFIXES = ("_C", "_Py", "_c_", "_py_")


@dataclass
class _Swap:
    """One name in one module.

    Attributes:
        module: the module.
        name: the name in it.
        theirs: what stood there.
        ours: what stands there now.
    """

    module: types.ModuleType
    name: str
    theirs: Any
    ours: Any

    def undo(self) -> None:
        """Puts theirs back, unless somebody has put something else there since."""
        if self.module.__dict__.get(self.name) is self.ours:
            self.module.__dict__[self.name] = self.theirs


@dataclass
class _Installation:
    """What `install()` has done, for `uninstall()`.

    Attributes:
        replaced: asyncio's objects and ours, by `id` of the former; empty while antiphon is not installed.
        swaps: the names that were swapped.
        policy: asyncio's policy before ours (up to 3.15); None: the default one, not made yet.
        default: whether antiphon's loop is asyncio's default.
        searched: by module, the identity of its namespace and how many names that had when it was searched.
        lock: held while names are swapped; no user code runs under it.
    """

    replaced: dict[int, tuple[Any, Any]] = field(default_factory=dict)
    swaps: list[_Swap] = field(default_factory=list)
    policy: Any = None
    default: bool = False
    searched: dict[str, tuple[int, int]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)


_STATE = _Installation()


def install() -> None:
    """Makes all of asyncio antiphon's: the default event loop, and the names listed in `antiphon.natives`.

    A second call does what is new: modules that got hold of asyncio's objects since. Tasks and loops that
    exist already are left as they are and work together with the new ones.
    """
    with _STATE.lock:
        _STATE.searched.clear()
        install_names()
        _make_default()


def install_names() -> None:
    """`install()` without the default event loop: what `antiphon.run` does before it runs.

    A second call searches the modules that are new or have got more names since: programs run many coroutines one after
    the other, and have thousands of modules.
    """
    with _STATE.lock:
        _STATE.replaced.update(natives.replacements())
        _swap_everywhere(_STATE.replaced)
        _show_all_futures_in_graphs()


def uninstall() -> None:
    """Takes `install()` back: every name that still has antiphon's object gets asyncio's again."""
    with _STATE.lock:
        for swap in reversed(_STATE.swaps):
            swap.undo()
        _STATE.swaps.clear()
        _STATE.replaced.clear()
        _STATE.searched.clear()
        _unmake_default()


def is_installed() -> bool:
    """Whether asyncio's names are antiphon's at present."""
    return bool(_STATE.replaced)


def _swap_everywhere(replacements: dict[int, tuple[Any, Any]]) -> None:
    """Replaces objects wherever a module has them that has not been searched as it is now.

    Args:
        replacements: by `id` of asyncio's object, that object and antiphon's.
    """
    for module_name, module in list(sys.modules.items()):
        if type(module) is not types.ModuleType:
            continue
        namespace = module.__dict__
        looks = (id(namespace), len(namespace))
        if _STATE.searched.get(module_name) == looks:
            continue
        _STATE.searched[module_name] = looks
        if module_name.partition(".")[0] in _KEEP_THEIRS:
            continue
        for name, value in list(namespace.items()):
            found = replacements.get(id(value))
            if found is None or found[0] is not value or name.startswith(_EXACT_PREFIXES):
                continue
            namespace[name] = found[1]
            _STATE.swaps.append(_Swap(module, name, value, found[1]))


def _show_all_futures_in_graphs() -> None:
    """Lets call graphs (3.14) take asyncio's own futures and tasks as before, of which there may be some yet.

    They ask whether a future is an `asyncio.futures.Future`, which is antiphon's now; `_asyncio`'s is behind both.
    """
    graph = sys.modules.get("asyncio.graph")
    if graph is not None and graph.__dict__["futures"] is asyncio.futures:
        both = types.SimpleNamespace(Future=_asyncio.Future)
        _STATE.swaps.append(_Swap(graph, "futures", asyncio.futures, both))
        graph.__dict__["futures"] = both


def _make_default() -> None:
    """Makes antiphon's loop what asyncio gives to those who do not name one."""
    if _STATE.default:
        return
    if sys.version_info < (3, 16):
        with warnings.catch_warnings():
            # Deprecated from 3.14, to go in 3.16; until then it is where new_event_loop() and Runner look.
            warnings.simplefilter("ignore", DeprecationWarning)
            from antiphon.policy import EventLoopPolicy

            _STATE.policy = sys.modules["asyncio.events"].__dict__["_event_loop_policy"]
            asyncio.set_event_loop_policy(EventLoopPolicy())
    if sys.version_info >= (3, 13):
        # Documented as the most efficient loop for the platform; SelectorEventLoop stays itself.
        _STATE.swaps.append(_Swap(asyncio, "EventLoop", asyncio.EventLoop, Loop))
        asyncio.EventLoop = Loop  # type: ignore[misc]
    _STATE.default = True


def _unmake_default() -> None:
    if not _STATE.default:
        return
    _STATE.default = False
    if sys.version_info < (3, 16):
        from antiphon.policy import EventLoopPolicy

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            if type(asyncio.get_event_loop_policy()) is EventLoopPolicy:
                asyncio.set_event_loop_policy(_STATE.policy)
        _STATE.policy = None
