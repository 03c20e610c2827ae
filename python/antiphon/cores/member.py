"""A worker process's tie to its supervisor: a sign of life, sockets to share, and the end when the supervisor is gone.

Invariant H1: a sign of life is sent only when every loop that runs in this process has run a callback since the last
one. So a loop that hangs in Python code or in C silences the process, and the supervisor replaces it.

Source: unix(7); gunicorn's documentation, "timeout".
"""

import asyncio
import contextlib
import os
import select
import signal
import socket
import threading
import time
from marshal import loads
from typing import Any

from antiphon import forking
from antiphon.pool.channel import receive_frame, send_frame
from antiphon.server import Server

__all__ = ["BEAT", "BIND", "ENVIRONMENT", "READY", "Member"]

#: The variable that makes a process a worker: two descriptors, seconds between signs of life, seconds to drain.
ENVIRONMENT = "ANTIPHON_WORKER"
#: Messages to the supervisor: alive; serving; a socket is to be bound (family, proto, address, options).
BEAT, READY, BIND = 1, 2, 3

_ABANDONED = 113


class Member:
    """What a worker process knows of its supervisor.

    Args:
        words: the value of `ENVIRONMENT`.
    """

    def __init__(self, words: str) -> None:
        control, beside, interval, drain = words.split(",")
        self._control = socket.socket(fileno=int(control))
        self._beside = socket.socket(fileno=int(beside))
        for sock in (self._control, self._beside):
            sock.set_inheritable(False)
        self._interval = float(interval)
        self._drain = float(drain)
        self._sending = threading.Lock()
        self._asking = threading.Lock()
        self._is_ready = False

    @classmethod
    def of_this_process(cls) -> "Member | None":
        """Gives the tie of a worker process; None in others. Children of the worker do not inherit it."""
        words = os.environ.pop(ENVIRONMENT, None)
        return None if words is None else cls(words)

    def first_message(self) -> Any:
        """What the supervisor has said first."""
        return receive_frame(self._control)

    def begin(self) -> None:
        """Starts to give signs of life, and leaves the connections that this process has no time for to the others."""
        Server._accepted_at_once = 1
        # The first sign comes before the first request may: who hangs at once is missed, too.
        with contextlib.suppress(OSError):  # the supervisor is gone, as the thread will find
            self._send(BEAT)
        threading.Thread(target=self._live, name="antiphon-member", daemon=True).start()

    def say_ready(self) -> None:
        """Says that this worker serves; once."""
        if not self._is_ready:
            self._is_ready = True
            self._send(READY)

    def ask_bound(self, *words: Any) -> int:
        """Asks the supervisor for a socket that is bound as the words say.

        Returns:
            Its descriptor, which all workers share.

        Raises:
            OSError: as `bind` would.
        """
        with self._asking:
            self._send(BIND, *words)
            answer, descriptors, _, _ = socket.recv_fds(self._beside, 4096, 1)
        if not descriptors:
            raise OSError(*(loads(answer) if answer else (104, "the supervisor is gone")))
        return descriptors[0]

    def _send(self, *message: Any) -> None:
        with self._sending:
            send_frame(self._control, ([], [message]))

    def _live(self) -> None:
        """The thread that gives signs of life."""
        try:
            while not select.select([self._control], [], [], self._interval)[0]:
                if self._loops_respond():
                    self._send(BEAT)
        except OSError:
            pass
        # The supervisor is gone, and nothing is ever sent to us but that.
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(self._drain)
        os._exit(_ABANDONED)

    def _loops_respond(self) -> bool:
        """Whether every running loop runs a callback within the interval."""
        waits = []
        for loop in forking.living():
            if loop.is_running():
                came = threading.Event()
                try:
                    loop.call_soon_threadsafe(came.set)
                except RuntimeError:  # closed meanwhile
                    continue
                waits.append((loop, came))
        return all(came.wait(self._interval) or not loop.is_running() for loop, came in waits)


def stop_event(loop: asyncio.AbstractEventLoop) -> asyncio.Event:
    """Gives an event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    return stop
