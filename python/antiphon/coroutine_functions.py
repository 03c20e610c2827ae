"""Lets `inspect` take what makes native coroutines for the coroutine functions that asyncio has there.

So that `mock.patch("asyncio.sleep")` and mocks made after `asyncio.Queue` can be awaited, and signatures are asyncio's.

Source: Lib/unittest/mock.py (`_is_async_obj`), Lib/inspect.py.
"""

import inspect
import types
from typing import Any

from antiphon import _antiphon

__all__ = ["declare"]


def declare(name: str, native: Any, theirs: Any) -> None:
    """Puts a coroutine function in the place of a native function, or of each such method of a native class.

    Args:
        name: of both, in asyncio and in antiphon's extension module.
        native: antiphon's function or class.
        theirs: asyncio's.
    """
    if isinstance(native, types.BuiltinFunctionType):
        if inspect.iscoroutinefunction(theirs):
            setattr(_antiphon, name, _antiphon.coroutine_function(native, theirs))
    elif isinstance(native, type) and isinstance(theirs, type):
        for attribute, function in vars(theirs).items():
            method = vars(native).get(attribute)
            # What `async with` calls is looked up by the interpreter in ways of its own.
            if (
                isinstance(method, types.MethodDescriptorType)
                and inspect.iscoroutinefunction(function)
                and not attribute.startswith("__")
            ):
                setattr(native, attribute, _antiphon.coroutine_function(method, function))
