"""`sleep`: asyncio's and antiphon's, on the loop of each and of the other."""

import asyncio
import gc
import sys

import pytest

from support.loops import run_ready


@pytest.fixture(params=["asyncio", "antiphon"])
def sleep(request):
    if request.param == "asyncio":
        return asyncio.sleep
    from antiphon._antiphon import sleep

    return sleep


async def test_gives_its_result(loop, sleep):
    for delay in (0, -1, 0.001, 0.0, False):
        assert await sleep(delay) is None
        assert await sleep(delay, "result") == "result"
        assert await sleep(delay, result=(1, 2)) == (1, 2)


async def test_is_a_coroutine_and_a_task(loop, sleep):
    made = sleep(0)
    assert asyncio.iscoroutine(made)
    assert await loop.create_task(made) is None
    assert await asyncio.wait_for(sleep(0.001, 5), 1) == 5
    assert await asyncio.gather(sleep(0, 1), sleep(0.001, 2)) == [1, 2]


def test_that_nobody_awaits_is_warned_of(loop, sleep, audit):
    sleep(1)
    gc.collect()
    audit.take_warning(RuntimeWarning, "coroutine 'sleep' was never awaited")


async def test_wakes_in_the_order_of_the_deadlines(loop, sleep):
    order = []

    async def sleeper(delay):
        await sleep(delay)
        order.append(delay)

    await asyncio.gather(*map(sleeper, (0.03, 0.01, 0.02)))
    assert order == [0.01, 0.02, 0.03]


async def test_zero_gives_the_others_one_turn(loop, sleep):
    order = []

    async def worker(name):
        for step in range(3):
            order.append(f"{name}{step}")
            await sleep(0)

    await asyncio.gather(worker("a"), worker("b"))
    assert order == ["a0", "b0", "a1", "b1", "a2", "b2"]


async def test_can_be_cancelled(loop, sleep):
    task = loop.create_task(sleep(3600))
    await asyncio.sleep(0)
    assert isinstance(task._fut_waiter, asyncio.Future)
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError, match="enough"):
        await task
    assert task.cancelled()


async def test_cancelled_at_once_never_sleeps(loop, sleep):
    for delay in (0, 3600):
        task = loop.create_task(sleep(delay))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_timeout_interrupts_it(loop, sleep):
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(sleep(3600), 0.001)


def test_closed_while_it_sleeps_lets_the_loop_end(loop, sleep):
    made = sleep(3600)

    async def begin():
        future = made.send(None)
        assert asyncio.isfuture(future)
        future._asyncio_future_blocking = False
        made.close()
        assert made.close() is None

    loop.run_until_complete(begin())


def test_needs_a_running_loop(loop, sleep):
    with pytest.raises(RuntimeError, match="no running event loop"):
        sleep(1).send(None)


async def test_refuses_what_is_no_delay(loop, sleep):
    with pytest.raises(TypeError):
        await sleep("1")
    with pytest.raises(TypeError):
        await sleep(None)
    if sys.version_info >= (3, 13):
        with pytest.raises(ValueError, match="NaN"):
            await sleep(float("nan"))


async def test_takes_any_number(loop, sleep):
    from decimal import Decimal
    from fractions import Fraction

    assert await sleep(Fraction(1, 1000), 1) == 1
    assert await sleep(Decimal(0), 2) == 2


def test_under_a_task_of_cpythons(loop, sleep):
    async def main():
        return [await sleep(0, 1), await sleep(0.001, 2)]

    task = asyncio.tasks._CTask(main(), loop=loop)
    assert loop.run_until_complete(task) == [1, 2]
    task = asyncio.tasks._PyTask(main(), loop=loop)
    assert loop.run_until_complete(task) == [1, 2]


def test_a_closed_loop_drops_its_sleepers(loop, sleep, faults):
    task = loop.create_task(sleep(3600))
    task._log_destroy_pending = False
    run_ready(loop)
    loop.close()
    del task
    gc.collect()
    assert faults == []
