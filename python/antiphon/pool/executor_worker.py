"""What an executor's worker runs, on whatever machine it is: a batch of calls, all at once in a loop of their own."""

import asyncio
from typing import Any

from antiphon.loop import Loop
from antiphon.pool import messages
from antiphon.pool.channel import Parcel, pack_inline, unpack_inline
from antiphon.pool.pickled_intake import PickledIntake
from antiphon.pool.pickling import Pickled

__all__ = ["run_batch"]

Message = tuple[Any, ...]


def run_batch(batch: list[Message], carried: list[tuple[str, str]]) -> list[Message]:
    """Runs calls to their end.

    Args:
        batch: what a worker process would be sent: functions and calls.
        carried: modules and names of context variables.

    Returns:
        What a worker process would answer.
    """
    with asyncio.Runner(loop_factory=Loop) as runner:
        loop = runner.get_loop()
        intake = _BatchIntake(loop, carried)
        intake.receive([*batch, (messages.STOP,)])
        while True:
            try:
                loop.run_forever()
            except (SystemExit, KeyboardInterrupt):
                continue  # of a task that a call has left behind
            return intake.answers


class _BatchIntake(PickledIntake):
    """Collects its answers."""

    def __init__(self, loop: asyncio.AbstractEventLoop, carried: list[tuple[str, str]]) -> None:
        self.answers: list[Message] = []
        super().__init__(loop, carried, self.answers)

    def _note_begun(self, number: int) -> None:
        """Who could be asked, afterwards, is gone: an executor does not tell which of its workers ran what."""

    def _pack(self, pickled: Pickled) -> Parcel:
        return pack_inline(pickled)

    def _unpack(self, parcel: Parcel) -> tuple[bytes | memoryview, list[memoryview]]:
        return unpack_inline(parcel)

    def _report(self, message: Message) -> None:
        self.answers.append(message)

    def _flush(self) -> None:
        """They go all at once, as what the batch returns."""
