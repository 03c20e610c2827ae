"""`Lock`, `Semaphore`, `Event`, `Condition`, `Barrier`: turns, cancellation races, subclasses, private names."""

import asyncio
import contextlib
import functools
import gc
import inspect
import sys
import weakref
from collections.abc import Coroutine

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


async def test_wrong_arguments(aio, loop):
    for value in (-1, -0.5):
        with pytest.raises(ValueError, match="^Semaphore initial value must be >= 0$"):
            aio.Semaphore(value)
    words = "parties must be >= 1" if sys.version_info >= (3, 14) else "parties must be > 0"
    for parties in (0, -3):
        with pytest.raises(ValueError, match=f"^{words}$"):
            aio.Barrier(parties)
    for make in (aio.Lock, aio.Event, aio.Condition, aio.Semaphore):
        with pytest.raises(TypeError, match="got an unexpected keyword argument 'loop'"):
            make(loop=None)
    for wrong in (lambda: aio.Lock(1), lambda: aio.Event(None), lambda: aio.Barrier()):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(AttributeError):
        aio.Condition(object())


async def test_representations(aio, loop):
    lock, event, semaphore, condition = aio.Lock(), aio.Event(), aio.Semaphore(2), aio.Condition()
    assert repr(lock).endswith("[unlocked]>")
    assert repr(event).endswith("[unset]>")
    assert repr(semaphore).endswith("[unlocked, value:2]>")
    assert repr(condition).endswith("[unlocked]>")
    assert repr(aio.Barrier(3)).endswith("[filling, waiters:0/3]>")
    await lock.acquire()
    event.set()
    await semaphore.acquire()
    await semaphore.acquire()
    waiting = [loop.create_task(lock.acquire()), loop.create_task(semaphore.acquire())]
    await turns(1)
    assert repr(lock).endswith("[locked, waiters:1]>")
    assert repr(event).endswith("[set]>")
    assert repr(semaphore).endswith("[locked, waiters:1]>")
    lock.release()
    semaphore.release()
    for task in waiting:
        await task


async def test_a_coroutine_to_all_who_ask(aio, loop):
    lock = aio.Lock()
    coroutine = lock.acquire()
    assert isinstance(coroutine, Coroutine) and asyncio.iscoroutine(coroutine)
    assert inspect.isawaitable(coroutine)
    assert (coroutine.__name__, coroutine.__qualname__) == ("acquire", "Lock.acquire")
    assert not coroutine.cr_running
    assert await coroutine is True
    with pytest.raises(RuntimeError, match="^cannot reuse already awaited coroutine$"):
        await coroutine
    lock.release()
    assert await loop.create_task(lock.acquire()) is True


async def test_one_that_is_being_awaited_cannot_be_awaited(aio, loop):
    lock = aio.Lock()
    await lock.acquire()
    coroutine = lock.acquire()
    task = loop.create_task(coroutine)
    await turns(1)
    with pytest.raises(RuntimeError, match="^coroutine is being awaited already$"):
        await coroutine
    lock.release()
    assert await task is True


async def test_never_awaited(aio, loop, audit):
    lock = aio.Lock()
    lock.acquire()
    gc.collect()
    audit.take_warning(RuntimeWarning, r"coroutine 'Lock\.acquire' was never awaited")


async def test_send_throw_close(aio, loop):
    lock = aio.Lock()
    free = lock.acquire()
    with pytest.raises(TypeError, match="^can't send non-None value to a just-started coroutine$"):
        free.send(1)
    with pytest.raises(StopIteration) as stopped:
        free.send(None)
    assert stopped.value.value is True and lock.locked()
    waiting = lock.acquire()
    future = waiting.send(None)
    assert asyncio.isfuture(future) and future._asyncio_future_blocking
    with pytest.raises(KeyError):
        waiting.throw(KeyError("thrown"))
    waiting.close()
    assert not lock._waiters
    future.cancel()


async def test_the_loop_is_bound_by_the_first_wait(aio, loop, loop_factory):
    lock = aio.Lock()
    async with lock:
        assert lock._loop is None
        waiting = loop.create_task(lock.acquire())
        await turns(1)
        assert lock._loop is loop
    await waiting

    other = loop_factory()

    async def elsewhere():
        assert lock.locked()
        with pytest.raises(RuntimeError, match="is bound to a different event loop$"):
            await lock.acquire()
        lock.release()
        # Nobody needs to wait, so nobody asks for the loop.
        assert await lock.acquire() is True

    def run():
        try:
            other.run_until_complete(elsewhere())
        finally:
            other.close()

    await loop.run_in_executor(None, run)


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


async def test_methods_of_subclasses_are_called(aio, loop):
    calls = []

    class Lock(aio.Lock):
        def __init__(self, name):
            super().__init__()
            self.name = name

        async def acquire(self):
            calls.append("acquire")
            return await super().acquire()

        def release(self):
            calls.append("release")
            super().release()

    class Semaphore(aio.Semaphore):
        acquire, release = Lock.__dict__["acquire"], Lock.__dict__["release"]

    lock = Lock("mine")
    assert lock.name == "mine" and isinstance(lock, aio.Lock)
    async with lock:
        assert lock.locked()
    assert calls == ["acquire", "release"]

    class Condition(aio.Condition):
        async def wait(self):
            calls.append("wait")
            return await super().wait()

        def notify(self, n=1):
            calls.append(("notify", n))
            super().notify(n)

    condition = Condition()
    ready = []

    async def worker():
        async with condition:
            await condition.wait_for(lambda: ready)

    task = loop.create_task(worker())
    await turns(1)
    async with condition:
        ready.append(1)
        condition.notify_all()
    await task
    assert calls[2:] == ["wait", ("notify", 1)]

    class Barrier(aio.Barrier):
        async def wait(self):
            return -await super().wait()

    async with Barrier(1) as number:
        assert number == 0


async def test_everybody_passes_a_barrier_together(aio, loop):
    barrier = aio.Barrier(3)
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (3, 0, False)
    passed = []

    async def worker():
        number = await barrier.wait()
        passed.append(number)

    tasks = [loop.create_task(worker()) for _ in range(2)]
    await turns(2)
    assert (barrier.n_waiting, passed) == (2, [])
    tasks.append(loop.create_task(worker()))
    await asyncio.gather(*tasks)
    assert sorted(passed) == [0, 1, 2] and barrier.n_waiting == 0


async def test_rounds_of_a_barrier_do_not_mix(aio, loop):
    barrier = aio.Barrier(4)
    rounds = []

    async def worker():
        for number in range(5):
            await barrier.wait()
            rounds.append(number)

    await asyncio.gather(*(worker() for _ in range(4)))
    assert rounds == sorted(rounds)


async def test_reset_and_abort_send_away_who_waits(aio, loop):
    for change, words in (
        ("reset", "Abort or reset of barrier"),
        ("abort", "Abort or reset of barrier"),
    ):
        barrier = aio.Barrier(2)
        task = loop.create_task(barrier.wait())
        await turns(1)
        assert await getattr(barrier, change)() is None
        with pytest.raises(asyncio.BrokenBarrierError, match=f"^{words}$"):
            await task
        assert barrier.broken is (change == "abort")
    with pytest.raises(asyncio.BrokenBarrierError, match="^Barrier aborted$"):
        await barrier.wait()
    await barrier.reset()
    assert not barrier.broken


async def test_who_is_cancelled_does_not_count_at_the_barrier(aio, loop):
    barrier = aio.Barrier(2)
    first = loop.create_task(barrier.wait())
    await turns(1)
    first.cancel()
    assert await cancelled(first)
    assert barrier.n_waiting == 0
    numbers = await asyncio.gather(barrier.wait(), barrier.wait())
    assert sorted(numbers) == [0, 1]


async def test_nothing_is_kept_alive(aio, loop):
    """Not by a cycle of primitive, waiter, task and frame, either."""
    condition, event, barrier = aio.Condition(), aio.Event(), aio.Barrier(2)
    lock, semaphore = aio.Lock(), aio.Semaphore(0)
    await lock.acquire()
    waits = [lock.acquire(), semaphore.acquire(), event.wait(), barrier.wait()]
    for coroutine in waits:
        coroutine.send(None)
    for thing in (condition, event, barrier, lock, semaphore):
        thing.own_attribute = waits
    references = [weakref.ref(thing) for thing in (condition, event, barrier, lock, semaphore)]
    del condition, event, barrier, lock, semaphore, waits, coroutine, thing
    gc.collect()
    assert [reference() for reference in references] == [None] * 5


async def test_the_methods_of_async_with_are_methods(aio, loop):
    """However the interpreter reaches them, and however often they are called."""
    locks = acquirables(aio)
    while locks:
        lock = locks.pop()
        enter, leave = lock.__aenter__, lock.__aexit__
        with pytest.raises(TypeError, match="can't be used in 'await'|can't be awaited"):
            await enter
        for _ in range(2):
            entering = enter()
            assert not lock.locked()
            assert await entering is None and lock.locked()
            leaving = leave(None, None, None)
            assert lock.locked()
            assert await leaving is None and not lock.locked()
        partial = functools.partial(lock.__aenter__)
        for _ in range(2):
            assert await partial() is None
            lock.release()
        kind = type(lock)
        await kind.__aenter__(lock)
        await kind.__aexit__(lock, None, None, None)
        with pytest.raises((TypeError, AttributeError)):
            await kind.__aenter__(3)
        async with contextlib.AsyncExitStack() as stack:
            assert await stack.enter_async_context(lock) is None and lock.locked()
        assert not lock.locked()
        lock.method = lock.__aenter__
        reference = weakref.ref(lock)
        del lock, enter, leave, entering, leaving, partial, stack
        gc.collect()
        assert reference() is None
        await turns(1)


async def test_methods_of_async_with_that_a_subclass_has(aio, loop):
    class Lock(aio.Lock):
        async def __aenter__(self):
            await super().__aenter__()
            return "entered"

    async with Lock() as given:
        assert given == "entered"


async def test_a_block_that_was_called_and_never_awaited(aio, loop, audit):
    lock = aio.Lock()
    lock.__aenter__()
    gc.collect()
    audit.take_warning(RuntimeWarning, r"coroutine '\w+\.__aenter__' was never awaited")
    assert not lock.locked()


async def test_what_was_done_to_one_end_of_a_wait_does_not_show_in_another(aio, loop):
    """Every wait ends with a `StopIteration` of its own, as far as anybody can see."""
    event = aio.Event()
    event.set()
    ends = []
    for number in range(6):
        iterator = event.wait().__await__() if number % 2 else event.wait()
        try:
            iterator.send(None)
        except StopIteration as end:
            assert (end.value, end.args, end.__context__, end.__cause__) == (
                True,
                (True,),
                None,
                None,
            )
            if number < 3:
                end.value, end.__cause__ = number, KeyError()
                end.mark = number
                ends.append(end)
    assert [end.value for end in ends] == [0, 1, 2] and len(set(map(id, ends))) == 3
    assert await event.wait() is True


@pytest.mark.parametrize("kind", ["Lock", "Semaphore", "BoundedSemaphore", "Condition"])
async def test_methods_replaced_on_an_instance_are_called(aio, loop, kind):
    lock = getattr(aio, kind)()
    acquire, release, calls = lock.acquire, lock.release, []

    async def counted():
        calls.append("acquire")
        return await acquire()

    lock.acquire = counted
    lock.release = lambda: calls.append("release") or release()
    async with lock:
        assert lock.locked() and calls == ["acquire"]
    assert calls == ["acquire", "release"] and not lock.locked()
    lock.acquire, lock.release = acquire, release
    async with lock:
        assert len(calls) == 2


async def test_methods_replaced_on_a_condition_are_called_by_others(aio, loop):
    condition = aio.Condition()
    calls = []
    condition.notify = calls.append

    async def wait():
        calls.append("wait")

    condition.wait = wait
    async with condition:
        condition.notify_all()
        answers = iter([False, True])
        assert await condition.wait_for(lambda: next(answers))
    assert calls == [0, "wait"]


async def test_wait_replaced_on_a_barrier_is_called(aio, loop):
    barrier = aio.Barrier(2)

    async def wait():
        return "replaced"

    barrier.wait = wait
    async with barrier as place:
        assert place == "replaced"


async def test_attributes_of_an_instance_are_in_its_dictionary(aio, loop):
    for made in (aio.Lock(), aio.Event(), aio.Semaphore(), aio.Condition(), aio.Barrier(1)):
        made.note = "kept"
        assert made.__dict__["note"] == vars(made)["note"] == "kept"


@pytest.mark.antiphon_lacks(reason="their bodies are native")
async def test_waits_are_coroutine_functions(aio, loop):
    for method in (aio.Lock().acquire, aio.Event().wait, aio.Queue().get):
        assert inspect.iscoroutinefunction(method)


@pytest.mark.antiphon_lacks(
    reason="the list is there from the start, and the barrier needs no condition"
)
async def test_private_parts_as_asyncio_has_them(aio, loop):
    assert aio.Lock()._waiters is None
    assert aio.Barrier(1)._cond
