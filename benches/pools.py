"""Measures pools of workers: antiphon's against aiomultiprocess and the standard library's, in one run.

    python -m benches.pools                   # every row
    python -m benches.pools --rows map,round_trip --rounds 5 --workers 2

    article      the article's first program (coroutines that count down) through the pool, against the same in one loop
                 and against (serial / cores) x 1.1 + the start of the workers
    map          100,000 trivial calls: Pool.map, ProcessPoolExecutor.map, aiomultiprocess.Pool.map
    round_trip   one call after the other, each awaited
    argument     100 MiB as an argument, against a memcpy of as much
    serve        aiohttp and uvicorn on one worker and on several, under wrk: saying hello, or computing each time

wrk needs cores of its own to keep servers busy that only say hello. Where it has none, two figures say what can be
said: requests that compute cost the server a hundred times what they cost wrk, so their rates are the servers' alone;
and the servers' CPU time per request says whether several workers cost more than one. CPU figures hold on busy
machines, too.

Contenders take turns within a round; a figure is the best round's, with the median beside it. These are wall times, for
what is measured is several processes at once: figures of a busy machine say little, and the ratios of one run most.
"""

import argparse
import asyncio
import functools
import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import median
from typing import Any

import antiphon
from benches.contender import ROOT

CALLS = 100_000
ROUND_TRIPS = 2_000
ARGUMENT_BYTES = 100 << 20
COUNT = 5_000_000
SECONDS_OF_LOAD = 4

Figures = dict[str, list[float]]


async def count_down(count: int) -> None:
    """The article's first program, its inner loop."""
    while True:
        count -= 1
        if count < 0:
            break


async def same(value: Any) -> Any:
    """A trivial call."""
    return value


def plain_same(value: Any) -> Any:
    """The same for executors of plain functions."""
    return value


async def touch(buffer: Any) -> int:
    """Takes a large argument."""
    return len(buffer)


async def measure(work: Coroutine[Any, Any, object]) -> float:
    """Returns the seconds that a coroutine takes."""
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


async def article(rounds: int, workers: int) -> Figures:
    """Serial, the start of the pool, its calls, and all of it; seconds, and CPU seconds of all processes."""
    names = ("serial", "start", "calls", "start to end")
    figures: Figures = {name: [] for name in (*names, "serial, CPU", "calls, CPU")}
    for _ in range(rounds):
        await note(figures, "serial", count_down_serially(workers))
        began = time.perf_counter()
        async with antiphon.Pool(workers, "process") as pool:
            await pool.broadcast(same, 1)
            figures["start"].append(time.perf_counter() - began)
            await note(figures, "calls", collect(pool.map(count_down, [COUNT] * workers)))
        figures["start to end"].append(time.perf_counter() - began)
    return figures


async def count_down_serially(times: int) -> None:
    """What the workers do, in one loop."""
    for _ in range(times):
        await count_down(COUNT)


async def mapped(rounds: int, workers: int) -> Figures:
    """Seconds for CALLS trivial calls, and the CPU seconds of all processes for them, without the workers' start."""
    try:
        import aiomultiprocess
    except ImportError:
        aiomultiprocess = None
    figures: Figures = {"antiphon": [], "ProcessPoolExecutor": [], "aiomultiprocess": []}
    figures |= {f"{name}, CPU": [] for name in list(figures)}
    for _ in range(rounds):
        async with antiphon.Pool(workers, "process") as pool:
            await pool.map(same, range(1000))
            await note(figures, "antiphon", collect(pool.map(same, range(CALLS))))
        if aiomultiprocess is not None:
            async with aiomultiprocess.Pool(workers) as peer:
                await peer.map(same, range(1000))
                await note(figures, "aiomultiprocess", collect(peer.map(same, range(CALLS))))
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as executor:
            list(executor.map(plain_same, range(1000)))
            await note(
                figures, "ProcessPoolExecutor", consume(executor.map(plain_same, range(CALLS)))
            )
    return figures


async def note(figures: Figures, name: str, work: Coroutine[Any, Any, object]) -> None:
    """Adds the seconds that work takes, and the CPU seconds of this process and its children for it."""
    cpu = cpu_seconds()
    figures[name].append(await measure(work))
    figures[f"{name}, CPU"].append(cpu_seconds() - cpu)


def cpu_seconds(pid: int | None = None) -> float:
    """Returns the CPU time of a process, by default this one, and of the children that it has now."""
    pid = pid or os.getpid()
    with open(f"/proc/{pid}/stat") as stat:
        # Behind the name, which may have spaces in it: fields 14 and 15 of proc(5).
        fields = stat.read().rpartition(")")[2].split()
    used = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return used + sum(map(cpu_seconds, children_of(pid)))


def children_of(pid: int) -> list[int]:
    """Returns the processes that a process has started and that are there now."""
    found: list[int] = []
    for task in os.listdir(f"/proc/{pid}/task"):  # each thread has its own
        with open(f"/proc/{pid}/task/{task}/children") as children:
            found += map(int, children.read().split())
    return found


async def consume(results: Any) -> None:
    """Takes results one by one."""
    for _ in results:
        pass


async def collect(results: Any) -> Any:
    """Awaits what is awaitable and no coroutine."""
    return await results


async def round_trips(rounds: int, workers: int) -> Figures:
    """Median seconds of one call, in each round."""
    figures: Figures = {"antiphon": [], "ProcessPoolExecutor": []}
    for _ in range(rounds):
        async with antiphon.Pool(1, "process") as pool:
            await pool.map(same, range(1000))
            times = [await measure(pool.run(same, 1)) for _ in range(ROUND_TRIPS)]
            figures["antiphon"].append(median(times))
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(executor, plain_same, 1)
            times = [
                await measure(collect(loop.run_in_executor(executor, plain_same, 1)))
                for _ in range(ROUND_TRIPS // 4)
            ]
            figures["ProcessPoolExecutor"].append(median(times))
    return figures


async def argument(rounds: int, workers: int) -> Figures:
    """Seconds to copy ARGUMENT_BYTES, and to call with them."""
    figures: Figures = {"memcpy": [], "call": []}
    source, target = bytearray(ARGUMENT_BYTES), bytearray(ARGUMENT_BYTES)
    async with antiphon.Pool(1, "process") as pool:
        for _ in range(2):  # memory is mapped at both ends
            await pool.run(touch, pickle.PickleBuffer(source))
        for _ in range(rounds):
            began = time.perf_counter()
            memoryview(target)[:] = source
            figures["memcpy"].append(time.perf_counter() - began)
            figures["call"].append(await measure(pool.run(touch, pickle.PickleBuffer(source))))
    return figures


def say() -> bytes:
    """Says hello at once."""
    return b"Hello, world!"


def compute() -> bytes:
    """Says hello after a millisecond or two of computing: always as much, however long that takes."""
    for _ in range(60_000):
        pass
    return b"Hello, world!"


def aiohttp_application(answer: Callable[[], bytes]) -> Any:
    """An aiohttp application."""
    from aiohttp import web

    async def hello(request: web.Request) -> web.Response:
        return web.Response(body=answer(), content_type="text/plain")

    application = web.Application()
    application.router.add_get("/", hello)
    return application


def asgi_application(answer: Callable[[], bytes]) -> Any:
    """An ASGI application, which uvicorn serves."""
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"13")]

    async def hello(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": answer()})

    return hello


APPLICATIONS = {
    f"{library}, {work.__name__}": functools.partial(make, work)
    for work in (say, compute)
    for library, make in (("aiohttp", aiohttp_application), ("uvicorn", asgi_application))
}


async def served(rounds: int, workers: int) -> Figures:
    """Seconds per request, and the servers' CPU seconds for one."""
    figures: Figures = {}
    for _ in range(rounds):
        for application in APPLICATIONS:
            for count in (1, workers):
                name = f"{application}, workers: {count}"
                rate, cpu = request_rate(application, count)
                figures.setdefault(name, []).append(1 / rate)
                figures.setdefault(f"{name}, CPU", []).append(cpu)
    return figures


def request_rate(application: str, workers: int) -> tuple[float, float]:
    """Returns the requests per second that wrk gets answered, and the servers' CPU seconds for each."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port, descriptor = sock.getsockname()[1], sock.fileno()
        server = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "benches.pools",
                "--serve",
                application,
                str(descriptor),
                str(workers),
            ],
            cwd=ROOT,
            pass_fds=[descriptor],
        )
    try:
        # Until a load has reached all workers several times, for their start looks like work, too.
        good = 0
        while good < 3:
            before = [cpu_seconds(pid) for pid in children_of(server.pid)]
            answered = requests_of(put_load(port, 1))
            after = [cpu_seconds(pid) for pid in children_of(server.pid)]
            busy = [late - early > 0.05 for early, late in zip(before, after, strict=False)]
            good = good + 1 if answered > 64 and busy.count(True) >= workers else 0
        cpu = cpu_seconds(server.pid)
        report = put_load(port, SECONDS_OF_LOAD)
        cpu = cpu_seconds(server.pid) - cpu
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()
    found = re.search(r"Requests/sec:\s+([\d.]+)", report)
    if found is None or re.search(r"Non-2xx|Socket errors", report):
        raise SystemExit(f"wrk: {report}")
    return float(found[1]), cpu / requests_of(report)


def requests_of(report: str) -> int:
    """Returns how many requests were answered, by wrk's report."""
    found = re.search(r"(\d+) requests in", report)
    return int(found[1]) if found else 0


def put_load(port: int, seconds: int) -> str:
    """Returns what wrk says of so many seconds of requests."""
    options = ["-t1", "-c64", "--timeout", "60s", f"-d{seconds}s"]
    command = ["wrk", *options, f"http://127.0.0.1:{port}/"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


ROWS: dict[str, Callable[[int, int], Coroutine[Any, Any, Figures]]] = {
    "article": article,
    "map": mapped,
    "round_trip": round_trips,
    "argument": argument,
    "serve": served,
}

#: Row: what is to be reached, as first figure / second figure and the least gain.
TARGETS = {
    "map": [
        ("aiomultiprocess", "antiphon", 5.0),
        ("ProcessPoolExecutor", "antiphon", 3.0),
        ("aiomultiprocess, CPU", "antiphon, CPU", 5.0),
        ("ProcessPoolExecutor, CPU", "antiphon, CPU", 3.0),
    ],
    "argument": [("memcpy", "call", 1 / 1.3)],
}


def report(row: str, figures: Figures, workers: int) -> None:
    """Prints a row's figures and how they stand to its targets."""
    print(f"\n{row}")
    best = {name: min(times) for name, times in figures.items() if times}
    for name, times in figures.items():
        if times:
            print(f"  {name:32} {best[name]:12.6f} s   median {median(times):.6f} s")
        else:
            print(f"  {name:32} not installed")
    for peer, subject, gain in TARGETS.get(row, ()):
        if peer in best:
            print(f"  {peer} / {subject}: {best[peer] / best[subject]:.2f} (at least {gain:.2f})")
    if row == "article":
        cores = min(workers, len(os.sched_getaffinity(0)))
        limit = best["serial"] / cores * 1.1 + best["start"]
        print(f"  start to end: {best['start to end']:.3f} s (at most {limit:.3f})")
        print(
            f"  calls, CPU / serial, CPU: {best['calls, CPU'] / best['serial, CPU']:.2f} (at most 1.10)"
        )
    if row == "round_trip":
        print(f"  round trip: {best['antiphon'] * 1e6:.1f} us (at most 60)")
    if row == "serve":
        for name in APPLICATIONS:
            one, several = f"{name}, workers: 1", f"{name}, workers: {workers}"
            remark = "" if name.endswith("compute") else "; wrk takes its share of the cores"
            print(f"  {name}: {best[one] / best[several]:.2f} of one worker (at least 1.8{remark})")
            cost = best[f"{several}, CPU"] / best[f"{one}, CPU"]
            print(f"  {name}: {cost:.2f} of one worker's CPU per request (at most {2 / 1.8:.2f})")


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m benches.pools", description="Measures pools.")
    parser.add_argument("--rows", default=",".join(ROWS), help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        application, descriptor, workers = options.serve
        sock = socket.socket(fileno=int(descriptor))
        factory = functools.partial(made, application)
        antiphon.serve(factory, sock=sock, workers=int(workers), drain=2.0)
        return
    for row in options.rows.split(","):
        if row == "serve" and shutil.which("wrk") is None:
            print(
                "\nserve\n  not measured: wrk is not installed, which puts the load on the servers"
            )
            continue
        figures = antiphon.run(ROWS[row](options.rounds, options.workers))
        report(row, figures, options.workers)


def made(name: str) -> Any:
    """Makes an application by its name: `__main__` is another module in the workers."""
    return APPLICATIONS[name]()


if __name__ == "__main__":
    main()
