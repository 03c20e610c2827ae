"""Which task is current, whatever else happens to asyncio's dict of them meanwhile (up to 3.13)."""

import asyncio
import gc
import sys
import weakref

import pytest

pytestmark = pytest.mark.skipif(
    sys.version_info >= (3, 14),
    reason="from 3.14 on it is no dict but a place in the thread's state",
)


async def switching(times=3):
    """Several tasks by turns, each of which sees itself before and after."""

    async def one():
        me = asyncio.current_task()
        assert asyncio.tasks._current_tasks[asyncio.get_running_loop()] is me
        await asyncio.sleep(0)
        assert asyncio.current_task() is me

    await asyncio.gather(*[one() for _ in range(times)])


async def test_entries_of_others_come_and_go(loop):
    """The dict grows, shrinks and is laid out anew under the loop's own entry."""
    current = asyncio.tasks._current_tasks
    others = [object() for _ in range(100)]
    for other in others:
        current[other] = None
        await switching()
    for other in others:
        del current[other]
        await switching()
    assert asyncio.current_task() is current[loop]


@pytest.mark.loops("antiphon")  # a task of asyncio's that ends without its entry fails
async def test_an_entry_taken_out_comes_back_with_the_next_step(loop):
    current = asyncio.tasks._current_tasks
    me = current.pop(loop)
    assert asyncio.current_task() is None
    current["somebody"] = None  # where the entry was, perhaps
    await switching()
    del current["somebody"]
    assert asyncio.current_task() is me


async def test_an_entry_of_the_users_own_is_replaced(loop):
    current = asyncio.tasks._current_tasks
    me = asyncio.current_task()
    current[loop] = loop
    assert asyncio.current_task() is loop
    current[loop] = me
    await switching()
    assert asyncio.current_task() is me


async def test_keeps_no_task_alive(loop):
    async def short():
        await asyncio.sleep(0)

    task = loop.create_task(short())
    await task
    gone = weakref.ref(task)
    del task
    await asyncio.sleep(0)
    gc.collect()
    assert gone() is None
