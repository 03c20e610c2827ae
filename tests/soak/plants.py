"""Faults to plant, so that one can see the soak find them (`--plant`)."""

import os
import threading
from collections.abc import Callable
from typing import Any

from soak.ends import End
from soak.life import Life

#: Which delivery of data is tampered with.
_DELIVERY = 200

_leaked: list[Any] = []


def _tamper(change: Callable[[bytes, bytes], bytes]) -> None:
    """Changes one delivery to `change(its bytes, those of another connection)`."""
    original = End.take
    deliveries = 0
    last: tuple[End | None, bytes] = (None, b"")

    def take(self: End, data: bytes | bytearray | memoryview) -> None:
        nonlocal deliveries, last
        own = bytes(data)
        deliveries += 1
        if deliveries >= _DELIVERY and own and last[0] is not self and last[1]:
            deliveries = -(1 << 60)  # once
            own = change(own, last[1])
        last = (self, own) if deliveries > 0 else (None, b"")
        original(self, own)

    End.take = take  # type: ignore[method-assign]


def _leak(make: Callable[[Life], Any]) -> None:
    """Leaves something behind at the end of each life."""
    original = Life.run

    def run(self: Life, *arguments: Any) -> None:
        original(self, *arguments)
        _leaked.append(make(self))

    Life.run = run  # type: ignore[method-assign]


def _start_thread(_: Life) -> threading.Thread:
    thread = threading.Thread(target=threading.Event().wait, daemon=True)
    thread.start()
    return thread


PLANTS: dict[str, Callable[[], None]] = {
    "mix-up": lambda: _tamper(lambda own, other: other),
    "loss": lambda: _tamper(lambda own, _: own[:-1]),
    "descriptor": lambda: _leak(lambda _: os.dup(0)),
    "thread": lambda: _leak(_start_thread),
    "loop": lambda: _leak(lambda life: life.loop),
}
