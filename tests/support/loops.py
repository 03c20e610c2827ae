"""The event loops that every behaviour test runs on, by name.

A test body is written once and sees only what both loops promise. What a loop of its own promises beyond asyncio (the
order of equal deadlines, the error after a fork) is marked `@pytest.mark.loops("antiphon")` with the reason beside it.
"""

import asyncio
from collections.abc import Callable

LOOP_NAMES = ("asyncio", "antiphon")


def loop_factory_named(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Gives the callable that makes a new loop.

    Args:
        name: one of `LOOP_NAMES`.

    Returns:
        A callable without arguments.

    Raises:
        ImportError: antiphon is not built for this interpreter. It is not caught: a suite that silently tests
            asyncio twice is worth nothing.
    """
    if name == "asyncio":
        return asyncio.SelectorEventLoop
    if name != "antiphon":
        raise ValueError(f"no loop is called {name!r}")
    import antiphon

    return antiphon.new_event_loop


def loop_class_named(name: str) -> type[asyncio.AbstractEventLoop]:
    """Gives the class to derive from, for tests that override methods of a loop."""
    if name == "asyncio":
        return asyncio.SelectorEventLoop
    import antiphon

    return antiphon.Loop


def run_ready(loop: asyncio.AbstractEventLoop) -> None:
    """Runs the loop until everything that is queued now has run."""
    loop.call_soon(loop.stop)
    loop.run_forever()
