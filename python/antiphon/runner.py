"""`antiphon.run` and `antiphon.Runner`: asyncio's, with antiphon's loop as the default and antiphon's objects
under asyncio's names from then on (`antiphon.uninstall()` takes that back).

    import antiphon

    async def main(): ...

    antiphon.run(main())

Source: Lib/asyncio/runners.py, "Runners" of the asyncio documentation.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from antiphon.installation import install_names
from antiphon.loop import Loop

__all__ = ["Runner", "new_event_loop", "run"]

T = TypeVar("T")
LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def new_event_loop() -> Loop:
    """Returns a new loop, to be closed by the caller.

    For everything that takes a loop factory, such as
    `asyncio.run(main(), loop_factory=antiphon.new_event_loop)`.
    """
    return Loop()


class Runner(asyncio.Runner):  # type: ignore[misc]  # final: only a default differs here
    """Runs coroutines one after the other in one loop and one context, and cleans up in the end.

    Args:
        debug: True or False sets the loop's debug mode; None leaves it to the environment.
        loop_factory: makes the loop; None takes `new_event_loop`.
    """

    def __init__(
        self, *, debug: bool | None = None, loop_factory: LoopFactory | None = None
    ) -> None:
        install_names()
        super().__init__(debug=debug, loop_factory=loop_factory or new_event_loop)


def run(
    main: Coroutine[Any, Any, T],
    *,
    debug: bool | None = None,
    loop_factory: LoopFactory | None = None,
) -> T:
    """Runs a coroutine in a new loop, and cleans up: tasks, asynchronous generators, threads.

    Args:
        main: the coroutine to run; from Python 3.14 on any awaitable.
        debug: True or False sets the loop's debug mode; None leaves it to the environment.
        loop_factory: makes the loop; None takes `new_event_loop`.

    Returns:
        What the coroutine returns.

    Raises:
        RuntimeError: a loop runs in this thread already.
        KeyboardInterrupt: Ctrl-C was pressed; the coroutine was cancelled first.
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("asyncio.run() cannot be called from a running event loop")
    with Runner(debug=debug, loop_factory=loop_factory) as runner:
        return runner.run(main)
