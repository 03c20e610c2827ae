"""Ratios between two series of rounds, and what they say about a target.

Noise on a shared machine only ever adds CPU time, and it hits neighbouring processes of one round
alike. So a ratio is given in two ways: that of the *best rounds* (least disturbed), and the *median
of the per-round ratios* with their range (each round compares neighbours in time). A claim counts
only where both agree.

Every ratio here is a *gain*: the peer's cost divided by one's own, above 1 where one is cheaper.
The median is taken on the logarithm, so that ``gain(a, b)`` is exactly the inverse of ``gain(b,
a)``.
"""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

Series = Mapping[int, float]
"""Cost per round: round number to cost, so that failed rounds leave a gap and not a shift."""


@dataclass(frozen=True)
class Gain:
    """How many times cheaper than a peer: by the best rounds, and per round (median, lowest,
    highest).
    """

    best: float
    median: float
    low: float
    high: float
    rounds: int

    def agrees_on(self, threshold: float) -> bool | None:
        """Returns whether the threshold is reached, or None where the two ways to look at it
        disagree.
        """
        by_best, by_median = self.best >= threshold, self.median >= threshold
        return by_best if by_best == by_median else None


def gain(peer: Series, own: Series) -> Gain | None:
    """Returns the gain of ``own`` over ``peer``, or None where they have no round in common.

    Raises:
        ValueError: a cost is not positive.
    """
    common = sorted(peer.keys() & own.keys())
    if not common:
        return None
    if min(min(peer[r], own[r]) for r in common) <= 0:
        raise ValueError("a cost of zero or less was measured: the clock is too coarse for it")
    per_round = [peer[r] / own[r] for r in common]
    return Gain(
        best=min(peer[r] for r in common) / min(own[r] for r in common),
        median=math.exp(statistics.median(math.log(ratio) for ratio in per_round)),
        low=min(per_round),
        high=max(per_round),
        rounds=len(common),
    )


ROUNDS_TO_JUDGE = 3
"""Rounds from which a target is judged; the verdict of fewer is a hint."""

ROUNDS_TO_TELL = 6
"""Rounds from which a change between two builds is told: 1 chance in 32 to be wrong about a row."""


class Verdict(Enum):
    """What the rounds say about a target."""

    REACHED = "reached"
    MISSED = "missed"
    UNCLEAR = "unclear"

    @classmethod
    def of(cls, measured: Gain, at_least: float) -> "Verdict":
        """Judges a gain by a target: unclear where best rounds and median disagree."""
        agreed = measured.agrees_on(at_least)
        if agreed is None:
            return cls.UNCLEAR
        return cls.REACHED if agreed else cls.MISSED


class Change(Enum):
    """What the rounds say about a change from one build to the next."""

    FASTER = "faster"
    SLOWER = "slower"
    NOT_SHOWN = "no difference shown"
    TOO_FEW_ROUNDS = "too few rounds to tell"

    @classmethod
    def of(cls, measured: Gain) -> "Change":
        """Faster or slower only where every round says so (then the best rounds do, too).

        This is the sign test at its strictest: n rounds of equal builds agree by chance in 2 of 2^n
        cases, so below :data:`ROUNDS_TO_TELL` rounds nothing is claimed.
        """
        if measured.rounds < ROUNDS_TO_TELL:
            return cls.TOO_FEW_ROUNDS
        if measured.low > 1:
            return cls.FASTER
        if measured.high < 1:
            return cls.SLOWER
        return cls.NOT_SHOWN


def geometric_mean(values: list[float]) -> float:
    """Returns the mean that treats twice and half alike."""
    return math.exp(statistics.fmean(math.log(value) for value in values))
