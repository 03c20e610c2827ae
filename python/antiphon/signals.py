"""Signal handlers that run as callbacks of the loop.

The interpreter's own handler writes the number of each signal into the loop's pipe
(`signal.set_wakeup_fd`), the loop reads it like any descriptor and schedules the callback, which may
therefore do everything that a callback may. Invariant: the interpreter knows the pipe exactly while
this loop has handlers of Python's. Only the main thread can set those. With `on_block="handoff"` another thread
may run the loop: then a native handler writes into the pipe instead, until it is removed.

A pipe holds 64 KiB. Signals that come while it is full have no number in it, of which the interpreter
warns; the Python handlers, which it calls in any case, have noted them, and they are handled a turn
after the others.

Source: Lib/asyncio/unix_events.py, signal(7).
"""

import asyncio
import errno
import fcntl
import os
import threading
import warnings
from collections.abc import Callable
from typing import Any

from antiphon._antiphon import LoopBase
from antiphon.seams import base_events, unix_events

__all__ = ["Signals"]

_READ_SIZE_BYTES = 4096

# The signals that the interpreter's own handler has told of since the pipe was last emptied. The
# interpreter has one pipe and one thread for signals, whatever the number of loops.
_noted: set[int] = set()


class Signals(LoopBase):
    """The part of the loop that handles signals."""

    __slots__ = ()

    _signal_handlers: dict[int, asyncio.Handle]  # made by Loop.__init__
    _native_signals: set[int]  # those of them that Python knows nothing of
    _home: int | None = None  # the thread that runs the loop, where others may take over

    def add_signal_handler(self, sig: int, callback: Callable[..., object], *args: Any) -> None:  # type: ignore[override]
        """Runs `callback(*args)` in the loop each time a signal arrives.

        Args:
            sig: the number of the signal; a handler it had in this loop is replaced.
            callback: a plain function; it runs in the context of this call.
            args: its arguments.

        Raises:
            ValueError: there is no such signal.
            RuntimeError: the signal cannot be caught, the loop does not run in the main thread, or it is
                closed.
        """
        self._check_callback(callback, "add_signal_handler")
        self._check_signal(sig)
        self._check_closed()
        read_fd, write_fd = self._signal_pipe()
        if sig in self._native_signals or self._is_away_from_main():
            self._add_native_handler(sig, read_fd, asyncio.Handle(callback, args, self, None))
            return
        try:
            # Refused outside of the main thread: so it comes first.
            unix_events.signal.set_wakeup_fd(write_fd)
        except (ValueError, OSError) as error:
            raise RuntimeError(str(error)) from error
        if not self._has_python_handlers():
            try:
                self._add_reader(read_fd, self._read_signals, read_fd)
            except BaseException:
                unix_events.signal.set_wakeup_fd(-1)
                raise

        self._signal_handlers[sig] = asyncio.Handle(callback, args, self, None)
        try:
            # Any handler of Python's makes the interpreter write to the pipe.
            unix_events.signal.signal(sig, _leave_to_the_pipe)
            # Lets the kernel restart system calls instead of failing them with EINTR.
            unix_events.signal.siginterrupt(sig, False)
        except OSError as error:
            del self._signal_handlers[sig]
            self._forget_pipe_when_unused()
            if error.errno == errno.EINVAL:
                raise RuntimeError(f"sig {sig} cannot be caught") from error
            raise

    def _is_away_from_main(self) -> bool:
        """Whether another thread runs the loop in the place of the main thread, whose step blocks."""
        main = threading.main_thread().ident
        return self._home == main != threading.get_ident() and asyncio._get_running_loop() is self

    def _has_python_handlers(self) -> bool:
        return len(self._signal_handlers) > len(self._native_signals)

    def _add_native_handler(self, sig: int, read_fd: int, handle: asyncio.Handle) -> None:
        """`add_signal_handler` without Python's help."""
        if not self._signal_handlers:
            self._add_reader(read_fd, self._read_signals, read_fd)
        if sig not in self._signal_handlers:
            try:
                self._watch_signal(sig)
            except OSError as error:
                self._forget_pipe_when_unused()
                raise RuntimeError(f"sig {sig} cannot be caught") from error
            self._native_signals.add(sig)
        self._signal_handlers[sig] = handle

    def remove_signal_handler(self, sig: int) -> bool:
        """Gives a signal its default action back.

        Returns:
            Whether there was a handler to remove.

        Raises:
            ValueError: there is no such signal.
            RuntimeError: the signal cannot be caught, or its handler is Python's and another thread runs the loop
                because the main thread's step is blocked.
        """
        self._check_signal(sig)
        is_pythons = sig in self._signal_handlers and sig not in self._native_signals
        if is_pythons and self._is_away_from_main():
            raise RuntimeError(
                "the handler of a signal can be removed in the main thread only, whose step is blocked now"
            )
        if self._signal_handlers.pop(sig, None) is None:
            return False
        if sig in self._native_signals:
            self._native_signals.discard(sig)
            self._unwatch_signal(sig)
            self._forget_pipe_when_unused()
            return True
        signal = unix_events.signal
        default = signal.default_int_handler if sig == signal.SIGINT else signal.SIG_DFL
        try:
            signal.signal(sig, default)
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise RuntimeError(f"sig {sig} cannot be caught") from error
            raise
        self._forget_pipe_when_unused()
        return True

    def _remove_all_signal_handlers(self) -> None:
        """Gives all signals their default action back; the loop closes."""
        if not self._signal_handlers:
            return
        if unix_events.sys.is_finalizing():
            # Signals cannot be set any more, and the process is about to end.
            warnings.warn(
                f"Closing the loop {self!r} on interpreter shutdown stage, "
                f"skipping signal handlers removal",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )
            self._signal_handlers.clear()
            return
        for sig in list(self._signal_handlers):
            self.remove_signal_handler(sig)

    def _read_signals(self, read_fd: int) -> None:
        """Schedules the callbacks of all signals that have arrived, in the order of arrival."""
        seen = bytearray()
        while True:
            try:
                arrived = os.read(read_fd, _READ_SIZE_BYTES)
            except InterruptedError:
                continue
            except BlockingIOError:
                break
            seen += arrived
            for sig in arrived:
                self._handle_signal(sig)
            if len(arrived) < _READ_SIZE_BYTES:
                break
        if len(seen) + _READ_SIZE_BYTES < fcntl.fcntl(read_fd, fcntl.F_GETPIPE_SZ):
            _noted.clear()
        else:
            # It was full. By the next turn the Python handlers of all signals until now have run.
            self.call_soon(self._handle_lost_signals, frozenset(seen))

    def _handle_lost_signals(self, seen: frozenset[int]) -> None:
        """Schedules the callbacks of signals that came while the pipe was full, and only then."""
        for sig in sorted(_noted - seen):
            self._handle_signal(sig)
        _noted.clear()

    def _handle_signal(self, sig: int) -> None:
        """Schedules the callback of one signal."""
        handle = self._signal_handlers.get(sig)
        if handle is None:
            return  # removed after the signal arrived
        if handle.cancelled():
            self.remove_signal_handler(sig)
        else:
            self.call_soon(handle._run)

    def _check_signal(self, sig: Any) -> None:
        """Refuses what is no signal of this system."""
        if not isinstance(sig, int):
            raise TypeError(f"sig must be an int, not {sig!r}")
        if sig not in unix_events.signal.valid_signals():
            raise ValueError(f"invalid signal number {sig}")

    def _forget_pipe_when_unused(self) -> None:
        """Takes the pipe from the interpreter once no handler needs it."""
        if self._has_python_handlers() or self._is_away_from_main():
            return
        try:
            unix_events.signal.set_wakeup_fd(-1)
        except (ValueError, OSError) as error:
            base_events.logger.info("set_wakeup_fd(-1) failed: %s", error)


def _leave_to_the_pipe(signum: int, _frame: object) -> None:
    """The handler that the interpreter calls; the loop's own work begins at its pipe."""
    _noted.add(signum)
