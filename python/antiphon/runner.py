"""`antiphon.run` and `antiphon.Runner`: asyncio's, with antiphon's loop as the default and antiphon's objects
under asyncio's names from then on (`antiphon.uninstall()` takes that back).

    import antiphon

    async def main(): ...

    antiphon.run(main())

Source: Lib/asyncio/runners.py, "Runners" of the asyncio documentation.
"""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from antiphon.blocking import OnBlock, resolve_options
from antiphon.installation import install_names
from antiphon.loop import Loop

__all__ = ["Runner", "new_event_loop", "run"]

T = TypeVar("T")
LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def new_event_loop(
    *,
    on_block: OnBlock | None = None,
    block_after: float | None = None,
    learn: bool | None = None,
    single_threaded: bool = False,
) -> Loop:
    """Returns a new loop, to be closed by the caller.

    Args:
        on_block: what is done about steps that block the loop: "ignore" (the default), "report", "raise" or "handoff".
        block_after: from how many seconds on a step does; 0.05 by default.
        learn: with "handoff", whether calls at places that have blocked give the loop away as they begin (yes, unless
            ANTIPHON_LEARN of the environment is 0).
        single_threaded: whether the loop must stay on the thread that runs it: then "handoff" is "report".

    Raises:
        ValueError: a value that there is not.

    For everything that takes a loop factory, such as
    `asyncio.run(main(), loop_factory=antiphon.new_event_loop)`.
    """
    return Loop(
        on_block=on_block, block_after=block_after, learn=learn, single_threaded=single_threaded
    )


class Runner(asyncio.Runner):  # type: ignore[misc]  # final: only a default differs here
    """Runs coroutines one after the other in one loop and one context, and cleans up in the end.

    Args:
        debug: True or False sets the loop's debug mode; None leaves it to the environment.
        loop_factory: makes the loop; None takes `new_event_loop`.
        on_block, block_after, learn, single_threaded: as for `new_event_loop`.

    Raises:
        ValueError: a value that there is not, or one of these for a loop that somebody else makes.
    """

    def __init__(
        self,
        *,
        debug: bool | None = None,
        loop_factory: LoopFactory | None = None,
        on_block: OnBlock | None = None,
        block_after: float | None = None,
        learn: bool | None = None,
        single_threaded: bool = False,
    ) -> None:
        options = {
            "on_block": on_block,
            "block_after": block_after,
            "learn": learn,
            "single_threaded": single_threaded or None,
        }
        given = {name: value for name, value in options.items() if value is not None}
        factory = _loop_factory(loop_factory, given)
        install_names()
        super().__init__(debug=debug, loop_factory=factory)


def _loop_factory(factory: LoopFactory | None, options: dict[str, Any]) -> LoopFactory:
    """What makes the loop of a `Runner`; `options`: those that were given."""
    if not options:
        return factory or new_event_loop
    if factory is not None:
        raise ValueError(
            f"{' and '.join(options)} are for antiphon's own loops, not for a loop_factory"
        )
    # Refused here, and not when the loop is made.
    resolve_options(options.get("on_block"), options.get("block_after"))
    return functools.partial(new_event_loop, **options)


def run(
    main: Coroutine[Any, Any, T],
    *,
    debug: bool | None = None,
    loop_factory: LoopFactory | None = None,
    on_block: OnBlock | None = None,
    block_after: float | None = None,
    learn: bool | None = None,
    single_threaded: bool = False,
) -> T:
    """Runs a coroutine in a new loop, and cleans up: tasks, asynchronous generators, threads.

    Args:
        main: the coroutine to run; from Python 3.14 on any awaitable.
        debug: True or False sets the loop's debug mode; None leaves it to the environment.
        loop_factory: makes the loop; None takes `new_event_loop`.
        on_block: what is done about steps that block the loop: "ignore" (the default) does nothing, "report" tells who
            it was while it blocks, "raise" fails their task as well (for test suites), "handoff" lets another thread
            go on with the loop. docs/blocking.md and docs/hand-off.md tell all.
        block_after: from how many seconds on a step blocks; 0.05 by default.
        learn, single_threaded: as for `new_event_loop`, for "handoff".

    Returns:
        What the coroutine returns.

    Raises:
        RuntimeError: a loop runs in this thread already.
        ValueError: as for `Runner`.
        KeyboardInterrupt: Ctrl-C was pressed; the coroutine was cancelled first.
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("asyncio.run() cannot be called from a running event loop")
    with Runner(
        debug=debug,
        loop_factory=loop_factory,
        on_block=on_block,
        block_after=block_after,
        learn=learn,
        single_threaded=single_threaded,
    ) as runner:
        return runner.run(main)
