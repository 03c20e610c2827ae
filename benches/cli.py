"""The command line of the benchmarks: chooses contenders and rows, measures, writes report and
picture.
"""

import argparse
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from benches import instructions, loops, picture, report
from benches.contender import FLOOR, Contender, MeasuredProcessError
from benches.environment import describe
from benches.plan import FULL, QUICK, Plan, Scope, Settings, choose
from benches.rounds import Rounds
from benches.samples import Results

#: The floor comes last: it is no loop, it shows how much a loop could gain.
LOOPS = (*loops.NAMES, FLOOR)
RESULTS = Path(__file__).parent / "results"


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the options."""
    made = argparse.ArgumentParser(
        prog="python -m benches",
        description="Measures event loops against each other, in rounds of fresh processes.",
    )
    made.add_argument("--quick", action="store_true", help="two minutes, fewer rows: hints")
    made.add_argument("--select", default="", metavar="RE", help="rows whose name or group matches")
    made.add_argument("--loops", default=",".join(LOOPS), help="default: %(default)s")
    made.add_argument("--python", default=sys.executable, help="the interpreter to measure with")
    made.add_argument("--rounds", type=int, help="default: 5, or 3 with --quick; 0 counts only")
    made.add_argument("--budget", type=float, metavar="S", help="seconds that the rounds may take")
    made.add_argument("--instructions", action="store_true", help="count instructions as well")
    made.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    made.add_argument("--list", action="store_true", help="only print the rows' names")
    made.add_argument("--redraw", type=Path, metavar="JSON", help="only report a stored run again")
    return made


def progress_line() -> Callable[[str], None]:
    """Returns what shows progress on standard error: one changing line on a terminal, lines
    elsewhere.
    """
    began = time.monotonic()
    terminal = sys.stderr.isatty()

    def show(words: str) -> None:
        line = f"[{time.monotonic() - began:6.1f} s] {words}"
        print(f"\r{line:<78}" if terminal else line, end="" if terminal else "\n", file=sys.stderr)
        sys.stderr.flush()

    return show


def settings_of(options: argparse.Namespace) -> Settings:
    """Returns the settings that the options ask for."""
    settings = QUICK if options.quick else FULL
    if options.rounds is not None:
        settings = replace(settings, rounds=options.rounds)
    if options.budget is not None:
        settings = replace(settings, budget_s=options.budget)
    return settings


def scope_of(options: argparse.Namespace) -> Scope:
    """Returns the rows to choose from: a quick run has fewer, unless some are asked for."""
    return Scope.QUICK if options.quick and not options.select else Scope.ALL


def measure(
    contenders: Sequence[Contender],
    rows: Plan,
    settings: Settings,
    count_instructions: bool,
    progress: Callable[[str], None],
) -> Results:
    """Probes the contenders, runs the rounds, counts instructions where asked for.

    A contender that is not there has failed in every row, for the reason that its probe gave.
    """
    about, missing = describe(contenders, settings)
    results = Results([contender.label for contender in contenders], about)
    for label, reason in missing.items():
        for row in rows.rows():
            results.fail(row, label, reason)
    present = [contender for contender in contenders if contender.label not in missing]
    done = Rounds(present, rows, settings, results, progress).run()
    results.about["rounds"] = str(done)
    if count_instructions:
        try:
            counter = instructions.find_counter()
        except MeasuredProcessError as error:
            results.about["instructions"] = f"not counted: {error}"
        else:
            results.about["instructions"] = f"counted by {counter.name}"
            instructions.count_all(counter, present, rows, results, progress)
    return results


def write(results: Results, folder: Path, name: str) -> list[Path]:
    """Writes raw figures, picture and page, and returns the files written."""
    written = [folder / "raw" / f"{name}.json", folder / f"{name}.md"]
    results.save(written[0])
    drawn: Path | None = folder / f"{name}.svg"
    try:
        picture.draw(results, folder / f"{name}.svg")
        written.append(folder / f"{name}.svg")
    except (ImportError, ValueError) as error:
        drawn = None
        print(f"no picture: {error}", file=sys.stderr)
    written[1].write_text(report.markdown(results, drawn.name if drawn else None))
    return written


def name_of(options: argparse.Namespace, about: dict[str, str]) -> str:
    """Returns the results' file name: partial runs have names of their own, so that they never
    replace a full one.
    """
    found = re.search(r"on (\w+) (\d+\.\d+)", " ".join(about.values()))
    parts = [f"{found[1].lower()}-{found[2]}" if found else "loops"]
    parts += ["quick"] if options.quick else []
    parts += ["selected"] if options.select or options.rounds is not None else []
    return "-".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status: 0, or 1 where no contender is there."""
    options = parser().parse_args(arguments)
    if options.redraw:
        results = Results.from_json(options.redraw.read_text())
        name = options.redraw.stem
    else:
        try:
            rows = choose(options.select, scope_of(options))
            names = options.loops.split(",")
            for loop in names:
                if loop not in LOOPS:
                    raise ValueError(f"no loop is called {loop!r}")
        except (re.error, ValueError) as error:
            parser().error(str(error))
        if options.list:
            print("\n".join(rows.rows()))
            return 0
        contenders = [Contender(loop, options.python, loop) for loop in names]
        results = measure(
            contenders, rows, settings_of(options), options.instructions, progress_line()
        )
        name = name_of(options, results.about)
    print(f"\n{report.text(results)}\n")
    written = write(results, options.out, name)
    print("written: " + ", ".join(str(path) for path in written))
    return 0 if any(name in results.about for name in results.contenders) else 1
