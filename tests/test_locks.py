"""`Lock`, `Semaphore` and `BoundedSemaphore`: turns, permits, cancelled and closed waits."""

import asyncio
import gc
import sys

import pytest

from support.net import turns

# What asyncio's later releases repaired (gh-111693, gh-112202, gh-90155), and antiphon has on every version.
BEFORE_THE_REPAIRS = sys.version_info < (3, 12, 2)


def acquirables(aio):
    return [aio.Lock(), aio.Semaphore(1), aio.BoundedSemaphore(1), aio.Condition()]


async def cancelled(task):
    """Whether the task, awaited, turns out to be cancelled."""
    try:
        await task
    except asyncio.CancelledError:
        return True
    return False


async def test_acquire_says_true_and_with_gives_nothing(aio, loop):
    for lock in acquirables(aio):
        assert await lock.acquire() is True
        assert lock.locked()
        lock.release()
        assert not lock.locked()
        async with lock as given:
            assert given is None and lock.locked()
        assert not lock.locked()


async def test_an_exception_inside_releases_and_passes(aio, loop):
    for lock in acquirables(aio):
        with pytest.raises(KeyError):
            async with lock:
                raise KeyError
        assert not lock.locked()


async def test_nothing_happens_before_the_first_step(aio, loop):
    for lock in acquirables(aio):
        for coroutine in (lock.acquire(), lock.__aenter__(), lock.__aexit__(None, None, None)):
            assert not lock.locked()
            coroutine.close()
        assert not lock.locked()


@pytest.mark.parametrize("make", ["Lock", "Semaphore", "BoundedSemaphore", "Condition"])
async def test_turns_are_taken_in_the_order_of_arrival(aio, loop, make):
    lock = getattr(aio, make)()
    order = []

    async def worker(number):
        async with lock:
            order.append(number)
            await turns(2)

    workers = [loop.create_task(worker(number)) for number in range(5)]
    for worker_task in workers:
        await worker_task
    assert order == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("make", ["Lock", "Semaphore"])
async def test_a_newcomer_does_not_overtake_who_was_woken(aio, loop, make):
    lock = getattr(aio, make)()
    await lock.acquire()
    order = []

    async def worker(name):
        async with lock:
            order.append(name)

    waiting = loop.create_task(worker("waiting"))
    await turns(1)
    lock.release()
    # Woken, but it has not run: the newcomer, who runs first, has to stand behind.
    await asyncio.gather(worker("newcomer"), waiting)
    assert order == ["waiting", "newcomer"]


@pytest.mark.parametrize("make", ["Lock", "Semaphore"])
async def test_who_was_woken_and_is_cancelled_passes_its_turn_on(aio, loop, make):
    lock = getattr(aio, make)()
    await lock.acquire()
    first, second = (loop.create_task(lock.acquire()) for _ in range(2))
    await turns(1)
    lock.release()
    first.cancel()
    assert await cancelled(first)
    assert await second is True
    lock.release()
    assert not lock.locked()


@pytest.mark.parametrize("make", ["Lock", "Semaphore"])
async def test_who_is_cancelled_in_the_queue_leaves_it(aio, loop, make):
    lock = getattr(aio, make)()
    await lock.acquire()
    tasks = [loop.create_task(lock.acquire()) for _ in range(3)]
    await turns(1)
    assert len(lock._waiters) == 3
    tasks[1].cancel()
    assert await cancelled(tasks[1])
    assert len(lock._waiters) == 2
    lock.release()
    assert await tasks[0] is True
    assert not tasks[2].done()
    lock.release()
    assert await tasks[2] is True


@pytest.mark.parametrize("make", ["Lock", "Semaphore"])
async def test_a_wait_that_times_out_leaves_the_queue(aio, loop, make):
    lock = getattr(aio, make)()
    await lock.acquire()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(lock.acquire(), 0.001)
    lock.release()
    assert not lock.locked() and not lock._waiters
    assert await lock.acquire() is True


async def test_a_wait_that_is_closed_leaves_the_queue(aio, loop):
    lock = aio.Lock()
    await lock.acquire()
    waiting = lock.acquire()
    waiting.send(None)
    assert len(lock._waiters) == 1
    waiting.close()
    assert len(lock._waiters) == 0
    dropped = lock.acquire()
    dropped.send(None)
    del dropped
    gc.collect()
    assert len(lock._waiters) == 0


@pytest.mark.asyncio_lacks(
    when=BEFORE_THE_REPAIRS, reason="wakes one where several permits are free"
)
async def test_every_permit_that_is_free_wakes_somebody(aio, loop):
    semaphore = aio.Semaphore(0)
    tasks = [loop.create_task(semaphore.acquire()) for _ in range(3)]
    await turns(1)
    semaphore.release()
    semaphore.release()
    tasks[0].cancel()
    tasks[1].cancel()
    await turns(3)
    assert tasks[2].done() and semaphore._value == 1


async def test_a_semaphore_hands_out_exactly_its_permits(aio, loop):
    semaphore = aio.Semaphore(3)
    inside = most = 0

    async def worker():
        nonlocal inside, most
        async with semaphore:
            inside += 1
            most = max(most, inside)
            await turns(1)
            inside -= 1

    await asyncio.gather(*(worker() for _ in range(20)))
    assert (inside, most, semaphore._value) == (0, 3, 3)


async def test_wrong_releases(aio, loop):
    with pytest.raises(RuntimeError, match=r"^Lock is not acquired\.$"):
        aio.Lock().release()
    with pytest.raises(ValueError, match="^BoundedSemaphore released too many times$"):
        aio.BoundedSemaphore(2).release()
    with pytest.raises(RuntimeError, match=r"^Lock is not acquired\.$"):
        aio.Condition().release()
    semaphore = aio.Semaphore(0)
    semaphore.release()
    assert semaphore._value == 1
