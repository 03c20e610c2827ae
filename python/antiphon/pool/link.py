"""`WorkerLink`: the pool's side of one worker, whatever the worker is.

It counts what the worker has and has begun, and from that says how many calls more it may be sent. A worker is sent
few calls at first and more while it begins them quickly (as TCP finds out how much a path takes): so calls that
compute wait where every worker can take them, and short ones travel by the hundred.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from antiphon.pool import messages
from antiphon.pool.call import AnyCall, name_of
from antiphon.pool.errors import WorkerLost

if TYPE_CHECKING:
    from antiphon.pool.scheduler import Scheduler

__all__ = ["WorkerLink"]

#: Calls that wait at a worker should take it no longer to begin than this.
_AHEAD_S = 0.02


class WorkerLink(ABC):
    """One worker, as the pool knows it.

    Args:
        loop: the pool's loop.
        scheduler: who has the calls that wait.
        name: what the worker is called in messages.

    Attributes:
        calls: what the worker has, by number; calls that were given up stay until it has answered.
        ready: whether it takes calls.
        lost: what it ended of, once it has.
        finished: how many calls it has ended.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, scheduler: "Scheduler", name: str) -> None:
        self._loop = loop
        self._scheduler = scheduler
        self.name = name
        self.calls: dict[int, AnyCall] = {}
        self.ready = False
        self.lost: str | None = None
        self.finished = 0
        self._sent = 0
        self._begun = 0
        self._window = 1
        self._steal_asked = False

    @property
    def pid(self) -> int | None:
        """The worker's process, if it is one of ours."""
        return None

    def room(self) -> int:
        """How many calls more the worker may be sent now."""
        if not self.ready:
            return 0
        return min(
            self._scheduler.concurrency - len(self.calls),
            self._window - (self._sent - self._begun),
        )

    def unbegun(self) -> int:
        """How many calls wait at the worker that it has not begun, and that another one may take."""
        begun = max(self._begun, self.begun())
        return sum(number > begun and not call.pinned for number, call in self.calls.items())

    def post_from(self, waiting: deque[AnyCall], most: int) -> int:
        """Sends the first of the calls that wait, with the next `flush`; those that are done by now are left out.

        Returns:
            How many were sent, at most `most`.
        """
        count = 0
        while waiting and count < most:
            call = waiting.popleft()
            if not call.done():
                self.post(call)
                count += 1
        return count

    def post(self, call: AnyCall) -> None:
        """Sends a call, with the next `flush`."""
        self._sent = number = self._sent + 1
        call.link = self
        call.number = number
        self.calls[number] = call
        try:
            self._transfer(number, call)
        except Exception as error:  # the buffers of its arguments were released meanwhile, say
            self._drop(number)
            call.settle_error(error)

    def cancel(self, call: AnyCall, msg: Any | None) -> None:
        """Asks the worker to cancel a call, and gives the call up if no answer comes within the grace period."""
        self._ask_cancel(call.number, None if msg is None else str(msg))
        self._loop.call_later(self._scheduler.grace, call.settle_cancelled, msg)

    def receive(self, received: Iterable[tuple[Any, ...]]) -> None:
        """Does what the worker's messages say."""
        for message in received:
            kind = message[0]
            if kind == messages.RETURNED:
                call = self._answered(message[1])
                try:
                    value = self._open(message[2])
                except BaseException as error:
                    if call is not None:
                        call.settle_error(self._unreadable("result", call, error))
                else:
                    if call is not None:
                        call.settle(value)
            elif kind == messages.RESULTS:
                self._settle_run(message[1], message[3])
            elif kind == messages.PROGRESS:
                self._note_progress(message[1], message[2])
            elif kind == messages.RAISED:
                call = self._answered(message[1])
                raised = self._open_error(*message[2:])
                if call is not None:
                    call.settle_error(raised)
            elif kind == messages.CANCELLED:
                call = self._answered(message[1])
                if call is not None:
                    call.settle_cancelled(message[2])
            elif kind == messages.READY:
                self._become_ready()
        self._scheduler.has_room()

    def give_back(self, numbers: Iterable[int]) -> None:
        """Calls that the worker had not begun are the scheduler's again."""
        self._steal_asked = False
        calls = [call for number in numbers if (call := self.calls.pop(number, None)) is not None]
        self._scheduler.take_back([call for call in calls if not self._is_ours(call)])
        for call in filter(self._is_ours, calls):
            self.post(call)
        self.flush()

    @staticmethod
    def _is_ours(call: AnyCall) -> bool:
        """Whether a call that is wanted still is for this worker alone."""
        return call.pinned and call.cancellation is None and not call.done()

    def fail_calls(self, begun: int) -> None:
        """Ends what the worker was running when it was lost; what it had not begun is to run elsewhere.

        Args:
            begun: the number of the last call that it began.
        """
        calls = sorted(self.calls.items())
        self.calls.clear()
        back = []
        for number, call in calls:
            if call.done():
                continue
            if number > begun and not call.pinned:
                back.append(call)
                continue
            call.losses += 1
            if call.idempotent and call.losses < self._scheduler.most_losses and not call.pinned:
                back.append(call)
                continue
            times = f"; {call.losses} workers were lost running it" if call.losses > 1 else ""
            call.settle_error(
                WorkerLost(f"{self.name} {self.lost}, running {name_of(call.function)}{times}")
            )
        self._scheduler.take_back(back)

    def steal(self) -> None:
        """Asks for calls that wait at the worker; they come by `give_back`."""
        if not self._steal_asked:
            self._steal_asked = self._ask_back()

    @abstractmethod
    def begun(self) -> int:
        """The number of the last call that the worker has begun, of which it need not have told yet."""

    @abstractmethod
    async def start(self, timeout: float) -> None:
        """Starts the worker and returns when it is ready.

        Args:
            timeout: seconds that it may take.

        Raises:
            WorkerLost: it ended, or was not ready in time.
        """

    @abstractmethod
    def flush(self) -> None:
        """Sends what was posted."""

    @abstractmethod
    def stop(self) -> None:
        """Tells the worker to end when its calls have ended."""

    @abstractmethod
    async def ended(self) -> None:
        """Waits until the worker has ended."""

    @abstractmethod
    def kill(self) -> None:
        """Ends the worker at once, as far as that can be done; its calls are lost."""

    @abstractmethod
    def _transfer(self, number: int, call: AnyCall) -> None: ...

    @abstractmethod
    def _ask_cancel(self, number: int, msg: str | None) -> None: ...

    @abstractmethod
    def _ask_back(self) -> bool: ...

    @abstractmethod
    def _open(self, parcel: Any) -> Any: ...

    @abstractmethod
    def _open_error(self, parcel: Any, traceback: str, words: str) -> BaseException: ...

    @abstractmethod
    def _unreadable(self, what: str, call: AnyCall, error: BaseException) -> BaseException: ...

    def _become_ready(self) -> None:
        self.ready = True

    def _settle_run(self, first: int, values: list[Any]) -> None:
        """Ends calls with consecutive numbers."""
        calls = self.calls
        self.finished += len(values)
        for number, value in enumerate(values, first):
            call = calls.pop(number, None)
            if call is not None:
                call.settle(value)

    def _answered(self, number: int) -> AnyCall | None:
        self.finished += 1
        return self._drop(number)

    def _drop(self, number: int) -> AnyCall | None:
        return self.calls.pop(number, None)

    def _note_progress(self, up_to: int, busy_s: float) -> None:
        """Sets how much may wait at the worker by how quickly it began what it had."""
        count = up_to - self._begun
        if count > 0:
            self._begun = up_to
            fitting = int(count * _AHEAD_S / busy_s) if busy_s > 0 else 2 * self._window
            self._window = max(1, min(2 * self._window, fitting, self._scheduler.concurrency))
