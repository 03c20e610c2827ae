"""Progress of `map`, `as_completed` and `stream`, shown by tqdm or rich where that is asked for.

await pool.map(fetch, urls, progress=True)         # tqdm's or rich's, whichever is installed; in notebooks too
await pool.map(fetch, urls, progress="rich")
await pool.map(fetch, urls, progress=print)        # called with (done, total)
"""

import contextlib
import importlib.util
from collections.abc import Callable
from types import TracebackType
from typing import Any

__all__ = ["Progress", "make_progress"]

#: What `progress=` takes.
Wish = bool | str | Callable[[int, int | None], object] | None


class Progress:
    """Shows nothing."""

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    def advance(self) -> None:
        """One more result is there."""


def make_progress(wish: Wish, words: str, total: int | None) -> Progress:
    """Makes the display that was asked for.

    Args:
        wish: False or None, True (tqdm, else rich), "tqdm", "rich", or a callable that takes (done, total).
        words: what is shown beside the bar.
        total: how many results there will be; None if that is not known.

    Raises:
        ValueError: there is no such display.
        ImportError: its library is not installed.
    """
    if wish is None or wish is False:
        return Progress()
    if callable(wish):
        return _Told(wish, total)
    if wish is True:
        installed = [name for name in ("tqdm", "rich") if importlib.util.find_spec(name)]
        if not installed:
            raise ImportError("progress=True needs tqdm or rich: pip install tqdm")
        wish = installed[0]
    if wish == "tqdm":
        return _Tqdm(words, total)
    if wish == "rich":
        return _Rich(words, total)
    raise ValueError(f"progress must be True, 'tqdm', 'rich' or a callable, not {wish!r}")


class _Told(Progress):
    """Tells a callable."""

    def __init__(self, tell: Callable[[int, int | None], object], total: int | None) -> None:
        self._tell = tell
        self._total = total
        self._done = 0

    def advance(self) -> None:
        self._done += 1
        self._tell(self._done, self._total)


class _Tqdm(Progress):
    """tqdm's bar: on a terminal, or a widget in a notebook."""

    def __init__(self, words: str, total: int | None) -> None:
        from tqdm.auto import tqdm  # type: ignore[import-not-found, import-untyped, unused-ignore]

        self._make: Callable[[], Any] = lambda: tqdm(desc=words, total=total, unit="call")
        self._bar: Any = None

    def __enter__(self) -> Progress:
        self._bar = self._make()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def advance(self) -> None:
        self._bar.update()


class _Rich(Progress):
    """rich's bar, which knows terminals and notebooks."""

    def __init__(self, words: str, total: int | None) -> None:
        from rich.progress import (  # type: ignore[import-not-found, unused-ignore]
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Bars

        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        self._bars: Any = Bars(*columns, TimeRemainingColumn())
        self._bar = self._bars.add_task(words, total=total)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Progress:
        self._stack.enter_context(self._bars)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def advance(self) -> None:
        self._bars.advance(self._bar)
