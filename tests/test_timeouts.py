"""`timeout`, `timeout_at` and `wait_for`: whose cancellation it was, deadlines that move, odd arguments."""

import asyncio
import gc
import sys
import weakref

import pytest

from support.net import turns

before_312 = sys.version_info < (3, 12)


async def answer(value):
    await asyncio.sleep(0)
    return value


async def test_states_and_their_words(aio, loop):
    block = aio.timeout(60)
    assert repr(block) == "<Timeout [created]>" and not block.expired()
    when = block.when()
    async with block as entered:
        assert entered is block
        assert repr(block) == f"<Timeout [active] when={round(when, 3)}>"
    assert repr(block) == "<Timeout [finished]>" and not block.expired()
    with pytest.raises(RuntimeError, match="Timeout has already been entered"):
        async with block:
            pass


async def test_expired_block_raises_timeout_error_from_the_cancellation(aio, loop):
    with pytest.raises(TimeoutError) as caught:
        async with aio.timeout(0) as block:
            await loop.create_future()
    assert repr(block) == "<Timeout [expired]>" and block.expired()
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert caught.value.__context__ is caught.value.__cause__
    assert asyncio.current_task().cancelling() == 0


async def test_past_deadline_expires_before_the_next_step(aio, loop):
    steps = []
    with pytest.raises(TimeoutError):
        async with aio.timeout_at(loop.time() - 1):
            steps.append(1)
            await asyncio.sleep(0)
            steps.append(2)
    assert steps == [1]


async def test_deadline_is_kept_as_it_was_given(aio, loop):
    for when in (None, 3, 2.5):
        assert aio.timeout_at(when).when() is when
    assert aio.timeout(None).when() is None
    now = loop.time()
    assert now + 5 <= aio.timeout(5).when() <= loop.time() + 5


@pytest.mark.parametrize("delay", ["1", [], object()])
async def test_delay_must_be_a_number(aio, loop, delay):
    with pytest.raises(TypeError):
        aio.timeout(delay)


async def test_moving_the_deadline(aio, loop):
    with pytest.raises(RuntimeError, match="Timeout has not been entered"):
        aio.timeout(1).reschedule(None)
    with pytest.raises(TimeoutError):
        async with aio.timeout(None) as block:
            block.reschedule(loop.time() + 60)
            block.reschedule(loop.time() + 0.001)
            await loop.create_future()
    with pytest.raises(RuntimeError, match="Cannot change state of expired Timeout"):
        block.reschedule(None)
    async with aio.timeout(0) as block:
        # Due already, and on its way: taking it back counts.
        block.reschedule(None)
        await turns(3)
        block.reschedule(loop.time() - 1)
        block.reschedule(loop.time() + 60)
        await turns(3)
    with pytest.raises(RuntimeError, match="Cannot change state of finished Timeout"):
        block.reschedule(None)


async def test_due_alarm_of_a_block_that_was_left_means_nothing(aio, loop):
    async with aio.timeout(0):
        pass
    await turns(3)
    assert asyncio.current_task().cancelling() == 0


async def test_cancellation_from_elsewhere_passes(aio, loop):
    task = asyncio.current_task()
    with pytest.raises(asyncio.CancelledError):
        async with aio.timeout(60):
            task.cancel("from elsewhere")
            await loop.create_future()
    assert task.uncancel() == 0


async def test_cancellation_from_elsewhere_and_an_expiry_at_once(aio, loop):
    task = asyncio.current_task()
    with pytest.raises(asyncio.CancelledError):
        async with aio.timeout(0) as block:
            loop.call_soon(task.cancel)
            await loop.create_future()
    assert block.expired()
    assert task.uncancel() == 0


async def test_inner_and_outer_block(aio, loop):
    with pytest.raises(TimeoutError):
        async with aio.timeout(60), aio.timeout(0) as inner:
            await loop.create_future()
    assert inner.expired()
    with pytest.raises(TimeoutError):
        async with aio.timeout(0) as outer, aio.timeout(60) as inner:
            await loop.create_future()
    assert outer.expired() and not inner.expired()


async def test_only_inside_of_a_task(aio, loop):
    caught = loop.create_future()

    def outside():
        try:
            aio.timeout(1).__aenter__().send(None)
        except RuntimeError as error:
            caught.set_result(str(error))

    loop.call_soon(outside)
    assert await caught == "Timeout should be used inside a task"


async def test_expired_block_that_raises_something_else(aio, loop):
    with pytest.raises(ValueError) as caught:
        async with aio.timeout(0):
            try:
                await loop.create_future()
            except asyncio.CancelledError:
                raise ValueError from None
    context = caught.value.__context__
    if sys.version_info >= (3, 13):
        assert isinstance(context, TimeoutError)
        assert isinstance(context.__cause__, asyncio.CancelledError)
    else:
        assert isinstance(context, asyncio.CancelledError)


async def test_derived_timeout_expires_as_well(aio, loop):
    class Derived(aio.Timeout):
        def __init__(self, name):
            super().__init__(0)
            self.name = name

    with pytest.raises(TimeoutError):
        async with Derived("name") as block:
            await loop.create_future()
    assert block.name == "name" and block.expired()


async def test_task_whose_cancel_raises_is_reported(aio, loop, faults):
    class Stubborn(asyncio.Task):
        def cancel(self, msg=None):
            raise ValueError("no")

    async def block():
        async with aio.timeout(0):
            await asyncio.sleep(0.01)

    task = Stubborn(block(), loop=loop)
    await asyncio.wait([task])
    assert [type(context["exception"]) for context in faults] == [ValueError]
    assert "_on_timeout" in faults[0]["message"]
    task.exception()


async def test_wait_for_gives_the_result(aio, loop):
    assert await aio.wait_for(answer(1), 60) == 1
    assert await aio.wait_for(answer(1), None) == 1
    future = loop.create_future()
    loop.call_soon(future.set_result, 2)
    assert await aio.wait_for(future, 60) == 2
    assert await aio.wait_for(future, 0) == 2


async def test_wait_for_raises_what_the_awaited_raises(aio, loop):
    async def fail():
        raise KeyError("x")

    with pytest.raises(KeyError):
        await aio.wait_for(fail(), 60)


async def test_wait_for_cancels_what_takes_too_long(aio, loop):
    for limit in (0.001, 0, -1):
        future = loop.create_future()
        with pytest.raises(TimeoutError) as caught:
            await aio.wait_for(future, limit)
        assert future.cancelled()
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert asyncio.current_task().cancelling() == 0


async def test_wait_for_without_time_never_starts_a_coroutine(aio, loop):
    started = []

    async def start():
        started.append(1)

    with pytest.raises(TimeoutError):
        await aio.wait_for(start(), 0)
    assert started == []


async def test_wait_for_waits_until_the_cancelled_has_cleaned_up(aio, loop):
    log = []

    async def slow():
        try:
            await loop.create_future()
        finally:
            await turns(3)
            log.append("clean")

    with pytest.raises(TimeoutError):
        await aio.wait_for(slow(), 0.001)
    assert log == ["clean"]


async def test_wait_for_gives_what_a_refused_cancellation_returns(aio, loop):
    async def stubborn():
        try:
            await loop.create_future()
        except asyncio.CancelledError:
            return "all the same"

    assert await aio.wait_for(stubborn(), 0.001) == "all the same"


async def test_wait_for_passes_a_cancellation_on(aio, loop):
    future = loop.create_future()
    task = loop.create_task(aio.wait_for(future, 60))
    await turns(2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert future.cancelled()


async def test_wait_for_that_has_no_time_can_be_cancelled_meanwhile(aio, loop):
    release = loop.create_future()

    async def stubborn():
        try:
            await loop.create_future()
        except asyncio.CancelledError:
            await release
            raise

    child = loop.create_task(stubborn())
    await turns(1)
    task = loop.create_task(aio.wait_for(child, 0))
    await turns(2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set_result(None)
    await asyncio.wait([child])
    assert child.cancelled()


async def test_wait_for_is_a_coroutine(aio, loop):
    waiting = aio.wait_for(answer(1), 1)
    assert asyncio.iscoroutine(waiting)
    assert await loop.create_task(waiting) == 1
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        await waiting
    with pytest.raises(TypeError):
        await aio.wait_for(3, 1)
    with pytest.raises(TypeError):
        aio.wait_for(answer)


async def test_wait_for_closes_what_it_awaits_when_it_is_closed(aio, loop):
    log = []

    async def body():
        try:
            await asyncio.sleep(0)
            await loop.create_future()
        finally:
            log.append("closed")

    waiting = aio.wait_for(body(), None if before_312 else 60)
    waiting.send(None)
    waiting.close()
    assert log == ["closed"]


async def test_wait_for_leaves_no_cycle(aio, loop):
    class Marker:
        pass

    async def body(marker):
        await loop.create_future()

    marker = Marker()
    seen = weakref.ref(marker)
    gc.collect()
    gc.disable()
    try:
        try:
            await aio.wait_for(body(marker), 0.001)
        except TimeoutError as error:
            error.__cause__ = error.__context__ = error.__traceback__ = None
        del marker
        await turns(2)
        assert seen() is None
    finally:
        gc.enable()


async def test_foreign_future_in_wait_for(aio, loop):
    foreign = asyncio.futures._PyFuture(loop=loop)
    loop.call_soon(foreign.set_result, 1)
    assert await aio.wait_for(foreign, 60) == 1
    foreign = asyncio.futures._PyFuture(loop=loop)
    with pytest.raises(TimeoutError):
        await aio.wait_for(foreign, 0)
    assert foreign.cancelled()
