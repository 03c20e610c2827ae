"""`Call`: the handle of a call that a worker makes, a future with a task's manners.

Life: waiting (in the scheduler's queue) -> sent (a worker has it) -> done; back from sent to waiting if the worker
dies before it began the call, or gives it back. Cancelling a sent call asks its worker to cancel; the call is done
when the worker has answered, as a task that is cancelled is done when it has ended, or after the pool's grace period.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from antiphon._antiphon import Future

if TYPE_CHECKING:
    from antiphon.pool.link import WorkerLink
    from antiphon.pool.pickling import Pickled
    from antiphon.pool.scheduler import Scheduler

__all__ = ["Call"]

T = TypeVar("T")


class Call(Future[T]):
    """One call of a function in a worker: await it for the result; `cancel`, `done` and the rest are a future's.

    Attributes:
        function: what is called there.
        arguments: with what.
        cancellation: what `cancel` was given while a worker had the call.
    """

    __slots__ = (
        "_expired",
        "_scheduler",
        "_timer",
        "arguments",
        "cancellation",
        "carried",
        "function",
        "function_key",
        "idempotent",
        "link",
        "losses",
        "number",
        "pickled",
        "pinned",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        scheduler: "Scheduler",
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        idempotent: bool,
    ) -> None:
        super().__init__(loop=loop)
        self._scheduler = scheduler
        self._timer: asyncio.TimerHandle | None = None
        self._expired = False
        self.function = function
        self.arguments = arguments
        self.cancellation: tuple[Any] | None = None
        self.function_key = 0
        self.pickled: Pickled | None = None
        self.carried: Any = None
        self.idempotent = idempotent
        self.link: WorkerLink | None = None
        self.number = 0
        self.losses = 0
        self.pinned = False

    def __repr__(self) -> str:
        if self.done():
            state = "cancelled" if self.cancelled() else "done"
        else:
            state = "waiting" if self.link is None else f"sent to {self.link.name}"
        return f"<Call {name_of(self.function)} {state}>"

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
        self._timer = self.get_loop().call_later(timeout, self._expire)

    def settle(self, value: T) -> None:
        """The call has returned; nothing happens if it is done, as is one that was given up."""
        if not self.done():
            self._finish()
            self.set_result(value)

    def settle_error(self, error: BaseException) -> None:
        """The call has raised, or could not be made."""
        if not self.done():
            self._finish()
            if isinstance(error, StopIteration):
                # A future cannot hold it: it would end the generator of whoever awaits (PEP 479).
                substitute = RuntimeError("the call raised StopIteration")
                substitute.__cause__ = error
                error = substitute
            self.set_exception(error)

    def settle_cancelled(self, msg: Any | None = None) -> None:
        """The call was cancelled; if that was done by its timeout, it has timed out."""
        if self.done():
            return
        self._finish()
        if self._expired:
            self.set_exception(TimeoutError(f"{name_of(self.function)} took too long"))
        else:
            super().cancel(msg)

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


def name_of(function: Callable[..., Any]) -> str:
    """What messages call a function."""
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else repr(function)
