"""Who awaits whom (`asyncio.capture_call_graph`), beyond CPython's own tests: the edges, which need no frames."""

import asyncio
import sys

import pytest

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 14), reason="call graphs came with CPython 3.14"
)


def waiters_of(future):
    """Returns the names of the tasks that wait for a future; it is the graph's own way to ask."""
    graph = asyncio.capture_call_graph(future)
    return sorted(caller.future.get_name() for caller in graph.awaited_by)


async def sleeper():
    await asyncio.sleep(60)


async def end(*tasks):
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_tasks_that_await_a_future(aio, loop):
    future = loop.create_future()
    assert future._asyncio_awaited_by is None and waiters_of(future) == []

    async def wait():
        await future

    first = loop.create_task(wait(), name="first")
    await asyncio.sleep(0)
    assert future._asyncio_awaited_by == frozenset([first])
    second = loop.create_task(wait(), name="second")
    await asyncio.sleep(0)
    assert waiters_of(future) == ["first", "second"]
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    assert future.cancelled() and first.cancelled()
    assert waiters_of(future) == []


async def test_a_task_that_awaits_a_task(aio, loop):
    inner = loop.create_task(sleeper(), name="inner")

    async def wait():
        await inner

    outer = loop.create_task(wait(), name="outer")
    await asyncio.sleep(0)
    assert waiters_of(inner) == ["outer"] and waiters_of(outer) == []
    await end(inner, outer)
    assert waiters_of(inner) == []


async def test_a_foreign_waiter_and_one_of_the_loops_own(aio, loop):
    future = loop.create_future()

    async def wait():
        return await future

    own = loop.create_task(wait(), name="own")
    foreign = asyncio.tasks._CTask(wait(), loop=loop, name="foreign")
    await asyncio.sleep(0)
    assert future._asyncio_awaited_by == {own, foreign}
    future.set_result(1)
    assert await asyncio.gather(own, foreign) == [1, 1]
    assert not future._asyncio_awaited_by


async def test_wait_is_told_to_its_tasks(aio, loop):
    tasks = [loop.create_task(sleeper()) for _ in range(2)]
    waiting = loop.create_task(aio.wait(tasks), name="waiting")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [waiters_of(task) for task in tasks] == [["waiting"], ["waiting"]]
    await end(waiting)
    assert [waiters_of(task) for task in tasks] == [[], []]
    await end(*tasks)


async def test_as_completed_is_told_to_its_tasks(aio, loop):
    tasks = [loop.create_task(sleeper()) for _ in range(2)]

    async def wait():
        async for _ in aio.as_completed(tasks, timeout=60):
            pass

    waiting = loop.create_task(wait(), name="waiting")
    await asyncio.sleep(0)
    assert [waiters_of(task) for task in tasks] == [["waiting"], ["waiting"]]
    await end(*tasks)
    await asyncio.gather(waiting, return_exceptions=True)
    assert [waiters_of(task) for task in tasks] == [[], []]


async def test_group_is_told_to_its_tasks(aio, loop):
    tasks = []

    async def run_group():
        async with aio.TaskGroup() as group:
            tasks.extend(group.create_task(sleeper()) for _ in range(2))

    waiting = loop.create_task(run_group(), name="waiting")
    await asyncio.sleep(0)
    assert [waiters_of(task) for task in tasks] == [["waiting"], ["waiting"]]
    await end(waiting)
    assert [waiters_of(task) for task in tasks] == [[], []]


async def test_wait_for_is_told_to_the_task_that_it_cancels(aio, loop):
    seen = []

    async def stubborn():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.extend(waiters_of(task))
            raise

    task = loop.create_task(stubborn())

    async def wait():
        with pytest.raises(TimeoutError):
            await aio.wait_for(task, 0)

    await asyncio.sleep(0)
    await loop.create_task(wait(), name="waiting")
    assert seen == ["waiting"]
    assert waiters_of(task) == []
