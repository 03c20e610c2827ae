"""A worker process, from within: what `python -c` of `process_link` runs.

It makes itself ready as multiprocessing's spawn does (the program's main module is imported as `__mp_main__`), then
runs an antiphon loop that takes calls from the channel. A second thread, the steward, listens on the control
connection: it gives calls back while a call computes, and ends the process when the pool's process is gone. The
kernel does that too (`PR_SET_PDEATHSIG`), even where no Python code can run.

Source: Lib/multiprocessing/spawn.py; prctl(2).
"""

import asyncio
import contextlib
import ctypes
import mmap
import os
import resource
import signal
import socket
import threading
from multiprocessing import spawn
from typing import Any

import antiphon
from antiphon.pool import messages, pickling
from antiphon.pool.channel import Channel, Parcel, receive_frame, send_frame
from antiphon.pool.intake import Intake
from antiphon.pool.pickled_intake import PickledIntake
from antiphon.pool.pickling import Pickled

__all__ = ["ABANDONED", "is_starting", "run"]

#: The exit status of a worker whose pool went away.
ABANDONED = 113

_PR_SET_PDEATHSIG = 1
_starting = False


def is_starting() -> bool:
    """Whether this process is a worker that imports its program just now, which must not make workers."""
    return _starting


def run(parent: int, channel: int, descriptors: int, control: int, page: int) -> None:
    """Is a worker until the pool says stop.

    Args:
        parent: the pool's process.
        channel, descriptors, control: descriptors of this end of the sockets.
        page: the descriptor of the page where the number of the last call begun is noted.
    """
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C goes to all; the pool tells us what follows from it
    _die_with(parent)
    for descriptor in (channel, descriptors, control, page):
        os.set_inheritable(descriptor, False)
    _raise_descriptor_limit()
    sock = socket.socket(fileno=channel)
    steered = socket.socket(fileno=control)
    beside = socket.socket(fileno=descriptors)
    beside.setblocking(False)
    begun = memoryview(mmap.mmap(page, mmap.PAGESIZE)).cast("Q")
    os.close(page)
    try:
        setup = receive_frame(sock)
    except EOFError:
        os._exit(ABANDONED)
    global _starting
    _starting = True
    spawn.prepare(pickling.load(setup[0]))
    _starting = False
    antiphon.install()
    initialize, initargs, carried = pickling.load(setup[1])
    with antiphon.Runner() as runner:
        loop = runner.get_loop()
        asyncio.set_event_loop(loop)
        if initialize is not None:
            initialize(*initargs)
        intake = _ProcessIntake(loop, begun, carried, beside)
        sock.setblocking(False)
        loop.run_until_complete(loop.create_unix_connection(lambda: intake.channel, sock=sock))
        threading.Thread(
            target=_stewardship, args=(steered, intake), name="antiphon-steward", daemon=True
        ).start()
        intake.channel.send((messages.READY,))
        _run_until_stopped(loop)
        # The pool has every answer that it waits for.
        intake.stopped = True


def _run_until_stopped(loop: asyncio.AbstractEventLoop) -> None:
    """Runs the loop, and on where a task that a call left behind has raised SystemExit: other calls live here, too."""
    while True:
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt):
            continue
        return


def _stewardship(control: socket.socket, intake: Intake) -> None:
    """Answers the pool while the loop's thread computes; ends the process when the pool is gone."""
    try:
        while True:
            _, asked = receive_frame(control)
            for _, sent in asked:  # GIVE_BACK is all there is
                send_frame(control, ([], [(messages.GIVEN_BACK, intake.give_back(sent))]))
    except (EOFError, OSError):
        os._exit(ABANDONED)


def _die_with(parent: int) -> None:
    """Has the kernel end this process when its parent ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended before
        os._exit(ABANDONED)


def _raise_descriptor_limit() -> None:
    """Allows what may be allowed: mapped shared memory costs a descriptor until 3.12."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class _ProcessIntake(PickledIntake):
    """Calls that come over a channel."""

    stopped = False

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        begun: memoryview,
        carried: list[tuple[str, str]],
        descriptors: socket.socket,
    ) -> None:
        self.channel = Channel(loop, descriptors, self.receive, self.abandoned)
        super().__init__(loop, carried, self.channel.outbox)
        self._page = begun

    def abandoned(self) -> None:
        """The connection is gone: with it the pool, unless all is over."""
        if not self.stopped:
            os._exit(ABANDONED)

    def _note_begun(self, number: int) -> None:
        self._page[0] = number

    def _pack(self, pickled: Pickled) -> Parcel:
        return self.channel.pack(pickled)

    def _unpack(self, parcel: Parcel) -> tuple[bytes | memoryview, list[memoryview]]:
        return self.channel.unpack(parcel)

    def _report(self, message: tuple[Any, ...]) -> None:
        self.channel.send(message)

    def _flush(self) -> None:
        self.channel.flush()
