"""Shows what it costs to watch a loop for steps that block: `on_block="report"` against "ignore".

    python -m benches.watch_cost
    python -m benches.watch_cost --rounds 12
    python -m benches.watch_cost --instructions      # user-space instructions, by valgrind; a minute

CPU time is that of all threads of the process, the watchdog's two among them. Both modes take turns, in fresh
processes; a ratio is watched over ignored. The last line counts how often the watchdog looked while the loop slept.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

import antiphon
from antiphon import watchdog

TASKS = 1_000
MODES = ("ignore", "report")
LIFETIME_S = 180
IDLE_S = 1.0


async def switch(count: int) -> None:
    """1000 tasks, ``sleep(0)`` each in turn."""

    async def worker(switches: int) -> None:
        sleep = asyncio.sleep
        for _ in range(switches):
            await sleep(0)

    workers = [asyncio.create_task(worker(count // TASKS)) for _ in range(TASKS)]
    for task in workers:
        await task


async def callback(count: int) -> None:
    """Callbacks that queue the next one, a thousand a turn."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = count

    def step() -> None:
        nonlocal left
        left -= 1
        if left > 0:
            loop.call_soon(step)
        elif not done.done():
            done.set_result(None)

    for _ in range(TASKS):
        loop.call_soon(step)
    await done


async def short_sleep(count: int) -> None:
    """One task that sleeps for 50 µs, over and over: the loop waits in the kernel each time."""
    for _ in range(count):
        await asyncio.sleep(0.00005)


ROWS: dict[str, tuple[Callable, int]] = {
    "switch": (switch, 300_000),
    "callback": (callback, 300_000),
    "short sleep": (short_sleep, 10_000),
}


def measure(row: str, mode: str, size: int | None) -> float:
    """Returns the CPU time of one operation in nanoseconds."""
    work, count = ROWS[row]
    count = size or count
    # Counted runs take 50 times as long, and the watchdog looks as often in a second as ever: not there.
    block_after = None if size is None else 3600
    with antiphon.Runner(on_block=mode, block_after=block_after) as runner:
        runner.run(work(count // 10))
        began = time.process_time()
        runner.run(work(count))
        return 1e9 * (time.process_time() - began) / count


def idle_looks() -> int:
    """Returns how often the watchdog looks in one second of a loop's sleep, once it has gone to sleep itself."""

    async def main() -> int:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0.2)
        counts: list[int] = []
        # Read by a thread: the loop's own wake-up would wake the watchdog.
        await loop.run_in_executor(None, sample, counts)
        return counts[1] - counts[0]

    def sample(counts: list[int]) -> None:
        time.sleep(0.2)
        for _ in range(2):
            counts.append(watchdog._watch.watchdog.looks)
            time.sleep(IDLE_S)

    return antiphon.run(main(), on_block="report")


def run_apart(*options: object, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Runs this program in a process of its own."""
    command = [*prefix, sys.executable, "-m", "benches.watch_cost", *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIFETIME_S, check=True)


def compare_times(rounds: int) -> None:
    """Prints the table of CPU times."""
    print(f"{'CPU ns an operation':20}{'ignore':>10}{'report':>10}{'best':>8}{'median':>8}  range")
    for row in ROWS:
        times: dict[str, list[float]] = {mode: [] for mode in MODES}
        for number in range(rounds):
            for mode in MODES[:: -1 if number % 2 else 1]:
                done = run_apart("--measure", row, "--mode", mode)
                times[mode].append(json.loads(done.stdout))
        ratios = sorted(
            watched / plain for plain, watched in zip(*(times[m] for m in MODES), strict=True)
        )
        plain, watched = (min(times[mode]) for mode in MODES)
        print(
            f"{row:20}{plain:10.1f}{watched:10.1f}{watched / plain:8.3f}{median(ratios):8.3f}"
            f"  {ratios[0]:.3f} to {ratios[-1]:.3f}",
            flush=True,
        )


def compare_instructions() -> None:
    """Prints the table of instructions."""
    from benches.instructions import find_counter

    counter = find_counter()
    print(f"{'instructions':20}{'ignore':>10}{'report':>10}{'ratio':>8}  ({counter.name})")
    for row in ("switch", "callback"):
        counts = []
        for mode in MODES:
            small, large = (
                counter.read(
                    run_apart(
                        "--measure", row, "--mode", mode, "--size", size, prefix=counter.prefix
                    ).stderr
                )
                for size in (20_000, 120_000)
            )
            # A tenth more than the size is run.
            counts.append((large - small) / 110_000)
        print(f"{row:20}{counts[0]:10.1f}{counts[1]:10.1f}{counts[1] / counts[0]:8.4f}", flush=True)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--instructions", action="store_true", help="count instructions instead")
    parser.add_argument("--measure", choices=ROWS, help=argparse.SUPPRESS)
    parser.add_argument("--mode", choices=MODES, help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure, given.mode, given.size)))
        return
    if given.instructions:
        compare_instructions()
        return
    compare_times(given.rounds)
    print(f"looks of the watchdog in {IDLE_S:.0f} s of a loop's sleep: {idle_looks()}")


if __name__ == "__main__":
    main()
