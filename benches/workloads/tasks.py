"""Tasks and futures on the loop: switches, spawning, waking, cancelling."""

import asyncio
import itertools

from benches.workload import Run, workload

GROUP = "tasks"
TASKS = 1_000
CHILDREN = 10_000


async def nothing() -> None:
    """Returns at once."""


@workload(
    "task_switch_1000_tasks",
    group=GROUP,
    title="task switch, 1000 tasks",
    unit="switch",
    size=300_000,
)
def task_switch(run: Run) -> None:
    """1000 tasks, ``sleep(0)`` each in turn."""

    async def worker(switches: int) -> None:
        sleep = asyncio.sleep
        for _ in range(switches):
            await sleep(0)

    async def main() -> None:
        workers = [run.loop.create_task(worker(run.size // TASKS)) for _ in range(TASKS)]
        for task in workers:
            await task

    run.complete(main())


@workload(
    "create_task_await", group=GROUP, title="create_task and await", unit="task", size=100_000
)
def create_task_await(run: Run) -> None:
    """One task at a time, made and awaited."""

    async def main() -> None:
        create_task = run.loop.create_task
        for _ in range(run.size):
            await create_task(nothing())

    run.complete(main())


@workload(
    "gather_10k",
    group=GROUP,
    title="gather of 10,000",
    unit="child",
    size=100_000,
    counted_sizes=(10_000, 50_000),
)
def gather(run: Run) -> None:
    """``gather`` of 10,000 coroutines that return at once."""

    async def main() -> None:
        for _ in range(run.size // CHILDREN):
            await asyncio.gather(*[nothing() for _ in range(CHILDREN)])

    run.complete(main())


@workload(
    "future_callback", group=GROUP, title="future with a done callback", unit="future", size=200_000
)
def future_callback(run: Run) -> None:
    """A future made, given a callback and a result, 1000 a turn."""

    def callback(future: object) -> None:
        pass

    async def main() -> None:
        create_future = run.loop.create_future
        for i in range(run.size):
            future = create_future()
            future.add_done_callback(callback)
            future.set_result(None)
            if not i % 1_000:
                await asyncio.sleep(0)
        await asyncio.sleep(0)

    run.complete(main())


@workload("cancel_task", group=GROUP, title="task cancelled", unit="task", size=50_000)
def cancel_task(run: Run) -> None:
    """A task starts, waits, is cancelled and reaped."""

    async def main() -> None:
        loop = run.loop

        async def waiting() -> None:
            await loop.create_future()

        for _ in range(run.size):
            task = loop.create_task(waiting())
            await asyncio.sleep(0)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                continue
            raise AssertionError("a cancelled task was not cancelled")

    run.complete(main())


@workload(
    "future_wake_up", group=GROUP, title="task woken by a future", unit="wake-up", size=100_000
)
def future_wake_up(run: Run) -> None:
    """A row of tasks, each waiting for its predecessor's future and then setting its own."""

    async def main() -> None:
        create_future = run.loop.create_future
        futures = [create_future() for _ in range(run.size + 1)]

        async def link(before: asyncio.Future[int], after: asyncio.Future[int]) -> None:
            after.set_result(await before)

        links = [run.loop.create_task(link(*pair)) for pair in itertools.pairwise(futures)]
        await asyncio.sleep(0)
        with run.measuring():
            futures[0].set_result(1)
            await futures[-1]
        await links[-1]

    run.complete(main())


@workload(
    "park_100k",
    group=GROUP,
    title="coroutine parked in sleep, 100,000",
    unit="coroutine",
    size=100_000,
    counted_sizes=(2_000, 10_000),
)
def park(run: Run) -> None:
    """Coroutines made into tasks and run up to a long ``sleep``; the collector is on."""

    async def parked() -> None:
        await asyncio.sleep(3_600)

    async def main() -> None:
        create_task = run.loop.create_task
        await asyncio.sleep(0)
        with run.measuring():
            tasks = [create_task(parked()) for _ in range(run.size)]
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    run.complete(main())


@workload("queue_ping_pong", group=GROUP, title="Queue ping-pong", unit="round trip", size=50_000)
def queue_ping_pong(run: Run) -> None:
    """Two tasks, two queues of one place: four hand-overs a round trip."""

    async def main() -> None:
        there: asyncio.Queue[int] = asyncio.Queue(1)
        back: asyncio.Queue[int] = asyncio.Queue(1)

        async def echo() -> None:
            for _ in range(run.size):
                await back.put(await there.get())

        echoing = run.loop.create_task(echo())
        for i in range(run.size):
            await there.put(i)
            await back.get()
        await echoing

    run.complete(main())
