"""The soak's command line, and its report."""

import argparse
import faulthandler
import random
import sys
import time
import warnings
import weakref
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from soak.book import Book
from soak.census import Census, rss_kib, settled_differences, take_census
from soak.life import SCENES, Life
from soak.plants import PLANTS
from support.loops import LOOP_NAMES, loop_factory_named

#: The lives before the first count, which fill caches and free lists.
_WARM_UP_SECONDS = 1.0
_LIFE_SECONDS = 5.0
_STUCK_SECONDS = 90.0


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="soak",
        description="Random connections and faults, every byte checked; exit status 1 on any failure.",
    )
    parser.add_argument("--minutes", type=float, default=3.0, help="how long (default: 3)")
    parser.add_argument("--seed", type=int, help="repeats a run's draws (default: a new one)")
    parser.add_argument(
        "--connections", type=int, default=60, help="visitors at once (default: 60)"
    )
    parser.add_argument("--loop", choices=LOOP_NAMES, default="antiphon")
    names = [scene.__name__ for scene in SCENES]
    parser.add_argument(
        "--scenes",
        nargs="+",
        choices=names,
        default=names,
        metavar="SCENE",
        help=f"only these (of: {', '.join(names)})",
    )
    parser.add_argument(
        "--plant", choices=PLANTS, help="a fault to plant, for who wants to see it found"
    )
    return parser.parse_args(words)


class _Watch:
    """What is said in silence: warnings and exceptions that could only be printed."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.is_abrupt = False

    def __enter__(self) -> "_Watch":
        self._filters = warnings.catch_warnings()
        self._filters.__enter__()
        warnings.simplefilter("always", ResourceWarning)
        warnings.simplefilter("always", RuntimeWarning)
        warnings.showwarning = self._warned
        self._hook = sys.unraisablehook
        sys.unraisablehook = self._unraisable
        return self

    def __exit__(self, *exc_info: object) -> None:
        sys.unraisablehook = self._hook
        self._filters.__exit__(*exc_info)

    def _warned(self, message: Any, category: type[Warning], *_: Any, **__: Any) -> None:
        unasked = issubclass(category, ResourceWarning) or str(message).endswith("never awaited")
        if unasked and self.is_abrupt:
            self.book.done["warnings of what a closed loop left"] += 1
        elif issubclass(category, (ResourceWarning, RuntimeWarning)):
            self.book.fail(f"{category.__name__}: {message}")

    def _unraisable(self, unraisable: "sys.UnraisableHookArgs") -> None:
        if self.is_abrupt and str(unraisable.exc_value) == "Event loop is closed":
            # A coroutine that dies with its loop has tidied up by calling it.
            self.book.done["calls of a closed loop"] += 1
            return
        message = unraisable.err_msg or "ignored in"
        self.book.fail(f"{message} {unraisable.object!r}: {unraisable.exc_value!r}")


class _Run:
    """The lives of one run."""

    def __init__(self, arguments: argparse.Namespace, seed: int) -> None:
        self.arguments = arguments
        self.seed = seed
        self.book = Book()
        self.scenes = {
            scene: weight for scene, weight in SCENES.items() if scene.__name__ in arguments.scenes
        }
        self._make_loop = loop_factory_named(arguments.loop)

    def live(self, number: int, seconds: float, is_abrupt: bool, watch: _Watch) -> None:
        """Plays one life and forgets it."""
        watch.is_abrupt = is_abrupt
        life = Life(self._make_loop(), self.book, f"{self.seed}/{number}", self.scenes)
        # A loop that lost its own descriptors may wait for ever: then the stacks are printed, and this is the end.
        faulthandler.dump_traceback_later(seconds + _STUCK_SECONDS, exit=True)
        life.run(seconds, self.arguments.connections, is_abrupt)
        faulthandler.cancel_dump_traceback_later()
        self.book.streams.clear()
        self.book.done["lives"] += 1
        loop = weakref.ref(life.loop)
        del life
        take_census()  # collects
        if loop() is not None:
            self.book.fail(f"life {number}: the loop is still referred to")

    def all(self, progress: Progress) -> tuple[Census, Census]:
        """Plays the lives until the time is up; gives what there was before and after."""
        with _Watch(self.book) as watch:
            for is_abrupt in (False, True):
                if not self.book.failures:
                    self.live(-1 - is_abrupt, _WARM_UP_SECONDS, is_abrupt, watch)
            before = take_census()
            end = time.monotonic() + self.arguments.minutes * 60
            bar = progress.add_task("soaking")
            number = 0
            while time.monotonic() < end and not self.book.failures:
                left = end - time.monotonic()
                self.live(number, min(left, _LIFE_SECONDS), number % 2 == 1, watch)
                for found in settled_differences(before):
                    self.book.fail(f"life {number} left behind {found}")
                number += 1
                progress.update(
                    bar,
                    description=f"{number} lives, {self.book.done['bytes checked'] >> 20} MiB checked",
                )
            return before, take_census()


def _table(run: _Run, before: Census, after: Census, rss_before: int) -> Table:
    table = Table("what", "how often", title=f"seed {run.seed}", title_justify="left")
    table.columns[1].justify = "right"
    for what, count in sorted(run.book.done.items()):
        table.add_row(what, f"{count:,}")
    table.add_section()
    for name in sorted(before | after):
        if not name.startswith("object") or after[name] != before[name]:
            table.add_row(name, f"{before[name]} → {after[name]}")
    objects = [
        sum(n for name, n in census.items() if name.startswith("object"))
        for census in (before, after)
    ]
    table.add_row("objects", f"{objects[0]} → {objects[1]}")
    table.add_row("resident memory, MiB", f"{rss_before >> 10} → {rss_kib() >> 10}")
    return table


def main(words: Sequence[str] | None = None) -> int:
    """Runs the soak.

    Args:
        words: the command line; None takes the process's own.

    Returns:
        The exit status: 0 if nothing was lost, mixed up or left behind.
    """
    arguments = _arguments(words)
    seed = random.SystemRandom().randrange(1 << 32) if arguments.seed is None else arguments.seed
    if arguments.plant is not None:
        PLANTS[arguments.plant]()
    console = Console()
    console.print(f"soak of {arguments.loop}: seed {seed}, {arguments.minutes:g} minutes")
    run = _Run(arguments, seed)
    rss_before = rss_kib()
    columns = (TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        before, after = run.all(progress)
    console.print(_table(run, before, after, rss_before))
    for failure in run.book.failures:
        console.print(f"FAILED: {failure}", markup=False, highlight=False, soft_wrap=True)
    if run.book.failures:
        console.print(f"{run.book.done['failures']} failures; again with --seed {seed}")
        return 1
    console.print("no byte lost or mixed up, nothing left behind")
    return 0
