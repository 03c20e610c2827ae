"""What is measured, and how thoroughly: the rows chosen and the settings of the rounds."""

import re
from dataclasses import dataclass
from enum import Enum

from benches.echo.cells import BY_NAME as CELLS_BY_NAME
from benches.echo.cells import CELLS, QUICK_CELLS, Cell
from benches.targets import BY_ROW
from benches.workload import Workload
from benches.workloads import ALL


@dataclass(frozen=True)
class Settings:
    """How thoroughly. Times are seconds; ``budget_s`` is what whole rounds may take together."""

    rounds: int
    repeats: int
    window_s: float
    warm_s: float
    budget_s: float
    timeout_s: float = 60.0


FULL = Settings(rounds=5, repeats=3, window_s=0.5, warm_s=0.1, budget_s=1800)
QUICK = Settings(rounds=3, repeats=1, window_s=0.2, warm_s=0.05, budget_s=140)


@dataclass(frozen=True)
class Plan:
    """The rows of one run."""

    workloads: tuple[Workload, ...]
    cells: tuple[Cell, ...]

    def rows(self) -> list[str]:
        """Returns the rows' names."""
        return [w.name for w in self.workloads] + [c.name for c in self.cells]


class Scope(Enum):
    """Which rows there are to choose from."""

    ALL = "every row"
    TARGETS = "the rows with a target"
    QUICK = "the rows with a target, of the echo matrix some cells only"

    def holds(self, row: str) -> bool:
        """Returns whether a row belongs to the scope."""
        if self is Scope.ALL:
            return True
        quick = row not in CELLS_BY_NAME or row in QUICK_CELLS
        return row in BY_ROW and (quick or self is Scope.TARGETS)


def choose(select: str = "", scope: Scope = Scope.ALL) -> Plan:
    """Returns the rows of ``scope`` whose name, group or kind matches ``select``.

    Args:
        select: a regular expression, searched for anywhere in the name; empty for all.
        scope: the rows to choose from.

    Raises:
        re.error: ``select`` is no regular expression.
        ValueError: no row matches.
    """
    pattern = re.compile(select)

    def wanted(name: str, group: str) -> bool:
        return scope.holds(name) and bool(pattern.search(name) or pattern.search(group))

    plan = Plan(
        tuple(w for w in ALL.values() if wanted(w.name, w.group)),
        tuple(c for c in CELLS if wanted(c.name, c.kind)),
    )
    if not plan.rows():
        raise ValueError(f"no row matches {select!r} (--list prints them)")
    return plan


def title(row: str) -> str:
    """Returns the title of a row."""
    if row in ALL:
        return ALL[row].title
    return CELLS_BY_NAME[row].title if row in CELLS_BY_NAME else row


def unit(row: str) -> str:
    """Returns what one operation of a row is."""
    return ALL[row].unit if row in ALL else "message"


def in_one_process(row: str) -> bool:
    """Returns whether a row is a workload (else it is a server under load)."""
    return row in ALL
