"""Results: what is kept, what a failure takes away, and the way to JSON and back."""

from benches.samples import Results, Sample


def test_results_survive_json() -> None:
    results = Results(["uvloop", "antiphon"], {"machine": "one"})
    results.add("row", "uvloop", 0, Sample(10.5, 11.0))
    results.add("row", "uvloop", 1, Sample(9.5, 11.0, rate_per_s=5.0, p50_us=1.0, p99_us=2.0))
    results.fail("row", "antiphon", "exit status 1")
    results.instructions["row"]["uvloop"] = 1234.0
    again = Results.from_json(results.to_json())
    assert again == results
    assert again.series("row", "uvloop") == {0: 10.5, 1: 9.5}


def test_a_failure_takes_the_rounds_before_it() -> None:
    results = Results(["uvloop"])
    results.add("row", "uvloop", 0, Sample(10, 10))
    assert results.series("row", "uvloop") == {0: 10}
    results.fail("row", "uvloop", "no answer within 60 s")
    assert results.series("row", "uvloop") == {}


def test_rows_keep_the_order_in_which_they_ran() -> None:
    results = Results(["uvloop"])
    for row in ("c", "a", "b", "a"):
        results.add(row, "uvloop", 0, Sample(1, 1))
    results.fail("d", "uvloop", "why")
    assert results.rows() == ["c", "a", "b", "d"]


def test_asking_for_an_unknown_row_adds_none() -> None:
    results = Results(["uvloop"])
    assert results.series("row", "uvloop") == {}
    assert not results.failed("row", "uvloop")
    assert results.rows() == []
