"""Asynchronous generators: the loop knows all that it iterates and closes them in the end.

The interpreter calls `firstiter` when a generator is first iterated and `finalizer` when one is
collected before it ended; both hooks belong to the thread while the loop runs in it (PEP 525).
Invariant: a generator is in the set from its first iteration until it is collected or closed here.

Source: PEP 525; Lib/asyncio/base_events.py.
"""

import asyncio
import warnings
from collections.abc import AsyncGenerator
from typing import Any
from weakref import WeakSet

from antiphon.faults import Faults

__all__ = ["AsyncGens"]


class AsyncGens(Faults):
    """The part of the loop that ends asynchronous generators."""

    __slots__ = ()

    _asyncgens: WeakSet[AsyncGenerator[Any, Any]]  # made by Loop.__init__
    _asyncgens_shutdown_called = False

    async def shutdown_asyncgens(self) -> None:
        """Closes every asynchronous generator that is still open.

        An exception raised while one closes is reported to the exception handler and does not keep
        the others from closing. Later iterations warn.
        """
        self._asyncgens_shutdown_called = True
        generators = list(self._asyncgens)
        if not generators:
            return
        self._asyncgens.clear()
        outcomes = await asyncio.gather(
            *[generator.aclose() for generator in generators], return_exceptions=True
        )
        for outcome, generator in zip(outcomes, generators, strict=True):
            if isinstance(outcome, Exception):
                self.call_exception_handler(
                    {
                        "message": "an error occurred during closing of "
                        f"asynchronous generator {generator!r}",
                        "exception": outcome,
                        "asyncgen": generator,
                    }
                )

    def _asyncgen_firstiter_hook(self, generator: AsyncGenerator[Any, Any]) -> None:
        """Remembers a generator that starts; warns when it can no longer be closed in order."""
        if self._asyncgens_shutdown_called:
            warnings.warn(
                f"asynchronous generator {generator!r} was scheduled after "
                f"loop.shutdown_asyncgens() call",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )
        self._asyncgens.add(generator)

    def _asyncgen_finalizer_hook(self, generator: AsyncGenerator[Any, Any]) -> None:
        """Closes a generator that was collected half-way. The collector may run in any thread."""
        self._asyncgens.discard(generator)
        if not self.is_closed():
            self.call_soon_threadsafe(self.create_task, generator.aclose())
