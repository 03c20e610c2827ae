"""Types of the native module: what runs per callback or per packet."""

import asyncio
import contextvars
import socket
import traceback
from abc import ABCMeta
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar, TypeVarTuple, final

from antiphon.server import Server
from antiphon.spawn import Command
from antiphon.ssl_bridge import MakeTransport

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")
_FileDescriptorLike = Any  # an int, or anything with fileno()

__version__: str

class Handle:
    """A callback that was handed to the loop."""

    @property
    def _callback(self) -> Callable[..., object] | None: ...
    @property
    def _args(self) -> tuple[Any, ...] | None: ...
    @property
    def _loop(self) -> LoopBase: ...
    @property
    def _context(self) -> contextvars.Context | None: ...
    @property
    def _cancelled(self) -> bool: ...
    @property
    def _source_traceback(self) -> traceback.StackSummary | None: ...
    def cancel(self) -> None: ...
    def cancelled(self) -> bool: ...
    def get_context(self) -> contextvars.Context | None: ...
    def _run(self) -> None: ...

@final
class TimerHandle(Handle):
    """A callback that is due at a time on the loop's clock."""

    @property
    def _when(self) -> float: ...
    @property
    def _scheduled(self) -> bool: ...
    def when(self) -> float: ...
    def __lt__(self, other: TimerHandle) -> bool: ...
    def __le__(self, other: TimerHandle) -> bool: ...
    def __gt__(self, other: TimerHandle) -> bool: ...
    def __ge__(self, other: TimerHandle) -> bool: ...

@final
class Listener:
    """Accepts connections for a server."""

    def resume(self) -> None: ...

class StreamTransport(asyncio.Transport):
    """One connected stream socket."""

    def _force_close(self, exc: BaseException | None) -> None: ...

@final
class ReadPipeTransport(asyncio.ReadTransport):
    """The reading end of a pipe; made by the loop."""

@final
class WritePipeTransport(asyncio.WriteTransport):
    """The writing end of a pipe; made by the loop."""

@final
class Spawner:
    """The threads that start a loop's children and wait for them; made by the loop."""

    def start(
        self,
        loop: LoopBase,
        command: Command,
        started: Callable[[tuple[str, int] | None], object],
        exited: Callable[[int | None], object] | None,
        /,
    ) -> ChildProcess: ...
    def adopt(
        self, loop: LoopBase, pid: int, exited: Callable[[int | None], object], /
    ) -> ChildProcess: ...
    def close(self) -> None: ...

@final
class ChildProcess:
    """A child process; made by a Spawner."""

    @property
    def pid(self) -> int | None: ...
    def send_signal(self, signum: int, /) -> None: ...

class DatagramTransport(asyncio.Transport, asyncio.DatagramTransport):
    """One datagram socket."""

class LoopBase(asyncio.AbstractEventLoop, metaclass=ABCMeta):
    """The native half of the loop; use `antiphon.Loop`.

    At run time only `Loop` derives from `AbstractEventLoop`; for types this class is one already.
    """

    slow_callback_duration: float

    def call_soon(
        self,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle: ...
    def call_soon_threadsafe(
        self,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle: ...
    def call_later(
        self,
        delay: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle: ...
    def call_at(
        self,
        when: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle: ...
    def time(self) -> float: ...
    def stop(self) -> None: ...
    def is_running(self) -> bool: ...
    def is_closed(self) -> bool: ...
    def get_debug(self) -> bool: ...
    def set_debug(self, enabled: bool) -> None: ...
    def create_future(self) -> asyncio.Future[Any]: ...
    def create_task(  # type: ignore[override]
        self,
        coro: Coroutine[Any, Any, _T],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
        **kwargs: Any,
    ) -> asyncio.Task[_T]: ...
    def set_task_factory(self, factory: Callable[..., Any] | None) -> None: ...
    def get_task_factory(self) -> Callable[..., Any] | None: ...
    def add_reader(
        self, fd: _FileDescriptorLike, callback: Callable[[*_Ts], Any], *args: *_Ts
    ) -> None: ...
    def remove_reader(self, fd: _FileDescriptorLike) -> bool: ...
    def add_writer(
        self, fd: _FileDescriptorLike, callback: Callable[[*_Ts], Any], *args: *_Ts
    ) -> None: ...
    def remove_writer(self, fd: _FileDescriptorLike) -> bool: ...
    def sock_recv(self, sock: socket.socket, n: int) -> Coroutine[Any, Any, bytes]: ...
    def sock_recv_into(self, sock: socket.socket, buf: Any) -> Coroutine[Any, Any, int]: ...
    def sock_recvfrom(
        self, sock: socket.socket, bufsize: int
    ) -> Coroutine[Any, Any, tuple[bytes, Any]]: ...
    def sock_recvfrom_into(
        self, sock: socket.socket, buf: Any, nbytes: int = 0
    ) -> Coroutine[Any, Any, tuple[int, Any]]: ...
    def sock_sendall(self, sock: socket.socket, data: Any) -> Coroutine[Any, Any, None]: ...
    def sock_sendto(
        self, sock: socket.socket, data: Any, address: Any
    ) -> Coroutine[Any, Any, int]: ...
    def sock_accept(
        self, sock: socket.socket
    ) -> Coroutine[Any, Any, tuple[socket.socket, Any]]: ...

    # For the Python half of the loop only.
    def _make_read_pipe_transport(
        self,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> asyncio.ReadTransport: ...
    def _make_write_pipe_transport(
        self,
        pipe: Any,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> asyncio.WriteTransport: ...
    def _make_spawner(self) -> Spawner: ...
    def _run_native(self) -> None: ...
    def _close_native(self) -> None: ...
    def _mark_forked(self) -> None: ...
    def _check_closed(self) -> None: ...
    def _check_callback(self, callback: object, method: str) -> None: ...
    def _signal_pipe(self) -> tuple[int, int]: ...
    def _add_reader(
        self, fd: _FileDescriptorLike, callback: Callable[[*_Ts], Any], *args: *_Ts
    ) -> Handle: ...
    def _add_writer(
        self, fd: _FileDescriptorLike, callback: Callable[[*_Ts], Any], *args: *_Ts
    ) -> Handle: ...
    def _remove_reader(self, fd: _FileDescriptorLike) -> bool: ...
    def _remove_writer(self, fd: _FileDescriptorLike) -> bool: ...
    def _sock_connect(self, sock: socket.socket, address: Any) -> Awaitable[None]: ...
    def _make_stream_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
        server: Server | None = None,
    ) -> asyncio.Transport: ...
    def _make_datagram_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        address: Any = None,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> asyncio.DatagramTransport: ...
    def _start_accepting(
        self,
        sock: socket.socket,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        server: Server,
        backlog: int,
        make_transport: MakeTransport | None,
    ) -> None: ...
    def _stop_accepting(self, sock: socket.socket) -> None: ...
