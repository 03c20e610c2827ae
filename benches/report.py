"""The report of a run: targets, CPU time, ratios, servers, instructions, failures; as text and as
Markdown.
"""

import statistics
from collections import defaultdict
from collections.abc import Callable

from benches import plan
from benches.ratios import ROUNDS_TO_JUDGE, Verdict, gain
from benches.samples import Results, Sample
from benches.table import Table, number, spread
from benches.targets import BY_ROW, REFERENCE, SUBJECT

NOTE = f"""\
Ratios are gains in CPU time per operation: above 1 means less CPU than the peer. Each cell has the
ratio of the best rounds, then the median of the per-round ratios with their range. A target counts
as reached (or missed) where both agree, and as unclear where they do not; a question mark says that
fewer than {ROUNDS_TO_JUDGE} rounds were run. Figures of different runs are not comparable."""


def tables(results: Results) -> list[Table]:
    """Returns the tables that have rows, in reading order."""
    made = [
        targets(results),
        cpu_time(results),
        ratios(results),
        servers(results),
        instructions(results),
        failures(results),
    ]
    return [table for table in made if table.rows]


def targets(results: Results) -> Table:
    """The judged loop beside what it is to reach."""
    table = Table(
        f"To reach: {SUBJECT}, CPU per operation",
        ["row", "against", "to reach", "measured: best  median (range)", ""],
        left=2,
    )
    for row in results.rows():
        target = BY_ROW.get(row)
        if target is None or SUBJECT not in results.contenders:
            continue
        measured = gain(results.series(row, target.peer), results.series(row, SUBJECT))
        if measured is not None:
            hint = "?" if measured.rounds < ROUNDS_TO_JUDGE else ""
            verdict = Verdict.of(measured, target.gain).value + hint
        else:
            lost = next((n for n in (SUBJECT, target.peer) if results.failed(row, n)), None)
            verdict = f"{lost} failed" if lost else "not measured"
        table.add(plan.title(row), target.peer, target.stated, spread(measured), verdict)
    return table


def cpu_time(results: Results) -> Table:
    """Nanoseconds of CPU per operation: median and best round."""
    table = Table(
        "CPU time per operation, ns: median (best)",
        ["row", "operation", *results.contenders],
        left=2,
    )
    for row in results.rows():
        cells = []
        for name in results.contenders:
            costs = list(results.series(row, name).values())
            if costs:
                cells.append(f"{number(statistics.median(costs))} ({number(min(costs))})")
            else:
                cells.append("fail" if results.failed(row, name) else "-")
        table.add(plan.title(row), plan.unit(row), *cells)
    return table


def ratios(results: Results) -> Table:
    """Every contender against the reference loop (or the first contender where that is not in the
    run).
    """
    peer = reference(results)
    others = [name for name in results.contenders if name != peer]
    table = Table(
        f"Gain over {peer} in CPU time per operation: best  median (range)", ["row", *others]
    )
    if others:
        for row in results.rows():
            cells = [
                spread(gain(results.series(row, peer), results.series(row, name)))
                for name in others
            ]
            table.add(plan.title(row), *cells)
    return table


def reference(results: Results) -> str:
    """Returns the contender that the others are divided by."""
    return REFERENCE if REFERENCE in results.contenders else results.contenders[0]


def servers(results: Results) -> Table:
    """What the load client saw: for orientation, since wall time on a shared machine is mostly the
    neighbours'.
    """
    table = Table(
        "Seen by the client: messages/s, p50 us, p99 us (medians; wall time, so hints)",
        ["row", *results.contenders],
    )
    for row in results.rows():
        if plan.in_one_process(row):
            continue
        cells = []
        for name in results.contenders:
            rounds = list(results.samples.get(row, {}).get(name, {}).values())
            if results.failed(row, name) or not rounds:
                cells.append("fail" if results.failed(row, name) else "-")
                continue
            figures: list[Callable[[Sample], float | None]] = [
                lambda sample: sample.rate_per_s,
                lambda sample: sample.p50_us,
                lambda sample: sample.p99_us,
            ]
            medians = [
                statistics.median(value for s in rounds if (value := figure(s)) is not None)
                for figure in figures
            ]
            cells.append(", ".join(number(value) for value in medians))
        table.add(plan.title(row), *cells)
    return table


def instructions(results: Results) -> Table:
    """User-space instructions per operation, and their gain over the reference loop."""
    peer = reference(results)
    counter = results.about.get("instructions", "")
    table = Table(
        f"User-space instructions per operation ({counter}); gain over {peer}",
        ["row", *results.contenders],
    )
    for row, counts in results.instructions.items():
        base = counts.get(peer)
        cells = []
        for name in results.contenders:
            count = counts.get(name, "-")
            if isinstance(count, str):
                cells.append("fail" if count.startswith("fail") else count)
            elif isinstance(base, float) and name != peer:
                cells.append(f"{number(count)} ({base / count:.2f}x)")
            else:
                cells.append(number(count))
        table.add(plan.title(row), *cells)
    return table


def failures(results: Results) -> Table:
    """Why there is no figure. A contender that failed once in a row has none there."""
    table = Table("Failures", ["loop", "row", "reason"], left=3)
    everywhere = len(results.rows())
    for name in results.contenders:
        rows_by_reason = defaultdict(list)
        for row in results.rows():
            if results.failed(row, name):
                rows_by_reason[results.failures[row][name]].append(row)
        for reason, rows in rows_by_reason.items():
            where = ["every row"] if len(rows) == everywhere > 1 else map(plan.title, rows)
            for title in where:
                table.add(name, title, " ".join(reason.split()))
    for row, counts in results.instructions.items():
        for name, count in counts.items():
            if isinstance(count, str):
                table.add(name, f"instructions: {plan.title(row)}", " ".join(count.split()))
    return table


def text(results: Results) -> str:
    """Returns the report for a terminal."""
    about = "\n".join(f"{key}: {value}" for key, value in results.about.items())
    return "\n".join([about, "", *[table.text() for table in tables(results)], NOTE])


def markdown(results: Results, picture: str | None) -> str:
    """Returns the report as a page; ``picture`` is a file name beside it."""
    lines = ["# Event loops measured", "", NOTE, ""]
    lines += [f"- {key}: {value}" for key, value in results.about.items()]
    lines += ["", f"![Gain over {reference(results)}]({picture})", ""] if picture else [""]
    return "\n".join(lines) + "\n" + "\n".join(table.markdown() for table in tables(results))
