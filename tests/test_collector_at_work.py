"""Everything that waits natively, while the collector runs as often as it can.

What a step has on its stack is shown to no collector. If one believed that to be garbage, or a reference were counted
once too often, a coroutine would be closed while it runs, or memory be used after it was freed.
"""

import asyncio
import contextlib
import gc
import random
import sys
from collections.abc import Iterator

import pytest

from support.loops import run_ready


@pytest.fixture
def busy_collector() -> Iterator[None]:
    """Has nearly every new object cause a collection of the young ones, and many of the others."""
    before = gc.get_threshold()
    gc.set_threshold(5, 2, 2)
    yield
    gc.set_threshold(*before)


class Crowd:
    """Workers that wait in every way there is, each in cycles with what it waits for."""

    def __init__(self, aio, seed):
        self.aio = aio
        self.rng = random.Random(seed)
        self.lock, self.event, self.condition = aio.Lock(), aio.Event(), aio.Condition()
        self.semaphore, self.queue, self.narrow = aio.Semaphore(2), aio.Queue(), aio.Queue(1)
        for primitive in (self.lock, self.event, self.condition, self.semaphore, self.queue):
            primitive.crowd = self
        self.steps = 0
        self.kinds = [
            self.locks,
            self.conditions,
            self.queues,
            self.groups,
            self.gathers,
            self.waits,
            self.limits,
        ]

    async def nap(self, value=None):
        for _ in range(self.rng.randrange(3)):
            await self.aio.sleep(0)
        self.steps += 1
        return value

    async def locks(self):
        async with self.lock, self.semaphore:
            await self.nap()

    async def conditions(self):
        async with self.condition:
            self.condition.notify(1)
        async with self.condition:
            with contextlib.suppress(TimeoutError):
                await self.aio.wait_for(self.condition.wait(), 0.001)

    async def queues(self):
        sent = [object() for _ in range(3)]

        async def send():
            for one in sent:
                await self.narrow.put(one)

        sending = asyncio.ensure_future(send())
        for _ in sent:
            await self.narrow.get()
        await sending

    async def groups(self):
        with contextlib.suppress(ExceptionGroup):
            async with self.aio.TaskGroup() as group:
                group.own = group.create_task(self.nap())
                group.create_task(self.nap())
                if self.rng.random() < 0.3:
                    raise ValueError

    async def gathers(self):
        assert await self.aio.gather(self.nap(1), self.aio.shield(self.nap(2))) == [1, 2]

    async def waits(self):
        tasks = [asyncio.ensure_future(self.nap()) for _ in range(3)]
        await self.aio.wait(tasks, return_when="FIRST_COMPLETED")
        for completed in self.aio.as_completed(tasks):
            await completed

    async def limits(self):
        with contextlib.suppress(TimeoutError):
            async with self.aio.timeout(0):
                await self.event.wait()

    async def worker(self, rounds):
        for _ in range(rounds):
            await self.rng.choice(self.kinds)()


async def test_everything_waits_as_always(aio, loop, busy_collector):
    crowd = Crowd(aio, 1)
    workers = [loop.create_task(crowd.worker(20)) for _ in range(12)]
    await asyncio.gather(*workers)
    assert crowd.steps > 0


@pytest.mark.parametrize("seed", range(20))
def test_loop_may_be_closed_under_everything(aio, loop_factory, audit, busy_collector, seed):
    """Its tasks, their coroutines and what they wait for are freed in whatever order the collector meets them."""
    rng = random.Random(seed)
    loop = loop_factory()
    loop.set_exception_handler(lambda loop, context: None)

    async def begin():
        crowd = Crowd(aio, seed)
        return [loop.create_task(crowd.worker(100)) for _ in range(8)]

    workers = loop.run_until_complete(begin())
    for _ in range(rng.randrange(20)):
        run_ready(loop)
    for worker in rng.sample(workers, 3):
        worker.cancel()
    loop.close()
    del worker, workers
    found = 1  # or more, which the collections while the loop was closed may have freed already
    while found > 0:
        found = gc.collect()
        # What is warned of lives on in the record.
        audit.drop_warnings(RuntimeWarning, "never awaited")
    # Coroutines that are closed so late call a closed loop, or each other, by way of a timeout's task.
    expected = ["Event loop is closed", "coroutine already executing", "no running event loop"]
    if sys.version_info < (3, 13):
        # A condition whose wait is cut short so late gives up its lock all the same, and locks ask for the loop.
        expected += [
            "Lock is not acquired",
            "is bound to a different event loop",
            "attribute 'create_future'",
        ]
    audit.unraisable[:] = [
        text for text in audit.unraisable if not any(words in text for words in expected)
    ]
