"""The picture of a run: bars of CPU time per operation, normalised to the reference loop, with the
targets as marks.

matplotlib is needed here and nowhere else; without it a run has its tables and says that the
picture is missing.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benches import plan
from benches.ratios import gain
from benches.report import reference
from benches.samples import Results
from benches.targets import BY_ROW, SUBJECT

COLOURS = {"asyncio": "#9aa5b1", "uvloop": "#4c78a8", "rloop": "#f2a541", "antiphon": "#c8553d"}
SPARE_COLOURS = ("#6a994e", "#7b5ea7", "#333333", "#b07aa1")
ROW_INCHES = 0.62
BAR_SHARE = 0.8
#: Bars end here, so that one row of 40x does not squeeze the rest; the figure is written beside
#: each bar.
SHOWN_GAINS = (0.2, 20.0)


def draw(results: Results, path: Path) -> None:
    """Writes the picture; the file name's suffix chooses the format (SVG, PNG).

    Raises:
        ImportError: matplotlib is not installed for this interpreter.
        ValueError: no two contenders have a row in common.
    """
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "antiphon"  # equal input, equal file
    from matplotlib import pyplot

    peer = reference(results)
    rows = [row for row in results.rows() if results.series(row, peer)]
    panels = [
        ("In one process", [row for row in rows if plan.in_one_process(row)]),
        ("Echo servers under load", [row for row in rows if not plan.in_one_process(row)]),
    ]
    panels = [(name, members) for name, members in panels if members]
    if not panels or len(results.contenders) < 2:
        raise ValueError("there is nothing to compare")
    height = 1.6 + ROW_INCHES * max(len(members) for _, members in panels)
    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(7.5 * len(panels), height), squeeze=False, layout="constrained"
    )
    for axis, (name, members) in zip(axes[0], panels, strict=True):
        draw_panel(axis, name, members, results, peer)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.suptitle(
        f"CPU time per operation against {peer}: longer is cheaper (best rounds)", fontsize=13
    )
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"Date": None} if path.suffix == ".svg" else {}
    figure.savefig(path, metadata=metadata, dpi=110)
    pyplot.close(figure)


def colour(name: str, results: Results) -> str:
    """Returns the colour of a contender: the same loop has the same in every picture."""
    if name in COLOURS:
        return COLOURS[name]
    return SPARE_COLOURS[results.contenders.index(name) % len(SPARE_COLOURS)]


def draw_panel(axis: Any, name: str, rows: Sequence[str], results: Results, peer: str) -> None:
    """Draws the rows of one panel: a group of bars each, the first row on top."""
    low, high = SHOWN_GAINS
    thickness = BAR_SHARE / len(results.contenders)
    for index, contender in enumerate(results.contenders):
        offset = (index - (len(results.contenders) - 1) / 2) * thickness
        for position, row in enumerate(rows):
            measured = gain(results.series(row, peer), results.series(row, contender))
            middle = position + offset
            if measured is None:
                if results.failed(row, contender):
                    axis.text(1.03, middle, f"{contender} failed", va="center", fontsize=6.5)
                continue
            shown = min(max(measured.best, low), high)
            axis.barh(
                middle,
                shown - 1,
                left=1,
                height=thickness,
                color=colour(contender, results),
                label=contender,
            )
            if contender != peer:
                beyond = shown * 1.03 if shown >= 1 else shown / 1.03
                axis.text(
                    beyond,
                    middle,
                    f"{measured.best:.2f}",
                    va="center",
                    ha="left" if shown >= 1 else "right",
                    fontsize=6.5,
                    fontweight="bold" if contender == SUBJECT else "normal",
                )
    draw_targets(axis, rows, peer)
    axis.axvline(1, color=colour(peer, results), linewidth=1.4)
    axis.set_xscale("log")
    axis.set_xlim(low, high * 1.3)
    ticks = [0.25, 0.5, 1, 2, 4, 8, 16]
    axis.set_xticks(ticks, [f"{tick:g}x" for tick in ticks])
    axis.minorticks_off()
    axis.set_yticks(range(len(rows)), [plan.title(row) for row in rows], fontsize=8.5)
    axis.invert_yaxis()
    axis.grid(axis="x", linewidth=0.4, alpha=0.5)
    axis.set_axisbelow(True)
    axis.set_title(name, fontsize=11)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)


def draw_targets(axis: Any, rows: Sequence[str], peer: str) -> None:
    """Marks what is to be reached, in the rows whose target is stated against this reference."""
    for position, row in enumerate(rows):
        target = BY_ROW.get(row)
        if target is None or target.peer != peer or not math.isfinite(target.gain):
            continue
        axis.plot(
            [target.gain, target.gain],
            [position - 0.46, position + 0.46],
            color="black",
            linewidth=1.2,
            linestyle=(0, (2, 1.5)),
            label="to reach",
        )
