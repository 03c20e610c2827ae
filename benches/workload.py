"""A workload: a program that one process runs on one loop, a given number of operations long.

A workload is a function of a :class:`Run`, registered with :func:`workload`. It uses asyncio's
public API only, so that the same function runs on every loop, and everything it does counts: what
it need not do is not in it.

    @workload("call_soon_chained", group="scheduling", title="call_soon, chained", unit="callback",
    size=300_000) def call_soon_chained(run: Run) -> None: ...
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

from benches.loops import LoopFactory

REGISTRY: dict[str, "Workload"] = {}


@dataclass(frozen=True)
class Run:
    """What a workload gets: an open loop, the number of operations wanted, a way to make more
    loops.

    ``windows`` are the CPU and wall nanoseconds of what ran under :meth:`measuring`.
    """

    loop: asyncio.AbstractEventLoop
    size: int
    new_loop: LoopFactory
    windows: list[tuple[int, int]] = field(default_factory=list)

    @contextlib.contextmanager
    def measuring(self) -> Iterator[None]:
        """Measures only what runs within: what it takes to set the stage and to clear it is left out.

        Instruction counts cannot leave anything out.
        """
        wall, cpu = time.perf_counter_ns(), time.process_time_ns()
        yield
        self.windows.append((time.process_time_ns() - cpu, time.perf_counter_ns() - wall))

    def until_stopped(self) -> None:
        """Runs one turn: everything queued so far, then stop."""
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    def complete(self, main: Coroutine[Any, Any, object]) -> None:
        """Runs ``main`` to its end."""
        self.loop.run_until_complete(main)


@dataclass(frozen=True)
class Workload:
    """A registered workload.

    ``size`` is the number of operations of one call, ``repeats_at_most`` caps the calls of long
    ones, ``counted_sizes`` are the two sizes whose difference gives instructions per operation.
    """

    name: str
    group: str
    title: str
    unit: str
    size: int
    function: Callable[[Run], None]
    repeats_at_most: int | None
    counted_sizes: tuple[int, int]


def workload(
    name: str,
    *,
    group: str,
    title: str,
    unit: str,
    size: int,
    repeats_at_most: int | None = None,
    counted_sizes: tuple[int, int] | None = None,
) -> Callable[[Callable[[Run], None]], Callable[[Run], None]]:
    """Registers the decorated function as a :class:`Workload`; see there for the arguments.

    Raises:
        ValueError: the name is taken.
    """
    if name in REGISTRY:
        raise ValueError(f"two workloads are called {name!r}")

    def register(function: Callable[[Run], None]) -> Callable[[Run], None]:
        sizes = counted_sizes or (size // 50, size // 10)
        REGISTRY[name] = Workload(name, group, title, unit, size, function, repeats_at_most, sizes)
        return function

    return register
