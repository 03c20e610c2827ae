"""Calls that come to a worker as pickles, and go back so."""

import asyncio
import contextvars
import importlib
import traceback
from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

from antiphon.pool import messages, pickling
from antiphon.pool.carried import adopt
from antiphon.pool.channel import Parcel
from antiphon.pool.errors import TransferError
from antiphon.pool.intake import Intake
from antiphon.pool.pickling import Pickled
from antiphon.pool.plain import add_to_run, is_plain

__all__ = ["PickledIntake"]


class PickledIntake(Intake):
    """An intake whose calls name functions by key, and whose arguments and results are parcels.

    Args:
        loop: the worker's loop.
        carried: modules and names of the context variables that go along with calls.
        outbox: where messages wait that `_report` was given.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        carried: list[tuple[str, str]],
        outbox: list[tuple[Any, ...]],
    ) -> None:
        super().__init__(loop)
        self._outbox = outbox
        self._carried = [getattr(importlib.import_module(module), name) for module, name in carried]
        self._functions: dict[int, bytes | Callable[..., Any]] = {}

    def _other(self, message: tuple[Any, ...]) -> None:
        if message[0] == messages.FUNCTION:
            self._functions[message[1]] = message[2]

    def _take(self, message: tuple[Any, ...]) -> tuple[Any, ...]:
        kind, number, key, parcel, carried = message
        if type(parcel) is bytes:
            return message
        # At once, for parcels are to be opened in the order in which they came.
        try:
            parcel = self._unpack(parcel)
        except OSError as error:
            parcel = error
        return kind, number, key, parcel, carried

    def _open(
        self, message: tuple[Any, ...], context: contextvars.Context
    ) -> tuple[Callable[..., Any], Iterable[Any]]:
        if message[0] == messages.CALLS:
            _, _, key, arguments = message
            function = self._functions[key]
            if type(function) is not bytes:
                return function, arguments  # type: ignore[return-value]
            parcel = carried = None
        else:
            _, _, key, parcel, carried = message
        try:
            if parcel is None:
                pass
            elif type(parcel) is bytes:
                arguments = pickling.load(parcel)
            elif isinstance(parcel, OSError):
                raise parcel
            else:
                arguments = pickling.load(*parcel)
            if key:
                function = self._functions[key]
                if type(function) is bytes:
                    function = self._functions[key] = pickling.load(function)
            else:
                function, *arguments = arguments
        except Exception as error:
            raise TransferError(
                f"the worker could not read the call ({type(error).__name__}: {error}); what it is made of must be "
                "importable there: code under `if __name__ == '__main__'` and notebooks' cells are not "
                "(cloudpickle, where it is installed, sends them)"
            ) from error
        if carried is not None:
            adopt(context, self._carried, pickling.load(carried))
        return function, arguments  # type: ignore[return-value]

    def _returned(self, number: int, value: object) -> None:
        if is_plain(value):
            if not add_to_run(self._outbox, messages.RESULTS, number, 0, value):
                self._report((messages.RESULTS, number, 0, [value]))
            return
        try:
            parcel = self._pack(pickling.dump(value, lambda: "the result"))
        except Exception as error:
            self._raised(number, error)
        else:
            self._report((messages.RETURNED, number, parcel))

    def _raised(self, number: int, error: BaseException) -> None:
        text = "".join(traceback.format_exception(error))
        words = "".join(traceback.format_exception_only(error)).strip()
        try:
            parcel = self._pack(pickling.dump(error, lambda: "the exception"))
        except Exception as complaint:
            parcel = None
            words = f"{words} ({complaint})"
        self._report((messages.RAISED, number, parcel, text, words))

    @abstractmethod
    def _pack(self, pickled: Pickled) -> Parcel: ...

    @abstractmethod
    def _unpack(self, parcel: Parcel) -> tuple[bytes | memoryview, list[memoryview]]:
        """Opens a parcel.

        Raises:
            OSError: its shared memory could not be mapped.
        """
