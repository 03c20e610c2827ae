"""`wait`, `as_completed`, `shield` and `ensure_future`."""

import asyncio
import gc
import sys
import weakref

import pytest

from support.net import turns


async def answer(value):
    await asyncio.sleep(0)
    return value


def failed(loop, error):
    future = loop.create_future()
    future.set_exception(error)
    return future


async def test_wait_for_all(aio, loop):
    futures = [loop.create_future() for _ in range(3)]
    for future in futures:
        loop.call_soon(future.set_result, None)
    assert await aio.wait(futures) == (set(futures), set())
    assert await aio.wait(iter(futures)) == (set(futures), set())


async def test_wait_for_the_first(aio, loop):
    futures = [loop.create_future() for _ in range(3)]
    loop.call_soon(futures[1].set_result, None)
    done, pending = await aio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
    assert done == {futures[1]} and pending == {futures[0], futures[2]}


async def test_wait_for_the_first_exception(aio, loop):
    futures = [loop.create_future() for _ in range(4)]
    loop.call_soon(futures[0].set_result, None)
    loop.call_soon(futures[1].cancel)
    loop.call_later(0.001, futures[2].set_exception, ValueError("seen by wait"))
    done, pending = await aio.wait(futures, return_when=asyncio.FIRST_EXCEPTION)
    assert done == set(futures[:3]) and pending == {futures[3]}
    futures[2].exception()


async def test_wait_until_the_time_is_up(aio, loop):
    futures = [loop.create_future() for _ in range(2)]
    futures[0].set_result(None)
    for timeout in (0.001, 0, -1):
        done, pending = await aio.wait(futures, timeout=timeout)
        assert done == {futures[0]} and pending == {futures[1]}
    assert not futures[1].cancelled()


async def test_wait_leaves_no_callback(aio, loop):
    seen = []

    class Watched(asyncio.futures._PyFuture):
        def add_done_callback(self, callback, *, context=None):
            seen.append(callback)
            super().add_done_callback(callback, context=context)

    foreign, own = Watched(loop=loop), loop.create_future()
    await aio.wait([foreign, own], timeout=0)
    assert seen
    assert foreign.remove_done_callback(seen[0]) == 0
    assert not own._callbacks
    foreign.cancel()


async def test_cancelled_wait_leaves_the_children_alone(aio, loop):
    future = loop.create_future()
    task = loop.create_task(aio.wait([future]))
    await turns(2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not future.done() and not future._callbacks


async def test_odd_arguments_of_wait(aio, loop):
    future = loop.create_future()
    with pytest.raises(TypeError, match="expect a list of futures, not Future"):
        await aio.wait(future)
    coroutine = answer(1)
    with pytest.raises(TypeError, match="expect a list of futures, not coroutine"):
        await aio.wait(coroutine)
    with pytest.raises(TypeError, match="Passing coroutines is forbidden, use tasks explicitly."):
        await aio.wait([coroutine])
    coroutine.close()
    with pytest.raises(ValueError, match="Set of Tasks/Futures is empty."):
        await aio.wait([])
    with pytest.raises(ValueError, match="Invalid return_when value: never"):
        await aio.wait([future], return_when="never")
    with pytest.raises(TypeError, match="positional argument"):
        aio.wait([future], 1)
    with pytest.raises(TypeError):
        await aio.wait([future], timeout="soon")
    assert not future.done()


async def test_as_completed_in_the_order_of_the_ends(aio, loop):
    futures = [loop.create_future() for _ in range(3)]
    for place in (2, 0, 1):
        loop.call_soon(futures[place].set_result, place)
    assert [await next_one for next_one in aio.as_completed(futures)] == [2, 0, 1]


async def test_as_completed_gives_coroutines_in_advance(aio, loop):
    futures = [loop.create_future() for _ in range(3)]
    coroutines = list(aio.as_completed(futures))
    assert all(asyncio.iscoroutine(coroutine) for coroutine in coroutines)
    waiting = [loop.create_task(coroutine) for coroutine in coroutines]
    await turns(2)
    # The first that waits gets the first that ends; one that gives up leaves it to the next.
    waiting[0].cancel()
    await turns(2)
    for value, future in enumerate(futures):
        future.set_result(value)
        await turns(3)
    assert [task.cancelled() for task in waiting] == [True, False, False]
    assert [task.result() for task in waiting[1:]] == [0, 1]


async def test_woken_consumer_that_is_cancelled_leaves_its_child_to_the_next(aio, loop):
    futures = [loop.create_future() for _ in range(2)]
    first, second = (loop.create_task(coroutine) for coroutine in aio.as_completed(futures))
    await turns(2)
    futures[0].set_result("for the second")
    loop.call_soon(lambda: loop.call_soon(first.cancel))
    await turns(6)
    futures[1].set_result(None)
    await asyncio.wait([first, second])
    assert "for the second" in [t.result() for t in (first, second) if not t.cancelled()]


async def test_as_completed_raises_in_the_awaiting_place(aio, loop):
    error = ValueError()
    (next_one,) = aio.as_completed([failed(loop, error)])
    with pytest.raises(ValueError) as caught:
        await next_one
    assert caught.value is error


async def test_as_completed_until_the_time_is_up(aio, loop):
    futures = [loop.create_future() for _ in range(3)]
    futures[0].set_result("in time")
    outcomes = []
    for next_one in aio.as_completed(futures, timeout=0.001):
        try:
            outcomes.append(await next_one)
        except TimeoutError as error:
            outcomes.append(type(error))
    assert outcomes == ["in time", TimeoutError, TimeoutError]
    assert not any(future._callbacks for future in futures)


async def test_as_completed_of_nothing(aio, loop):
    assert list(aio.as_completed([])) == []


async def test_one_child_given_twice_is_completed_once(aio, loop):
    coroutine = answer(1)
    assert [await one for one in aio.as_completed([coroutine, coroutine])] == [1]


async def test_as_completed_refuses_a_single_awaitable(aio, loop):
    future = loop.create_future()
    with pytest.raises(TypeError, match="iterable of"):
        list(aio.as_completed(future))
    with pytest.raises(TypeError):
        list(aio.as_completed([3]))


@pytest.mark.skipif(sys.version_info < (3, 13), reason="asynchronous iteration came with 3.13")
async def test_as_completed_asynchronously(aio, loop):
    futures = [loop.create_future() for _ in range(2)]
    task = loop.create_task(answer("task"))
    loop.call_soon(futures[1].set_result, None)
    loop.call_later(0.001, futures[0].set_result, None)
    order = [child async for child in aio.as_completed([*futures, task])]
    assert order[-1] is futures[0] and set(order) == {*futures, task}
    with pytest.raises(TimeoutError):
        async for _ in aio.as_completed([loop.create_future()], timeout=0):
            pass


async def test_shield_keeps_the_cancellation_out(aio, loop):
    inner = loop.create_future()
    outer = aio.shield(inner)
    assert outer is not inner and asyncio.isfuture(outer)
    outer.cancel()
    await turns(2)
    assert outer.cancelled() and not inner.done() and not inner._callbacks


async def test_shield_follows_the_inner_one(aio, loop):
    error = ValueError()
    assert await aio.shield(answer(1)) == 1
    inner = loop.create_future()
    loop.call_soon(inner.set_exception, error)
    with pytest.raises(ValueError) as caught:
        await aio.shield(inner)
    assert caught.value is error
    inner = loop.create_future()
    outer = aio.shield(inner)
    inner.cancel()
    with pytest.raises(asyncio.CancelledError):
        await outer
    assert outer.cancelled()
    assert aio.shield(inner) is inner, "one that is done needs no shield"


async def test_ensure_future(aio, loop):
    future = loop.create_future()
    assert aio.ensure_future(future) is future
    assert aio.ensure_future(future, loop=loop) is future
    task = aio.ensure_future(answer(1))
    assert isinstance(task, asyncio.Task) and await task == 1

    class Awaitable:
        def __await__(self):
            return (yield from answer(2).__await__())

    assert await aio.ensure_future(Awaitable()) == 2
    with pytest.raises(
        TypeError, match="An asyncio.Future, a coroutine or an awaitable is required"
    ):
        aio.ensure_future(3)


def test_ensure_future_of_another_loop(aio, loop, loop_factory):
    other = loop_factory()
    future = loop.create_future()
    with pytest.raises(ValueError, match="The future belongs to a different loop than the one"):
        aio.ensure_future(future, loop=other)
    other.close()
    coroutine = answer(1)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        aio.ensure_future(coroutine, loop=other)
    # Closed, so that nobody is told that it was never awaited.
    with pytest.raises(RuntimeError):
        coroutine.send(None)


@pytest.mark.parametrize("what", ["wait", "as_completed", "shield"])
async def test_no_cycle_is_left(aio, loop, what):
    class Marker:
        pass

    marker = Marker()
    seen = weakref.ref(marker)
    gc.collect()
    gc.disable()
    try:
        children = [loop.create_future() for _ in range(2)]
        for child in children:
            child.marker = marker
        if what == "wait":
            await aio.wait(children, timeout=0)
        elif what == "as_completed":
            try:
                for one in aio.as_completed(children, timeout=0):
                    await one
            except TimeoutError as error:
                error.__traceback__ = None
            one.close()
            del one
        else:
            outer = aio.shield(children[0])
            outer.cancel()
            await turns(2)
            del outer
        await turns(2)
        del marker, children, child
        assert seen() is None
    finally:
        gc.enable()
