"""What waits for several things, or not for ever: `TaskGroup`, `wait`, `as_completed`, `wait_for`, `timeout`."""

import asyncio

from benches.workload import Run, workload

GROUP = "groups"
CHILDREN = 10_000
FAR_S = 60.0


async def nothing() -> None:
    """Returns at once."""


@workload(
    "task_group_10k",
    group=GROUP,
    title="TaskGroup of 10,000",
    unit="child",
    size=100_000,
    counted_sizes=(10_000, 50_000),
)
def task_group(run: Run) -> None:
    """A ``TaskGroup`` of 10,000 tasks that return at once."""

    async def main() -> None:
        for _ in range(run.size // CHILDREN):
            async with asyncio.TaskGroup() as group:
                for _ in range(CHILDREN):
                    group.create_task(nothing())

    run.complete(main())


@workload(
    "wait_10k",
    group=GROUP,
    title="wait of 10,000",
    unit="child",
    size=100_000,
    counted_sizes=(10_000, 50_000),
)
def wait(run: Run) -> None:
    """``wait`` of 10,000 tasks that return at once; making the tasks is part of the figure."""

    async def main() -> None:
        create_task = run.loop.create_task
        for _ in range(run.size // CHILDREN):
            done, pending = await asyncio.wait([create_task(nothing()) for _ in range(CHILDREN)])
            assert len(done) == CHILDREN and not pending

    run.complete(main())


@workload(
    "as_completed_10k",
    group=GROUP,
    title="as_completed of 10,000",
    unit="child",
    size=100_000,
    counted_sizes=(10_000, 50_000),
)
def as_completed(run: Run) -> None:
    """``as_completed`` of 10,000 coroutines that return at once, iterated plainly."""

    async def main() -> None:
        for _ in range(run.size // CHILDREN):
            for next_one in asyncio.as_completed([nothing() for _ in range(CHILDREN)]):
                await next_one

    run.complete(main())


@workload(
    "wait_for_blocking", group=GROUP, title="wait_for of what blocks", unit="call", size=50_000
)
def wait_for_blocking(run: Run) -> None:
    """``wait_for(sleep(0), 60)``, one after the other."""

    async def main() -> None:
        for _ in range(run.size):
            await asyncio.wait_for(asyncio.sleep(0), FAR_S)

    run.complete(main())


@workload(
    "wait_for_ready", group=GROUP, title="wait_for of what is ready", unit="call", size=100_000
)
def wait_for_ready(run: Run) -> None:
    """``wait_for`` of a coroutine that returns at once."""

    async def main() -> None:
        for _ in range(run.size):
            await asyncio.wait_for(nothing(), FAR_S)

    run.complete(main())


@workload("timeout_block", group=GROUP, title="timeout block", unit="block", size=50_000)
def timeout_block(run: Run) -> None:
    """``sleep(0)`` inside of ``timeout(60)``."""

    async def main() -> None:
        for _ in range(run.size):
            async with asyncio.timeout(FAR_S):
                await asyncio.sleep(0)

    run.complete(main())


@workload("timeout_expires", group=GROUP, title="timeout that expires", unit="block", size=5_000)
def timeout_expires(run: Run) -> None:
    """An endless wait inside of ``timeout(0)``: a cancellation that becomes ``TimeoutError``."""

    async def main() -> None:
        for _ in range(run.size):
            try:
                async with asyncio.timeout(0):
                    await run.loop.create_future()
            except TimeoutError:
                pass

    run.complete(main())


@workload("shield", group=GROUP, title="shield of one turn", unit="call", size=50_000)
def shield(run: Run) -> None:
    """``shield`` of a coroutine that waits for one turn."""

    async def main() -> None:
        for _ in range(run.size):
            await asyncio.shield(asyncio.sleep(0))

    run.complete(main())
