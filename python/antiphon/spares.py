"""The threads that take over a loop while one of its steps blocks (`on_block="handoff"`).

Native code decides when one is needed and what it does (`hand_off/spare.rs`); here is what a Python thread needs.
"""

import asyncio
import itertools
import sys
import threading
from asyncio.log import logger
from weakref import WeakSet

from antiphon import _antiphon
from antiphon._antiphon import LoopBase

__all__ = ["adopt", "await_blocked_steps", "join", "leave", "start"]

JOIN_SECONDS = 5.0
"""How long the last loop's close waits for a spare; an idle one needs the interpreter only."""
CLOSE_SECONDS = 0.5
"""How long `close` waits for steps that still block."""

_numbers = itertools.count(1)
_threads: WeakSet[threading.Thread] = WeakSet()


def start() -> None:
    """Starts a spare; returns when its thread runs."""
    name = f"antiphon-spare-{next(_numbers)}"
    thread = threading.Thread(target=_antiphon._serve_as_spare, name=name, daemon=True)
    _threads.add(thread)
    thread.start()


def join(ident: int) -> None:
    """Waits until a spare that was told to end has ended."""
    for thread in list(_threads):
        if thread.ident == ident and thread is not threading.current_thread():
            thread.join(JOIN_SECONDS)


def adopt(loop: LoopBase) -> None:
    """Makes the hooks of this thread what they are where `loop` was run."""
    sys.set_asyncgen_hooks(
        firstiter=loop._asyncgen_firstiter_hook,  # type: ignore[attr-defined]
        finalizer=loop._asyncgen_finalizer_hook,  # type: ignore[attr-defined]
    )
    if loop.get_debug():
        from asyncio import constants

        sys.set_coroutine_origin_tracking_depth(constants.DEBUG_STACK_DEPTH)


def leave() -> None:
    """Takes `adopt` back."""
    sys.set_asyncgen_hooks(firstiter=None, finalizer=None)
    sys.set_coroutine_origin_tracking_depth(0)


def await_blocked_steps(loop: LoopBase) -> None:
    """Gives the blocked steps of a loop that is about to be closed a moment, and logs how many remain."""
    if asyncio._get_running_loop() is None:
        remaining = loop._await_blocked_steps(CLOSE_SECONDS)
    else:
        remaining = loop._blocked_steps()  # this thread cannot run it now
    if remaining:
        logger.error(
            "%r is closed while %d of its steps are still blocked; they end with RuntimeError when their calls return",
            loop,
            remaining,
        )
