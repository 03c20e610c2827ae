"""The plan: every target names a row that exists, and selections pick what they say."""

import re

import pytest

from benches.echo.cells import CELLS, KINDS
from benches.echo.handlers import BufferedEcho, Echo
from benches.plan import Scope, choose, title, unit
from benches.targets import BY_ROW, TO_REACH
from benches.workloads import ALL


def test_every_target_names_one_row() -> None:
    rows = choose().rows()
    assert len(rows) == len(set(rows))
    assert len(BY_ROW) == len(TO_REACH)
    assert {target.row for target in TO_REACH} <= set(rows)


def test_the_protocol_matrix_has_a_target_in_every_cell() -> None:
    cells = {(c.message_bytes, c.connections) for c in CELLS if c.kind == "tcp_protocol"}
    large = {(100 * 1024, count) for count in (1, 100, 1000)}
    wanted = {(size, count) for size in (64, 1024, 16384) for count in (1, 10, 100, 1000)}
    assert cells == wanted | large
    assert all(BY_ROW[f"tcp_protocol_{size}B_{count}c"].gain == 1 for size, count in large)
    for size, count in wanted:
        assert BY_ROW[f"tcp_protocol_{size}B_{count}c"].gain == pytest.approx(1 / 0.8)


def test_select_looks_at_names_and_groups() -> None:
    assert choose("^call_soon_chained$").rows() == ["call_soon_chained"]
    assert {w.group for w in choose("^timers$").workloads} == {"timers"}
    assert {c.kind for c in choose("^churn").cells} == {"churn"}


def test_scopes_narrow_down() -> None:
    every, targets, quick = (set(choose("", scope).rows()) for scope in Scope)
    assert quick < targets < every
    assert targets == set(BY_ROW)


def test_a_quick_run_still_sees_every_size_and_every_number_of_connections() -> None:
    def shapes(scope: Scope) -> tuple[set[int], set[int], set[str]]:
        cells = choose("", scope).cells
        return (
            {cell.message_bytes for cell in cells},
            {cell.connections for cell in cells},
            {cell.kind for cell in cells},
        )

    assert shapes(Scope.QUICK) == shapes(Scope.TARGETS)


def test_a_selection_that_is_no_expression_is_refused() -> None:
    with pytest.raises(re.error):
        choose("(")


def test_a_selection_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no row matches 'timer_of_nothing'"):
        choose("timer_of_nothing")


def test_every_row_has_a_title_and_a_unit() -> None:
    for row in choose().rows():
        assert title(row) != row
        assert unit(row)


def test_workloads_can_be_counted_at_two_sizes() -> None:
    for workload in ALL.values():
        small, large = workload.counted_sizes
        assert 0 < small < large <= workload.size


def test_every_kind_has_cells_and_handlers_are_protocols() -> None:
    assert {cell.kind for cell in CELLS} == set(KINDS)
    assert Echo.__mro__[1].__name__ == "Protocol"
    assert BufferedEcho.__mro__[1].__name__ == "BufferedProtocol"
