"""The article's first program on all cores: coroutines that count down, first in one loop, then in a pool of workers.

antiphon examples/pool.py [COUNT]
"""

import asyncio
import os
import sys
import time

import antiphon


async def run(count: int) -> tuple[int, float]:
    """Counts down, as the article does; gives the process and the seconds."""
    began = time.perf_counter()
    while count >= 0:
        count -= 1
    return os.getpid(), time.perf_counter() - began


async def main(count: int) -> None:
    began = time.perf_counter()
    await asyncio.gather(*(run(count) for _ in range(5)))
    print(f"one loop: {time.perf_counter() - began:.2f} s")

    async with antiphon.Pool(kind="process") as pool:
        began = time.perf_counter()
        async for pid, seconds in pool.map(run, [count] * 5):
            print(f"worker process {pid} counted for {seconds:.2f} s")
        print(f"{len(pool.stats().workers)} workers: {time.perf_counter() - began:.2f} s")


if __name__ == "__main__":
    antiphon.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5_000_000))
