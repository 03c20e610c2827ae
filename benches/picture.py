"""The picture of a run: bars of CPU time per operation, normalised to the reference loop.

A dashed mark in a row is what antiphon is to reach there. matplotlib is needed here and nowhere
else; without it a run has its tables and says that the picture is missing.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benches import plan
from benches.contender import FLOOR
from benches.ratios import Gain, gain
from benches.report import reference
from benches.samples import Results
from benches.targets import BY_ROW, SUBJECT

COLOURS = {
    "asyncio": "#a7b1bc",
    "uvloop": "#4c78a8",
    "rloop": "#f2a541",
    "antiphon": "#c8443a",
    FLOOR: "#dcdcdc",
}
SPARE_COLOURS = ("#6a994e", "#7b5ea7", "#333333", "#b07aa1")
TARGET_LINE: dict[str, Any] = {"color": "black", "linewidth": 1.3, "linestyle": (0, (2, 1.2))}
ROW_INCHES = 0.66
PANEL_INCHES = 8.0
FRAME_INCHES = 1.5
BAR_SHARE = 0.84
#: Bars begin at the first and end at the second, so that one row of 40x does not squeeze the rest;
#: the figure stands beside each bar.
SHOWN_GAINS = (0.1, 20.0)
TICKS = (0.125, 0.25, 0.5, 1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Panel:
    """The rows of one half of the picture, and who ran them."""

    name: str
    rows: list[str]
    contenders: list[str]


def panels(results: Results) -> list[Panel]:
    """Returns the halves that have rows which the reference loop ran."""
    peer = reference(results)
    rows = [row for row in results.rows() if results.series(row, peer)]
    loops = [name for name in results.contenders if name != FLOOR]
    made = [
        Panel("in one process", [row for row in rows if plan.in_one_process(row)], loops),
        Panel(
            "echo servers under load",
            [row for row in rows if not plan.in_one_process(row)],
            results.contenders,
        ),
    ]
    return [panel for panel in made if panel.rows]


def draw(results: Results, path: Path) -> None:
    """Writes the picture; the file name's suffix chooses the format (SVG, PNG).

    Raises:
        ImportError: matplotlib is not installed for this interpreter.
        ValueError: the reference loop has no figure at all.
    """
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "antiphon"  # equal input, equal file
    from matplotlib import pyplot

    halves = panels(results)
    if not halves:
        raise ValueError(f"{reference(results)} has no figure to compare with")
    most_rows = max(len(panel.rows) for panel in halves)
    size = (PANEL_INCHES * len(halves), FRAME_INCHES + ROW_INCHES * most_rows)
    figure, axes = pyplot.subplots(
        1, len(halves), figsize=size, squeeze=False, layout="constrained"
    )
    for axis, panel in zip(axes[0], halves, strict=True):
        draw_bars(axis, panel, results)
        draw_targets(axis, panel, results)
        draw_frame(axis, panel, results, most_rows)
    figure.suptitle(
        f"CPU time per operation, {reference(results)} = 1: longer is cheaper (best rounds)",
        fontsize=13,
    )
    draw_legend(figure, results)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else {}, dpi=110)
    pyplot.close(figure)


def colour(name: str, results: Results) -> str:
    """Returns the colour of a contender: the same loop has the same in every picture."""
    if name in COLOURS:
        return COLOURS[name]
    return SPARE_COLOURS[results.contenders.index(name) % len(SPARE_COLOURS)]


def draw_bars(axis: Any, panel: Panel, results: Results) -> None:
    """Draws a group of bars for each row, each with its figure beside it."""
    low, high = SHOWN_GAINS
    peer = reference(results)
    thickness = BAR_SHARE / len(panel.contenders)
    for index, name in enumerate(panel.contenders):
        offset = (index - (len(panel.contenders) - 1) / 2) * thickness
        weight = "bold" if name == SUBJECT else "normal"
        for position, row in enumerate(panel.rows):
            end, words = bar(gain(results.series(row, peer), results.series(row, name)))
            if not words and results.failed(row, name):
                words = f"{name} failed"
            axis.barh(
                position + offset,
                end - low,
                left=low,
                height=thickness,
                color=colour(name, results),
                edgecolor="white",
                linewidth=0.4,
            )
            axis.annotate(
                words,
                (end, position + offset),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=6.5,
                fontweight=weight,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.4},
            )
    axis.set_xlim(low, high * 1.4)


def bar(measured: Gain | None) -> tuple[float, str]:
    """Returns where the bar of a gain ends and what stands beside it."""
    low, high = SHOWN_GAINS
    if measured is None:
        return low, ""
    return min(max(measured.best, low), high), f"{measured.best:.2f}"


def draw_targets(axis: Any, panel: Panel, results: Results) -> None:
    """Marks what is to be reached; one that is stated against another loop stands where it falls."""
    peer = reference(results)
    for position, row in enumerate(panel.rows):
        target = BY_ROW.get(row)
        if target is None:
            continue
        of_target_peer = gain(results.series(row, peer), results.series(row, target.peer))
        if of_target_peer is not None:
            place = of_target_peer.best * target.gain
            axis.plot([place, place], [position - 0.46, position + 0.46], **TARGET_LINE)


def draw_frame(axis: Any, panel: Panel, results: Results, most_rows: int) -> None:
    """Draws scale, titles and the line of the reference; rows are as high in both halves."""
    axis.set_xscale("log")
    axis.set_xticks(TICKS, [f"{tick:g}x" for tick in TICKS])
    axis.minorticks_off()
    axis.axvline(1, color=colour(reference(results), results), linewidth=1.2, zorder=0.5)
    axis.set_ylim(most_rows - 0.5, -0.5)
    axis.set_yticks(range(len(panel.rows)), [plan.title(r) for r in panel.rows], fontsize=8.5)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", linewidth=0.4, alpha=0.5)
    axis.set_axisbelow(True)
    axis.set_title(panel.name, fontsize=11)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)


def draw_legend(figure: Any, results: Results) -> None:
    """Draws one entry per contender and one for the targets, under both halves."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries: list[Any] = [
        Patch(color=colour(name, results), label=f"{name} (floor)" if name == FLOOR else name)
        for name in results.contenders
    ]
    entries.append(Line2D([], [], label=f"{SUBJECT} is to reach", **TARGET_LINE))
    figure.legend(handles=entries, loc="outside lower center", ncols=len(entries), frameon=False)
