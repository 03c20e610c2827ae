"""Coroutines without a frame: each behaves as if it were new, although those that ended are used again."""

import asyncio
import gc
import inspect
import weakref

import pytest

from support.net import turns


async def use_some(aio):
    """Leaves ended coroutines of several kinds behind."""
    lock, event = aio.Lock(), aio.Event()
    event.set()
    for _ in range(5):
        async with lock:
            await aio.sleep(0)
        await event.wait()
        async with aio.timeout(60):
            pass


async def test_a_cycle_through_one_is_collected_after_a_freeze(aio, loop):
    """What rests while the program freezes what is would stay unknown to the collector."""
    await use_some(aio)
    gc.freeze()
    try:
        event = aio.Event()
        wait = event.wait()
        wait.send(None)
        event.own_attribute = wait
        gone = weakref.ref(event)
        del event, wait
        gc.collect()
        assert gone() is None
    finally:
        gc.unfreeze()


async def test_weak_references_end_with_it(aio, loop):
    for _ in range(3):
        coroutine = aio.sleep(0)
        gone = weakref.ref(coroutine)
        await coroutine
        assert gone() is coroutine
        del coroutine
        assert gone() is None


async def test_every_one_that_nobody_awaits_is_warned_of(aio, loop):
    for _ in range(3):
        await use_some(aio)
        lock = aio.Lock()
        for make in (lambda: aio.sleep(0), lambda: aio.sleep(1), lock.acquire, lock.__aenter__):
            with pytest.warns(RuntimeWarning, match="never awaited"):
                make()
                gc.collect()


async def test_one_that_ended_stays_ended_while_somebody_has_it(aio, loop):
    ended = aio.sleep(0)
    await ended
    for _ in range(5):
        await aio.sleep(0)
    with pytest.raises(RuntimeError, match="already awaited"):
        await ended


async def test_many_at_once_are_different_ones(aio, loop):
    made = [aio.sleep(0, number) for number in range(3000)]
    assert len({id(one) for one in made}) == 3000
    assert await asyncio.gather(*made) == list(range(3000))
    made = [aio.sleep(0) for _ in range(3000)]
    assert await asyncio.gather(*made) == [None] * 3000


async def test_closed_and_thrown_into_before_it_began(aio, loop):
    for _ in range(3):
        closed, thrown = aio.sleep(0), aio.sleep(0)
        closed.close()
        with pytest.raises(KeyError):
            thrown.throw(KeyError())
        for one in (closed, thrown):
            with pytest.raises(RuntimeError, match="already awaited"):
                one.send(None)


@pytest.mark.loops("antiphon")  # asyncio's has a frame, and is always known
async def test_what_refers_to_nothing_is_not_known_to_the_collector(loop):
    from antiphon._antiphon import sleep

    for made, known in (
        (sleep(0), False),
        (sleep(0.001), False),
        (sleep(0, []), True),
        (sleep(1, []), True),
    ):
        assert gc.is_tracked(made) == known
        made.close()


async def test_the_methods_of_a_timeouts_block(aio, loop):
    """Called by name, on the class, and on a class of the user's own."""

    class Own(aio.Timeout):
        pass

    for kind in (aio.Timeout, Own):
        timeout = kind(None)
        enter, leave = timeout.__aenter__, timeout.__aexit__
        assert await enter() is timeout
        with pytest.raises(TypeError):
            await leave()
        assert await leave(None, None, None) is None
        timeout = kind(None)
        assert await kind.__aenter__(timeout) is timeout
        assert await kind.__aexit__(timeout, None, None, None) is None
        with pytest.raises((TypeError, AttributeError)):
            await kind.__aenter__(3)
        async with kind(None) as timeout:
            assert isinstance(timeout, kind)
            await turns(1)
        with pytest.raises(KeyError):
            async with kind(None):
                raise KeyError
    timeout = aio.Timeout(loop.time())
    with pytest.raises(TimeoutError):
        async with timeout:
            await asyncio.sleep(60)
    assert timeout.expired()


@pytest.mark.loops("antiphon")
def test_a_loops_native_methods_are_its_classs_own(loop):
    """So that no call of one has to look through the bases for it."""
    from antiphon import Loop
    from antiphon._antiphon import LoopBase, own_methods

    inherited = [
        name
        for name, method in vars(LoopBase).items()
        if inspect.ismethoddescriptor(method) and getattr(Loop, name) is method
    ]
    assert [name for name in inherited if not name.startswith("__")] == ["time"]
    assert Loop.call_soon.__objclass__ is Loop
    assert inspect.isfunction(Loop.set_debug)
    with pytest.raises(TypeError):
        own_methods(int)
    with pytest.raises(TypeError):
        Loop.call_soon(LoopBase, print)
