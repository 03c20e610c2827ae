"""User-space instructions per operation: free of noise, blind to the kernel's share.

Each figure is the difference of two runs of different sizes over the difference of the sizes, so
that start-up drops out. ``perf stat`` counts where the machine lets it; elsewhere valgrind's
cachegrind does, about 50 times slower (and with its own idea of which vector instructions the
processor has).
"""

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from benches.contender import (
    ROOT,
    Contender,
    MeasuredProcessError,
    environment,
    last_line,
)
from benches.echo.cells import Cell
from benches.echo.server_process import EchoServer, cell_options
from benches.plan import Plan
from benches.samples import Results
from benches.workload import Workload

TIMEOUT_S = 180
#: No row is begun after so long.
BUDGET_S = 1800
START_TIMEOUT_S = 60
#: Messages of the two server runs, beyond the first one of every connection.
MESSAGES = (1_000, 5_000)
#: Beyond this a counted server's batches no longer resemble those of one at full speed.
COUNTED_CONNECTIONS = 10


@dataclass(frozen=True)
class Counter:
    """A program that runs a command and reports its instructions on standard error."""

    name: str
    prefix: tuple[str, ...]
    pattern: re.Pattern[str]

    def read(self, words: str) -> int:
        """Returns the count in the counter's report.

        Raises:
            MeasuredProcessError: there is none.
        """
        found = self.pattern.search(words)
        if not found:
            raise MeasuredProcessError(f"{self.name} gave no count: {last_line(words)}")
        return int(found[1].replace(",", ""))


PERF = Counter(
    "perf",
    ("perf", "stat", "-x,", "-e", "instructions:u"),
    re.compile(r"^(\d+),,instructions:u", re.MULTILINE),
)
CACHEGRIND = Counter(
    "valgrind",
    ("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"),
    re.compile(r"I\s+refs:\s+([\d,]+)"),
)


def find_counter() -> Counter:
    """Returns the first counter that counts here.

    Raises:
        MeasuredProcessError: none does; the text says what each said.
    """
    reasons = []
    for counter in (PERF, CACHEGRIND):
        if not shutil.which(counter.prefix[0]):
            reasons.append(f"{counter.name} is not installed")
            continue
        try:
            _count_command(counter, ["true"])
        except MeasuredProcessError as error:
            reasons.append(str(error))
        else:
            return counter
    raise MeasuredProcessError("; ".join(reasons))


def _count_command(counter: Counter, command: Sequence[str]) -> int:
    try:
        done = subprocess.run(
            [*counter.prefix, *command],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise MeasuredProcessError(f"not counted within {TIMEOUT_S} s") from error
    if done.returncode:
        raise MeasuredProcessError(f"exit status {done.returncode}: {last_line(done.stderr)}")
    return counter.read(done.stderr)


def count_workload(counter: Counter, workload: Workload, contender: Contender) -> float:
    """Returns instructions per operation of a workload."""
    small, large = workload.counted_sizes

    def count(size: int) -> int:
        command = contender.command("worker", "count", contender.loop, workload.name, size)
        return _count_command(counter, command)

    return (count(large) - count(small)) / (large - small)


def count_cell(counter: Counter, cell: Cell, contender: Contender) -> float:
    """Returns instructions of the server per message of an echo cell."""

    def count(messages: int) -> int:
        with EchoServer(contender, cell.kind, counter.prefix, START_TIMEOUT_S) as server:
            options = [*cell_options(cell), "-d", TIMEOUT_S, "-N", messages]
            server.load(*options, seconds=TIMEOUT_S)
            return counter.read(server.terminate())

    small, large = MESSAGES
    return (count(large) - count(small)) / (large - small)


def count_all(
    counter: Counter,
    contenders: Sequence[Contender],
    plan: Plan,
    results: Results,
    progress: Callable[[str], None],
) -> None:
    """Counts every row of the plan (of the echo cells those with few connections) into
    ``results.instructions``.
    """
    counts: list[tuple[str, Callable[[Contender], float]]] = []
    for workload in plan.workloads:
        counts.append((workload.name, partial(count_workload, counter, workload)))
    for cell in plan.cells:
        if cell.connections <= COUNTED_CONNECTIONS:
            counts.append((cell.name, partial(count_cell, counter, cell)))
    loops = [contender for contender in contenders if not contender.native]
    began = time.monotonic()
    for name, count in counts:
        if time.monotonic() - began > BUDGET_S:
            results.about["instructions"] += f", until {BUDGET_S} s were over"
            return
        progress(f"instructions: {name}")
        for contender in loops:
            try:
                results.instructions[name][contender.label] = count(contender)
            except MeasuredProcessError as error:
                results.instructions[name][contender.label] = f"fail: {error}"
