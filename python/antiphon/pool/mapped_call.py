"""`MappedCall`: one of the many calls of `Pool.map`, without a future of its own."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from antiphon.pool.call import AnyCall

if TYPE_CHECKING:
    from antiphon.pool.scheduler import Scheduler

__all__ = ["MappedCall"]


class MappedCall(AnyCall):
    """One of many calls whose results go to one place, in order: no future, for nobody else can wait for it."""

    _waiter: asyncio.Future[None] | None = None
    _is_done = False
    _value: Any = None
    _error: BaseException | None = None

    def __init__(
        self,
        scheduler: "Scheduler",
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        idempotent: bool,
        function_key: int,
    ) -> None:
        self._scheduler = scheduler
        self.function_key = function_key
        self.function = function
        self.arguments = arguments
        self.idempotent = idempotent

    def done(self) -> bool:
        return self._is_done

    def cancelled(self) -> bool:
        return isinstance(self._error, asyncio.CancelledError)

    async def wait(self) -> None:
        """Waits until it is done; one task may at a time."""
        while not self._is_done:
            self._waiter = self._scheduler.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def result(self) -> Any:
        """Gives what the call, which is done, has returned; raises what it raised."""
        try:
            if self._error is not None:
                raise self._error
            return self._value
        finally:
            del self  # which the error would refer to, by way of its traceback

    def settle(self, value: Any) -> None:
        if not self._is_done:
            if self._timer is not None or self.pickled is not None:
                self._finish()
            else:
                self._scheduler.note_done()
            self._value = value
            self._is_done = True
            if self._waiter is not None:
                self._wake()

    def dismiss(self) -> None:
        """The call, which was not submitted, is not wanted any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _end_with(self, value: Any) -> None:
        raise AssertionError("settle() does it all")

    def _end_with_error(self, error: BaseException) -> None:
        self._error = error
        self._is_done = True
        self._wake()

    def _end_cancelled(self, msg: Any | None) -> None:
        self._end_with_error(
            asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        )

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
