"""`CallMaker`: makes calls' handles, with all that a worker needs; what is the same for many calls is done once."""

import asyncio
import contextvars
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from antiphon.pool import pickling
from antiphon.pool.call import Call, name_of
from antiphon.pool.carried import values_of
from antiphon.pool.functions import Functions
from antiphon.pool.scheduler import Scheduler

__all__ = ["CallMaker", "check"]


class CallMaker:
    """Makes the calls of one pool.

    Args:
        loop: the pool's loop.
        scheduler: the pool's scheduler.
        functions: the pool's functions by key; None where everything goes by reference.
        foreign: the workers do not have this program's `__main__`.
        carry: the context variables that go along.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        scheduler: Scheduler,
        functions: Functions | None,
        foreign: bool,
        carry: Sequence[contextvars.ContextVar[Any]],
    ) -> None:
        self._loop = loop
        self._scheduler = scheduler
        self._functions = functions
        self._foreign = foreign or pickling.main_cannot_be_imported()
        self._carry = carry

    def of(
        self, function: Callable[..., Any], idempotent: bool, timeout: float | None
    ) -> Callable[[tuple[Any, ...]], Call[Any]]:
        """Gives what makes calls of a function, each with the arguments that it is given.

        Raises:
            TypeError: it is no function.
            TransferError: it cannot be pickled.
        """
        check(function)
        loop, scheduler, functions = self._loop, self._scheduler, self._functions
        foreign, carry = self._foreign, self._carry
        key = 0 if functions is None else functions.key_of(function)
        part = _argument if key else _function_or_argument

        def name() -> str:
            return f"the call of {name_of(function)}"

        def make(arguments: tuple[Any, ...]) -> Call[Any]:
            call: Call[Any] = Call(loop, scheduler, function, arguments, idempotent)
            if functions is not None:
                call.function_key = key
                crossing = arguments if key else (function, *arguments)
                call.pickled = pickling.dump(crossing, name, part, foreign)
            if carry:
                values = values_of(carry)
                if functions is None:
                    call.carried = values
                else:
                    call.carried = pickling.dump(values, _carried_values, None, foreign)[0]
            if timeout is not None:
                call.expire_after(timeout)
            return call

        return make


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
