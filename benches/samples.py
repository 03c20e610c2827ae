"""What the rounds measured: samples and failures by row and contender, and their JSON form."""

import json
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benches.ratios import Series


@dataclass(frozen=True)
class Sample:
    """One row of one contender in one round. Times are nanoseconds per operation.

    ``cpu_ns`` is the judged figure: process CPU time for workloads, the server's for echo rows.
    Rates and latencies are the load client's and exist for echo rows only.
    """

    cpu_ns: float
    wall_ns: float
    rate_per_s: float | None = None
    p50_us: float | None = None
    p99_us: float | None = None


@dataclass
class Results:
    """Everything measured in one run. ``about`` describes machine, interpreters and settings."""

    contenders: list[str]
    about: dict[str, str] = field(default_factory=dict)
    samples: dict[str, dict[str, dict[int, Sample]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(dict))
    )
    failures: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    instructions: dict[str, dict[str, float | str]] = field(
        default_factory=lambda: defaultdict(dict)
    )

    def add(self, row: str, contender: str, round_: int, sample: Sample) -> None:
        """Records one sample."""
        self.samples[row][contender][round_] = sample

    def fail(self, row: str, contender: str, reason: str) -> None:
        """Records why a contender has no figure in a row; it is not asked again."""
        self.failures[row][contender] = reason

    def failed(self, row: str, contender: str) -> bool:
        """Returns whether the contender failed in this row, in this round or an earlier one."""
        return contender in self.failures.get(row, {})

    def series(self, row: str, contender: str) -> Series:
        """Returns CPU time per operation by round: empty for a row that was not run or that failed
        once.
        """
        if self.failed(row, contender):
            return {}
        rounds = self.samples.get(row, {}).get(contender, {})
        return {number: sample.cpu_ns for number, sample in rounds.items()}

    def rows(self) -> list[str]:
        """Returns the rows that were run, in the order in which they ran."""
        return list(dict.fromkeys([*self.samples, *self.failures]))

    def to_json(self) -> str:
        """Returns everything, readable by :meth:`from_json`."""
        samples = {
            row: {
                name: {str(number): asdict(sample) for number, sample in rounds.items()}
                for name, rounds in by_contender.items()
            }
            for row, by_contender in self.samples.items()
        }
        return json.dumps(
            {
                "contenders": self.contenders,
                "about": self.about,
                "samples": samples,
                "failures": self.failures,
                "instructions": self.instructions,
            },
            indent=1,
        )

    @classmethod
    def from_json(cls, text: str) -> "Results":
        """Reads what :meth:`to_json` wrote.

        Raises:
            ValueError, KeyError, TypeError: the text is something else.
        """
        stored: dict[str, Any] = json.loads(text)
        results = cls(stored["contenders"], stored["about"])
        for row, by_contender in stored["samples"].items():
            for name, rounds in by_contender.items():
                for number, sample in rounds.items():
                    results.add(row, name, int(number), Sample(**sample))
        for row, reasons in stored["failures"].items():
            results.failures[row] = reasons
        for row, counts in stored["instructions"].items():
            results.instructions[row] = counts
        return results

    def save(self, path: Path) -> None:
        """Writes the JSON form, making the folder where needed."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.to_json() + "\n")
