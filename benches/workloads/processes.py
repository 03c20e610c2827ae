"""Child processes: what a loop adds to the kernel's cost of one. The children's own CPU time is not counted."""

import asyncio
import subprocess

from benches.workload import Run, workload

GROUP = "processes"
INPUT = b"x" * 65536


@workload(
    "subprocess_spawn",
    group=GROUP,
    title="child started and waited for",
    unit="child",
    size=200,
    counted_sizes=(10, 50),
)
def subprocess_spawn(run: Run) -> None:
    """``/bin/true``, one after the other."""

    async def main() -> None:
        for _ in range(run.size):
            process = await asyncio.create_subprocess_exec("/bin/true")
            if await process.wait() != 0:
                raise AssertionError("/bin/true failed")

    run.complete(main())


@workload(
    "subprocess_communicate",
    group=GROUP,
    title="64 KiB through a child",
    unit="child",
    size=100,
    counted_sizes=(10, 50),
)
def subprocess_communicate(run: Run) -> None:
    """``/bin/cat`` by ``communicate``, one after the other."""

    async def main() -> None:
        for _ in range(run.size):
            process = await asyncio.create_subprocess_exec(
                "/bin/cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            output, _ = await process.communicate(INPUT)
            if output != INPUT:
                raise AssertionError(f"/bin/cat gave {len(output)} bytes back")

    run.complete(main())
