"""A table of text, written as Markdown and as aligned columns."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from benches.ratios import Gain


@dataclass
class Table:
    """A title, column heads and rows; the first ``left`` columns hold words, the others figures."""

    title: str
    heads: Sequence[str]
    left: int = 1
    rows: list[Sequence[str]] = field(default_factory=list)

    def add(self, *cells: str) -> None:
        """Appends a row.

        Raises:
            ValueError: its length is not that of the heads.
        """
        if len(cells) != len(self.heads):
            raise ValueError(f"{len(cells)} cells under {len(self.heads)} heads: {cells}")
        self.rows.append(cells)

    def markdown(self) -> str:
        """Returns the table under a second-level heading."""
        rule = ["---" if i < self.left else "---:" for i in range(len(self.heads))]
        lines = [self.heads, rule, *self.rows]
        body = "\n".join(
            "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
        )
        return f"## {self.title}\n\n{body}\n"

    def text(self) -> str:
        """Returns the table for a terminal."""
        lines = [self.heads, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.heads))]
        aligned = [
            "  ".join(
                cell.ljust(width) if i < self.left else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        return "\n".join([self.title, "=" * len(self.title), *aligned, ""])


def number(value: float) -> str:
    """Returns a figure with three significant digits, and no exponent."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def spread(gain: Gain | None) -> str:
    """Returns a gain as ``best  median (lowest..highest)``, or a dash."""
    if gain is None:
        return "-"
    if gain.rounds == 1:
        return f"{gain.best:.2f} (1 round)"
    return f"{gain.best:.2f}  {gain.median:.2f} ({gain.low:.2f}..{gain.high:.2f})"
