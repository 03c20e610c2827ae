"""Runs CPython's asyncio tests on a loop, several modules at once, and tells how each test ended.

Invariant: a module that cannot even be imported shows as a failed test of that name, unless this
release of CPython does not have the module at all.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import suite

__all__ = ["Measurement", "Outcome"]

# Of one module; the runner ends single tests long before.
SECONDS_A_MODULE = 600
SECONDS_A_TEST = 25.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one test ended.

    Attributes:
        status: "passed", "failed", "error", "skipped", "hang" or "crash".
        message: the end of the traceback, or the reason of the skip.
        seconds: how long it took.
        is_on_loop: whether it created a loop of the kind that was asked for.
    """

    status: str
    message: str
    seconds: float
    is_on_loop: bool

    @property
    def passed(self) -> bool:
        """Whether it ended as it should on any loop."""
        return self.status == "passed"


class Measurement:
    """Runs tests of one interpreter.

    Args:
        tests: CPython's, as the runner runs them.
        python: the interpreter; antiphon is importable there.
        release: its name in what is told, such as "3.13".
        work: a folder for logs.
        jobs: how many modules to run at the same time.
        tell: takes a line of progress.
        installed: whether antiphon's objects stand under all of asyncio's names (`install()`).
    """

    def __init__(
        self,
        tests: suite.Suite,
        python: str,
        release: str,
        work: Path,
        jobs: int,
        tell: Callable[[str], None],
        installed: bool = False,
    ) -> None:
        self._tests = tests
        self._python = python
        self._release = release
        self._work = work
        self._jobs = jobs
        self._tell = tell
        self._installed = installed

    def run(
        self,
        loop: str,
        only: Iterable[str] | None = None,
        left_out: Iterable[str] = (),
        seconds_a_test: float = SECONDS_A_TEST,
    ) -> dict[str, Outcome]:
        """Runs tests and waits for them.

        Args:
            loop: "antiphon" or "asyncio".
            only: patterns of test ids; None runs all that `suite` knows.
            left_out: patterns of test ids to leave out of those.
            seconds_a_test: a test that takes longer is ended, and told as "hang".

        Returns:
            The outcome of every test that the interpreter has, by its id.
        """
        patterns = None if only is None else list(only)
        wanted = [
            module
            for module in self._tests.modules
            if patterns is None or any(_is_of(pattern, module) for pattern in patterns)
        ]
        left_out = list(left_out)

        def run_module(module: str) -> dict[str, Outcome]:
            of_module = None if patterns is None else [p for p in patterns if _is_of(p, module)]
            return self._run_module(
                self._tests.specification(
                    module, loop, of_module, left_out, seconds_a_test, self._installed
                )
            )

        outcomes: dict[str, Outcome] = {}
        with ThreadPoolExecutor(self._jobs) as pool:
            for part in pool.map(run_module, wanted):
                outcomes |= part
        return outcomes

    def _run_module(self, specification: dict[str, Any]) -> dict[str, Outcome]:
        """Runs the tests of one module in a process of its own."""
        module, loop = specification["module"], specification["loop"]
        _, results, about = self._tests.common.run_unittest_module(
            self._python,
            specification,
            str(self._work / loop),
            module_timeout=SECONDS_A_MODULE,
        )
        broken = about.get("broken")
        if broken is not None:
            if f"No module named 'test.test_asyncio.{module}'" in broken:
                return {}
            results = {f"{module}.<import>": {"status": "error", "msg": broken}}
        outcomes = {
            test: Outcome(
                result["status"],
                result["msg"],
                result.get("secs", 0.0),
                bool(result.get("loops", 0)),
            )
            for test, result in results.items()
        }
        failed = sum(not outcome.passed for outcome in outcomes.values())
        seconds = sum(outcome.seconds for outcome in outcomes.values())
        self._tell(
            f"  {self._release} {loop} {module}: {len(outcomes)} tests, "
            f"{failed} did not pass, {seconds:.0f} s"
        )
        return outcomes


def _is_of(pattern: str, module: str) -> bool:
    """Whether a pattern of test ids names tests of a module."""
    return fnmatchcase(module, pattern.split(".", 1)[0])
