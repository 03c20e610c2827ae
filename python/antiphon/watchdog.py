"""The watchdog's thread, and the loops that it watches.

A process has two threads for this, from the first loop with an `on_block` other than "ignore" to the close of the last
one. A native one looks at the loops, never waits for the interpreter, and sleeps while all loops do. What it finds it
hands to a Python one, which reads stacks and reports; that one sleeps until there is something.

Source: docs/blocking.md; crates/antiphon-python/src/watch/.
"""

from __future__ import annotations

import atexit
import gc
import itertools
import os
import sys
import threading
from dataclasses import dataclass, field
from typing import Any

from antiphon import _antiphon, affinity
from antiphon._antiphon import LoopBase, Watchdog
from antiphon.blocking import MODES, BlockingError, BlockingStats, OnBlock, Stall, pass_verdict
from antiphon.blocking_report import Reporter

__all__ = ["WatchedLoop"]

JOIN_SECONDS = 5.0
"""How long closing the last watched loop waits for the thread, should a callback of the program hold that up."""


@dataclass
class _Watch:
    """The process's watchdog while there is one.

    Attributes:
        lock: held while loops come and go.
        watchdog, thread: None while no loop is watched.
        reporters: of the watched loops, by the numbers that native code knows them by.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    watchdog: Watchdog | None = None
    thread: threading.Thread | None = None
    reporters: dict[int, Reporter] = field(default_factory=dict)


_watch = _Watch()
_keys = itertools.count(1)


def _begin(loop: WatchedLoop, on_block: OnBlock, block_after: float) -> tuple[int, Reporter]:
    """Has a loop watched, and starts the thread for the first one."""
    key, reporter = next(_keys), Reporter(loop, limited=on_block != "raise")
    with _watch.lock:
        if _watch.watchdog is None:
            watchdog = Watchdog()
            watchdog.start()
            thread = threading.Thread(
                target=_report, args=(watchdog,), name="antiphon-watchdog", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:
                watchdog.stop()
                raise
            _watch.watchdog, _watch.thread = watchdog, thread
            gc.callbacks.append(_antiphon._note_collection)
        _watch.reporters[key] = reporter
        watchdog = _watch.watchdog
    try:
        loop._watch(watchdog, key, MODES.index(on_block), block_after)
    except BaseException:
        _forget(key)
        raise
    return key, reporter


def _end(loop: WatchedLoop, key: int) -> None:
    """Has a loop watched no more, and ends the thread after the last one."""
    if key in _watch.reporters:  # else it is a parent's loop, in the child of a fork
        loop._unwatch()
        _forget(key)


def _forget(key: int) -> None:
    """Ends the threads if this was the last watched loop."""
    with _watch.lock:
        if _watch.reporters.pop(key, None) is None:
            return
        stopped = None if _watch.reporters else _take_thread()
    _join(stopped)


def _report(watchdog: Watchdog) -> None:
    """Reports what the watchdog finds, until it is stopped; the body of the Python thread."""
    while (findings := watchdog.take()) is not None:
        # Stacks first: while something is said of one step, the next one may end.
        captured = {
            (key, number): (
                reporter.capture_rescued(number, seconds, ident)
                if rescued
                else reporter.capture(number, Stall(stall), in_step, seconds, ident)
            )
            for key, number, seconds, stall, in_step, ident, rescued in findings
            if stall is not None and (reporter := _watch.reporters.get(key)) is not None
        }
        for key, number, seconds, stall, _, _, rescued in findings:
            reporter = _watch.reporters.get(key)
            if reporter is None:
                continue  # closed meanwhile
            try:
                if stall is None:
                    reporter.ended(number, seconds, rescued)
                else:
                    reporter.deliver(captured.pop((key, number), None))
            except BaseException:  # of a filter or handler of the log
                exception = sys.exc_info()
                threading.excepthook(
                    threading.ExceptHookArgs((*exception, threading.current_thread()))
                )
                del exception
        reporter = None


def _take_thread() -> threading.Thread | None:
    """Tells the thread to end; the lock is held."""
    watchdog, thread = _watch.watchdog, _watch.thread
    _watch.watchdog = _watch.thread = None
    if watchdog is not None:
        watchdog.stop()
        gc.callbacks.remove(_antiphon._note_collection)
    return thread


def _join(thread: threading.Thread | None) -> None:
    # A callback of on_blocked() may close the last loop.
    if thread is not None and thread is not threading.current_thread():
        thread.join(JOIN_SECONDS)


def _stop_at_exit() -> None:
    """Ends the thread before the interpreter does: after that, a thread that asks for it hangs."""
    with _watch.lock:
        _watch.reporters.clear()
        stopped = _take_thread()
    _join(stopped)


def _forget_after_fork() -> None:
    """In the child there is no thread, and the loops are marked as unusable."""
    global _watch
    if _watch.watchdog is not None:
        gc.callbacks.remove(_antiphon._note_collection)
    _watch = _Watch()


atexit.register(_stop_at_exit)
os.register_at_fork(after_in_child=_forget_after_fork)


class WatchedLoop(LoopBase):
    """The part of the loop that has its steps watched."""

    __slots__ = ()
    _watch_key: int | None = None
    _adapts_libraries: bool = False
    _reporter: Reporter | None = None

    def _begin_watch(self, on_block: OnBlock, block_after: float) -> None:
        """Has the steps watched.

        Args:
            on_block: what is done about steps that block; "ignore" does nothing at all.
            block_after: from how many seconds on they do.
        """
        if on_block != "ignore":
            self._watch_key, self._reporter = _begin(self, on_block, block_after)
        if on_block == "handoff":
            affinity.begin()
            self._adapts_libraries = True

    def _end_watch(self) -> None:
        """Has them watched no more."""
        key, self._watch_key = self._watch_key, None
        adapts, self._adapts_libraries = self._adapts_libraries, False
        if adapts and _end is not None:
            affinity.end()
        # A loop that nobody closed may end after this module, whose exit handler has ended the watch by then.
        if key is not None and _end is not None:
            _end(self, key)

    def blocking_stats(self) -> BlockingStats:
        """Tells how often steps have blocked the loop; all zero with `on_block="ignore"`.

        Returns:
            The counts so far; steps that have not ended yet are only among those by kind.
        """
        return BlockingStats() if self._reporter is None else self._reporter.stats()


# What follows is called by native code, by name, in the loop's thread at the end of a step.


def step_verdict(key: int, number: int, task: Any) -> BlockingError | None:
    """A task's step that was found has ended.

    Returns:
        The error that the task fails with, at once or at its end; None: it goes on.
    """
    reporter = _watch.reporters.get(key)
    event = None if reporter is None else reporter.verdict(number)
    if reporter is None or event is None:
        return None
    error = pass_verdict(event)
    reporter.condemn(task, error)
    return error


def condemnation(key: int, task: Any) -> BlockingError | None:
    """A task ends that was condemned; the error that it fails with."""
    reporter = _watch.reporters.get(key)
    return None if reporter is None else reporter.condemnation(task)


def callback_verdict(key: int, number: int) -> None:
    """What was no step of our tasks has blocked and ended.

    There is no task of ours to fail: the loop's exception handler gets the error, and a task of another class, whose
    step it was, is cancelled.
    """
    reporter = _watch.reporters.get(key)
    event = None if reporter is None else reporter.verdict(number)
    if event is None:
        return
    error = pass_verdict(event)
    context: dict[str, Any] = {
        "message": "A callback blocked the event loop",
        "exception": error,
    }
    if event.task is not None:
        context.update(message="A task's step blocked the event loop", task=event.task)
        event.task.cancel(str(error))
    event.loop.call_exception_handler(context)
