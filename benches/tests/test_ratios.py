"""Ratios: what the spread of rounds does and does not say."""

import math

import pytest

from benches.ratios import Change, Gain, Verdict, gain, geometric_mean


def measured(peer: list[float], own: list[float]) -> Gain:
    """The gain of two series that have every round in common."""
    found = gain(dict(enumerate(peer)), dict(enumerate(own)))
    assert found is not None
    return found


def test_gain_compares_rounds_that_belong_together() -> None:
    found = measured([200, 400, 300], [100, 100, 100])
    assert (found.low, found.median, found.high) == pytest.approx((2, 3, 4))
    assert found.best == pytest.approx(2)
    assert found.rounds == 3


def test_best_is_the_ratio_of_each_sides_best_round() -> None:
    found = measured([300, 200], [100, 160])
    assert found.best == pytest.approx(200 / 100)


def test_a_round_that_only_one_side_has_is_left_out() -> None:
    found = gain({0: 200, 1: 1}, {0: 100, 2: 1})
    assert found == Gain(2, 2, 2, 2, 1)


def test_nothing_in_common_is_no_gain() -> None:
    assert gain({0: 1.0}, {1: 1.0}) is None
    assert gain({}, {}) is None


def test_swapping_both_sides_inverts_every_figure() -> None:
    one, other = [310.0, 120.0, 95.0, 400.0], [100.0, 130.0, 60.0, 90.0]
    there, back = measured(one, other), measured(other, one)
    assert there.median == pytest.approx(1 / back.median)
    assert there.best == pytest.approx(1 / back.best)
    assert (there.low, there.high) == pytest.approx((1 / back.high, 1 / back.low))


def test_one_disturbed_round_does_not_move_the_median_of_three() -> None:
    assert measured([200, 200, 2000], [100, 100, 100]).median == pytest.approx(2)


def test_a_cost_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="clock is too coarse"):
        gain({0: 1.0}, {0: 0.0})


@pytest.mark.parametrize(
    ("peer", "own", "at_least", "verdict"),
    [
        ([200, 210, 220], [100, 100, 100], 2.0, Verdict.REACHED),
        ([200, 200, 200], [100, 100, 100], 2.0, Verdict.REACHED),
        ([150, 160, 170], [100, 100, 100], 2.0, Verdict.MISSED),
        # The best rounds say 2.0, the per-round median 1.5: neither may decide alone.
        ([200, 300, 300], [200, 200, 100], 2.0, Verdict.UNCLEAR),
    ],
)
def test_a_target_is_judged_where_best_and_median_agree(
    peer: list[float], own: list[float], at_least: float, verdict: Verdict
) -> None:
    assert Verdict.of(measured(peer, own), at_least) is verdict


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        ([102, 103, 101, 105, 120, 102], [100] * 6, Change.FASTER),
        ([98, 97, 99, 80, 98, 98], [100] * 6, Change.SLOWER),
        ([150, 150, 99, 150, 150, 150], [100] * 6, Change.NOT_SHOWN),
        ([100] * 6, [100] * 6, Change.NOT_SHOWN),
        ([150] * 5, [100] * 5, Change.TOO_FEW_ROUNDS),
    ],
)
def test_a_change_is_shown_only_where_every_round_agrees(
    before: list[float], after: list[float], change: Change
) -> None:
    assert Change.of(measured(before, after)) is change


def test_twice_and_half_cancel() -> None:
    assert geometric_mean([2, 0.5]) == pytest.approx(1)
    assert math.isclose(geometric_mean([3]), 3)
