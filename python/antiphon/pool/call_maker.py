"""`CallMaker`: makes calls' handles, with all that a worker needs; what is the same for many calls is done once."""

import contextvars
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from antiphon.pool import pickling
from antiphon.pool.call import AnyCall, Call, name_of
from antiphon.pool.carried import values_of
from antiphon.pool.functions import Functions
from antiphon.pool.mapped_call import MappedCall
from antiphon.pool.plain import all_plain
from antiphon.pool.scheduler import Scheduler

__all__ = ["CallMaker", "CallsOf", "check"]


class CallMaker:
    """Makes the calls of one pool.

    Args:
        entered: gives the pool's scheduler, or raises PoolClosed.
        functions: the pool's functions by key; None where everything goes by reference.
        foreign: the workers do not have this program's `__main__`.
        carry: the context variables that go along.
    """

    def __init__(
        self,
        entered: Callable[[], Scheduler],
        functions: Functions | None,
        foreign: bool,
        carry: Sequence[contextvars.ContextVar[Any]],
    ) -> None:
        self.entered = entered
        self.functions = functions
        self.foreign = foreign or pickling.main_cannot_be_imported()
        self.carry = carry
        self._lasting: dict[Callable[..., Any], CallsOf] = {}

    def of(
        self, function: Callable[..., Any], idempotent: bool, timeout: float | None
    ) -> "CallsOf":
        """Gives what makes calls of a function.

        Raises:
            TypeError: it is no function.
            TransferError: it cannot be pickled.
        """
        plainly = not idempotent and timeout is None
        if plainly:
            try:
                return self._lasting[function]
            except (KeyError, TypeError):  # or it is not hashable
                pass
        check(function)
        calls = CallsOf(self, function, idempotent, timeout)
        # Functions that have a key are kept as long as the pool in any case; others may be made by the thousand.
        if plainly and calls.has_key():
            self._lasting[function] = calls
        return calls


class CallsOf:
    """Makes and submits calls of one function.

    Args:
        maker: what all calls of the pool have in common.
        function: what they call.
        idempotent: running them twice does no harm.
        timeout: seconds, after which they are cancelled, or None.
    """

    def __init__(
        self,
        maker: CallMaker,
        function: Callable[..., Any],
        idempotent: bool,
        timeout: float | None,
    ) -> None:
        self._maker = maker
        self._function = function
        self._idempotent = idempotent
        self._timeout = timeout
        self._key = 0 if maker.functions is None else maker.functions.key_of(function)

    def has_key(self) -> bool:
        """Whether workers know the function by a key."""
        return self._key != 0

    def make(self, arguments: tuple[Any, ...]) -> Call[Any]:
        """Makes one call.

        Raises:
            TransferError: an argument cannot be pickled.
            PoolClosed: the pool is not open.
        """
        maker, key = self._maker, self._key
        call: Call[Any] = Call(maker.entered(), self._function, arguments, self._idempotent)
        plain = bool(key) and all_plain((arguments,))
        if plain and self._timeout is None and not maker.carry:
            call.function_key = key
        else:
            self._equip(call, plain)
        return call

    def submit(self, arguments: tuple[Any, ...]) -> Call[Any]:
        """Makes one call and submits it; raises as `make` does."""
        call = self.make(arguments)
        self._maker.entered().submit(call)
        return call

    def submit_mapped(self, several: list[tuple[Any, ...]]) -> list[MappedCall]:
        """Makes a call with each of some arguments and submits them.

        Raises:
            TransferError: an argument cannot be pickled; none is submitted then.
            PoolClosed: the pool is not open.
        """
        scheduler, function, idempotent = self._maker.entered(), self._function, self._idempotent
        key = self._key
        calls = [
            MappedCall(scheduler, function, arguments, idempotent, key) for arguments in several
        ]
        if not (key and self._timeout is None and not self._maker.carry and all_plain(several)):
            try:
                for call in calls:
                    self._equip(call, bool(key) and all_plain((call.arguments,)))
            except BaseException:
                for call in calls:
                    call.dismiss()
                raise
        scheduler.submit_all(calls)
        return calls

    def _equip(self, call: AnyCall, plain: bool) -> None:
        """Adds what crosses with a call, and its timeout."""
        maker, key = self._maker, self._key
        if maker.functions is not None:
            call.function_key = key
            if not plain or maker.carry:
                crossing = call.arguments if key else (self._function, *call.arguments)
                part = _argument if key else _function_or_argument
                call.pickled = pickling.dump(crossing, self._name, part, maker.foreign)
        if maker.carry:
            values = values_of(maker.carry)
            if maker.functions is None:
                call.carried = values
            else:
                call.carried = pickling.dump(values, _carried_values, None, maker.foreign)[0]
        if self._timeout is not None:
            call.expire_after(self._timeout)

    def _name(self) -> str:
        return f"the call of {name_of(self._function)}"


def check(function: Any) -> None:
    """Refuses what is no function.

    Raises:
        TypeError: it is none; a coroutine is closed, for it will not be awaited.
    """
    if inspect.iscoroutine(function):
        name = function.__qualname__
        function.close()
        raise TypeError(
            "a pool takes the coroutine function and its arguments, not a coroutine: "
            f"run({name}, ...) instead of run({name}(...))"
        )
    if not callable(function):
        raise TypeError(f"a pool takes a function and its arguments, not {function!r}")


def _argument(index: int) -> str:
    return f"argument {index}"


def _function_or_argument(index: int) -> str:
    return f"argument {index - 1}" if index else "the function"


def _carried_values() -> str:
    return "the carried context variables"
