"""Blocking calls that end only if the loop goes on without them, and the means to take the seat from a step.

No test waits for time to pass: a step that blocks waits for an event which only another step of the same loop sets, so
without a hand-off the test would hang until its limit, on any machine.
"""

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LIMIT_SECONDS = 20.0
"""How long a blocked call may wait before the test has failed."""


def new_loop() -> asyncio.AbstractEventLoop:
    """A loop whose blocking steps can lose the seat; nobody takes it but the test."""
    import antiphon

    loop = antiphon.new_event_loop()
    loop._enable_hand_off()
    return loop


class Revoker:
    """Asks for the seat of whatever step is on, all the time, from a thread of its own.

    A step loses it if it is asleep in a call, however short the call: far sooner than with any watchdog.

    Args:
        loop: the loop.
        pause: how long the thread sleeps between two attempts, in seconds.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, pause: float = 0.0005) -> None:
        self._loop = loop
        self._pause = pause
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name="revoker")
        self.summoned = 0

    def _run(self) -> None:
        while not self._ends.wait(self._pause):
            self.summoned += self._loop._summon_spare()  # type: ignore[attr-defined]

    def __enter__(self) -> "Revoker":
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ends.set()
        self._thread.join()


@contextmanager
def quick_switches() -> Iterator[None]:
    """Threads change places as often as the interpreter lets them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def wait_for(event: threading.Event) -> None:
    """Blocks the calling thread until `event` is set; fails after the limit."""
    assert event.wait(LIMIT_SECONDS), "nobody went on with the loop"


def settle(condition: Callable[[], bool]) -> None:
    """Blocks the calling thread until `condition` holds; fails after the limit."""
    end = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.001)
