"""Shows whether starting children stops a loop: how late a 1 ms tick comes while children are started.

    python -m benches.spawn_gap
    python -m benches.spawn_gap --loops uvloop,antiphon --children 50 --ballast 2000

Half of the children are asked for at once, half one after the other, each when the one before has
ended. Whatever else runs on the machine, the children themselves included, delays ticks too; so the
table has a row of ticks beside children that nobody starts from this process: what is above it is
the loop's own.

Ballast is memory that the parent has touched: fork(2) copies its page tables, vfork(2) does not.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from statistics import median

from benches import loops

TICK_S = 0.001
PROGRAM = "/bin/true"
LIFETIME_S = 120
MIB = 1 << 20


async def ticks(gaps: list[float]) -> None:
    """Notes the time from tick to tick, until cancelled."""
    last = time.perf_counter()
    while True:
        await asyncio.sleep(TICK_S)
        now = time.perf_counter()
        gaps.append(now - last)
        last = now


async def run_child() -> None:
    """Starts one child and waits for its end."""
    child = await asyncio.create_subprocess_exec(PROGRAM)
    await child.wait()


async def gaps_while_starting(children: int) -> list[float]:
    """Returns the gaps between ticks while ``children`` are started and waited for, in seconds."""
    await run_child()  # whatever is made with the first child
    gaps: list[float] = []
    ticker = asyncio.create_task(ticks(gaps))
    await asyncio.sleep(20 * TICK_S)
    gaps.clear()
    await asyncio.gather(*(run_child() for _ in range(children // 2)))
    for _ in range(children - children // 2):
        await run_child()
    ticker.cancel()
    return gaps


async def gaps_beside(children: int) -> list[float]:
    """Returns the gaps between ticks while another process starts as many children."""
    other = f"import subprocess\nfor _ in range({children}): subprocess.run([{PROGRAM!r}])"
    gaps: list[float] = []
    ticker = asyncio.create_task(ticks(gaps))
    process = subprocess.Popen([sys.executable, "-c", other])
    await asyncio.to_thread(process.wait)
    ticker.cancel()
    return gaps


def measure(name: str, children: int, ballast_mib: int) -> list[float]:
    """Returns the gaps of one loop; ``name`` is a loop's, or "beside" for the row to compare with."""
    ballast = bytearray(ballast_mib * MIB)
    ballast[:: MIB // 256] = bytes([1]) * len(ballast[:: MIB // 256])  # each page is touched
    beside = name == "beside"
    new_loop = loops.factory("antiphon" if beside else name)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run((gaps_beside if beside else gaps_while_starting)(children))


def row(name: str, gaps: list[float]) -> str:
    """Returns one line of the table, in milliseconds."""
    late = sorted(1000 * gap for gap in gaps)
    shown = [median(late), late[int(0.99 * (len(late) - 1))], late[-1], sum(late)]
    return f"{name:10}" + "".join(f"{value:10.2f}" for value in shown)


def main() -> None:
    """Measures each loop in a process of its own and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loops", default="asyncio,uvloop,antiphon", help="which, with commas")
    parser.add_argument("--children", type=int, default=200)
    parser.add_argument("--ballast", type=int, default=100, metavar="MIB")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure, given.children, given.ballast)))
        return
    print(f"{given.children} children, {given.ballast} MiB of ballast; milliseconds between ticks")
    print(f"{'':10}{'median':>10}{'99 %':>10}{'largest':>10}{'in all':>10}")
    for name in ["beside", *given.loops.split(",")]:
        command = [sys.executable, "-m", "benches.spawn_gap", "--measure", name]
        command += ["--children", str(given.children), "--ballast", str(given.ballast)]
        result = subprocess.run(command, stdout=subprocess.PIPE, timeout=LIFETIME_S, check=True)
        print(row(name, json.loads(result.stdout)), flush=True)


if __name__ == "__main__":
    main()
