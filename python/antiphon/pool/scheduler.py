"""`Scheduler`: which call goes to which worker.

Calls wait in one queue. Once per turn of the loop they go to the workers that have room, the least loaded first. When
the queue is empty and a worker has nothing to do, it is given calls back that wait at a busy one.

Invariant P1: a call that is not done is in the queue or in exactly one link's `calls`.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Iterable, Sequence

from antiphon.pool.call import AnyCall
from antiphon.pool.link import WorkerLink

__all__ = ["Scheduler"]

#: How long calls may wait at a busy worker, seconds, until an idle one asks for them.
_PATIENCE_S = 0.01


class Scheduler:
    """The queue of a pool and its workers.

    Args:
        loop: the pool's loop.
        concurrency: how many calls one worker has at most.
        grace: seconds that a worker has to answer a cancellation.
        most_losses: an idempotent call is not run again when so many workers died of it.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, concurrency: int, grace: float, most_losses: int
    ) -> None:
        self.loop = loop
        self.concurrency = concurrency
        self.grace = grace
        self.most_losses = most_losses
        self.waiting: deque[AnyCall] = deque()
        self.links: list[WorkerLink] = []
        self.unfinished = 0
        self.broken: BaseException | None = None
        self._all_done: asyncio.Future[None] | None = None
        self._dispatch_is_due = False
        self._balance_is_due = False

    def submit(self, call: AnyCall) -> None:
        """Takes a call that was just made."""
        self.unfinished += 1
        if self.broken is not None:
            call.settle_error(self.broken)
            return
        self.waiting.append(call)
        self.dispatch_soon()

    def submit_all(self, calls: Sequence[AnyCall]) -> None:
        """Takes calls that were just made."""
        self.unfinished += len(calls)
        self.waiting.extend(calls)
        if self.broken is not None:
            self.fail_waiting(self.broken)
        self.dispatch_soon()

    def submit_to(self, link: WorkerLink, call: AnyCall) -> None:
        """Takes a call that is for one worker alone."""
        self.unfinished += 1
        call.pinned = True
        link.post(call)
        link.flush()

    def take_back(self, calls: Iterable[AnyCall]) -> None:
        """Takes calls back that a worker will not run; they are the next to go."""
        alive = []
        for call in calls:
            call.link = None
            if call.cancellation is not None:
                call.settle_cancelled(*call.cancellation)
            elif not call.done():
                alive.append(call)
        self.waiting.extendleft(reversed(alive))
        if self.broken is not None:
            self.fail_waiting(self.broken)
        self.dispatch_soon()

    def fail_waiting(self, error: BaseException) -> None:
        """Ends every call that waits: there will be no worker for them."""
        self.broken = error
        while self.waiting:
            self.waiting.popleft().settle_error(error)

    def cancel_all(self) -> None:
        """Cancels every call that is not done."""
        for call in [*self.waiting]:
            call.cancel()
        self.waiting.clear()
        for link in self.links:
            for call in list(link.calls.values()):
                call.cancel()

    def note_done(self) -> None:
        """A call is done."""
        self.unfinished -= 1
        if not self.unfinished and self._all_done is not None and not self._all_done.done():
            self._all_done.set_result(None)

    async def all_done(self) -> None:
        """Waits until no call is unfinished."""
        while self.unfinished:
            if self._all_done is None or self._all_done.done():
                self._all_done = self.loop.create_future()
            await asyncio.shield(self._all_done)

    def has_room(self) -> None:
        """A worker has ended calls, and may be given others."""
        if self.waiting or len(self.links) > 1:
            self.dispatch_soon()

    def dispatch_soon(self) -> None:
        """Hands out what waits, once in this turn or the next."""
        if not self._dispatch_is_due:
            self._dispatch_is_due = True
            self.loop.call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._dispatch_is_due = False
        if self.waiting:
            self._hand_out()
        if not self.waiting and len(self.links) > 1:
            self._balance()

    def _hand_out(self) -> None:
        waiting = self.waiting
        if len(self.links) == 1:
            link = self.links[0]
            if link.post_from(waiting, link.room()):
                link.flush()
            return
        loads = [
            (len(link.calls), place, room, link)
            for place, link in enumerate(self.links)
            if (room := link.room()) > 0
        ]
        heapq.heapify(loads)
        touched = [entry[3] for entry in loads]
        while waiting and loads:
            load, place, room, link = loads[0]
            # While many wait, several neighbours go to one worker: their message is the shorter.
            count = min(room, max(1, len(waiting) // (4 * len(loads))))
            posted = link.post_from(waiting, count)
            if room > posted:
                heapq.heapreplace(loads, (load + posted, place, room - posted, link))
            else:
                heapq.heappop(loads)
        for link in touched:
            link.flush()

    def _balance(self) -> None:
        """Has a worker that is idle take from one where calls wait, if they have waited for a while."""
        if self._balance_is_due:
            return
        if self._idle() and any(link.unbegun() for link in self.links):
            self._balance_is_due = True
            self.loop.call_later(_PATIENCE_S, self._steal)

    def _steal(self) -> None:
        self._balance_is_due = False
        if self.waiting or not self._idle():
            return
        busiest = max(self.links, key=WorkerLink.unbegun)
        if busiest.unbegun():
            busiest.steal()
            self._balance()

    def _idle(self) -> bool:
        return any(link.ready and not link.calls for link in self.links)
