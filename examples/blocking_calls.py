"""Five tasks that block for a second each, beside a ticker: before and after.

    python examples/blocking_calls.py

Prints how long the five took in all and how long the ticker had to wait at worst, with asyncio's behaviour
(`on_block="ignore"`) and with the hand-off. Needs CPython 3.12 or later.
"""

import asyncio
import time

import antiphon

SECONDS = 1.0
TASKS = 5


async def ticker(gaps: list[float]) -> None:
    """Wakes every 10 ms, and notes how long it really took."""
    last = time.perf_counter()
    while True:
        await asyncio.sleep(0.01)
        now = time.perf_counter()
        gaps.append(now - last)
        last = now


async def blocks() -> None:
    """What an async function should not do."""
    time.sleep(SECONDS)


async def main() -> tuple[float, float]:
    """Runs the tasks beside the ticker.

    Returns:
        Seconds in all, and the ticker's longest gap.
    """
    gaps: list[float] = []
    beside = asyncio.create_task(ticker(gaps))
    await asyncio.sleep(0.05)
    begin = time.perf_counter()
    await asyncio.gather(*(blocks() for _ in range(TASKS)))
    took = time.perf_counter() - begin
    await asyncio.sleep(0.02)
    beside.cancel()
    return took, max(gaps)


def show(name: str, took: float, gap: float) -> None:
    """Prints a line of the table."""
    print(name.ljust(22), f"{took:5.2f} s   {gap * 1000:7.0f} ms")


if __name__ == "__main__":
    print(f"{TASKS} x time.sleep({SECONDS:g})     in all   longest gap")
    with antiphon.Runner(on_block="ignore") as runner:
        show('on_block="ignore"', *runner.run(main()))
    with antiphon.Runner(on_block="handoff") as runner:
        show('on_block="handoff"', *runner.run(main()))
        show("once more", *runner.run(main()))  # the place is known by now
