"""A worker that is a process: how it is started, spoken to, and found dead.

Three sockets lead to it: the channel (calls and answers), one for descriptors beside it, and the control connection
to its steward. A page of memory is shared, in which the worker notes the number of each call as it begins it: when
the worker dies, the page says which calls it was running and which it had not touched. The worker is lost when its
process has ended and all that it had sent was read.

Workers are started by exec, never by fork: a fork of a running loop would take its locks and descriptors along.
"""

import asyncio
import contextlib
import mmap
import os
import signal
import socket
import subprocess
import sys
from asyncio.base_subprocess import BaseSubprocessTransport
from multiprocessing import spawn
from typing import TYPE_CHECKING, Any

import antiphon
from antiphon.pool import messages, pickling
from antiphon.pool.channel import Channel, Parcel
from antiphon.pool.errors import WorkerLost
from antiphon.pool.functions import Functions
from antiphon.pool.pickled_link import PickledLink
from antiphon.pool.pickling import Pickled

if TYPE_CHECKING:
    from antiphon.pool.scheduler import Scheduler

__all__ = ["ProcessLink", "Setup"]

_PROGRAM = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); import sys; sys.path.insert(0, {root!r}); "
    "from antiphon.pool.process_worker import run; run({numbers})"
)
#: Seconds after the process's end in which what it had sent is still read.
_LAST_WORDS_S = 2.0


class Setup:
    """What every worker process of a pool is told first.

    Args:
        initializer, initargs: called in the worker before its first call.
        carried: modules and names of context variables.
    """

    def __init__(self, initializer: Any, initargs: tuple[Any, ...], carried: Any) -> None:
        program = spawn.get_preparation_data("antiphon-worker")
        program.pop("authkey", None)  # a secret, and refuses to be pickled here
        program.pop("start_method", None)  # multiprocessing's, which is the program's business
        self._program = pickling.dump(program, lambda: "how the program was started")[0]
        self._own = pickling.dump(
            (initializer, initargs, carried),
            lambda: "the start of a worker",
            ("the initializer", "its arguments", "context variables").__getitem__,
            pickling.main_cannot_be_imported(),
        )[0]

    def message(self) -> tuple[bytes, bytes]:
        """The first frame on a channel."""
        return self._program, self._own


class ProcessLink(PickledLink):
    """One worker process.

    Args:
        setup: what it is told first.
        functions: the pool's functions by key.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        scheduler: "Scheduler",
        name: str,
        setup: Setup,
        functions: Functions,
    ) -> None:
        super().__init__(loop, scheduler, name, functions)
        self._setup = setup
        self._process: Any = None
        self._channel: Channel | None = None
        self._control: Channel | None = None
        self._page: mmap.mmap | None = None
        self._begun_at_end = 0
        self._open_ends = 0
        self._stopping = False
        self._started: asyncio.Future[None] = loop.create_future()
        self._over: asyncio.Future[None] = loop.create_future()

    @property
    def pid(self) -> int | None:
        return self._process.get_pid() if self._process is not None else None

    def begun(self) -> int:
        if self._page is None:
            return self._begun_at_end
        return int.from_bytes(self._page[:8], sys.byteorder)

    async def start(self, timeout: float) -> None:
        with contextlib.ExitStack() as theirs:
            ours = []
            numbers = [os.getpid()]
            for _ in range(3):
                one, other = socket.socketpair()
                one.setblocking(False)
                ours.append(one)
                numbers.append(theirs.enter_context(other).fileno())
            page = os.memfd_create("antiphon-begun", os.MFD_CLOEXEC)
            theirs.callback(os.close, page)
            os.ftruncate(page, mmap.PAGESIZE)
            self._page = mmap.mmap(page, mmap.PAGESIZE)
            numbers.append(page)
            try:
                await self._connect(*ours)
                await self._spawn(numbers)
            except BaseException as error:
                self._stopping = True
                self._close_ends()
                if self._open_ends:
                    await self.ended()
                for sock in ours:
                    sock.close()
                self._let_go_of_page()
                if isinstance(error, OSError):
                    raise WorkerLost(f"{self.name} could not be started: {error}") from error
                raise
        try:
            async with asyncio.timeout(timeout):
                await asyncio.shield(self._started)
        except TimeoutError:
            self.kill()
            await self.ended()
            raise WorkerLost(f"{self.name} was not ready within {timeout:g} s") from None

    def flush(self) -> None:
        if self._channel is not None:
            self._channel.flush()

    def room(self) -> int:
        # What the kernel does not take piles up here; better it waits where every worker can take it.
        return 0 if self._channel is None or self._channel.paused else super().room()

    def stop(self) -> None:
        self.ready = False
        self._stopping = True
        if self._channel is not None:
            self._channel.send((messages.STOP,))

    async def ended(self) -> None:
        await asyncio.shield(self._over)

    def kill(self) -> None:
        process = self._process
        if process is None or process.get_returncode() is not None:
            return
        pid = process.get_pid()
        with contextlib.suppress(ProcessLookupError):
            if isinstance(process, BaseSubprocessTransport):
                # Until 3.12.8 and 3.13.1 asyncio's kill() asks for the status first, and takes it away from its own
                # watcher, which then tells of status 255 (gh-127049).
                os.kill(pid, signal.SIGKILL)
            else:
                process.kill()

    async def _connect(
        self, channel: socket.socket, beside: socket.socket, control: socket.socket
    ) -> None:
        """Lets the loop read this end of the sockets; the first frame is on its way then."""
        loop = self._loop
        self._channel = Channel(loop, beside, self.receive, self._end_lost)
        self._outbox = self._channel.outbox
        self._control = Channel(loop, None, self._receive_control, self._end_lost)
        for protocol, sock in ((self._channel, channel), (self._control, control)):
            self._open_ends += 1
            await loop.create_unix_connection(lambda protocol=protocol: protocol, sock=sock)  # type: ignore[misc]
        self._channel.send_alone(self._setup.message())

    async def _spawn(self, numbers: list[int]) -> None:
        root = os.path.dirname(os.path.dirname(os.path.abspath(antiphon.__file__)))
        program = _PROGRAM.format(root=root, numbers=", ".join(map(str, numbers)))
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing does
        self._open_ends += 1
        try:
            self._process, _ = await self._loop.subprocess_exec(
                lambda: _Exit(self._process_ended),
                sys.executable,
                *flags,
                "-c",
                program,
                stdin=subprocess.DEVNULL,
                stdout=None,
                stderr=None,
                pass_fds=numbers[1:],
            )
        except BaseException:
            self._open_ends -= 1
            raise

    def _become_ready(self) -> None:
        super()._become_ready()
        if not self._started.done():
            self._started.set_result(None)
        if self._stopping:  # the pool was left while this worker started
            self.stop()

    def _receive_control(self, received: list[tuple[Any, ...]]) -> None:
        for _, numbers in received:
            self.give_back(numbers)

    def _end_lost(self) -> None:
        """One of the sockets is gone; with the process alive, that is the process's end, too."""
        self._open_ends -= 1
        self.ready = False
        if self._open_ends:
            if not self._stopping:
                self.kill()
        else:
            self._gone()

    def _process_ended(self) -> None:
        self._open_ends -= 1
        self.ready = False
        if self._open_ends:
            # A child of the worker may have inherited the sockets, so their end is not waited for without limit.
            self._loop.call_later(_LAST_WORDS_S, self._close_ends)
        else:
            self._gone()

    def _close_ends(self) -> None:
        for end in (self._channel, self._control):
            if end is not None:
                end.close()

    def _gone(self) -> None:
        """All is over: nothing will come from this worker any more."""
        status = self._process.get_returncode() if self._process is not None else None
        self.lost = f"(pid {self.pid}) {_in_words(status)}"
        if self._process is not None:
            self._process.close()
        self._channel = self._control = None
        begun = self.begun()
        self._let_go_of_page()
        self.fail_calls(begun)
        if not self._started.done():
            self._started.set_exception(
                WorkerLost(
                    f"{self.name} {self.lost} before it was ready; its messages are on stderr"
                )
            )
            self._started.exception()  # nobody may be waiting any more
        if not self._over.done():
            self._over.set_result(None)

    def _let_go_of_page(self) -> None:
        if self._page is not None:
            self._begun_at_end = self.begun()
            self._page.close()
            self._page = None

    def _pack(self, pickled: Pickled) -> Parcel:
        assert self._channel is not None
        return self._channel.pack(pickled)

    def _ask_cancel(self, number: int, msg: str | None) -> None:
        if self._channel is not None:
            self._channel.send((messages.CANCEL, number, msg))

    def _ask_back(self) -> bool:
        if self._control is None:
            return False
        self._control.send((messages.GIVE_BACK, self._sent))
        return True

    def _unpack(self, parcel: Parcel) -> tuple[bytes | memoryview, list[memoryview]]:
        assert self._channel is not None
        return self._channel.unpack(parcel)


class _Exit(asyncio.SubprocessProtocol):
    """Tells when the process has ended."""

    def __init__(self, ended: Any) -> None:
        self._ended = ended

    def process_exited(self) -> None:
        self._ended()


def _in_words(status: int | None) -> str:
    if status is None:
        return "was not started"
    if status < 0:
        try:
            return f"was ended by {signal.Signals(-status).name}"
        except ValueError:
            return f"was ended by signal {-status}"
    return f"ended with status {status}"
