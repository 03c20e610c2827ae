"""Compares how tests ended with what was expected of them.

A test counts if stock asyncio passes it. Then it must pass, unless it is listed among the
expectations, and then it must not: a list that no longer holds is as wrong as a failure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from measure import Outcome

__all__ = ["Verdict", "judge"]


@dataclass(slots=True)
class Verdict:
    """What a run came to; each field holds ids of tests.

    Attributes:
        passed: they should.
        expected_failures: listed, and failed.
        unexpected_failures: not listed, and did not pass.
        unexpected_passes: listed, but passed.
        missing: stock asyncio passes them, and they did not run at all.
        unknown: listed, but stock asyncio has no such test or fails it too.
        uncounted: stock asyncio does not pass them either.
    """

    passed: list[str] = field(default_factory=list)
    expected_failures: list[str] = field(default_factory=list)
    unexpected_failures: list[str] = field(default_factory=list)
    unexpected_passes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    uncounted: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether everything went as expected."""
        return not (
            self.unexpected_failures or self.unexpected_passes or self.missing or self.unknown
        )


def judge(
    outcomes: Mapping[str, Outcome],
    baseline: set[str],
    expected: set[str],
    due: set[str],
) -> Verdict:
    """Judges one interpreter's run.

    Args:
        outcomes: of every test that ran.
        baseline: the tests that stock asyncio passes.
        expected: the tests listed to fail.
        due: the tests that this run had to reach; a part of the baseline, perhaps of `expected`.

    Returns:
        Every test in exactly one field.
    """
    verdict = Verdict()
    for test, outcome in sorted(outcomes.items()):
        if test not in baseline:
            (verdict.unknown if test in expected else verdict.uncounted).append(test)
        elif outcome.passed:
            (verdict.unexpected_passes if test in expected else verdict.passed).append(test)
        else:
            failures = (
                verdict.expected_failures if test in expected else verdict.unexpected_failures
            )
            failures.append(test)
    unreached = due - outcomes.keys()
    verdict.missing = sorted(unreached & baseline)
    verdict.unknown += sorted(unreached - baseline)
    return verdict
