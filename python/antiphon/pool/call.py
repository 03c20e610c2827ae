"""`Call`: the handle of a call that a worker makes, a future with a task's manners.

Life: waiting (in the scheduler's queue) -> sent (a worker has it) -> done; back from sent to waiting if the worker
dies before it began the call, or gives it back. Cancelling a sent call asks its worker to cancel; the call is done
when the worker has answered, as a task that is cancelled is done when it has ended, or after the pool's grace period.
"""

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from antiphon._antiphon import Future

if TYPE_CHECKING:
    from antiphon.pool.link import WorkerLink
    from antiphon.pool.pickling import Pickled
    from antiphon.pool.scheduler import Scheduler

__all__ = ["AnyCall", "Call", "name_of"]

T = TypeVar("T")


class AnyCall:
    """What scheduler and links know of a call, whoever waits for it.

    Attributes:
        function: what is called in the worker.
        function_key: the key that workers know it by, 0 if it is among what is pickled.
        arguments: with what.
        pickled: what crosses; None if it is `arguments` as they are.
        carried: the context variables that go along, pickled if they go to another process.
        idempotent: running it twice does no harm.
        link: the worker that has it.
        number: what that worker calls it.
        cancellation: what `cancel` was given while a worker had the call.
        losses: how many workers were lost running it.
        pinned: it is for one worker alone.
    """

    # What most calls have in common is said by the class, which makes them quick to make.
    function: Callable[..., Any]
    function_key = 0
    arguments: tuple[Any, ...]
    pickled: "Pickled | None" = None
    carried: Any = None
    idempotent: bool
    link: "WorkerLink | None" = None
    number = 0
    cancellation: tuple[Any] | None = None
    losses = 0
    pinned = False
    _scheduler: "Scheduler"
    _timer: asyncio.TimerHandle | None = None
    _expired = False

    def __repr__(self) -> str:
        if self.done():
            state = "cancelled" if self.cancelled() else "done"
        else:
            state = "waiting" if self.link is None else f"sent to {self.link.name}"
        return f"<{type(self).__name__} {name_of(self.function)} {state}>"

    def cancel(self, msg: Any | None = None) -> bool:
        """Asks the worker to cancel the call; one that was not sent yet is cancelled at once.

        Returns:
            False if the call is done already. As with a task, the function may catch the cancellation and return.
        """
        if self.done():
            return False
        if self.link is None:
            self.settle_cancelled(msg)
        else:
            # If the worker gives the call back instead of an answer, it is not to be sent to another one.
            self.cancellation = (msg,)
            self.link.cancel(self, msg)
        return True

    def expire_after(self, timeout: float) -> None:
        """Cancels the call after so many seconds and ends it with TimeoutError then."""
        self._timer = self._scheduler.loop.call_later(timeout, self._expire)

    def settle(self, value: Any) -> None:
        """The call has returned; nothing happens if it is done, as is one that was given up."""
        if not self.done():
            self._finish()
            self._end_with(value)

    def settle_error(self, error: BaseException) -> None:
        """The call has raised, or could not be made."""
        if not self.done():
            self._finish()
            if isinstance(error, StopIteration):
                # A future cannot hold it: it would end the generator of whoever awaits (PEP 479).
                substitute = RuntimeError("the call raised StopIteration")
                substitute.__cause__ = error
                error = substitute
            self._end_with_error(error)

    def settle_cancelled(self, msg: Any | None = None) -> None:
        """The call was cancelled; if that was done by its timeout, it has timed out."""
        if self.done():
            return
        self._finish()
        if self._expired:
            self._end_with_error(TimeoutError(f"{name_of(self.function)} took too long"))
        else:
            self._end_cancelled(msg)

    @abstractmethod
    def done(self) -> bool: ...

    @abstractmethod
    def cancelled(self) -> bool: ...

    @abstractmethod
    def _end_with(self, value: Any) -> None: ...

    @abstractmethod
    def _end_with_error(self, error: BaseException) -> None: ...

    @abstractmethod
    def _end_cancelled(self, msg: Any | None) -> object: ...

    def _expire(self) -> None:
        if not self.done():
            self._expired = True
            self.cancel()

    def _finish(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.pickled = None
        self._scheduler.note_done()


class Call(AnyCall, Future[T]):
    """One call of a function in a worker: await it for the result; `cancel`, `done` and the rest are a future's.

    Attributes:
        function: what is called there.
        arguments: with what.
    """

    def __init__(
        self,
        scheduler: "Scheduler",
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        idempotent: bool,
    ) -> None:
        Future.__init__(self, loop=scheduler.loop)
        self._scheduler = scheduler
        self.function = function
        self.arguments = arguments
        self.idempotent = idempotent

    done = Future.done
    cancelled = Future.cancelled
    _end_with = Future.set_result  # type: ignore[assignment]
    _end_with_error = Future.set_exception  # type: ignore[assignment]
    _end_cancelled = Future.cancel


def name_of(function: Callable[..., Any]) -> str:
    """What messages call a function."""
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else repr(function)
