"""Runs CPython's own asyncio tests on antiphon and fails if any does not end as expected.

    run.py [--quick] [--install | --both] [--module NAME] [--test PATTERN] [--jobs N] RELEASE=PYTHON...
    run.py --baseline 3 RELEASE=PYTHON...

With --install every process calls `antiphon.install()` first, and the runner lets CPython's classes of tests for
"the C one" (`asyncio.tasks._CTask`, `asyncio.futures._CFuture`, `_c_current_task` and so on, which `install()` leaves
alone) mean what stands under the public names then: those bodies test antiphon's own tasks and futures. Tests of
asyncio's Python classes alone are left out, as nobody uses them there; those that pair one with one of ours are run.

Each PYTHON is an interpreter that can import antiphon. Its tests are judged by the lists of this
folder (`lists`, `verdict`); the last line counts as pytest's does. What every test said is kept in
target/conformance/<release>.json (`-installed` behind the release for a run with --install).
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

import lists
import suite
from measure import Measurement, Outcome
from verdict import Verdict, judge

# Some tests that no other loop can pass wait for ever then.
SECONDS_TO_FAIL_IN = 5.0
KEPT = Path(__file__).resolve().parent.parent / "target" / "conformance"


def main() -> int:
    """Runs the command line; returns the exit status."""
    options = parse_arguments()
    if not suite.RUNNER.is_dir():
        print(
            f"conformance: there is no {suite.RUNNER} beside this clone, which runs CPython's tests"
        )
        return 1
    KEPT.mkdir(parents=True, exist_ok=True)
    tests = suite.load_suite()
    if options.baseline:
        for release, python in options.interpreters:
            measure_baseline(tests, release, python, options)
        return 0
    ways = (False, True) if options.both else (options.install,)
    verdicts = {
        lists.run_name(release, installed): run_release(tests, release, python, options, installed)
        for release, python in options.interpreters
        for installed in ways
    }
    print_table(verdicts)
    return 0 if all(verdict.is_good for verdict in verdicts.values()) else 1


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description="Runs CPython's own asyncio tests on antiphon.", allow_abbrev=False
    )
    parser.add_argument("--quick", action="store_true", help="the part that CI runs")
    way = parser.add_mutually_exclusive_group()
    way.add_argument(
        "--install", action="store_true", help="call antiphon.install() first in every process"
    )
    way.add_argument("--both", action="store_true", help="all without and with --install")
    parser.add_argument("--module", action="append", default=[], help="such as test_events")
    parser.add_argument("--test", action="append", default=[], help="a pattern of test ids")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="modules at a time")
    parser.add_argument(
        "--baseline",
        type=int,
        default=0,
        metavar="RUNS",
        help="instead: write down what stock asyncio passes every time",
    )
    parser.add_argument("interpreters", nargs="+", type=interpreter, metavar="RELEASE=PYTHON")
    return parser.parse_args()


def interpreter(argument: str) -> tuple[str, str]:
    """Reads an argument like 3.13=/usr/bin/python3.13."""
    release, equals, python = argument.partition("=")
    if not equals or not os.access(python, os.X_OK):
        raise argparse.ArgumentTypeError(f"{argument!r} is not RELEASE=PYTHON")
    return release, python


def patterns_of(options: argparse.Namespace, installed: bool) -> list[str] | None:
    """Returns patterns of the tests to run; None for all."""
    patterns = [f"{module}.*" for module in options.module] + options.test
    if options.quick and not patterns:
        return suite.QUICK_INSTALLED if installed else suite.QUICK
    return patterns or None


def measurement_of(
    tests: suite.Suite,
    release: str,
    python: str,
    options: argparse.Namespace,
    installed: bool = False,
) -> Measurement:
    """Prepares to run tests of one interpreter."""
    name = lists.run_name(release, installed)
    return Measurement(tests, python, name, KEPT / f"work-{name}", options.jobs, tell, installed)


def run_release(
    tests: suite.Suite,
    release: str,
    python: str,
    options: argparse.Namespace,
    installed: bool,
) -> Verdict:
    """Runs the tests of one interpreter on antiphon, tells what was not expected, and judges."""
    version = version_of(python)
    patterns = patterns_of(options, installed)
    measurement = measurement_of(tests, release, python, options, installed)
    expected = lists.read_expectations(release.removesuffix("t"), installed)
    begun = time.monotonic()
    outcomes = measurement.run("antiphon", patterns, left_out=expected)
    # A machine that is busy can fail a test that has a time limit of its own.
    second_try = failed_tests(outcomes)
    retried = measurement.run("antiphon", sorted(second_try)) if second_try else {}
    lucky = {test: outcome for test, outcome in retried.items() if outcome.passed}
    outcomes |= lucky
    must_fail = chosen(expected, patterns)
    if must_fail:
        outcomes |= measurement.run(
            "antiphon", sorted(must_fail), seconds_a_test=SECONDS_TO_FAIL_IN
        )

    baseline = lists.read_baseline(version)
    if baseline is not None and installed:
        baseline -= suite.matching(baseline, tests.left_out_installed)
    due = baseline
    if baseline is None:
        tell(f"no baseline for CPython {version}: stock asyncio is asked about what failed")
        due = set()
        baseline = set(outcomes) - failed_tests(outcomes)
        baseline |= passed_tests(measurement.run("asyncio", sorted(failed_tests(outcomes))))
    verdict = judge(outcomes, baseline, set(expected), chosen(due, patterns) | must_fail)
    name = lists.run_name(release, installed)
    keep(name, version, outcomes, verdict)
    print(
        f"CPython {version}{', installed' if installed else ''}: {time.monotonic() - begun:.0f} s"
    )
    print_surprises(verdict, outcomes, expected)
    for test in sorted(lucky):
        print(f"  passed on the second try only: {test}")
    return verdict


def measure_baseline(
    tests: suite.Suite, release: str, python: str, options: argparse.Namespace
) -> None:
    """Writes down what stock asyncio passes in every one of some runs."""
    measurement = measurement_of(tests, release, python, options)
    passed = passed_tests(measurement.run("asyncio"))
    for _ in range(options.baseline - 1):
        passed &= passed_tests(measurement.run("asyncio"))
    file = lists.write_baseline(version_of(python), passed, options.baseline)
    print(f"{len(passed)} tests pass on stock asyncio: {file}")


def version_of(python: str) -> str:
    """Asks an interpreter for its version in full."""
    command = [python, "-c", "import platform; print(platform.python_version())"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def failed_tests(outcomes: Mapping[str, Outcome]) -> set[str]:
    """Returns the tests that did not pass."""
    return {test for test, outcome in outcomes.items() if not outcome.passed}


def passed_tests(outcomes: Mapping[str, Outcome]) -> set[str]:
    """Returns the tests that passed."""
    return {test for test, outcome in outcomes.items() if outcome.passed}


def chosen(tests: Iterable[str], patterns: list[str] | None) -> set[str]:
    """Returns the tests that one of the patterns names; None names all."""
    return set(tests) if patterns is None else suite.matching(tests, patterns)


def tell(line: str) -> None:
    """Shows how far the run is."""
    print(line, file=sys.stderr, flush=True)


def keep(name: str, version: str, outcomes: Mapping[str, Outcome], verdict: Verdict) -> None:
    """Keeps what every test said."""
    record = {
        "version": version,
        "outcomes": {test: asdict(outcome) for test, outcome in sorted(outcomes.items())},
        "verdict": asdict(verdict),
    }
    (KEPT / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def print_surprises(
    verdict: Verdict, outcomes: Mapping[str, Outcome], expected: Mapping[str, str]
) -> None:
    """Names every test that did not end as expected."""
    for test in verdict.unexpected_failures:
        outcome = outcomes[test]
        last_line = (outcome.message.strip().splitlines() or [""])[-1]
        print(f"  UNEXPECTED {outcome.status}: {test}\n      {last_line[:160]}")
    for test in verdict.unexpected_passes:
        print(f"  UNEXPECTED pass: {test}\n      was expected to fail: {expected[test]}")
    for test in verdict.missing:
        print(f"  did not run: {test}")
    for test in verdict.unknown:
        print(f"  listed as expected to fail, but stock asyncio does not pass it: {test}")


def print_table(verdicts: Mapping[str, Verdict]) -> None:
    """Prints one line for each release, and a last one like pytest's."""
    columns = (
        "release       ",
        "counted",
        "passed",
        "expected failures",
        "unexpected",
        "not counted",
    )
    print("\n" + "  ".join(columns))
    failed = 0
    for release, verdict in verdicts.items():
        unexpected = sum(
            len(tests)
            for tests in (
                verdict.unexpected_failures,
                verdict.unexpected_passes,
                verdict.missing,
                verdict.unknown,
            )
        )
        failed += unexpected
        counted = len(verdict.passed) + len(verdict.expected_failures) + unexpected
        row = (
            release.ljust(14),
            counted,
            len(verdict.passed),
            len(verdict.expected_failures),
            unexpected,
            len(verdict.uncounted),
        )
        print(
            "  ".join(str(cell).rjust(len(name)) for cell, name in zip(row, columns, strict=True))
        )
    passed = sum(len(verdict.passed) for verdict in verdicts.values())
    expected = sum(len(verdict.expected_failures) for verdict in verdicts.values())
    text = f"{failed} failed, {passed} passed" if failed else f"{passed} passed"
    print(text + (f", {expected} xfailed" if expected else ""))


if __name__ == "__main__":
    sys.exit(main())
