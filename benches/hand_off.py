"""Shows what blocking calls do to a loop: five at once beside a ticker, with and without the hand-off.

    python -m benches.hand_off
    python -m benches.hand_off --seconds 0.3 --rounds 5 --calls time.sleep sqlite3

Each row is one kind of call, made by five tasks at once, so that it takes five times as long in asyncio. The columns
are the time in all and the longest gap of a ticker that wakes each 10 ms: with `on_block="ignore"`, in the first round
with `"handoff"`, where the watchdog finds who blocks, and in the later ones (medians), where the places are known.
Needs CPython 3.12 or later with the GIL.
"""

import argparse
import asyncio
import contextlib
import http.server
import importlib.util
import os
import queue
import select
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from statistics import median

import antiphon

TASKS = 5
TICK_S = 0.01
Block = Callable[[], object]
Round = tuple[float, float]


@contextlib.contextmanager
def sleeping(seconds: float) -> Iterator[Block]:
    """`time.sleep`."""
    yield lambda: time.sleep(seconds)


@contextlib.contextmanager
def requesting(seconds: float) -> Iterator[Block]:
    """`requests.get`, or `urllib` where there is none, of a server that takes its time."""

    class Slow(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(seconds)
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}/"
    if importlib.util.find_spec("requests"):
        import requests

        yield lambda: requests.get(address, timeout=60).content
    else:
        import urllib.request

        yield lambda: urllib.request.urlopen(address, timeout=60).read()
    server.shutdown()
    thread.join()
    server.server_close()


@contextlib.contextmanager
def querying(seconds: float) -> Iterator[Block]:
    """A query that waits for another writer's lock (SQLite's busy time-out)."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "file.db")
        owner = sqlite3.connect(path, isolation_level=None)
        owner.execute("create table t (x)")
        owner.execute("begin exclusive")

        def query() -> None:
            connection = sqlite3.connect(path, timeout=seconds)
            with contextlib.suppress(sqlite3.OperationalError):
                connection.execute("insert into t values (1)")
            connection.close()

        yield query
        owner.close()


@contextlib.contextmanager
def running_children(seconds: float) -> Iterator[Block]:
    """`subprocess.run`."""
    yield lambda: subprocess.run(["sleep", str(seconds)], check=True)


@contextlib.contextmanager
def reading(seconds: float) -> Iterator[Block]:
    """A read from a FIFO that somebody writes to later."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "fifo")

        def read() -> bytes:
            own = f"{path}-{threading.get_ident()}-{time.monotonic_ns()}"
            os.mkfifo(own)
            writer = os.open(own, os.O_RDWR)
            timer = threading.Timer(seconds, os.write, (writer, b"x"))
            timer.start()
            with open(own, "rb", buffering=0) as file:
                data = file.read(1)
            timer.join()
            os.close(writer)
            return data or b""

        yield read


@contextlib.contextmanager
def getting(seconds: float) -> Iterator[Block]:
    """`queue.Queue.get` with a time limit."""

    def get() -> None:
        with contextlib.suppress(queue.Empty):
            queue.Queue[int]().get(timeout=seconds)

    yield get


@contextlib.contextmanager
def joining(seconds: float) -> Iterator[Block]:
    """`threading.Thread.join`."""

    def join() -> None:
        thread = threading.Thread(target=time.sleep, args=(seconds,))
        thread.start()
        thread.join()

    yield join


@contextlib.contextmanager
def selecting(seconds: float) -> Iterator[Block]:
    """`select.select`."""
    yield lambda: select.select([], [], [], seconds)


CALLS: dict[str, Callable[[float], contextlib.AbstractContextManager[Block]]] = {
    "time.sleep": sleeping,
    "requests.get": requesting,
    "sqlite3": querying,
    "subprocess.run": running_children,
    "FIFO read": reading,
    "Queue.get": getting,
    "Thread.join": joining,
    "select": selecting,
}


async def _ticker(gaps: list[float]) -> None:
    last = time.perf_counter()
    while True:
        await asyncio.sleep(TICK_S)
        now = time.perf_counter()
        gaps.append(now - last)
        last = now


async def _rounds(block: Block, rounds: int) -> list[Round]:
    """Has five tasks block at once, so many times.

    Returns:
        For each round: seconds in all, the ticker's longest gap.
    """

    async def blocks() -> None:
        block()

    results = []
    gaps: list[float] = []
    ticker = asyncio.create_task(_ticker(gaps))
    for _ in range(rounds):
        await asyncio.sleep(5 * TICK_S)
        gaps.clear()
        begin = time.perf_counter()
        await asyncio.gather(*(blocks() for _ in range(TASKS)))
        took = time.perf_counter() - begin
        await asyncio.sleep(2 * TICK_S)
        results.append((took, max(gaps)))
    ticker.cancel()
    return results


def measure(name: str, seconds: float, rounds: int) -> tuple[Round, Round, Round]:
    """Measures one kind of call: without the hand-off, its first round, the median of the later ones."""
    with CALLS[name](seconds) as block:
        (ignored,) = antiphon.run(_rounds(block, 1), on_block="ignore")
        first, *later = antiphon.run(_rounds(block, 1 + rounds), on_block="handoff")
    took, gap = (median(column) for column in zip(*later, strict=True))
    return ignored, first, (took, gap)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each call takes")
    parser.add_argument("--rounds", type=int, default=3, help="rounds after the first")
    parser.add_argument("--calls", nargs="+", choices=list(CALLS), default=list(CALLS))
    options = parser.parse_args()
    print(f"{TASKS} at once, {options.seconds:g} s each, CPython {sys.version.split()[0]}")
    print(f"{'':16}{'ignore':>18}{'first round':>18}{'later rounds':>18}")
    for name in options.calls:
        columns = measure(name, options.seconds, options.rounds)
        cells = (f"{took:.2f} s {gap * 1000:6.0f} ms" for took, gap in columns)
        print(f"{name:16}" + "".join(f"{cell:>18}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
