"""Which of CPython's asyncio tests are run, and the runner of ../shared/conformance that runs them.

The runner is not part of this project and never copied: it is imported from beside the clone. It
starts one process a module, puts the chosen loop under asyncio's public names there and goes on
after a test that hangs or crashes.

Source: ../shared/conformance/README.md; Lib/test/test_asyncio.
"""

import importlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["QUICK", "QUICK_INSTALLED", "RUNNER", "Suite", "load_suite", "matching"]

RUNNER = Path(__file__).resolve().parents[2] / "shared" / "conformance"

# Beyond the runner's own list: modules that make loops by the public names as well. Left out are only
# those whose every test makes a loop of asyncio's own by a private name (test_selector_events,
# test_proactor_events) and Windows.
MORE_MODULES = [
    "test_base_events",
    "test_free_threading",
    "test_graph",
    "test_tools",
    "test_unix_events",
]

# Of those, with antiphon under asyncio's names: tests of asyncio's tasks in Python, as the runner leaves
# them out of its own modules.
MORE_LEFT_OUT_INSTALLED = ["test_free_threading.*Py*", "test_graph.TestCallStackPy.*"]

# The runner leaves out every pairing of tasks and futures that has one of asyncio's Python classes in it. Some
# have one of antiphon's besides, which must work together with it; only the others stay out.
PAIRS = {"test_tasks.PyTask*", "test_tasks.*PyTask*", "test_tasks.*_PyFuture*"}
PAIRS_LEFT_OUT_INSTALLED = ["test_tasks.PyTask_PyFuture_*"]

# What tells most in the least time: whatever touches the loop itself, once. The rest runs the same
# bodies over other classes of tasks and futures, which are CPython's own.
QUICK = [
    "test_base_events.BaseEventLoopWithSelectorTests.*",
    "test_buffered_proto.*",
    "test_context.*",
    "test_eager_task_factory.CEagerTaskFactoryLoopTests.*",
    "test_events.*",
    "test_free_threading.*",
    "test_runners.*",
    "test_sendfile.*",
    "test_server.*",
    "test_sock_lowlevel.*",
    "test_ssl.*",
    "test_sslproto.*",
    "test_streams.*",
    "test_subprocess.*",
    "test_tasks.CTask_CFuture_Tests.*",
    "test_tasks.RunCoroutineThreadsafeTests.*",
    "test_threads.*",
    "test_timeouts.*",
    "test_unix_events.SelectorEventLoop*",
    "test_unix_events.TestF*",
]

# The same with `antiphon.install()`: whatever touches what that has put in place. Descriptors, sockets,
# TLS and children are the same either way.
QUICK_INSTALLED = [
    "test_base_events.BaseEventLoopWithSelectorTests.*",
    "test_context.*",
    "test_eager_task_factory.*",
    "test_free_threading.*",
    "test_futures.*",
    "test_futures2.*",
    "test_graph.*",
    "test_locks.*",
    "test_pep492.*",
    "test_queues.*",
    "test_runners.*",
    "test_server.*",
    "test_staggered.*",
    "test_streams.*",
    "test_taskgroups.*",
    "test_tasks.CTask_*Future_*",
    "test_tasks.C[!T]*",
    "test_tasks.[!CP]*",
    "test_threads.*",
    "test_timeouts.*",
    "test_waitfor.*",
]

# Half of the time of all: the same bodies over every pairing of classes.
LONGEST = "test_tasks"


@dataclass(frozen=True, slots=True)
class Suite:
    """CPython's tests, as the runner of ../shared/conformance runs them.

    Attributes:
        common: the runner's module of that name, which starts the processes.
        modules: the modules of tests, the longest first, so that several at a time end together.
        left_out: patterns of test ids that are never run: the same tests once more on asyncio's
            other selectors and child watchers.
        left_out_installed: patterns of those left out as well where `antiphon.install()` has put
            other classes in place: tests of asyncio's Python code, which is not in use then.
    """

    common: ModuleType
    modules: list[str]
    left_out: list[str]
    left_out_installed: list[str]

    def specification(
        self,
        module: str,
        loop: str,
        only: list[str] | None,
        left_out: list[str],
        seconds_a_test: float,
        installed: bool,
    ) -> dict[str, Any]:
        """Describes one run of a module in the runner's terms.

        Args:
            module: a module of `test.test_asyncio`.
            loop: "antiphon" or "asyncio".
            only: patterns of test ids to run; None runs all.
            left_out: patterns of test ids to leave out besides those of the suite.
            seconds_a_test: a test that takes longer is ended.
            installed: call `antiphon.install()` first.
        """
        return {
            "kind": "cpython",
            "module": module,
            "loop": loop,
            "whole": installed,
            "drop": [*self.left_out, *(self.left_out_installed if installed else ()), *left_out],
            "only": only,
            "per_test": seconds_a_test,
        }


def load_suite() -> Suite:
    """Imports the runner.

    Raises:
        ImportError: it is not beside this clone.
    """
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # that folder is not ours
    sys.path.insert(0, str(RUNNER))
    try:
        common = importlib.import_module("common")
        runner = importlib.import_module("run_cpython")
    finally:
        sys.path.remove(str(RUNNER))
        sys.dont_write_bytecode = before
    modules = sorted({*runner.MODULES, *MORE_MODULES}, key=lambda name: (name != LONGEST, name))
    left_out_installed = [pattern for pattern in runner.DROP_WHOLE if pattern not in PAIRS]
    left_out_installed += [*PAIRS_LEFT_OUT_INSTALLED, *MORE_LEFT_OUT_INSTALLED]
    return Suite(common, modules, list(runner.DROP), left_out_installed)


def matching(tests: Iterable[str], patterns: Iterable[str]) -> set[str]:
    """Returns the tests that one of the patterns names."""
    patterns = list(patterns)
    return {test for test in tests if any(fnmatchcase(test, pattern) for pattern in patterns)}
