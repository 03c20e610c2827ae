"""`Loop`: asyncio's event loop, whose turns are native and whose parts are one file each.

What runs per callback or packet is in `LoopBase` (Rust); what runs per connection or per loop is
composed here. Each part is a class that extends `LoopBase` by methods only, so the state of a loop
is what `LoopBase` and `Loop.__init__` make.

    loop = Loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()

Source: "Event Loop" of the asyncio documentation, Lib/asyncio/base_events.py, PEP 3156.
"""

import asyncio
import sys
import threading
import warnings
from asyncio import constants, coroutines
from asyncio.log import logger
from collections.abc import Awaitable, Coroutine, Generator
from typing import Any, TypeVar
from weakref import WeakSet

from antiphon import debug, forking, reports, spares, watchdog
from antiphon._antiphon import own_methods
from antiphon.asyncgens import AsyncGens
from antiphon.blocking import resolve_learning, resolve_options
from antiphon.datagram import Datagrams
from antiphon.listening import Serve
from antiphon.sendfile_transport import Sendfile
from antiphon.signals import Signals
from antiphon.start_tls import StartTls
from antiphon.subprocess import Subprocesses
from antiphon.tasks import Tasks
from antiphon.unix import UnixStreams
from antiphon.watchdog import WatchedLoop

__all__ = ["Loop"]

T = TypeVar("T")

# Native code calls these by name when something fails. They are imported before: a process that is
# out of descriptors cannot open their files.
_CALLED_BY_NAME = (debug, reports, spares, watchdog)


@own_methods
class Loop(
    AsyncGens,
    Tasks,
    Serve,
    UnixStreams,
    Datagrams,
    StartTls,
    Sendfile,
    Subprocesses,
    Signals,
    WatchedLoop,
    asyncio.AbstractEventLoop,
):
    """An event loop: runs callbacks and tasks, timers, sockets and signals in one thread.

    All methods are those of `asyncio.AbstractEventLoop`, and `blocking_stats`.

    Args:
        on_block: what is done about steps that block the loop: "ignore", "report", "raise" or "handoff"; None leaves it
            to the command line and the environment (`antiphon.blocking.resolve_options`).
        block_after: from how many seconds on a step does; None likewise.
        learn: with "handoff", whether calls at places that have blocked give the loop away as they begin; None leaves
            it to the environment, which says yes unless ANTIPHON_LEARN is 0.
        single_threaded: whether all of the loop has to stay on the thread that runs it: then "handoff", whoever asks
            for it, is "report".
    """

    def __init__(
        self,
        *,
        on_block: str | None = None,
        block_after: float | None = None,
        learn: bool | None = None,
        single_threaded: bool = False,
    ) -> None:
        try:
            mode, seconds = resolve_options(on_block, block_after)
        except ValueError:
            self._close_native()  # nobody gets to see it, so nobody could close it
            raise
        self._asyncgens = WeakSet()
        self._signal_handlers = {}
        self._native_signals = set()
        self._origin_depth_before: int | None = None
        if coroutines._is_debug_mode():  # type: ignore[attr-defined]  # -X dev, PYTHONASYNCIODEBUG
            self.set_debug(True)
        forking.register(self)
        try:
            if mode == "handoff" and single_threaded:
                mode = "report"
            self._begin_watch(mode, seconds)
            self._learn_call_sites(resolve_learning(learn))
        except BaseException:
            self._close_native()  # as above
            raise

    def __repr__(self) -> str:
        return (
            f"<{self.__class__.__name__} running={self.is_running()} "
            f"closed={self.is_closed()} debug={self.get_debug()}>"
        )

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if self.is_closed():
            return
        _warn(f"unclosed event loop {self!r}", ResourceWarning, source=self)
        if not self.is_running():
            self.close()

    def run_forever(self) -> None:
        """Runs turn after turn until `stop` is called.

        Raises:
            RuntimeError: the loop is closed or running, or another loop runs in this thread.
            BaseException: a callback raised what is no `Exception`; the loop stays usable.
        """
        self._check_runnable()
        if self._can_be_handed_off():
            self._home = threading.get_ident()
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(
            firstiter=self._asyncgen_firstiter_hook, finalizer=self._asyncgen_finalizer_hook
        )
        try:
            if self.get_debug():
                self._set_coroutine_origin_tracking(True)
            self._run_native()
        finally:
            if self._origin_depth_before is not None:
                self._set_coroutine_origin_tracking(False)
            sys.set_asyncgen_hooks(*hooks)

    def run_until_complete(
        self, future: Generator[Any, None, T] | Coroutine[Any, Any, T] | Awaitable[T]
    ) -> T:
        """Runs the loop until a future is done.

        Args:
            future: a future of this loop; a coroutine or other awaitable becomes a task.

        Returns:
            The result of the future.

        Raises:
            RuntimeError: as for `run_forever`, or `stop` was called before the future was done.
            BaseException: the exception of the future, or what a callback raised.
        """
        self._check_runnable()
        is_new_task = not asyncio.isfuture(future)
        task = asyncio.ensure_future(future, loop=self)  # type: ignore[arg-type]
        if is_new_task:
            # If it does not complete, the caller is told by the exception below.
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        task.add_done_callback(_stop_loop_of)
        try:
            self.run_forever()
        except BaseException:
            if is_new_task and task.done() and not task.cancelled():
                # The exception is on its way to the caller, who cannot reach the task: it must not
                # be logged as never retrieved.
                task.exception()
            raise
        finally:
            task.remove_done_callback(_stop_loop_of)
        if not task.done():
            raise RuntimeError("Event loop stopped before Future completed.")
        return task.result()

    def close(self) -> None:
        """Ends the loop: queued work is dropped, descriptors, threads and signals are let go.

        The default executor is not waited for. Steps that lost the seat and still block are waited for half a
        second, then reported; those that remain get a `RuntimeError` when their calls return. A second call
        does nothing.

        Raises:
            RuntimeError: the loop is running.
        """
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        if self.get_debug():
            logger.debug("Close %r", self)
        if self._blocked_steps():
            spares.await_blocked_steps(self)  # while they are watched: they may block again
        try:
            # Before the pipe goes that the interpreter writes arriving signals to.
            self._remove_all_signal_handlers()
        finally:
            self._end_watch()
            self._close_children()
            self._close_native()
            self._release_executor()

    def set_debug(self, enabled: bool) -> None:
        """Switches debug mode: checks of threads and callbacks, slow callbacks, origins of coroutines.

        Args:
            enabled: takes effect at once, for origins of coroutines in the next turn.
        """
        super().set_debug(enabled)
        if self.is_running():
            # Origins are the business of the thread that runs the loop.
            self.call_soon_threadsafe(self._set_coroutine_origin_tracking, bool(enabled))

    def _check_runnable(self) -> None:
        """Refuses to run a loop that is closed or running, or beside another one.

        `_run_native` refuses too; but then hooks of the thread would be set and a task made.
        """
        self._check_closed()
        if self.is_running():
            raise RuntimeError("This event loop is already running")
        if asyncio._get_running_loop() is not None:
            raise RuntimeError("Cannot run the event loop while another loop is running")

    def _set_coroutine_origin_tracking(self, enabled: bool) -> None:
        """Makes coroutines of this thread remember where they were made, or undoes that."""
        before = self._origin_depth_before
        if enabled == (before is not None):
            return
        if before is None:
            self._origin_depth_before = sys.get_coroutine_origin_tracking_depth()
            sys.set_coroutine_origin_tracking_depth(constants.DEBUG_STACK_DEPTH)
        else:
            self._origin_depth_before = None
            sys.set_coroutine_origin_tracking_depth(before)


def _stop_loop_of(future: asyncio.Future[Any]) -> None:
    """Stops the loop of a future that is done."""
    if not future.cancelled() and isinstance(future.exception(), (SystemExit, KeyboardInterrupt)):
        # These leave the loop by themselves: a stop would end the next run before it began.
        return
    future.get_loop().stop()
