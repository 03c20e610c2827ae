"""One worker process, as its supervisor has it."""

import asyncio
import contextlib
import marshal
import os
import signal
import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from antiphon.cores.broker import Broker
from antiphon.cores.member import BEAT, BIND, ENVIRONMENT, READY
from antiphon.pool.channel import Channel

__all__ = ["Child", "Command"]


class Command:
    """How workers are started.

    Args:
        words: the program and its arguments.
        descriptors: what they inherit.
        first: what they are told first; None for nothing.
    """

    def __init__(
        self, words: Sequence[str], descriptors: Sequence[int] = (), first: Any = None
    ) -> None:
        self.words = words
        self.descriptors = descriptors
        self.first = first


class Child(asyncio.SubprocessProtocol):
    """A worker process.

    Args:
        place: which of the supervisor's workers it is, from 0 on.
        broker: who binds its sockets.

    Attributes:
        ready: done when it serves, or has ended.
        ended: done when it has ended; its result is the exit status.
        last_sign: when it gave its last sign of life, by the loop's clock; None before the first.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, place: int, broker: Broker) -> None:
        self._loop = loop
        self._broker = broker
        self._turns: Counter[tuple[Any, ...]] = Counter()
        self._process: Any = None
        self._channel: Channel | None = None
        self._beside: socket.socket | None = None
        self.place = place
        self.serves = False
        self.last_sign: float | None = None
        self.ready: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[int] = loop.create_future()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.get_pid() if self._process is not None else 0

    async def start(self, command: Command, beat_s: float, drain_s: float) -> None:
        """Starts the process.

        Raises:
            OSError: it cannot be started.
        """
        ours, theirs = socket.socketpair()
        self._beside, beside = socket.socketpair()
        with theirs, beside:
            ours.setblocking(False)
            self._channel = Channel(self._loop, None, self._receive, lambda: None)
            channel = self._channel
            await self._loop.create_unix_connection(lambda: channel, sock=ours)
            if command.first is not None:
                channel.send_alone(command.first)
            environment: Mapping[str, str] = {
                **os.environ,
                ENVIRONMENT: f"{theirs.fileno()},{beside.fileno()},{beat_s},{drain_s}",
            }
            try:
                self._process, _ = await self._loop.subprocess_exec(
                    lambda: self,
                    *command.words,
                    stdin=None,
                    stdout=None,
                    stderr=None,
                    env=environment,
                    pass_fds=(theirs.fileno(), beside.fileno(), *command.descriptors),
                )
            except BaseException:
                self._let_go()
                raise

    def send_signal(self, signum: int) -> None:
        """Sends a signal, unless the process has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signum)

    async def retire(self, drain_s: float) -> None:
        """Asks the process to end (SIGTERM), and ends it when it has not within so many seconds."""
        self.send_signal(signal.SIGTERM)
        await asyncio.wait([self.ended], timeout=drain_s)
        if not self.ended.done():
            self.send_signal(signal.SIGKILL)
            await asyncio.wait([self.ended])

    def process_exited(self) -> None:
        status = self._process.get_returncode()
        self._process.close()
        self._let_go()
        if not self.ended.done():
            self.ended.set_result(status)
        if not self.ready.done():
            self.ready.set_result(None)

    def _let_go(self) -> None:
        if self._channel is not None:
            self._channel.close()
        if self._beside is not None:
            self._beside.close()
            self._beside = None

    def _receive(self, received: list[tuple[Any, ...]]) -> None:
        for kind, *words in received:
            if kind == BEAT:
                self.last_sign = self._loop.time()
            elif kind == READY:
                self.serves = True
                self.last_sign = self._loop.time()
                if not self.ready.done():
                    self.ready.set_result(None)
            elif kind == BIND:
                self._bind(*words)

    def _bind(self, family: int, proto: int, address: Any, options: Any) -> None:
        """Answers a request for a bound socket."""
        if self._beside is None:
            return
        key = (family, proto, address)
        try:
            sock = self._broker.bound(self._turns[key], family, proto, address, options)
        except (OSError, OverflowError) as error:
            words = (
                getattr(error, "errno", None) or 22,
                getattr(error, "strerror", None) or str(error),
            )
            self._beside.send(marshal.dumps(words))
        else:
            self._turns[key] += 1
            socket.send_fds(self._beside, [b"s"], [sock.fileno()])
