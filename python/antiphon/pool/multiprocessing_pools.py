"""Pools with multiprocessing's interface as executors: `multiprocessing.Pool` itself, Ray's, `multiprocess`'s."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

__all__ = ["executor_of"]


def executor_of(pool: Any) -> Executor:
    """Makes an executor of a pool that has `apply_async(function, args, callback=, error_callback=)`.

    Args:
        pool: such as `ray.util.multiprocessing.Pool()`; it stays the caller's to close.

    Returns:
        What `Pool(executor=...)` takes.

    Raises:
        TypeError: it has no `apply_async`.
    """
    if not callable(getattr(pool, "apply_async", None)):
        raise TypeError(f"{pool!r} has no apply_async(), as pools of multiprocessing and Ray have")
    return _AppliedAsync(pool)


class _AppliedAsync(Executor):
    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()  # such pools cannot take a call back
        self._pool.apply_async(
            fn, args, kwargs, callback=future.set_result, error_callback=future.set_exception
        )
        return future
