"""Answers that come from a worker as pickles."""

import asyncio
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from antiphon.pool import messages, pickling
from antiphon.pool.call import AnyCall, name_of
from antiphon.pool.channel import Parcel
from antiphon.pool.errors import RemoteError, RemoteTraceback, TransferError
from antiphon.pool.functions import Functions
from antiphon.pool.link import WorkerLink
from antiphon.pool.pickling import Pickled
from antiphon.pool.plain import add_to_run

if TYPE_CHECKING:
    from antiphon.pool.scheduler import Scheduler

__all__ = ["PickledLink"]


class PickledLink(WorkerLink):
    """A worker in another process: results and exceptions are parcels, and may turn out to be unreadable.

    Args:
        functions: the pool's functions by key.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        scheduler: "Scheduler",
        name: str,
        functions: Functions,
    ) -> None:
        super().__init__(loop, scheduler, name)
        self._functions = functions
        #: The functions that who reads the outbox knows.
        self._known: set[int] = set()
        #: Messages that leave with the next `flush`.
        self._outbox: list[tuple[Any, ...]] = []

    def _transfer(self, number: int, call: AnyCall) -> None:
        key = call.function_key
        if call.pickled is None and add_to_run(
            self._outbox, messages.CALLS, number, key, call.arguments
        ):
            return
        if key and key not in self._known:
            self._known.add(key)
            self._outbox.append((messages.FUNCTION, key, self._functions.pickle_of(key)))
        if call.pickled is None:
            self._outbox.append((messages.CALLS, number, key, [call.arguments]))
        else:
            parcel = self._pack(call.pickled)
            self._outbox.append((messages.CALL, number, key, parcel, call.carried))

    @abstractmethod
    def _pack(self, pickled: Pickled) -> Parcel: ...

    @abstractmethod
    def _unpack(self, parcel: Parcel) -> tuple[bytes | memoryview, list[memoryview]]: ...

    def _open(self, parcel: Any) -> Any:
        if type(parcel) is bytes:
            return pickling.load(parcel)
        return pickling.load(*self._unpack(parcel))

    def _open_error(self, parcel: Any, traceback: str, words: str) -> BaseException:
        try:
            error = RemoteError(words) if parcel is None else self._open(parcel)
            if not isinstance(error, BaseException):
                raise TypeError(f"a {type(error).__name__} came out")
        except Exception as problem:
            error = RemoteError(
                f"{words} (the exception was pickled but could not be read, {type(problem).__name__}: {problem}; its "
                "class must be importable here and take its args, or define __reduce__)"
            )
        if error.__cause__ is None:
            error.__cause__ = RemoteTraceback(traceback)
        return error

    def _unreadable(self, what: str, call: AnyCall, error: BaseException) -> BaseException:
        made = TransferError(
            f"the {what} of {name_of(call.function)} could not be read ({type(error).__name__}: {error})"
        )
        made.__cause__ = error
        return made
