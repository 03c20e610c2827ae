"""Plain values: those that `marshal` carries as they are, so that a call of them is not pickled.

Numbers, short words and None have no identity, no code of their own and no parts that calls could share, so they are
the same on the other side. They travel within the messages, and those of consecutive calls in one: to pickle each call
by itself costs more than all else that the pool does for it.

Source: Lib/marshal.
"""

from collections.abc import Iterable
from itertools import chain
from typing import Any

__all__ = ["add_to_run", "all_plain", "is_plain"]

_NUMBERS = frozenset({bool, complex, float, int, type(None)})
_WORDS = frozenset({bytes, str})
#: Longer ones go through pickle, by which large ones come to shared memory.
_LONGEST_WORD = 1 << 12

Message = tuple[Any, ...]


def is_plain(value: object) -> bool:
    """Whether a value may travel within a message."""
    kind = type(value)
    return kind in _NUMBERS or (kind in _WORDS and len(value) <= _LONGEST_WORD)  # type: ignore[arg-type]


def all_plain(calls: Iterable[tuple[Any, ...]]) -> bool:
    """Whether all arguments of some calls may travel within a message."""
    kinds = set(map(type, chain.from_iterable(calls)))
    if kinds <= _NUMBERS:
        return True
    return kinds <= _NUMBERS | _WORDS and all(map(is_plain, chain.from_iterable(calls)))


def add_to_run(outbox: list[Message], kind: int, number: int, key: int, value: object) -> bool:
    """Adds a plain value to the last message that waits to be sent, if that one ends with the number before.

    Args:
        outbox: the messages.
        kind, key: what such a message begins and goes on with: kind, first number, key, values.
        number: the call's number.
        value: its arguments, or what it returned.

    Returns:
        Whether it was added; otherwise it needs a message of its own.
    """
    if outbox:
        last = outbox[-1]
        if last[0] == kind and last[2] == key and last[1] + len(last[3]) == number:
            last[3].append(value)
            return True
    return False
