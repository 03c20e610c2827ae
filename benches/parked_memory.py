"""Shows what a parked coroutine costs in memory: resident bytes a task that waits in ``sleep``.

    python -m benches.parked_memory
    python -m benches.parked_memory --loops asyncio,antiphon --tasks 1000000

A process per loop. Resident memory is read before and after all tasks are parked, so the figure has
everything in it: coroutine frame, task, future, timer, context, and what the allocator keeps beside.
"""

import argparse
import asyncio
import gc
import os
import subprocess
import sys

from benches import loops

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
LIFETIME_S = 120


def resident_bytes() -> int:
    """Returns this process's resident memory."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * PAGE_BYTES


async def parked() -> None:
    """Waits for longer than anybody measures."""
    await asyncio.sleep(3_600)


async def bytes_each(count: int) -> float:
    """Returns resident bytes per parked task, of ``count`` that are parked at once."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(0)
    tasks: list[asyncio.Task[None]] = [loop.create_task(asyncio.sleep(0))] * count
    await tasks[0]
    gc.collect()
    before = resident_bytes()
    for place in range(count):
        tasks[place] = loop.create_task(parked())
    await asyncio.sleep(0)
    each = (resident_bytes() - before) / count
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return each


def main() -> None:
    """Measures each loop in a process of its own and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loops", default="asyncio,uvloop,antiphon", help="which, with commas")
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        with asyncio.Runner(loop_factory=loops.factory(given.measure)) as runner:
            print(runner.run(bytes_each(given.tasks)))
        return
    print(f"{given.tasks} tasks parked in sleep; resident bytes each")
    for name in given.loops.split(","):
        command = [sys.executable, "-m", "benches.parked_memory", "--measure", name]
        command += ["--tasks", str(given.tasks)]
        result = subprocess.run(command, stdout=subprocess.PIPE, timeout=LIFETIME_S, check=True)
        print(f"{name:10}{float(result.stdout):10.0f}", flush=True)


if __name__ == "__main__":
    main()
