"""What is done about steps that block the event loop: the options, the events, the error.

    antiphon.run(main(), on_block="report", block_after=0.05)

    unregister = antiphon.on_blocked(lambda event: print(event.describe()))

A step is what a task or callback does between two awaits. One that takes longer than `block_after` seconds is found
while it still blocks, by a thread beside the loop (`antiphon.watchdog`). docs/blocking.md tells what may be relied on.

Source: docs/blocking.md; "Developing with asyncio" of the asyncio documentation, for debug mode's slow callbacks.
"""

from __future__ import annotations

import asyncio
import enum
import math
import os
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

__all__ = [
    "BlockedStep",
    "BlockingError",
    "BlockingStats",
    "OnBlock",
    "Stall",
    "on_blocked",
    "on_verdict",
    "resolve_options",
    "set_defaults",
]

OnBlock = Literal["ignore", "report", "raise", "handoff"]
MODES: tuple[OnBlock, ...] = ("ignore", "report", "raise", "handoff")
DEFAULT_BLOCK_AFTER = 0.05


class Stall(enum.StrEnum):
    """What a step that holds the loop up is doing.

    The first four are the step's own doing (`is_blocking`), the others are not.
    """

    BLOCKED = "blocked"
    """Asleep in a call that has released the interpreter: other threads go on."""
    KEEPING_INTERPRETER = "keeping the interpreter"
    """Asleep in native code that holds the interpreter: nothing else can run, and nothing can be done about it."""
    COMPUTING = "computing"
    """Computing, in Python or in native code that holds the interpreter."""
    COMPUTING_IN_C = "computing in C"
    """Computing in native code that has released the interpreter."""
    COLLECTING = "collecting garbage"
    """The cycle collector runs."""
    STARVED = "starved"
    """Ready to run, and gets no processor."""
    WAITING_FOR_GIL = "waiting for the GIL"
    """Waits for the interpreter, which another thread holds."""

    @property
    def is_blocking(self) -> bool:
        """Whether this is the step's own doing."""
        return self in _BLOCKING


_BLOCKING = frozenset({"blocked", "keeping the interpreter", "computing", "computing in C"})

_IN_WORDS = {
    Stall.BLOCKED: "blocked in a call",
    Stall.KEEPING_INTERPRETER: (
        "asleep in native code that keeps the interpreter, so that no other thread can run"
    ),
    Stall.COMPUTING: "computing",
    Stall.COMPUTING_IN_C: "computing in C, with the interpreter released",
    Stall.COLLECTING: "collecting garbage",
    Stall.STARVED: "ready to run, but starved of CPU",
    Stall.WAITING_FOR_GIL: "waiting for the GIL, which another thread holds",
}


@dataclass(frozen=True, eq=False)
class BlockedStep:
    """A step that holds up its loop, or has done so.

    Attributes:
        loop: the event loop.
        task: the task whose step it is; None for a callback.
        stall: what it was doing when it was found.
        seconds: how long it has taken: so far, or in all if it is over. The truth may be more, by up to a fifth of
            `block_after`.
        stack: the Python stack of the step, outermost frame first, without the frames that run the loop. None: it could
            not be read before the step had ended.
        coroutine_line: file, line and name of the innermost coroutine on the stack; None where there is none.
        number: the step's number in its loop.
        over: whether the step has ended; if it was rescued: whether its call has.
        rescued: whether another thread goes on with the loop meanwhile (`on_block="handoff"`).
        learned: whether later calls at its place give the loop away as they begin.
    """

    loop: asyncio.AbstractEventLoop
    task: asyncio.Task[Any] | None
    stall: Stall
    seconds: float
    stack: traceback.StackSummary | None = field(repr=False)
    coroutine_line: tuple[str, int, str] | None
    number: int
    over: bool
    rescued: bool = False
    learned: bool = False

    @property
    def place(self) -> tuple[str, int, str] | None:
        """File, line and function of the innermost frame; None without a stack."""
        if not self.stack:
            return None
        frame = self.stack[-1]
        return frame.filename, frame.lineno or 0, frame.name

    def describe(self) -> str:
        """Says in one line who held up the loop, how and where."""
        who = "A step" if self.stack is None else "A callback"
        if self.task is not None:
            who = _task_name(self.task)
        if self.coroutine_line is not None:
            file, line, name = self.coroutine_line
            who += f" ({name} at {file}:{line})"
        tail = ""
        what = _IN_WORDS[self.stall]
        if self.rescued:
            if self.over:
                text = (
                    f"{who} was {what} for {self.seconds:.3f} s, while another thread ran the loop"
                )
            else:
                text = f"{who} is {what}, and another thread runs the loop meanwhile"
                if self.learned:
                    tail = "; later calls there give the loop away at once"
        elif self.over:
            verb = "blocked the event loop" if self.stall.is_blocking else "was held up"
            text = f"{who} {verb} for {self.seconds:.3f} s: {what}"
        else:
            verb = "blocks the event loop" if self.stall.is_blocking else "is held up"
            text = f"{who} {verb} for {self.seconds:.3f} s so far: {what}"
        if self.place is not None and self.place != self.coroutine_line:
            file, line, name = self.place
            text += f", in {name} at {file}:{line}"
        return text + tail

    def format_stack(self) -> str:
        """Formats the stack as tracebacks are; empty without one."""
        if not self.stack:
            return ""
        return "Stack of the step (most recent call last):\n" + "".join(self.stack.format())


def _task_name(task: asyncio.Task[Any]) -> str:
    get_name = getattr(task, "get_name", None)
    return str(get_name()) if get_name is not None else repr(task)


class BlockingError(Exception):
    """A step blocked the event loop, and `on_block="raise"` makes its task fail.

    Attributes:
        stall: what the step was doing.
        seconds: how long it took.
        stack: its stack when it was found.
    """

    def __init__(self, event: BlockedStep) -> None:
        super().__init__(event.describe())
        self.stall = event.stall
        self.seconds = event.seconds
        self.stack = event.stack
        if event.stack:
            self.add_note(event.format_stack().rstrip())

    def __reduce__(self) -> tuple[Any, ...]:
        # Frames may refer to code, which stays in its process.
        frames = self.stack and [(f.filename, f.lineno, f.name, f.line) for f in self.stack]
        notes = getattr(self, "__notes__", [])
        return _restored, (self.args, self.stall, self.seconds, frames, notes)


def _restored(
    args: tuple[Any, ...], stall: Stall, seconds: float, frames: Any, notes: list[str]
) -> BlockingError:
    """Makes a `BlockingError` of what its pickle has."""
    error = BlockingError.__new__(BlockingError, *args)
    error.stall, error.seconds = stall, seconds
    error.stack = frames and traceback.StackSummary.from_list(frames)
    error.__notes__ = notes
    return error


@dataclass
class BlockingStats:
    """How often a loop was held up.

    Attributes:
        steps: steps that took longer than `block_after`.
        seconds: how long they took, together.
        longest: how long the longest took.
        by_stall: how many of each kind; those that ended while they were looked at have none.
        reported: how many were reported.
        suppressed: how many were not, since their place had been reported shortly before.
        rescued: how often another thread took the loop over from a step that was blocked in a call; those are not among
            `steps`, as they did not hold the loop up any longer.
        given_away: how often a call at a learned place gave the loop away as it began.
    """

    steps: int = 0
    seconds: float = 0.0
    longest: float = 0.0
    by_stall: dict[Stall, int] = field(default_factory=dict)
    reported: int = 0
    suppressed: int = 0
    rescued: int = 0
    given_away: int = 0


@dataclass
class _Defaults:
    on_block: OnBlock | None = None
    block_after: float | None = None


_defaults = _Defaults()


def set_defaults(on_block: str | None = None, block_after: float | None = None) -> None:
    """Sets what loops of this process do that are not told otherwise; the command line does so.

    Args:
        on_block, block_after: as for `antiphon.run`; None leaves it to the environment.

    Raises:
        ValueError: a value that there is not.
    """
    mode = None if on_block is None else _mode(on_block, "on_block")
    seconds = None if block_after is None else _seconds(block_after, "block_after")
    _defaults.on_block, _defaults.block_after = mode, seconds


def resolve_options(
    on_block: str | None = None, block_after: float | None = None
) -> tuple[OnBlock, float]:
    """Tells what a loop does about steps that block it.

    Args:
        on_block: "ignore", "report", "raise" or "handoff"; None takes what the command line said, else
            ANTIPHON_ON_BLOCK of the environment, else "ignore".
        block_after: how many seconds a step may take; None takes the command line's, else ANTIPHON_BLOCK_AFTER, else
            0.05.

    Returns:
        Both.

    Raises:
        ValueError: a value that there is not; the message tells where it stood.
    """
    mode, mode_source = on_block, "on_block"
    if mode is None:
        mode = _defaults.on_block
    if mode is None and (given := os.environ.get("ANTIPHON_ON_BLOCK")):
        mode, mode_source = given, "ANTIPHON_ON_BLOCK"
    seconds: Any = block_after
    seconds_source = "block_after"
    if seconds is None:
        seconds = _defaults.block_after
    if seconds is None and (given := os.environ.get("ANTIPHON_BLOCK_AFTER")):
        seconds, seconds_source = given, "ANTIPHON_BLOCK_AFTER"
    return (
        "ignore" if mode is None else _mode(mode, mode_source),
        DEFAULT_BLOCK_AFTER if seconds is None else _seconds(seconds, seconds_source),
    )


def resolve_learning(learn: bool | None = None) -> bool:
    """Tells whether a loop with `on_block="handoff"` learns call sites.

    Args:
        learn: None takes ANTIPHON_LEARN of the environment ("0", "no", "off" or "false" for no), else yes.
    """
    if learn is None:
        return os.environ.get("ANTIPHON_LEARN", "").lower() not in ("0", "no", "off", "false")
    return bool(learn)


def _mode(value: object, source: str) -> OnBlock:
    for mode in MODES:
        if value == mode:
            return mode
    raise ValueError(f"{source} must be one of {', '.join(MODES)}, not {value!r}")


def _seconds(value: Any, source: str) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not (0 < seconds < math.inf):
        raise ValueError(f"{source} must be a positive number of seconds, not {value!r}")
    return seconds


_Function = TypeVar("_Function", bound=Callable[..., object])


class _Registry(Generic[_Function]):
    """Functions that are called, in the order in which they came."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._functions: list[tuple[object, _Function]] = []

    def add(self, function: _Function) -> Callable[[], None]:
        """Adds a function; returns what takes it out again, which may be called twice."""
        entry = (object(), function)

        def remove() -> None:
            with self._lock:
                # By identity: a function may be there more than once.
                self._functions = [other for other in self._functions if other is not entry]

        with self._lock:
            self._functions = [*self._functions, entry]
        return remove

    def functions(self) -> list[_Function]:
        """Returns those that are there now."""
        return [function for _, function in self._functions]


_listeners: _Registry[Callable[[BlockedStep], object]] = _Registry()
_judges: _Registry[Callable[[BlockingError], object]] = _Registry()


def on_blocked(function: Callable[[BlockedStep], object]) -> Callable[[], None]:
    """Calls a function for every reported step of every watched loop.

    It is called in the watchdog's thread: first while the step still blocks its loop, then, with `over` set, once it
    has ended. Of the loop it may use `call_soon_threadsafe` only, and it must not
    wait for the loop. What it raises is logged.

    Args:
        function: called with a `BlockedStep`.

    Returns:
        A function that ends this; calling it again does nothing.

    Raises:
        TypeError: it cannot be called.
    """
    if not callable(function):
        raise TypeError(f"a callable object was expected by on_blocked(), got {function!r}")
    return _listeners.add(function)


def on_verdict(function: Callable[[BlockingError], object]) -> Callable[[], None]:
    """Calls a function for every error that `on_block="raise"` gives cause for; for test frameworks.

    It is called in the loop's thread at the end of the step, whatever the program makes of the error afterwards.

    Args:
        function: called with the error; must not raise.

    Returns:
        A function that ends this; calling it again does nothing.
    """
    return _judges.add(function)


def listeners() -> list[Callable[[BlockedStep], object]]:
    """Returns whom `on_blocked` was given."""
    return _listeners.functions()


def pass_verdict(event: BlockedStep) -> BlockingError:
    """Makes the error for a step that blocked, and tells whom `on_verdict` was given."""
    error = BlockingError(event)
    for function in _judges.functions():
        function(error)
    return error
