"""`Event` and `Condition`: who is woken, in which order, and what a cancellation leaves."""

import asyncio
import sys

import pytest

from support.net import turns

# What asyncio's later releases repaired (gh-111693, gh-112202, gh-90155), and antiphon has on every version.
BEFORE_THE_REPAIRS = sys.version_info < (3, 12, 2)


async def cancelled(task):
    """Whether the task, awaited, turns out to be cancelled."""
    try:
        await task
    except asyncio.CancelledError:
        return True
    return False


async def test_events_wake_everybody_in_order(aio, loop):
    event = aio.Event()
    order = []

    async def worker(number):
        assert await event.wait() is True
        order.append(number)

    tasks = [loop.create_task(worker(number)) for number in range(4)]
    await turns(1)
    assert len(event._waiters) == 4
    event.set()
    event.clear()
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3] and not event.is_set() and not event._waiters
    event.set()
    assert await event.wait() is True


async def test_a_cancelled_wait_for_an_event(aio, loop):
    event = aio.Event()
    task = loop.create_task(event.wait())
    await turns(1)
    task.cancel()
    assert await cancelled(task)
    assert not event._waiters
    event.set()


async def test_a_condition_needs_its_lock(aio, loop):
    condition = aio.Condition()
    with pytest.raises(RuntimeError, match="^cannot wait on un-acquired lock$"):
        await condition.wait()
    for notify in (condition.notify, condition.notify_all):
        with pytest.raises(RuntimeError, match="^cannot notify on un-acquired lock$"):
            notify()


async def test_notifications_go_in_turn(aio, loop):
    condition = aio.Condition()
    order = []

    async def worker(number):
        async with condition:
            assert await condition.wait() is True
            order.append(number)

    tasks = [loop.create_task(worker(number)) for number in range(5)]
    await turns(1)
    async with condition:
        condition.notify(2)
    await turns(4)
    assert order == [0, 1]
    async with condition:
        condition.notify()
        condition.notify_all()
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, 4]


async def test_wait_for_gives_what_the_predicate_gave(aio, loop):
    condition = aio.Condition()
    box = []

    async def consumer():
        async with condition:
            return await condition.wait_for(lambda: box and box[0])

    task = loop.create_task(consumer())
    await turns(1)
    async with condition:
        condition.notify()
    await turns(3)
    assert not task.done()
    async with condition:
        box.append("result")
        condition.notify()
    assert await task == "result"


async def test_a_predicate_that_raises(aio, loop):
    condition = aio.Condition()
    async with condition:
        with pytest.raises(ZeroDivisionError):
            await condition.wait_for(lambda: 1 / 0)
        assert condition.locked()
    with pytest.raises(TypeError):
        await condition.wait_for(None)


async def test_a_cancelled_wait_has_the_lock_again(aio, loop):
    condition = aio.Condition()
    held = []

    async def worker():
        async with condition:
            try:
                await condition.wait()
            finally:
                held.append(condition.locked())

    task = loop.create_task(worker())
    await turns(1)
    async with condition:
        task.cancel()
        await turns(2)
        assert not task.done(), "it needs the lock to end"
    assert await cancelled(task)
    assert held == [True] and not condition.locked()


@pytest.mark.asyncio_lacks(when=BEFORE_THE_REPAIRS, reason="the notification is lost")
async def test_a_notification_survives_who_got_it(aio, loop):
    condition = aio.Condition()

    async def worker():
        async with condition:
            await condition.wait()

    first, second = (loop.create_task(worker()) for _ in range(2))
    await turns(1)
    async with condition:
        condition.notify()
    first.cancel()
    assert await cancelled(first)
    await second


async def test_a_condition_takes_any_lock(aio, loop):
    class Own:
        def __init__(self):
            self.calls = []
            self.lock = aio.Lock()

        def locked(self):
            return self.lock.locked()

        async def acquire(self):
            self.calls.append("acquire")
            return await self.lock.acquire()

        def release(self):
            self.calls.append("release")
            self.lock.release()

    own = Own()
    condition = aio.Condition(own)

    async def worker():
        async with condition:
            await condition.wait()

    task = loop.create_task(worker())
    await turns(1)
    async with condition:
        condition.notify()
    await task
    assert own.calls == ["acquire", "release"] * 3


async def test_conditions_share_a_lock(aio, loop):
    lock = aio.Lock()
    full, empty = aio.Condition(lock), aio.Condition(lock)
    assert full._lock is lock and empty._lock is lock
    items = []

    async def producer():
        for number in range(20):
            async with empty:
                await empty.wait_for(lambda: len(items) < 2)
                items.append(number)
                full.notify()

    async def consumer():
        got = []
        for _ in range(20):
            async with full:
                await full.wait_for(lambda: items)
                got.append(items.pop(0))
                empty.notify()
        return got

    _, got = await asyncio.gather(producer(), consumer())
    assert got == list(range(20))


async def test_what_is_put_in_place_of_a_conditions_methods_is_used(aio, loop):
    condition = aio.Condition()
    acquire, calls = condition.acquire, []

    async def counted():
        calls.append(1)
        return await acquire()

    condition.acquire = counted
    async with condition:
        assert condition.locked()
    assert calls == [1] and not condition.locked()
