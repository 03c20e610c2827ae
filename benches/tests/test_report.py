"""Reports: targets beside what was measured, failures with their reason, and the picture."""

from pathlib import Path

import pytest

from benches import picture, report
from benches.compare_builds import AFTER, BEFORE, comparison
from benches.samples import Results, Sample
from benches.table import Table, number, spread


def run_of(costs: dict[str, dict[str, list[float]]], contenders: list[str]) -> Results:
    """Results with these costs by row and contender, one per round."""
    results = Results(contenders, {"machine": "one"})
    for row, by_contender in costs.items():
        for name, series in by_contender.items():
            for round_, cost in enumerate(series):
                results.add(row, name, round_, Sample(cost, cost, 1e5, 5.0, 9.0))
    return results


def test_targets_stand_beside_what_was_measured() -> None:
    costs = {
        "call_soon_chained": {"uvloop": [210.0, 220.0, 230.0], "antiphon": [100.0] * 3},
        "loop_iteration": {"uvloop": [400.0] * 3, "antiphon": [100.0] * 3},
        "tcp_protocol_64B_1c": {"uvloop": [1000.0] * 3, "antiphon": [790.0] * 3},
        "getaddrinfo_literal": {"asyncio": [5000.0] * 2, "antiphon": [100.0] * 2},
    }
    rows = report.targets(run_of(costs, ["asyncio", "uvloop", "antiphon"])).rows
    assert [(row[2], row[4]) for row in rows] == [
        ("≥ 2.1x", "reached"),
        ("≥ 6x", "missed"),
        ("≥ 1.25x (≤ 0.8 of the CPU)", "reached"),
        ("≥ 20x", "reached?"),
    ]


def test_a_target_of_a_loop_that_failed_says_so() -> None:
    results = run_of({"call_soon_chained": {"uvloop": [210.0]}}, ["uvloop", "antiphon"])
    results.fail("call_soon_chained", "antiphon", "exit status 1: no module")
    assert report.targets(results).rows[0][4] == "antiphon failed"
    assert "exit status 1: no module" in report.text(results)
    assert "exit status 1: no module" in report.markdown(results, None)


def test_a_loop_that_fails_everywhere_for_one_reason_is_told_once() -> None:
    results = Results(["rloop"])
    for row in ("call_soon_chained", "loop_iteration"):
        results.fail(row, "rloop", "not installed")
    assert report.failures(results).rows == [("rloop", "every row", "not installed")]


def test_builds_are_compared_row_by_row() -> None:
    costs = {
        "call_soon_chained": {BEFORE: [200.0] * 6, AFTER: [100.0] * 6},
        "loop_iteration": {BEFORE: [100.0] * 6, AFTER: [200.0] * 6},
    }
    table, summary = comparison(run_of(costs, [BEFORE, AFTER]))
    assert [row[-1] for row in table.rows] == ["faster", "slower"]
    assert "All 2 rows: 1.0" in summary


def test_the_picture_is_drawn_and_the_same_twice(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="only the bench environment has matplotlib")
    costs = {
        "call_soon_chained": {"uvloop": [210.0], "antiphon": [100.0]},
        "tcp_protocol_64B_1c": {"uvloop": [1000.0], "antiphon": [790.0], "epoll": [700.0]},
    }
    results = run_of(costs, ["uvloop", "antiphon", "epoll"])
    for name in ("one.svg", "two.svg"):
        picture.draw(results, tmp_path / name)
    drawn = (tmp_path / "one.svg").read_bytes()
    assert drawn.startswith(b"<?xml")
    assert drawn == (tmp_path / "two.svg").read_bytes()


def test_figures_have_three_digits() -> None:
    assert [number(x) for x in (1234.5, 99.94, 9.876, 0.05)] == ["1,234", "99.9", "9.88", "0.05"]
    assert spread(None) == "-"


def test_a_table_refuses_a_row_of_the_wrong_length() -> None:
    table = Table("title", ["one", "two"])
    with pytest.raises(ValueError, match="1 cells under 2 heads"):
        table.add("only")
