"""One life of the soak: a loop, its servers, a crowd of visitors, and its end."""

import asyncio
import contextlib
import os
import random
import signal
import socket
import ssl
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from soak.book import Book
from soak.children import child
from soak.ends import BufferedServing, PlainServing
from soak.exchange import KINDS, STYLES, Exchange, Plan
from soak.faults import strangers, usurper
from soak.scenes import connection, datagrams, pipe, readers, signals, threads, timers
from soak.talks import serving
from support.processes import child_numbers
from support.tls import client_context, server_context

Scene = Callable[["Life", random.Random, int], Awaitable[None]]

#: How often each scene is drawn, in relation to the others.
SCENES: dict[Scene, int] = {
    connection: 60,
    strangers: 8,
    datagrams: 8,
    pipe: 8,
    child: 6,
    usurper: 6,
    readers: 5,
    timers: 2,
    threads: 3,
    signals: 3,
}
#: No scene takes as long unless something is stuck.
SCENE_SECONDS = 40.0
#: What asyncio says of tasks and futures whose loop was closed under them.
_LAST_WORDS = (
    "Task was destroyed but it is pending!",
    "Task exception was never retrieved",
    "Future exception was never retrieved",
)
_NUMBERS_PER_VISITOR = 1_000_000


class Life:
    """What the scenes of one loop share.

    Args:
        loop: a new one.
        book: the run's.
        seed: everything is drawn from it.
        scenes: which scenes are played.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, book: Book, seed: str, scenes: dict[Scene, int]
    ) -> None:
        self.loop = loop
        self.book = book
        self.seed = seed
        self.scenes = scenes
        self.addresses: dict[tuple[str, str], Any] = {}
        self.exchanges: dict[int, Exchange] = {}
        self.children: set[int] = set()
        self.signals = {signal.SIGUSR1: 0, signal.SIGUSR2: 0}
        self._servers: list[asyncio.Server] = []
        self._files = tempfile.TemporaryDirectory()
        self._server_context = server_context()
        self._client_context = client_context()
        self._is_abrupt = False
        loop.set_exception_handler(self._report)

    def run(self, seconds: float, visitors: int, is_abrupt: bool) -> None:
        """Lives.

        Args:
            seconds: until visitors begin no more scenes.
            visitors: how many there are at once.
            is_abrupt: the loop is closed then and there.
        """
        self._is_abrupt = is_abrupt
        self.loop.run_until_complete(self._open())
        deadline = self.loop.time() + seconds
        if is_abrupt:
            crowd = [
                self.loop.create_task(self._visit(n, deadline + 3600)) for n in range(visitors)
            ]
            self.loop.call_later(seconds, self.loop.stop)
            self.loop.run_forever()
            self.book.done["loops closed with everything open"] += 1
            self.book.done["tasks left to a closed loop"] += sum(not task.done() for task in crowd)
        else:
            self.loop.run_until_complete(self._until(deadline, visitors))
        self.loop.close()
        self._files.cleanup()
        self._bury()

    async def _until(self, deadline: float, visitors: int) -> None:
        await asyncio.gather(*(self._visit(number, deadline) for number in range(visitors)))
        for server in self._servers:
            server.close()
            await server.wait_closed()
        for number in self.signals:
            self.loop.remove_signal_handler(number)
        # Connections that strangers left.
        await asyncio.sleep(0.05)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if left:
            _, stuck = await asyncio.wait(left, timeout=10)
            for task in stuck:
                self.book.fail(f"task left: {task!r}")
                task.cancel()
        await self.loop.shutdown_default_executor()

    async def _visit(self, visitor: int, deadline: float) -> None:
        rng = random.Random(f"{self.seed}/visitor {visitor}")
        number = visitor * _NUMBERS_PER_VISITOR
        scenes, weights = list(self.scenes), list(self.scenes.values())
        while self.loop.time() < deadline:
            number += 1
            (scene,) = rng.choices(scenes, weights)
            try:
                async with asyncio.timeout(SCENE_SECONDS):
                    await scene(self, rng, number)
            except Exception as error:
                if self.loop.is_closed():
                    raise  # what a coroutine meets that dies with its loop
                self.book.fail(f"{scene.__name__} {number}: {error!r}")
                return
            self.book.done["scenes"] += 1

    async def _open(self) -> None:
        for kind in KINDS:
            context = self._server_context if "tls" in kind else None
            for style in STYLES:
                await self._serve(kind, style, context)
        for number in self.signals:
            self.loop.add_signal_handler(number, self._count_signal, number)

    async def _serve(self, kind: str, style: str, context: ssl.SSLContext | None) -> None:
        options: dict[str, Any] = {"ssl": context, "backlog": 1000}
        factory = partial(PlainServing if style == "protocol" else BufferedServing, self)
        if "unix" in kind:
            path = os.path.join(self._files.name, f"{kind}-{style}".replace(" ", "-"))
            if style == "streams":
                server = await asyncio.start_unix_server(serving(self), path, **options)
            else:
                server = await self.loop.create_unix_server(factory, path, **options)
            self.addresses[kind, style] = path
        else:
            sock = socket.create_server(("127.0.0.1", 0), backlog=1000)
            sock.setblocking(False)
            if style == "streams":
                server = await asyncio.start_server(serving(self), sock=sock, **options)
            else:
                server = await self.loop.create_server(factory, sock=sock, **options)
            self.addresses[kind, style] = sock.getsockname()
        self._servers.append(server)

    def _options(self, plan: Plan) -> dict[str, Any]:
        if "tls" not in plan.kind:
            return {}
        return {"ssl": self._client_context, "server_hostname": "localhost"}

    async def connect(self, plan: Plan, factory: Callable[[], Any]) -> tuple[Any, Any]:
        """Connects a protocol to the server that is planned."""
        address, options = self.addresses[plan.kind, plan.server], self._options(plan)
        if "unix" in plan.kind:
            return await self.loop.create_unix_connection(factory, address, **options)
        return await self.loop.create_connection(factory, *address, **options)

    async def open_streams(self, plan: Plan) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connects streams to the server that is planned."""
        address, options = self.addresses[plan.kind, plan.server], self._options(plan)
        if "unix" in plan.kind:
            return await asyncio.open_unix_connection(address, **options)
        return await asyncio.open_connection(*address, **options)

    def meet(self, number: int | None) -> Exchange | None:
        """Gives a server the exchange whose header it has read; None: it is no visitor's, or a late one's."""
        exchange = None if number is None else self.exchanges.get(number)
        if exchange is None:
            self.book.done["headers of nobody"] += 1
        elif exchange.was_met:
            self.book.fail(f"{exchange}: its header came twice")
        else:
            exchange.was_met = True
        return exchange

    def _count_signal(self, number: signal.Signals) -> None:
        self.signals[number] += 1

    def _report(self, _: Any, context: dict[str, Any]) -> None:
        message, exception = context.get("message", ""), context.get("exception")
        if self._is_abrupt and message in _LAST_WORDS:
            self.book.done["last words of tasks and futures"] += 1
            return
        self.book.fail(f"exception handler: {message} ({exception!r})")

    def _bury(self) -> None:
        """Ends the children that the loop left behind, those too that nobody knew of yet."""
        for pid in self.children | child_numbers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        self.children.clear()
