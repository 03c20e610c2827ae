"""Runs of the suite under antiphon's hidden switches: which tests a switch leaves out, and how that is counted.

`ANTIPHON_FORCE=partial-writes`: sockets and pipes take a part of each write. Tests that depend on one write being
one read, or on its bytes being there at once, are marked `whole_writes` and deselected.

`ANTIPHON_FORCE=simulated-driver`: loops without descriptors, in virtual time. Nobody lists what needs a descriptor:
every test runs, and one whose loop was asked to watch a descriptor has no verdict, whatever came of it. Programs in
processes of their own cannot be seen into, so they have none either. What needs the kernel otherwise (its clock,
its signals, its children) is marked `real_driver`. The rest has to pass, and `--at-least` sees to it that the rest does
not shrink.
"""

import os
from collections.abc import Iterable

import pytest

FORCED = frozenset(os.environ.get("ANTIPHON_FORCE", "").split(",")) - {""}
PARTIAL_WRITES = "partial-writes" in FORCED
SIMULATED = "simulated-driver" in FORCED

NEEDS_DESCRIPTOR = "needs a descriptor"
NEEDS_PROCESS = "runs in a process of its own"
WITHOUT_VERDICT = (NEEDS_DESCRIPTOR, NEEDS_PROCESS)

MARKERS = (
    "whole_writes(reason): not with partial writes, which the test would take for a fault",
    "real_driver(reason): not on the simulated driver",
)

_NOTED = pytest.StashKey[int]()


def leaves_out(item: pytest.Item) -> bool:
    """Whether the switches in force leave this test out before it runs."""
    if PARTIAL_WRITES and item.get_closest_marker("whole_writes"):
        return True
    # On the simulated driver a test that makes no loop shows nothing.
    no_loop = "loop_name" not in getattr(item, "fixturenames", ())
    return SIMULATED and (no_loop or item.get_closest_marker("real_driver") is not None)


def _refused() -> int:
    from antiphon import _antiphon

    return _antiphon._refused_descriptors() if SIMULATED else 0


def note_begin(item: pytest.Item) -> None:
    """Remembers how many descriptors were refused before the test."""
    item.stash[_NOTED] = _refused()


def asked_for_descriptor(item: pytest.Item) -> bool:
    """Whether a simulated loop has refused a descriptor since the test began."""
    return _refused() > item.stash.get(_NOTED, 0)


def withhold_verdict(report: pytest.TestReport) -> None:
    """Takes back what a test came to whose loop was asked for a descriptor."""
    if report.when == "call" or report.failed:
        report.outcome = "skipped"
        report.longrepr = (__file__, 0, NEEDS_DESCRIPTOR)
    if report.when == "teardown":
        report.outcome = "passed"


def refuse_process() -> None:
    """Called where a test starts a program: on the simulated driver it ends here, without a verdict."""
    if SIMULATED:
        pytest.skip(NEEDS_PROCESS)


def without_verdict(report: pytest.TestReport) -> bool:
    """Whether the report is of a test that the simulated driver says nothing about."""
    return (
        SIMULATED
        and report.skipped
        and isinstance(report.longrepr, tuple)
        and any(str(report.longrepr[2]).endswith(reason) for reason in WITHOUT_VERDICT)
    )


def shortfall(passed: Iterable[object], at_least: int) -> str | None:
    """Says what is wrong where fewer tests passed than there have to be."""
    count = len(list(passed))
    return (
        None if count >= at_least else f"only {count} tests passed; there were at least {at_least}"
    )
