"""Shows what blocking calls do to an HTTP server: the latency of its answers beside steps that block.

    python -m benches.http_beside_blocking
    python -m benches.http_beside_blocking --seconds 5 --rate 400 --rounds 3

One process serves (`asyncio.start_server`, keep-alive), another asks at a fixed rate, whether answers have come or
not, so that a stall counts for every request that fell into it. Three servers take turns: one that nothing blocks, one
beside tasks that each call `time.sleep` again and again, and the same with `on_block="handoff"`. The rows are the
medians, over the rounds, of each percentile, in milliseconds, and the ratio to the server that nothing blocks.
Needs CPython 3.12 or later with the GIL.
"""

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from statistics import median

import antiphon

CONNECTIONS = 32
BLOCKERS = 3
BLOCK_S = 0.05
"""How long each blocking call takes."""
PAUSE_S = 0.02
"""How long a task waits between two of its blocking calls."""
PERCENTILES = (50, 95, 99)
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serves one connection."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(RESPONSE)
    writer.close()


async def block_again_and_again() -> None:
    """What should not be in a server, and is."""
    while True:
        time.sleep(BLOCK_S)
        await asyncio.sleep(PAUSE_S)


async def serve(blockers: int, seconds: float, rate: float) -> list[float]:
    """Serves while the client in another process asks.

    Returns:
        The latencies in seconds.
    """
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    words = [sys.executable, "-m", __spec__.name, "--ask", str(port)]
    words += ["--seconds", str(seconds), "--rate", str(rate)]
    tasks = [asyncio.create_task(block_again_and_again()) for _ in range(blockers)]
    client = await asyncio.create_subprocess_exec(*words, stdout=subprocess.PIPE, env=os.environ)
    output, _ = await client.communicate()
    for task in tasks:
        task.cancel()
    await asyncio.wait([*tasks, asyncio.create_task(asyncio.sleep(0))])
    server.close()
    latencies: list[float] = json.loads(output)
    return latencies


async def ask(port: int, seconds: float, rate: float) -> list[float]:
    """The client: each connection asks at its share of the rate; latencies count from when a request was due."""
    latencies: list[float] = []
    loop = asyncio.get_running_loop()
    interval, begun = CONNECTIONS / rate, loop.time() + 0.5

    async def one(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        due = begun + interval * number / CONNECTIONS
        while due < begun + seconds:
            await asyncio.sleep(due - loop.time())
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await reader.readexactly(len(RESPONSE))
            latencies.append(loop.time() - due)
            due += interval
        writer.close()

    await asyncio.gather(*(one(number) for number in range(CONNECTIONS)))
    return latencies


def percentile(values: list[float], percent: float) -> float:
    """The value that so many per cent don't exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))]


def main() -> None:
    """Runs the rounds and prints the table."""
    parser = argparse.ArgumentParser(description="latency of an HTTP server beside blocking calls")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each server is asked")
    parser.add_argument("--rate", type=float, default=400.0, help="requests a second")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ask", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        print(json.dumps(antiphon.run(ask(options.ask, options.seconds, options.rate))))
        return
    kinds = {
        "nothing blocks": (0, "ignore"),
        "ignore": (BLOCKERS, "ignore"),
        "handoff": (BLOCKERS, "handoff"),
    }
    found: dict[str, list[list[float]]] = {kind: [] for kind in kinds}
    for _ in range(options.rounds):
        for kind, (blockers, on_block) in kinds.items():
            latencies = antiphon.run(
                serve(blockers, options.seconds, options.rate),
                on_block=on_block,  # type: ignore[arg-type]
                block_after=0.01,
            )
            found[kind].append([percentile(latencies, percent) for percent in PERCENTILES])
    medians = {
        kind: [median(column) for column in zip(*rows, strict=True)] for kind, rows in found.items()
    }
    print(f"{'':16}" + "".join(f"{f'p{percent}, ms':>20}" for percent in PERCENTILES))
    for kind, row in medians.items():
        cells = (
            f"{value * 1e3:10.2f} ({value / plain:6.2f}x)"
            for value, plain in zip(row, medians["nothing blocks"], strict=True)
        )
        print(f"{kind:16}" + "".join(f"{cell:>20}" for cell in cells))


if __name__ == "__main__":
    main()
