"""Compares two builds of antiphon, interleaved: the tool for keeping or reverting a change.

    python -m benches.compare_builds /tmp/before .venv --select 'call_soon|loop_iteration'

Both arguments are virtual environments (or interpreters) with antiphon installed, of the same
Python. Every row says faster or slower only where every round agrees; give the same build twice to
see what the machine's noise is worth.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benches import plan
from benches.cli import RESULTS, measure, progress_line
from benches.contender import Contender
from benches.plan import FULL, Scope, choose
from benches.ratios import Change, gain, geometric_mean
from benches.samples import Results
from benches.table import Table, number, spread
from benches.targets import SUBJECT

BEFORE, AFTER = "before", "after"
ROUNDS = 8
"""Even, so that each build runs first as often as second."""


def interpreter(path: Path) -> str:
    """Returns the interpreter of a virtual environment, or ``path`` where it is one.

    Raises:
        ValueError: there is no interpreter.
    """
    found = path / "bin" / "python" if path.is_dir() else path
    if not found.is_file():
        raise ValueError(f"{found} is no interpreter")
    # Not resolved: the link's place is what makes it the environment's interpreter.
    return str(found.absolute())


def comparison(results: Results) -> tuple[Table, str]:
    """Returns the table of both builds and one sentence on all rows together."""
    table = Table(
        "CPU time per operation, ns (best), and the gain of the change",
        ["row", BEFORE, AFTER, "best  median (range)", ""],
    )
    gains = []
    for row in results.rows():
        old, new = results.series(row, BEFORE), results.series(row, AFTER)
        changed = gain(old, new)
        if changed is None:
            table.add(plan.title(row), *(cost(results, row, n) for n in (BEFORE, AFTER)), "-", "")
            continue
        gains.append(changed.median)
        costs = number(min(old.values())), number(min(new.values()))
        table.add(plan.title(row), *costs, spread(changed), Change.of(changed).value)
    if not gains:
        return table, "No row was measured on both."
    mean = geometric_mean(gains)
    return table, f"All {len(gains)} rows: {mean:.3f}x (geometric mean of the medians)."


def cost(results: Results, row: str, name: str) -> str:
    """Returns the best cost, or why there is none."""
    series = results.series(row, name)
    if series:
        return number(min(series.values()))
    return results.failures.get(row, {}).get(name, "-")[-120:]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benches.compare_builds",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("before", type=Path, help="virtual environment or interpreter")
    parser.add_argument("after", type=Path, help="virtual environment or interpreter")
    parser.add_argument("--select", default="", metavar="RE", help="rows whose name matches")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    parser.add_argument("--budget", type=float, default=FULL.budget_s, metavar="S")
    parser.add_argument("--all", action="store_true", help="rows without a target as well")
    parser.add_argument("--instructions", action="store_true", help="count instructions as well")
    parser.add_argument(
        "--loop", default=SUBJECT, help="the loop to compare (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    try:
        contenders = [
            Contender(BEFORE, interpreter(options.before), options.loop),
            Contender(AFTER, interpreter(options.after), options.loop),
        ]
        rows = choose(options.select, Scope.ALL if options.all else Scope.TARGETS)
    except (re.error, ValueError) as error:
        parser.error(str(error))
    settings = replace(FULL, rounds=options.rounds, budget_s=options.budget)
    results = measure(contenders, rows, settings, options.instructions, progress_line())
    table, summary = comparison(results)
    print("\n" + "\n".join(f"{key}: {value}" for key, value in results.about.items()))
    print(f"\n{table.text()}\n{summary}")
    results.save(RESULTS / "raw" / "builds.json")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted: nothing was written")
