"""The event loops that can be measured: how each is made, and which version it is.

This module is imported inside the measured processes, so it imports a loop only when asked for it.
"""

import asyncio
import importlib
import importlib.metadata
import platform
from collections.abc import Callable

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

#: Every loop that has a name here, in the order in which reports show them.
NAMES = ("asyncio", "uvloop", "rloop", "antiphon")


def factory(name: str) -> LoopFactory:
    """Returns what makes a new loop of the kind ``name``.

    Args:
        name: one of :data:`NAMES`.

    Raises:
        ImportError: the package is not installed for this interpreter.
        ValueError: no loop has that name.
    """
    if name not in NAMES:
        raise ValueError(f"no loop is called {name!r}: choose from {', '.join(NAMES)}")
    if name == "asyncio":
        return asyncio.SelectorEventLoop
    module = importlib.import_module(name)
    if name == "antiphon":
        module.install()  # what `antiphon app.py` and `antiphon.run` give to a program
    new_event_loop: LoopFactory = module.new_event_loop
    return new_event_loop


def version(name: str) -> str:
    """Returns the version of the package behind ``name`` (the interpreter's own for asyncio)."""
    if name == "asyncio":
        return platform.python_version()
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # a source tree on the path
        return "(not installed)"
