"""Watched loops for tests, and steps that block until they have been found."""

import queue
from collections.abc import Callable, Coroutine
from typing import Any

import antiphon
from antiphon import BlockedStep, Stall


class Watched:
    """A watched loop and what is reported of it.

    Nothing here depends on the speed of the machine: steps block until the watchdog has found them, and where the kind
    of stall is a matter of the scheduler they do so again until it is the one asked for.
    """

    def __init__(self, on_block: str = "report", block_after: float = 0.01) -> None:
        self.loop = antiphon.new_event_loop(on_block=on_block, block_after=block_after)
        self.found: queue.SimpleQueue[BlockedStep] = queue.SimpleQueue()
        self.ended: queue.SimpleQueue[BlockedStep] = queue.SimpleQueue()
        self.stalls: set[Stall] = set()
        self._unregister = antiphon.on_blocked(self._note)

    def _note(self, event: BlockedStep) -> None:
        if event.loop is not self.loop:
            return
        if event.over:
            self.ended.put(event)
        else:
            self.stalls.add(event.stall)
            self.found.put(event)

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(main)

    def block(self) -> BlockedStep:
        """Blocks, asleep and without the interpreter, until this step has been reported."""
        return self.found.get()

    def hold(self, hold: Callable[[], object]) -> BlockedStep:
        """Does something over and over, in one step, until that has been reported."""
        while self.found.empty():
            hold()
        return self.found.get()

    def close(self) -> None:
        self._unregister()
        self.loop.close()
