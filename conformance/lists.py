"""The lists that a run is judged by: what stock asyncio passes, and what no other loop can pass.

- A baseline holds the ids of the tests that stock asyncio passes on one exact version of CPython.
  Those of 3.12.1 and 3.13.0 are the runner's; this folder has the other versions, and for those two
  the tests of modules that the runner leaves out.
- `expectations/<release>.txt` has one line for each test of the baseline that fails on antiphon's loop:
  `test id | reason why no other implementation can pass it`. `expectations/<release>-installed.txt` has
  those that fail besides when `antiphon.install()` has put tasks, futures, locks, queues and streams in
  asyncio's place.
"""

from pathlib import Path

import suite

__all__ = ["read_baseline", "read_expectations", "run_name", "write_baseline"]

HERE = Path(__file__).resolve().parent


def run_name(release: str, installed: bool) -> str:
    """Names a run: "3.13", or "3.13-installed" if antiphon's objects stand under all of asyncio's names."""
    return f"{release}-installed" if installed else release


def read_baseline(version: str) -> set[str] | None:
    """Reads what stock asyncio passes.

    Args:
        version: of CPython, in full: "3.13.0".

    Returns:
        Ids of tests; None if that version was never measured.
    """
    files = [folder / "baseline" / f"cpython-{version}.txt" for folder in (suite.RUNNER, HERE)]
    known = [file for file in files if file.exists()]
    if not known:
        return None
    return {line for file in known for line in _lines(file)}


def write_baseline(version: str, passed: set[str], runs: int) -> Path:
    """Writes what stock asyncio passed, less what the runner's own list has already.

    Args:
        version: of CPython, in full.
        passed: ids of the tests that passed every time.
        runs: how many times that was.

    Returns:
        The file.
    """
    theirs = suite.RUNNER / "baseline" / f"cpython-{version}.txt"
    lines = sorted(passed - (set(_lines(theirs)) if theirs.exists() else set()))
    file = HERE / "baseline" / f"cpython-{version}.txt"
    heading = f"# CPython {version}: what stock asyncio passes, {runs} runs"
    file.write_text("\n".join([heading, *lines]) + "\n", encoding="utf-8")
    return file


def read_expectations(release: str, installed: bool) -> dict[str, str]:
    """Reads which tests must fail.

    Args:
        release: of CPython: "3.13".
        installed: whether antiphon's objects stand under all of asyncio's names.

    Returns:
        The reason of each, by the id of the test.

    Raises:
        ValueError: a line without a reason, or a second line for a test.
    """
    reasons: dict[str, str] = {}
    for name in dict.fromkeys((release, run_name(release, installed))):
        file = HERE / "expectations" / f"{name}.txt"
        for line in _lines(file) if file.exists() else ():
            test, _, reason = (part.strip() for part in line.partition("|"))
            if not reason:
                raise ValueError(f"{file}: no reason is given for {test}")
            if test in reasons:
                raise ValueError(f"{file}: {test} is listed twice")
            reasons[test] = reason
    return reasons


def _lines(file: Path) -> list[str]:
    """Returns what a list holds, less comments and empty lines."""
    lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]
