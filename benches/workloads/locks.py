"""Locks, events, conditions and queues: free ones, and the hand-over between tasks."""

import asyncio

from benches.workload import Run, workload

GROUP = "locks and queues"
TASKS = 100
WAITERS = 1_000


@workload("lock_free", group=GROUP, title="Lock, free", unit="block", size=300_000)
def lock_free(run: Run) -> None:
    """``async with lock: pass`` of one task."""

    async def main() -> None:
        lock = asyncio.Lock()
        for _ in range(run.size):
            async with lock:
                pass

    run.complete(main())


def _contend(run: Run, lock: asyncio.Lock | asyncio.Semaphore) -> None:
    """Tasks that take turns with the lock, and let the others run while they hold it."""

    async def worker(blocks: int) -> None:
        sleep = asyncio.sleep
        for _ in range(blocks):
            async with lock:
                await sleep(0)

    async def main() -> None:
        workers = [run.loop.create_task(worker(run.size // TASKS)) for _ in range(TASKS)]
        for task in workers:
            await task

    run.complete(main())


@workload("lock_contended", group=GROUP, title="Lock, 100 tasks", unit="block", size=100_000)
def lock_contended(run: Run) -> None:
    """100 tasks on one lock, ``sleep(0)`` inside."""
    _contend(run, asyncio.Lock())


@workload(
    "semaphore_contended", group=GROUP, title="Semaphore(10), 100 tasks", unit="block", size=100_000
)
def semaphore_contended(run: Run) -> None:
    """100 tasks on ten permits, ``sleep(0)`` inside."""
    _contend(run, asyncio.Semaphore(10))


@workload("event_broadcast", group=GROUP, title="Event, 1000 waiters", unit="wake-up", size=100_000)
def event_broadcast(run: Run) -> None:
    """1000 tasks wait for an event that is set and cleared."""

    async def main() -> None:
        event = asyncio.Event()
        rounds = run.size // WAITERS

        async def worker() -> None:
            for _ in range(rounds):
                await event.wait()

        workers = [run.loop.create_task(worker()) for _ in range(WAITERS)]
        for _ in range(rounds):
            await asyncio.sleep(0)
            event.set()
            event.clear()
        for task in workers:
            await task

    run.complete(main())


@workload(
    "condition_ping_pong", group=GROUP, title="Condition ping-pong", unit="hand-over", size=50_000
)
def condition_ping_pong(run: Run) -> None:
    """Two tasks notify each other in turn."""

    async def main() -> None:
        condition = asyncio.Condition()
        turn = 0

        async def worker(me: int) -> None:
            nonlocal turn
            for _ in range(run.size // 2):
                async with condition:
                    while turn != me:
                        await condition.wait()
                    turn = 1 - me
                    condition.notify()

        workers = [run.loop.create_task(worker(me)) for me in range(2)]
        for task in workers:
            await task

    run.complete(main())


@workload("barrier_rounds", group=GROUP, title="Barrier of 10", unit="arrival", size=50_000)
def barrier_rounds(run: Run) -> None:
    """Ten tasks meet again and again."""
    parties = 10

    async def main() -> None:
        barrier = asyncio.Barrier(parties)

        async def worker() -> None:
            for _ in range(run.size // parties):
                await barrier.wait()

        workers = [run.loop.create_task(worker()) for _ in range(parties)]
        for task in workers:
            await task

    run.complete(main())


def _produce_and_consume(run: Run, queue: asyncio.Queue[int]) -> None:
    async def consumer() -> None:
        for _ in range(run.size):
            await queue.get()
            queue.task_done()

    async def main() -> None:
        consuming = run.loop.create_task(consumer())
        for i in range(run.size):
            await queue.put(i)
        await queue.join()
        await consuming

    run.complete(main())


@workload("queue_stream", group=GROUP, title="Queue(100), one each side", unit="item", size=200_000)
def queue_stream(run: Run) -> None:
    """A producer and a consumer: most items are put and got without waiting."""
    _produce_and_consume(run, asyncio.Queue(100))


@workload(
    "priority_queue_stream", group=GROUP, title="PriorityQueue(100)", unit="item", size=100_000
)
def priority_queue_stream(run: Run) -> None:
    """The same with a queue that sorts."""
    _produce_and_consume(run, asyncio.PriorityQueue(100))
