"""What a factory makes, and how that is served: ASGI and aiohttp applications, protocols, or a coroutine of its own."""

import asyncio
import contextlib
import inspect
import socket
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["Serving", "serving_of"]


#: Seconds between the end of accepting and that of the connections: one that was accepted just now brings its request
#: by then, and applications close those that have none.
_LINGER_S = 0.2


class Serving:
    """Something that serves on sockets.

    Attributes:
        start: serves from its end on.
        stop: accepts no more, and returns when the requests that it has are answered.
        task: what serves, if it may end by itself; set by `start`.
    """

    task: asyncio.Task[Any] | None = None

    def __init__(self, start: Callable[[], Any], stop: Callable[[], Any]) -> None:
        self.start = start
        self.stop = stop


async def serving_of(
    factory: Callable[..., Any], sockets: Sequence[socket.socket], drain: float
) -> Serving:
    """Calls a factory and finds out how to serve what it makes.

    Args:
        factory: takes nothing and makes an ASGI application, an aiohttp application or an `asyncio.Protocol`; or is a
            coroutine function that takes the sockets and serves on them until it is cancelled.
        sockets: bound, one or several.
        drain: seconds that connections have to end.

    Raises:
        TypeError: it makes something else.
    """
    if inspect.iscoroutinefunction(factory) and inspect.signature(factory).parameters:
        return _own(factory, sockets)
    made = factory()
    if inspect.isawaitable(made):
        made = await made
    if isinstance(made, asyncio.BaseProtocol):
        return _protocols(factory, made, sockets)
    if any(
        f"{kind.__module__}.{kind.__qualname__}" == "aiohttp.web_app.Application"
        for kind in type(made).__mro__
    ):
        return _aiohttp(made, sockets, drain)
    if callable(made):
        return _asgi(made, sockets, drain)
    raise TypeError(
        f"the factory made {made!r}, which is neither an ASGI or aiohttp application nor an asyncio.Protocol"
    )


def _own(factory: Callable[..., Any], sockets: Sequence[socket.socket]) -> Serving:
    async def start() -> None:
        serving.task = asyncio.create_task(factory(sockets))
        await asyncio.sleep(0)

    async def stop() -> None:
        assert serving.task is not None
        serving.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving.task

    serving = Serving(start, stop)
    return serving


def _protocols(
    factory: Any, first: asyncio.BaseProtocol, sockets: Sequence[socket.socket]
) -> Serving:
    spare = [first]  # the one that was made to see what the factory makes
    servers: list[Any] = []

    async def start() -> None:
        loop = asyncio.get_running_loop()
        for sock in sockets:
            servers.append(
                await loop.create_server(lambda: spare.pop() if spare else factory(), sock=sock)
            )

    async def stop() -> None:
        for server in servers:
            server.close()
        for server in servers:
            await server.wait_closed()

    return Serving(start, stop)


def _aiohttp(application: Any, sockets: Sequence[socket.socket], drain: float) -> Serving:
    from aiohttp import web

    runner = web.AppRunner(application, shutdown_timeout=drain)

    async def start() -> None:
        await runner.setup()
        for sock in sockets:
            await web.SockSite(runner, sock).start()

    async def stop() -> None:
        for site in list(runner.sites):
            site._server.close()  # type: ignore[union-attr, unused-ignore]  # stop() would close connections, too
        await asyncio.sleep(_LINGER_S)
        await runner.cleanup()

    return Serving(start, stop)


def _asgi(application: Any, sockets: Sequence[socket.socket], drain: float) -> Serving:
    import uvicorn  # type: ignore[import-not-found, unused-ignore]

    config = uvicorn.Config(
        application, log_config=None, timeout_graceful_shutdown=max(1, int(drain))
    )
    server = uvicorn.Server(config)
    # Signals are this process's business, see worker.py.
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment, unused-ignore]

    async def start() -> None:
        task = serving.task = asyncio.create_task(server.serve(sockets=list(sockets)))
        while not server.started and not task.done():
            await asyncio.sleep(0.01)  # uvicorn tells by this attribute alone
        if task.done():
            raise RuntimeError("uvicorn could not start the application") from task.exception()

    async def stop() -> None:
        for listening in server.servers:
            listening.close()
        await asyncio.sleep(_LINGER_S)
        server.should_exit = True
        assert serving.task is not None
        await serving.task

    serving = Serving(start, stop)
    return serving
