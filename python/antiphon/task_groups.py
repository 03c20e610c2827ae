"""Derived task groups: where a class replaces asyncio's private methods, asyncio's own rules run it.

`asyncio.TaskGroup` cannot be told to go on after an error, so libraries derive from it and override `_abort`,
`_on_task_done` or `__aexit__`, and read and set the attributes that asyncio's methods work with. Such a class gets
asyncio's methods, and attributes of its own in place of the native ones; every other one stays native.

Source: Lib/asyncio/taskgroups.py.
"""

import asyncio.taskgroups
from typing import Any

from antiphon._antiphon import TaskGroup

__all__: list[str] = []

_THEIRS = asyncio.taskgroups.TaskGroup

# Who overrides one of these means to change the rules.
_RULES = frozenset({"__aexit__", "_abort", "_aexit", "_is_base_error", "_on_task_done"})
# What asyncio's methods keep on the instance.
_ATTRIBUTES = tuple(vars(_THEIRS()))


class _Kept:
    """An attribute in the instance's own dictionary, in front of the native one of the same name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, group: Any, owner: type) -> Any:
        if group is None:
            return self
        try:
            return group.__dict__[self.name]
        except KeyError:
            message = f"{owner.__name__!r} object has no attribute {self.name!r}"
            raise AttributeError(message, name=self.name, obj=group) from None

    def __set__(self, group: Any, value: Any) -> None:
        group.__dict__[self.name] = value

    def __delete__(self, group: Any) -> None:
        del group.__dict__[self.name]


def _prepare(cls: Any, /, **keywords: Any) -> None:
    """Looks at a new class that derives from the native `TaskGroup`, as its `__init_subclass__`.

    Args:
        cls: the class.
        keywords: for the classes behind `TaskGroup`, which take none as a rule.
    """
    super(TaskGroup, cls).__init_subclass__(**keywords)
    if cls._runs_by_asyncios_rules or _RULES.isdisjoint(vars(cls)):
        return
    cls._runs_by_asyncios_rules = True
    for name in _ATTRIBUTES:
        if name not in vars(cls):
            setattr(cls, name, _Kept(name))


def _complete() -> None:
    """Gives the native class what Python code of derived ones may reach for."""
    native: Any = TaskGroup
    native._runs_by_asyncios_rules = False
    native.__init_subclass__ = classmethod(_prepare)
    for name, value in vars(_THEIRS).items():
        if name not in vars(native) and callable(value):
            setattr(native, name, value)


_complete()
