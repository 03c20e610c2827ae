"""An aiohttp server and an aiohttp client in one program: many requests over loopback, every answer checked.

    python examples/exchange.py           on asyncio's own loop
    antiphon examples/exchange.py         on antiphon's

The bar goes to standard error; the last thing on standard output is one line of JSON with the figures.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Callable, Iterator

from aiohttp import ClientSession, TCPConnector, web
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


async def answer(request: web.Request) -> web.Response:
    """Answers with the number of the path and its square, so that no two answers are alike."""
    number = int(request.match_info["number"])
    return web.json_response({"number": number, "square": number * number})


async def start_server() -> tuple[web.AppRunner, str]:
    """Starts the server on a port of the system's choosing; gives it with its base URL."""
    application = web.Application()
    application.router.add_get("/{number}", answer)
    server = web.AppRunner(application, access_log=None)
    await server.setup()
    await web.TCPSite(server, "127.0.0.1", 0).start()
    host, port = server.addresses[0]
    return server, f"http://{host}:{port}"


async def ask(session: ClientSession, numbers: Iterator[int], done: Callable[[], None]) -> None:
    """Asks for one number after the other until none is left; `numbers` is shared by all who ask."""
    for number in numbers:
        async with session.get(f"/{number}") as response:
            found = await response.json()
        if response.status != 200 or found != {"number": number, "square": number * number}:
            raise AssertionError(f"asked for {number}, got {response.status} {found}")
        done()


async def exchange(requests: int, connections: int) -> dict[str, object]:
    """Makes `requests` requests over `connections` connections at a time; gives the figures."""
    loop = asyncio.get_running_loop()
    name = f"{type(loop).__module__}.{type(loop).__qualname__}"
    server, url = await start_server()
    verified = 0
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task(name.split(".")[0], total=requests)

        def done() -> None:
            nonlocal verified
            verified += 1
            if verified % 100 == 0 or verified == requests:
                progress.update(bar, completed=verified)

        async with ClientSession(url, connector=TCPConnector(limit=connections)) as session:
            numbers = iter(range(requests))
            wall, cpu = time.perf_counter(), time.process_time()
            async with asyncio.TaskGroup() as group:
                for _ in range(connections):
                    group.create_task(ask(session, numbers, done))
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    await server.cleanup()
    return {
        "loop": name,
        "requests": requests,
        "connections": connections,
        "verified": verified,
        "seconds": round(wall, 4),
        "requests_per_second": round(verified / wall, 1),
        "cpu_seconds": round(cpu, 4),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="Measure an aiohttp server and client on one loop."
    )
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=100)
    options = parser.parse_args()
    print(json.dumps(asyncio.run(exchange(options.requests, options.connections))))
