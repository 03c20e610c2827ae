"""The rounds: every contender runs every row once a round, in fresh processes, neighbours in time.

    round 0, row 1: A B C D     round 0, row 2: A B C D     ...
    round 1, row 1: D C B A     ...

A noisy neighbour on the machine thus hits all contenders of a row alike, and drift within a round
cancels over two. Rounds are whole: where the budget ends before the last one, fewer rounds are
reported and none is cut.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import groupby

from benches.contender import Contender, MeasuredProcessError, run_to_json
from benches.echo.cells import Cell
from benches.echo.server_process import EchoServer, warm_server
from benches.plan import Plan, Settings
from benches.samples import Results, Sample
from benches.workload import Workload

Progress = Callable[[str], None]


class Rounds:
    """Measures a plan for some contenders into :attr:`results`."""

    def __init__(
        self,
        contenders: Sequence[Contender],
        plan: Plan,
        settings: Settings,
        results: Results,
        progress: Progress,
    ) -> None:
        """``progress`` is called with a line of text as each row of a round begins."""
        self.contenders = list(contenders)
        self.plan = plan
        self.settings = settings
        self.results = results
        self.progress = progress

    def run(self) -> int:
        """Measures and returns the number of whole rounds: ``settings.rounds`` unless the budget
        ends before.
        """
        began = time.monotonic()
        longest = 0.0
        for number in range(self.settings.rounds):
            round_began = time.monotonic()
            if round_began - began + longest > self.settings.budget_s:
                self.progress(f"the budget of {self.settings.budget_s:.0f} s ends here")
                return number
            self._run_round(number)
            longest = max(longest, time.monotonic() - round_began)
        return self.settings.rounds

    def _run_round(self, number: int) -> None:
        order = self.contenders if number % 2 == 0 else self.contenders[::-1]
        prefix = f"round {number + 1}/{self.settings.rounds}"
        for workload in self.plan.workloads:
            self.progress(f"{prefix}: {workload.name}")
            for contender in order:
                self._time_workload(workload, contender, number)
        for kind, cells in groupby(self.plan.cells, key=lambda cell: cell.kind):
            self._run_servers(kind, list(cells), order, number, prefix)

    def _time_workload(self, workload: Workload, contender: Contender, number: int) -> None:
        if contender.native or self.results.failed(workload.name, contender.label):
            return
        command = contender.command(
            "worker", "time", contender.loop, workload.name, self.settings.repeats
        )
        try:
            measured = run_to_json(command, self.settings.timeout_s)
        except MeasuredProcessError as error:
            self.results.fail(workload.name, contender.label, str(error))
            return
        sample = Sample(cpu_ns=measured["cpu_ns"], wall_ns=measured["wall_ns"])
        self.results.add(workload.name, contender.label, number, sample)

    def _run_servers(
        self, kind: str, cells: list[Cell], order: list[Contender], number: int, prefix: str
    ) -> None:
        """One fresh server per contender, all up for all cells of the kind, one of them loaded at a
        time.
        """
        with ExitStack() as stack:
            servers: dict[str, EchoServer] = {}
            for contender in order:
                if all(self.results.failed(cell.name, contender.label) for cell in cells):
                    continue
                try:
                    servers[contender.label] = stack.enter_context(warm_server(contender, kind))
                except MeasuredProcessError as error:
                    for cell in cells:
                        self.results.fail(cell.name, contender.label, str(error))
            for cell in cells:
                self.progress(f"{prefix}: {cell.name}")
                for contender in order:
                    if contender.label in servers:
                        self._measure_cell(cell, contender, servers, number)

    def _measure_cell(
        self, cell: Cell, contender: Contender, servers: dict[str, EchoServer], number: int
    ) -> None:
        if self.results.failed(cell.name, contender.label):
            return
        try:
            measured = servers[contender.label].measure(
                cell, self.settings.warm_s, self.settings.window_s
            )
        except MeasuredProcessError as error:
            self.results.fail(cell.name, contender.label, str(error))
            return
        sample = Sample(
            cpu_ns=measured["cpu_ns"],
            wall_ns=measured["wall_ns"],
            rate_per_s=measured["rate_per_s"],
            p50_us=measured["p50_us"],
            p99_us=measured["p99_us"],
        )
        self.results.add(cell.name, contender.label, number, sample)
