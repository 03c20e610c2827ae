"""Locks, events, conditions, semaphores and barriers as objects: coroutines, loop, subclasses, attributes, life."""

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


def acquirables(aio):
    return [aio.Lock(), aio.Semaphore(1), aio.BoundedSemaphore(1), aio.Condition()]


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


async def test_waits_are_coroutine_functions(aio, loop):
    for method in (aio.Lock().acquire, aio.Event().wait, aio.Queue().get):
        assert inspect.iscoroutinefunction(method)


@pytest.mark.antiphon_lacks(
    reason="the list is there from the start, and the barrier needs no condition"
)
async def test_private_parts_as_asyncio_has_them(aio, loop):
    assert aio.Lock()._waiters is None
    assert aio.Barrier(1)._cond
