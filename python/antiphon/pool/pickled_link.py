"""Answers that come from a worker as pickles."""

from abc import abstractmethod
from typing import Any

from antiphon.pool import pickling
from antiphon.pool.call import Call, name_of
from antiphon.pool.channel import Parcel
from antiphon.pool.errors import RemoteError, RemoteTraceback, TransferError
from antiphon.pool.link import WorkerLink

__all__ = ["PickledLink"]


class PickledLink(WorkerLink):
    """A worker in another process: results and exceptions are parcels, and may turn out to be unreadable."""

    @abstractmethod
    def _unpack(self, parcel: Parcel) -> tuple[bytes | memoryview, list[memoryview]]: ...

    def _open(self, parcel: Any) -> Any:
        if type(parcel) is bytes:
            return pickling.load(parcel)
        return pickling.load(*self._unpack(parcel))

    def _open_error(self, parcel: Any, traceback: str, words: str) -> BaseException:
        try:
            error = None if parcel is None else self._open(parcel)
        except Exception:
            error = None
        if not isinstance(error, BaseException):
            error = RemoteError(words)
        if error.__cause__ is None:
            error.__cause__ = RemoteTraceback(traceback)
        return error

    def _unreadable(self, what: str, call: Call[Any], error: BaseException) -> BaseException:
        made = TransferError(
            f"the {what} of {name_of(call.function)} could not be read ({type(error).__name__}: {error})"
        )
        made.__cause__ = error
        return made
