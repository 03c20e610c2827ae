"""What a task that sleeps waits for, as seen from outside: a future, whether there is one all the time or not."""

import asyncio
import gc
import weakref

import pytest

from support.loops import run_ready


@pytest.fixture(params=["asyncio", "antiphon"])
def sleep(request):
    if request.param == "asyncio":
        return asyncio.sleep
    from antiphon._antiphon import sleep

    return sleep


@pytest.fixture
def clocked(loop_class):
    """Gives a loop and a list whose one element is the time of its clock."""
    clock = [1000.0]

    class Clocked(loop_class):
        def time(self):
            return clock[0]

    loop = Clocked()
    yield loop, clock
    loop.close()


def asleep(loop, coro):
    """A task that has made its first step."""
    task = loop.create_task(coro)
    run_ready(loop)
    return task


def end(loop, task):
    """Runs the loop until the task is done, and gives its result, or its exception."""
    loop.run_until_complete(asyncio.wait([task], timeout=60))
    try:
        return task.result()
    except BaseException as error:
        return error


def test_waits_for_a_future_that_stays_the_same(loop, sleep):
    task = asleep(loop, sleep(0.001, "result"))
    waiter = task._fut_waiter
    assert isinstance(waiter, asyncio.Future)
    assert asyncio.isfuture(waiter)
    assert not waiter.done()
    assert waiter.get_loop() is loop
    assert task._fut_waiter is waiter
    assert "wait_for=<Future pending" in repr(task)
    assert end(loop, task) == "result"
    assert waiter.result() == "result"
    assert task._fut_waiter is None


def test_future_that_is_finished_by_hand_wakes_it(loop, sleep):
    task = asleep(loop, sleep(3600, "result"))
    task._fut_waiter.set_result("by hand")
    assert end(loop, task) == "by hand"


def test_future_that_fails_by_hand_fails_it(loop, sleep):
    task = asleep(loop, sleep(3600))
    task._fut_waiter.set_exception(LookupError("by hand"))
    assert repr(end(loop, task)) == "LookupError('by hand')"


def test_future_that_is_cancelled_by_hand_cancels_it(loop, sleep):
    task = asleep(loop, sleep(3600))
    assert task._fut_waiter.cancel("by hand")
    assert end(loop, task).args == ("by hand",)
    assert task.cancelled()


def test_callback_of_the_future_is_called_before_the_step(loop, sleep):
    order = []

    async def sleeper():
        await sleep(0.001)
        order.append("step")

    task = asleep(loop, sleeper())
    task._fut_waiter.add_done_callback(lambda future: order.append("callback"))
    end(loop, task)
    assert sorted(order) == ["callback", "step"]


@pytest.mark.parametrize("looks", [False, True])
def test_cancelled_twice_before_it_hears_of_it(loop, sleep, looks):
    heard = []

    async def sleeper():
        try:
            await sleep(3600)
        except asyncio.CancelledError as error:
            heard.append(error.args)
            raise

    task = asleep(loop, sleeper())
    assert task.cancel("first")
    if looks:
        assert task._fut_waiter.cancelled()
        assert "cancelling" in repr(task)
        assert "wait_for=<Future cancelled" in repr(task)
    assert task.cancel("second")
    assert task.cancelling() == 2
    end(loop, task)
    assert heard == [("first",)]
    assert task.cancelled()


def test_stubborn_one_sleeps_again(loop, sleep):
    async def stubborn():
        for _ in range(3):
            try:
                await sleep(3600)
            except asyncio.CancelledError:
                asyncio.current_task().uncancel()
        return await sleep(0.001, "done")

    task = asleep(loop, stubborn())
    for _ in range(3):
        task.cancel()
        run_ready(loop)
        run_ready(loop)
        assert not task.done()
    assert end(loop, task) == "done"


@pytest.mark.parametrize("looks", ["before", "after", "both", "never"])
def test_looked_at_in_the_turn_in_which_it_is_due(clocked, sleep, looks):
    loop, clock = clocked
    seen = []
    task = asleep(loop, sleep(10, "result"))
    if looks in ("before", "both"):
        loop.call_at(1009, lambda: seen.append(task._fut_waiter.done()))
    if looks in ("after", "both"):
        loop.call_at(1011, lambda: seen.append(task._fut_waiter.done()))
    clock[0] = 1011.0
    run_ready(loop)
    assert seen == {"before": [False], "after": [True], "both": [False, True], "never": []}[looks]
    assert not task.done()
    run_ready(loop)
    assert task.result() == "result"


@pytest.mark.parametrize("looks", [False, True])
@pytest.mark.parametrize("when", [1009, 1011])
def test_cancelled_in_the_turn_in_which_it_is_due(clocked, sleep, when, looks):
    loop, clock = clocked

    async def stubborn():
        try:
            await sleep(10)
        except asyncio.CancelledError as error:
            assert error.args == ("now",)
            await sleep(10)
            return clock[0]

    def cancel():
        if looks:
            assert task._fut_waiter.done() == (when == 1011)
        assert task.cancel("now")
        if looks:
            assert task._fut_waiter.done()

    task = asleep(loop, stubborn())
    loop.call_at(when, cancel)
    clock[0] = 1011.0
    for _ in range(4):
        run_ready(loop)
    assert not task.done()
    clock[0] = 1021.0
    run_ready(loop)
    run_ready(loop)
    assert task.result() == 1021.0


class Through:
    """Awaits a coroutine step by step, as libraries do that bridge worlds, and keeps what it yields."""

    def __init__(self, coro, on_yield):
        self.coro, self.on_yield = coro, on_yield

    def __await__(self):
        try:
            while True:
                yielded = self.coro.send(None)
                self.on_yield(yielded)
                yield yielded
        except StopIteration as stop:
            return stop.value


def test_who_hands_the_future_on_may_keep_it(loop, sleep):
    kept, called = [], []

    def keep(future):
        assert isinstance(future, asyncio.Future)
        assert future._asyncio_future_blocking
        future.add_done_callback(called.append)
        kept.append(future)

    async def inner():
        return await sleep(0.001, "result")

    async def outer():
        return await Through(inner(), keep)

    task = asleep(loop, outer())
    assert task._fut_waiter is kept[0]
    assert end(loop, task) == "result"
    assert called == kept
    assert kept[0].result() == "result"


def test_who_hands_the_future_on_may_watch_it(loop, sleep):
    kept = []

    async def outer():
        await Through(sleep(0.001), lambda future: kept.append(weakref.ref(future)))
        return kept[0]() is None or kept[0]().done()

    assert end(loop, asleep(loop, outer()))


def test_future_that_is_swallowed_leaves_the_sleep_alone(loop, sleep):
    """The task waits for something else than what the sleep has yielded."""
    made = sleep(0.001, "result")
    swallowed = []

    async def outer():
        future = made.send(None)
        future._asyncio_future_blocking = False
        swallowed.append(future)
        await sleep(0)
        await asyncio.wait([future], timeout=60)
        with pytest.raises(StopIteration) as stop:
            made.send(None)
        return stop.value.value

    assert end(loop, asleep(loop, outer())) == "result"
    assert swallowed[0].result() == "result"


def test_coroutine_closed_by_somebody_else_can_still_be_cancelled(loop, sleep):
    async def sleeper():
        await sleep(3600)

    coro = sleeper()
    task = asleep(loop, coro)
    coro.close()
    for _ in range(3):
        run_ready(loop)
    assert not task.done()
    assert not task._fut_waiter.done()
    assert task.cancel("late")
    assert task._fut_waiter.cancelled()
    end(loop, task)
    assert task.done()


def test_thread_cancels_it_by_the_loop(loop, sleep):
    async def main():
        task = asyncio.create_task(sleep(3600))
        await sleep(0)
        await loop.run_in_executor(None, loop.call_soon_threadsafe, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    loop.run_until_complete(main())


@pytest.mark.loops("antiphon")  # asyncio's makes one each
def test_no_future_is_kept_for_those_who_sleep(loop):
    from antiphon._antiphon import Future, sleep

    async def sleeper():
        await sleep(3600)

    def futures():
        return sum(type(found) is Future for found in gc.get_objects())

    run_ready(loop)
    before = futures()
    tasks = [loop.create_task(sleeper()) for _ in range(100)]
    run_ready(loop)
    assert futures() - before < 10
    assert all(isinstance(task._fut_waiter, Future) for task in tasks)
    assert futures() - before >= 100
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.wait(tasks))


def test_timers_of_cancelled_ones_keep_nobody_alive(loop, sleep):
    class Result:
        pass

    result = Result()
    gone = weakref.ref(result)
    task = asleep(loop, sleep(3600, result))
    del result
    task.cancel()
    end(loop, task)
    del task
    gc.collect()
    assert gone() is None
