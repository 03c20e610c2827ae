"""Context variables that go along with calls, because the pool was told so.

A variable is an object of one process; the other process has its own of the same name in the same module. So it
crosses by that name, and has to be a global of a module.
"""

import contextvars
import sys
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["adopt", "locate", "values_of"]

_MISSING = object()


def locate(variables: Iterable[contextvars.ContextVar[Any]]) -> list[tuple[str, str]]:
    """Finds the module and the name of each variable.

    Raises:
        ValueError: a variable is no global of any module.
    """
    places = []
    for variable in variables:
        place = _place_of(variable)
        if place is None:
            raise ValueError(
                f"{variable!r} is no global of a module, so a worker could not find it; make it one, or give its "
                "value as an argument"
            )
        places.append(place)
    return places


def values_of(variables: Sequence[contextvars.ContextVar[Any]]) -> dict[int, Any]:
    """The values that variables have here, by their place in the sequence; those without one are left out."""
    found = {}
    for index, variable in enumerate(variables):
        value = variable.get(_MISSING)
        if value is not _MISSING:
            found[index] = value
    return found


def adopt(
    context: contextvars.Context,
    variables: Sequence[contextvars.ContextVar[Any]],
    values: dict[int, Any],
) -> None:
    """Sets the variables in a context to values that `values_of` gave elsewhere."""
    for index, value in values.items():
        context.run(variables[index].set, value)


def _place_of(variable: contextvars.ContextVar[Any]) -> tuple[str, str] | None:
    for name, module in list(sys.modules.items()):
        for attribute, value in list(getattr(module, "__dict__", {}).items()):
            if value is variable:
                return name, attribute
    return None
