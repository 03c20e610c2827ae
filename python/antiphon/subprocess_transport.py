"""`SubprocessTransport`: a child process, its pipes, and the protocol that hears of both.

The protocol hears in this order: `connection_made` once the pipes are connected; data and ends of
pipes and `process_exited` as they come; `connection_lost` when the process has exited and all its
pipes are closed. A child of the child that keeps a pipe open therefore delays `connection_lost`,
but not the wake-up of who waits for the exit.

Source: Lib/asyncio/base_subprocess.py, "Subprocess Transports" of the asyncio documentation.
"""

import asyncio
import os
import signal
import warnings
from asyncio.log import logger
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from antiphon.spawn import DeferredPopen, abandon, can_defer
from antiphon.watchers import Watching, installed_watcher

if TYPE_CHECKING:
    from antiphon._antiphon import ChildProcess
    from antiphon.subprocess import Subprocesses

__all__ = ["SubprocessTransport"]

# What asyncio reports for a child whose status somebody else took.
_UNKNOWN_RETURNCODE = 255


class _Pipe(asyncio.BaseProtocol):
    """The protocol of one of the child's pipes: hands everything on."""

    def __init__(self, process: "SubprocessTransport", fd: int) -> None:
        self.process: SubprocessTransport | None = process
        self.fd = fd
        self.pipe: Any = None
        self.disconnected = False

    def __repr__(self) -> str:
        return f"<{self.__class__.__name__} fd={self.fd} pipe={self.pipe!r}>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.pipe = transport

    def connection_lost(self, exc: BaseException | None) -> None:
        self.disconnected = True
        process, self.process = self.process, None
        if process is not None:
            process._pipe_connection_lost(self.fd, exc)


class _WritePipe(_Pipe):
    """The child's standard input, seen from here."""

    def pause_writing(self) -> None:
        if self.process is not None:
            self.process._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self.process is not None:
            self.process._protocol.resume_writing()


class _ReadPipe(_Pipe, asyncio.Protocol):
    """The child's standard output or error."""

    def data_received(self, data: bytes) -> None:
        if self.process is not None:
            self.process._pipe_data_received(self.fd, data)


class SubprocessTransport(asyncio.SubprocessTransport):
    """One child process; made by `loop.subprocess_exec` and `loop.subprocess_shell`."""

    def __init__(
        self, loop: "Subprocesses", protocol: Any, extra: dict[str, Any] | None = None
    ) -> None:
        super().__init__(extra)
        self._loop: Any = loop
        self._protocol: Any = protocol
        self._proc: Any = None
        self._pid: int | None = None
        self._returncode: int | None = None
        self._child: ChildProcess | None = None
        self._pipes: dict[int, Any] = {}
        # While the child is being started: the child watcher of the program, and who waits for the start.
        self._watching: Watching | None = None
        self._starting: asyncio.Future[None] | None = None
        # What the protocol is to hear once it knows this transport.
        self._early_calls: list[tuple[Any, ...]] | None = []
        self._exit_waiters: set[asyncio.Future[int | None]] = set()
        self._closed = False
        self._finished = False

    def __repr__(self) -> str:
        parts = [self.__class__.__name__]
        if self._closed:
            parts.append("closed")
        if self._pid is not None:
            parts.append(f"pid={self._pid}")
        if self._returncode is not None:
            parts.append(f"returncode={self._returncode}")
        else:
            parts.append("not started" if self._pid is None else "running")
        names = {0: "stdin", 1: "stdout", 2: "stderr"}
        parts += [f"{names[fd]}={pipe.pipe}" for fd, pipe in self._pipes.items() if pipe]
        return f"<{' '.join(parts)}>"

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if not self._closed:
            _warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            self.close()

    # What the loop does with it.

    async def start(self, args: Any, keywords: dict[str, Any]) -> None:
        """Starts the child and connects its pipes; returns after `connection_made`.

        Args:
            args, keywords: what `subprocess.Popen` is given.

        Raises:
            BaseException: what `subprocess.Popen` raises.

        Cancellation: the child is killed, and its end is awaited.
        """
        # What must not be kept waiting: the end of the program, the end of this coroutine.
        urgent = (SystemExit, KeyboardInterrupt, GeneratorExit)
        watcher = installed_watcher()
        try:
            self._watching = None if watcher is None else Watching(watcher)
            if can_defer(keywords):
                self._start_deferred(args, keywords)
            else:
                self._start_in_python(args, keywords)
            self._starting = self._loop.create_future()
            await self._starting
            if self._loop.get_debug():
                program = args if isinstance(args, (bytes, str)) else args[0]
                logger.debug("process %r created: pid %s", program, self._pid)
            await self._connect_pipes()
        except BaseException as error:
            self.close()
            if self._starting is None and self._proc is None:
                self._give_up()
            if not isinstance(error, urgent):
                await self._wait()
            raise

    def _start_deferred(self, args: Any, keywords: dict[str, Any]) -> None:
        """Lets the native thread start the child; the loop goes on with `_on_started` or `_on_failed`."""
        popen = DeferredPopen(args, **keywords)

        def started(failure: tuple[str, int] | None) -> None:
            if failure is not None:
                self._on_failed(popen.failed(*failure))
                return
            popen.started(child.pid)
            self._on_started(popen)

        exited = self._on_exited if self._watching is None else None
        try:
            child = self._loop._spawner().start(self._loop, popen.command, started, exited)
        except BaseException:
            popen.give_up()
            raise
        self._child = child

    def _start_in_python(self, args: Any, keywords: dict[str, Any]) -> None:
        """Lets a Python thread make the `Popen`; the loop goes on with `_on_started` or `_on_failed`."""

        def made(popen: Any, error: BaseException | None) -> None:
            if error is None and self._watching is None:
                spawner = self._loop._spawner()
                try:
                    self._child = spawner.adopt(self._loop, popen.pid, self._on_exited)
                except BaseException as failure:
                    # What cannot be reaped must not be.
                    abandon(popen)
                    error = failure
            if error is None:
                self._on_started(popen)
            else:
                self._on_failed(error)

        self._loop._start_popen(args, keywords, made)

    def _on_started(self, popen: Any) -> None:
        """The child runs."""
        watching, self._watching = self._watching, None
        if watching is not None:
            try:
                watching.add(popen.pid, self._on_watched_exit)
            except BaseException as error:
                abandon(popen)
                self._on_failed(error)
                return
        self._proc = popen
        self._pid = popen.pid
        self._extra["subprocess"] = popen  # type: ignore[attr-defined]
        if self._closed:
            self._close_files()
            self._kill()
        self._settle_start(None)

    def _on_failed(self, error: BaseException) -> None:
        """There is no child."""
        self._closed = True
        self._give_up()
        self._wake_exit_waiters()
        self._settle_start(error)

    def _give_up(self) -> None:
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.give_up()

    def _settle_start(self, error: BaseException | None) -> None:
        starting, self._starting = self._starting, None
        if starting is None or starting.done():
            return  # cancelled
        if error is None:
            starting.set_result(None)
        else:
            starting.set_exception(error)

    async def _connect_pipes(self) -> None:
        """Puts transports on the pipes, then tells the protocol of this one."""
        loop, popen = self._loop, self._proc
        for fd, file in enumerate((popen.stdin, popen.stdout, popen.stderr)):
            if file is None:
                continue
            if fd == 0:
                _, pipe = await loop.connect_write_pipe(partial(_WritePipe, self, fd), file)
            else:
                _, pipe = await loop.connect_read_pipe(partial(_ReadPipe, self, fd), file)
            self._pipes[fd] = pipe
        loop.call_soon(self._protocol.connection_made, self)
        early_calls, self._early_calls = self._early_calls, None
        for call in early_calls or ():
            loop.call_soon(*call)
        connected = loop.create_future()
        loop.call_soon(_settle, connected)
        self._finish_if_over()
        await connected

    def _on_exited(self, returncode: int | None) -> None:
        """The child was reaped: by the loop, or (None) by somebody else."""
        if returncode is None:
            returncode = self._proc.returncode
        if returncode is None:
            returncode = _UNKNOWN_RETURNCODE
            logger.warning(
                "child process pid %d exit status already read: will report returncode %d",
                self._pid,
                returncode,
            )
        self._process_exited(returncode)

    def _on_watched_exit(self, _pid: int, returncode: int) -> None:
        """A child watcher of the program has reaped the child; on any thread."""
        self._loop.call_soon_threadsafe(self._process_exited, returncode)

    def _process_exited(self, returncode: int) -> None:
        if self._loop.get_debug():
            logger.info("%r exited with return code %r", self, returncode)
        self._returncode = returncode
        if self._proc.returncode is None:
            # Or the `Popen` would look for its child once more, and warn.
            self._proc.returncode = returncode
        self._call(self._protocol.process_exited)
        self._wake_exit_waiters()
        self._finish_if_over()

    def _pipe_data_received(self, fd: int, data: bytes) -> None:
        self._call(self._protocol.pipe_data_received, fd, data)

    def _pipe_connection_lost(self, fd: int, exc: BaseException | None) -> None:
        self._call(self._protocol.pipe_connection_lost, fd, exc)
        self._finish_if_over()

    def _call(self, callback: Callable[..., object], *args: Any) -> None:
        """Tells the protocol, in the next turn, or after `connection_made` if that is still to come."""
        if self._early_calls is not None:
            self._early_calls.append((callback, *args))
        else:
            self._loop.call_soon(callback, *args)

    def _finish_if_over(self) -> None:
        """Ends the connection once the process has exited and all pipes are closed."""
        if self._finished or self._returncode is None or self._early_calls is not None:
            return
        if all(pipe.disconnected for pipe in self._pipes.values()):
            self._finished = True
            self._call(self._call_connection_lost)

    def _call_connection_lost(self) -> None:
        try:
            self._protocol.connection_lost(None)
        finally:
            self._loop = self._proc = self._protocol = self._child = None

    async def _wait(self) -> int | None:
        """Waits until the process has exited; returns its return code, None if it never started."""
        if self._returncode is not None or (self._starting is None and self._proc is None):
            return self._returncode
        waiter = self._loop.create_future()
        self._exit_waiters.add(waiter)
        try:
            return await waiter  # type: ignore[no-any-return]
        finally:
            self._exit_waiters.discard(waiter)

    def _wake_exit_waiters(self) -> None:
        for waiter in self._exit_waiters:
            if not waiter.done():
                waiter.set_result(self._returncode)

    def _kill(self) -> None:
        """Kills the process unless it has exited, which the loop may not know yet."""
        if self._returncode is not None or self._proc.poll() is not None:
            return
        if self._loop.get_debug():
            logger.warning("Close running child process: kill %r", self)
        # It may have exited just now, or run as somebody else.
        with suppress(ProcessLookupError, PermissionError):
            self._proc.kill()

    def _close_files(self) -> None:
        """Closes the pipes that have no transport yet."""
        for fd, file in enumerate((self._proc.stdin, self._proc.stdout, self._proc.stderr)):
            if file is not None and fd not in self._pipes:
                file.close()

    # What programs do with it.

    def get_pid(self) -> int | None:  # type: ignore[override]
        """Returns the number of the process."""
        return self._pid

    def get_returncode(self) -> int | None:
        """Returns the exit status, a signal's number negated, or None while the process runs."""
        return self._returncode

    def get_pipe_transport(self, fd: int) -> asyncio.BaseTransport | None:
        """Returns the transport of a pipe.

        Args:
            fd: 0 for standard input, 1 for output, 2 for errors.

        Returns:
            The transport; None if that is no pipe.
        """
        pipe = self._pipes.get(fd)
        return None if pipe is None else pipe.pipe

    def send_signal(self, signal: int) -> None:
        """Sends a signal; a process that has exited gets none.

        Raises:
            ProcessLookupError: the connection is over already.
            PermissionError: the process runs as somebody else.
        """
        if self._proc is None:
            raise ProcessLookupError()
        if self._returncode is not None:
            return
        if self._child is not None:
            self._child.send_signal(signal)
            return
        with suppress(ProcessLookupError):
            os.kill(self._proc.pid, signal)

    def terminate(self) -> None:
        """Asks the process to end (SIGTERM)."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends the process (SIGKILL)."""
        self.send_signal(signal.SIGKILL)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Lets another protocol hear what comes from now on."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Returns the protocol."""
        return self._protocol  # type: ignore[no-any-return]

    def is_closing(self) -> bool:
        """Tells whether `close` was called."""
        return self._closed

    def close(self) -> None:
        """Closes the pipes and kills the process if it still runs. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        for pipe in self._pipes.values():
            pipe.pipe.close()
        if self._proc is not None:
            self._close_files()
            self._kill()


def _settle(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
