"""The functions that calls name by a key, so that each is pickled once and sent to each worker once."""

from collections.abc import Callable
from typing import Any

from antiphon.pool import pickling

__all__ = ["Functions"]


class Functions:
    """Keys and pickles of plain functions of modules; others may change, and are pickled with each call.

    Args:
        foreign: the workers do not have this program's `__main__`.
    """

    def __init__(self, foreign: bool = False) -> None:
        self._foreign = foreign
        self._keys: dict[Callable[..., Any], int] = {}
        self._pickles: list[bytes] = []

    def key_of(self, function: Callable[..., Any]) -> int:
        """Gives the function's key, from 1 on; 0 if it has none."""
        try:
            key = self._keys.get(function)
        except TypeError:  # not hashable, so no plain function
            return 0
        if key is None:
            if not pickling.importable(function, self._foreign):
                return 0
            data, _ = pickling.dump(function, lambda: "the function")
            self._pickles.append(data)
            key = self._keys[function] = len(self._pickles)
        return key

    def pickle_of(self, key: int) -> bytes:
        """Gives the pickle of the function with this key."""
        return self._pickles[key - 1]
