"""`Reporter`: what is known, said and counted about the steps that held up one loop.

    found by the watchdog ──▶ capture: whose step, its stack ──▶ verdict: in the loop's thread, at the step's end
                                         └──▶ deliver: log, callbacks, unless its place was reported shortly before
    ended ──▶ counted, and if it was reported: log and callbacks once more

`capture`, `deliver` and `ended` run in the watchdog's Python thread. The step's frames are read and let go of at once.

Source: docs/blocking.md.
"""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import logging
import os
import sys
import threading
import time
import traceback
import weakref
from types import FrameType
from typing import Any

from antiphon import blocking
from antiphon.blocking import BlockedStep, BlockingError, BlockingStats, Stall

__all__ = ["Reporter", "logger"]

logger = logging.getLogger("antiphon.blocking")

REPORT_INTERVAL_SECONDS = 10.0
"""How long a place is not reported again."""
VERDICT_SECONDS = 5.0
"""How long a step's end waits for its stack, should the watchdog be held up by a callback of the program."""
_MOST_PLACES = 1000
# Whose frame runs the loop; this module is imported by it.
_LOOP_FILE = os.path.join(os.path.dirname(__file__), "loop.py")
_ASYNC = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


class Reporter:
    """The reports of one loop.

    Args:
        loop: the loop; referred to weakly.
        limited: whether a place is reported once in an interval only.
    """

    def __init__(self, loop: Any, *, limited: bool) -> None:
        self._loop = weakref.ref(loop)
        self._limited = limited
        self._stats = BlockingStats()
        self._settled = threading.Condition()
        self._settled_step = 0
        self._latest: tuple[BlockedStep | None, float] = (None, 0.0)
        self._reported: dict[int, BlockedStep] = {}
        self._places: dict[Any, tuple[float, int]] = {}
        self._condemned: weakref.WeakKeyDictionary[Any, BlockingError] = weakref.WeakKeyDictionary()

    def stats(self) -> BlockingStats:
        """Returns the counts so far."""
        loop = self._loop()
        rescued, given_away = (0, 0) if loop is None else loop._hand_off_counts()
        return dataclasses.replace(
            self._stats,
            by_stall=dict(self._stats.by_stall),
            rescued=rescued,
            given_away=given_away,
        )

    def capture(
        self, number: int, stall: Stall, in_step: bool, seconds: float, ident: int
    ) -> BlockedStep | None:
        """Takes in an overdue step, which most likely still blocks: reads whose it is and where it stands.

        Args:
            number: the step.
            stall: what it does.
            in_step: whether it is a step, and no work of the loop itself between two (which has no task).
            seconds: for how long.
            ident: the loop's thread.

        Returns:
            What was found, without a stack if the step has ended meanwhile. None: there is no loop any more.
        """
        loop = self._loop()
        if loop is None:
            return None
        task = _current_task(loop) if in_step else None
        frame = sys._current_frames().get(ident)
        stack, coroutine_line = _stack_of(frame)
        del frame
        if loop._step_number() != number:
            # What was read may be another step's.
            task, stack, coroutine_line = None, None, None
        event = BlockedStep(loop, task, stall, seconds, stack, coroutine_line, number, over=False)
        self._settle(event)
        return event

    def capture_rescued(self, number: int, seconds: float, ident: int) -> BlockedStep | None:
        """Takes in a step that is blocked while another thread runs the loop, as `capture` does.

        Args:
            number: the step.
            seconds: for how long.
            ident: the step's thread.
        """
        loop = self._loop()
        if loop is None:
            return None
        frame = sys._current_frames().get(ident)
        stack, coroutine_line = _stack_of(frame)
        del frame
        step = loop._rescued_step(ident)
        task, learned = None, False
        if step is not None and step[0] == number:
            _, task, learned = step
        else:  # it has come back, and what was read may be another step's
            stack, coroutine_line = None, None
        event = BlockedStep(
            loop, task, Stall.BLOCKED, seconds, stack, coroutine_line, number, False, True, learned
        )
        self._settle(event)
        return event

    def _settle(self, event: BlockedStep) -> None:
        """Tells who waits for a step's stack that there is one."""
        with self._settled:
            if not self._limited:
                self._latest = (event, time.monotonic())  # for the verdict
            self._settled_step = event.number
            self._settled.notify_all()

    def deliver(self, event: BlockedStep | None) -> None:
        """Counts a step that was captured, and reports it unless its place was reported shortly before."""
        if event is None:
            return
        if not event.rescued:
            counts = self._stats.by_stall
            counts[event.stall] = counts.get(event.stall, 0) + 1
        suppressed = self._suppressed_before(event)
        if suppressed is None:
            self._stats.suppressed += 1
            return
        self._stats.reported += 1
        self._reported[event.number] = event
        more = f" ({suppressed} more since the last report of this place)" if suppressed else ""
        stack = event.format_stack()
        logger.log(
            _level(event),
            "%s%s%s",
            event.describe(),
            more,
            f"\n{stack.rstrip()}" if stack else "",
            extra=_extra(event),
        )
        _call_listeners(event)

    def ended(self, number: int, seconds: float, rescued: bool = False) -> None:
        """Takes in that an overdue step has ended, or that one which was rescued has come back.

        Args:
            number: the step.
            seconds: how long it took.
            rescued: whether another thread went on with the loop, so that the step did not hold it up.
        """
        with self._settled:
            self._settled_step = max(self._settled_step, number)
            self._settled.notify_all()
        if not rescued:
            self._stats.steps += 1
            self._stats.seconds += seconds
            self._stats.longest = max(self._stats.longest, seconds)
        event = self._reported.pop(number, None)
        if event is None:
            return
        event = dataclasses.replace(event, seconds=max(seconds, event.seconds), over=True)
        logger.log(_level(event), "%s", event.describe(), extra=_extra(event))
        _call_listeners(event)

    def verdict(self, number: int) -> BlockedStep | None:
        """Passes the verdict on an overdue step at its end, in the loop's thread.

        Waits until the watchdog has looked at the step, or missed it, which it is about to do.

        Args:
            number: the step.

        Returns:
            What was found. None: the step was held up without its own doing, or nothing is known of it.
        """
        with self._settled:
            self._settled.wait_for(lambda: self._settled_step >= number, VERDICT_SECONDS)
            (event, found_at), self._latest = self._latest, (None, 0.0)
        if event is None or event.number != number or not event.stall.is_blocking:
            return None
        took = event.seconds + time.monotonic() - found_at
        return dataclasses.replace(event, seconds=took, over=True)

    def condemn(self, task: Any, error: BlockingError) -> None:
        """Keeps the error that a task is to fail with at its end; the first one counts."""
        self._condemned.setdefault(task, error)

    def condemnation(self, task: Any) -> BlockingError | None:
        """Takes out the error that a task is to fail with."""
        return self._condemned.pop(task, None)

    def _suppressed_before(self, event: BlockedStep) -> int | None:
        """Decides whether a step is reported.

        Returns:
            How many at its place were not since the last that was; None: this one is not either.
        """
        if not self._limited:
            return 0
        now = time.monotonic()
        place = event.place
        last, suppressed = self._places.get(place, (None, 0))
        if last is not None and now - last < REPORT_INTERVAL_SECONDS:
            self._places[place] = (last, suppressed + 1)
            return None
        if len(self._places) >= _MOST_PLACES:
            self._places.clear()
        self._places[place] = (now, 0)
        return suppressed


def _current_task(loop: Any) -> Any:
    try:
        return asyncio.tasks.current_task(loop)
    except RuntimeError:
        return None


def _stack_of(
    frame: FrameType | None,
) -> tuple[traceback.StackSummary | None, tuple[str, int, str] | None]:
    """Reads a stack down to the frame that runs the loop.

    Returns:
        The stack, outermost frame first, and file, line and name of its innermost coroutine.
    """
    frames = []
    coroutine_line = None
    while frame is not None:
        code = frame.f_code
        if _runs_the_loop(frame):
            break
        frames.append((frame, frame.f_lineno))
        if coroutine_line is None and code.co_flags & _ASYNC:
            coroutine_line = (code.co_filename, frame.f_lineno or 0, code.co_qualname)
        frame = frame.f_back
    if not frames:
        return None, None
    frames.reverse()
    return traceback.StackSummary.extract(iter(frames), lookup_lines=False), coroutine_line


def _runs_the_loop(frame: FrameType) -> bool:
    """Whether a step's stack ends before this frame: that of `run_forever`, or the outermost of a spare's own."""
    code, back = frame.f_code, frame.f_back
    if code.co_filename == _LOOP_FILE:
        return code.co_name == "run_forever"
    return (
        code.co_filename == threading.__file__
        and code.co_name == "run"
        and back is not None
        and back.f_code.co_name == "_bootstrap_inner"
    )


def _level(event: BlockedStep) -> int:
    """A step that was rescued did no harm."""
    return logging.INFO if event.rescued else logging.WARNING


def _extra(event: BlockedStep) -> dict[str, Any]:
    """What handlers of the log find in the record beside its text."""
    return {"blocked_step": event}


def _call_listeners(event: BlockedStep) -> None:
    for function in blocking.listeners():
        try:
            function(event)
        except BaseException:  # nobody waits for this thread, and the next report needs it
            logger.exception("A function that on_blocked() was given failed")
