"""Which of CPython's asyncio tests are run, and the runner of ../shared/conformance that runs them.

The runner is not part of this project and never copied: it is imported from beside the clone. It
starts one process a module, puts the chosen loop under asyncio's public names there and goes on
after a test that hangs or crashes.

Source: ../shared/conformance/README.md; Lib/test/test_asyncio.
"""

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["QUICK", "RUNNER", "load_runner", "specification"]

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

# Half of the time of all: the same bodies over every pairing of classes.
LONGEST = "test_tasks"


def load_runner() -> tuple[ModuleType, list[str], list[str]]:
    """Imports the runner.

    Returns:
        Its module `common`, the modules of tests to run (the longest first, so that several at a
        time end together), and patterns of tests to leave out (the same tests once more on asyncio's
        other selectors and child watchers).

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
    return common, modules, list(runner.DROP)


def specification(
    module: str, loop: str, only: list[str] | None, left_out: list[str], seconds_a_test: float
) -> dict[str, Any]:
    """Describes one run of a module in the runner's terms.

    Args:
        module: a module of `test.test_asyncio`.
        loop: "antiphon" or "asyncio".
        only: patterns of test ids to run; None runs all.
        left_out: patterns of test ids to leave out.
        seconds_a_test: a test that takes longer is ended.
    """
    return {
        "kind": "cpython",
        "module": module,
        "loop": loop,
        "whole": False,
        "drop": left_out,
        "only": only,
        "per_test": seconds_a_test,
    }
