"""What native code needs written as a Python coroutine: an awaitable of somebody else's as the body of a task."""

from collections.abc import Awaitable
from typing import TypeVar

__all__ = ["wrap_awaitable"]

T = TypeVar("T")


async def wrap_awaitable(awaitable: Awaitable[T]) -> T:
    """Awaits an object that is neither coroutine nor future, so that a task can run it.

    Args:
        awaitable: any object with `__await__`.

    Returns:
        What awaiting it gives.
    """
    return await awaitable
