"""Measures real web servers on each loop: the server's CPU time per request.

    python -m benches.http_servers
    python -m benches.http_servers --servers aiohttp --loops uvloop,antiphon --rounds 7

Servers: an aiohttp application and a bare ASGI application under uvicorn (httptools), each answering a short text.
Load: wrk (a Debian package of that name), 100 connections kept alive. Every figure is taken in a fresh server process;
loops take turns in each round, in reverse order in every other one. A ratio is the peer's CPU time over the loop's own,
above 1 where the loop is cheaper.
"""

import argparse
import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from statistics import median
from typing import Any

from benches import loops
from benches.contender import ROOT, environment
from benches.echo.server import LIFETIME_S, listener

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
CONNECTIONS = 100
BODY = b"Hello, world!"
START_TIMEOUT_S = 20


async def serve_aiohttp(sock: Any) -> None:
    """Serves with aiohttp for ever."""
    from aiohttp import web

    async def hello(request: web.Request) -> web.Response:
        return web.Response(body=BODY, content_type="text/plain")

    application = web.Application()
    application.router.add_get("/", hello)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.SockSite(runner, sock).start()
    await asyncio.Event().wait()


async def serve_uvicorn(sock: Any) -> None:
    """Serves a bare ASGI application with uvicorn for ever."""
    import uvicorn

    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(BODY)).encode())]

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": BODY})

    config = uvicorn.Config(
        application, http="httptools", lifespan="off", access_log=False, log_level="warning"
    )
    await uvicorn.Server(config).serve(sockets=[sock])


SERVERS = {"aiohttp": serve_aiohttp, "uvicorn": serve_uvicorn}


def run_server(name: str, loop: str) -> None:
    """Runs one server on one loop until it is killed."""
    signal.alarm(LIFETIME_S)
    new_loop = loops.factory(loop)
    sock = listener()
    print(sock.getsockname()[1], flush=True)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(SERVERS[name](sock))


def cpu_seconds(pid: int) -> float:
    """Returns the CPU time that a process has used, user and system."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def load(port: int, seconds: float) -> int:
    """Puts load on a server and returns the number of requests it answered.

    Raises:
        RuntimeError: wrk saw an error or an answer that was none.
    """
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", f"http://127.0.0.1:{port}/"]
    words = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    requests = re.search(r"(\d+) requests in", words)
    if requests is None or "errors" in words or "Non-2xx" in words:
        raise RuntimeError(words)
    return int(requests[1])


def measure(name: str, loop: str, seconds: float) -> float:
    """Returns the server's CPU time per request, in microseconds, in a fresh process."""
    command = [sys.executable, "-m", "benches.http_servers", "--serve", name, loop]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            load(port, 1)
            before = cpu_seconds(server.pid)
            requests = load(port, seconds)
            return (cpu_seconds(server.pid) - before) / requests * 1e6
        finally:
            server.kill()


def main() -> None:
    """Measures in rounds and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loops", default="asyncio,uvloop,rloop,antiphon", help="with commas")
    parser.add_argument("--servers", default="aiohttp,uvicorn", help="with commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="of load, each time")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        run_server(*given.serve)
        return
    if shutil.which("wrk") is None:
        raise SystemExit("http_servers: wrk is not installed; it puts the load on the servers")
    names = given.loops.split(",")
    for server in given.servers.split(","):
        figures: dict[str, list[float]] = {name: [] for name in names}
        for number in range(given.rounds):
            for name in names if number % 2 == 0 else names[::-1]:
                figures[name].append(measure(server, name, given.seconds))
        print(f"{server}: CPU per request in µs (median), gain over {names[0]} (median of rounds)")
        for name in names:
            gains = [peer / own for peer, own in zip(figures[names[0]], figures[name], strict=True)]
            shown = f"{min(gains):.2f}-{max(gains):.2f}"
            print(
                f"  {name:10}{median(figures[name]):8.1f}{median(gains):8.2f}  ({shown})",
                flush=True,
            )


if __name__ == "__main__":
    main()
