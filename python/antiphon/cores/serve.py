"""`antiphon.serve`: one listening socket, and workers on all cores that accept from it.

def application():
    app = aiohttp.web.Application()
    ...
    return app

if __name__ == "__main__":
    antiphon.serve(application, 8080)
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing import spawn
from typing import Any

import antiphon
from antiphon.cores.child import Command
from antiphon.cores.supervisor import Supervisor
from antiphon.pool import pickling

__all__ = ["serve"]

_PROGRAM = (
    "import sys; sys.path.insert(0, {root!r}); "
    "from antiphon.cores.worker import run; run({descriptors!r})"
)


def serve(
    factory: Callable[..., Any],
    port: int | None = None,
    *,
    host: str = "127.0.0.1",
    sock: socket.socket | None = None,
    workers: int | None = None,
    kind: str = "auto",
    backlog: int = 2048,
    hang_timeout: float | None = 30.0,
    drain: float = 30.0,
) -> None:
    """Serves on all cores until SIGTERM or SIGINT; SIGHUP restarts the workers one by one.

    Args:
        factory: called in each worker without arguments; makes an ASGI application (served by uvicorn), an aiohttp
            application or an `asyncio.Protocol`. Or a coroutine function that takes a list of listening sockets and
            serves on them until it is cancelled.
        port, host: where to listen; "0.0.0.0" and "::" stand for all interfaces.
        sock: a bound socket, in place of port and host.
        workers: how many; None: as many as this process may use cores.
        kind: "process", "thread", or "auto": processes with the GIL, threads without.
        backlog: connections that the kernel queues until a worker accepts them.
        hang_timeout: seconds; a worker process whose loop does nothing for so long is killed and replaced. None:
            never.
        drain: seconds that a worker has for the requests that it has when it is to end.

    Raises:
        OSError: the address cannot be bound.
        ValueError: arguments that exclude or need each other.
        SystemExit: with status 1, if the workers do not start.
    """
    if (port is None) == (sock is None):
        raise ValueError("either port or sock says where to listen")
    if kind not in ("auto", "process", "thread"):
        raise ValueError(f"kind must be 'auto', 'process' or 'thread', not {kind!r}")
    if kind == "auto":
        kind = "process" if getattr(sys, "_is_gil_enabled", lambda: True)() else "thread"
    count = workers or len(os.sched_getaffinity(0))
    if sock is None:
        assert port is not None
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.create_server((host, port), family=family, backlog=backlog)
    with sock:
        sock.listen(backlog)
        if kind == "thread":
            _serve_in_threads(factory, sock, count, drain)
            return
        program = spawn.get_preparation_data("antiphon-worker")
        program.pop("authkey", None)
        program.pop("start_method", None)
        first = (
            pickling.dump(program, lambda: "how the program was started")[0],
            pickling.dump((factory, drain), lambda: "the factory")[0],
        )
        root = os.path.dirname(os.path.dirname(os.path.abspath(antiphon.__file__)))
        words = [
            sys.executable,
            *subprocess._args_from_interpreter_flags(),  # type: ignore[attr-defined]  # as multiprocessing does
            "-c",
            _PROGRAM.format(root=root, descriptors=[sock.fileno()]),
        ]
        command = Command(words, [sock.fileno()], first)
        status = antiphon.run(Supervisor(command, count, hang_timeout, drain).run())
    if status:
        raise SystemExit(status)


def _serve_in_threads(
    factory: Callable[..., Any], sock: socket.socket, count: int, drain: float
) -> None:
    """Workers that are threads, each with a loop; this one waits for the signal to stop."""
    from antiphon.cores.worker import serve_until
    from antiphon.loop import Loop

    stops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
    errors: list[BaseException] = []
    over = threading.Event()

    async def main(mine: socket.socket) -> None:
        stop = asyncio.Event()
        stops.append((asyncio.get_running_loop(), stop))
        if over.is_set():
            return
        await serve_until(stop, factory, [mine], drain, lambda: None)

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=Loop) as runner:
                runner.run(main(sock.dup()))
        except BaseException as error:
            errors.append(error)
            over.set()

    threads = [threading.Thread(target=run, name=f"worker {place}") for place in range(count)]
    before = {
        signum: signal.signal(signum, lambda *_: over.set())
        for signum in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        for thread in threads:
            thread.start()
        over.wait()
    finally:
        over.set()
        for loop, stop in list(stops):
            try:
                loop.call_soon_threadsafe(stop.set)
            except RuntimeError:  # it has ended by itself
                continue
        for thread in threads:
            thread.join()
        for signum, handler in before.items():
            signal.signal(signum, handler)
    if errors:
        raise errors[0]
