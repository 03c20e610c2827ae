"""`gather`: order, outcomes, cancellation, odd arguments, and what is left behind."""

import asyncio
import gc
import sys
import weakref

import pytest

from support.net import turns


async def answer(value):
    await asyncio.sleep(0)
    return value


async def fail(error):
    await asyncio.sleep(0)
    raise error


async def test_results_are_in_the_order_of_the_arguments(aio, loop):
    futures = [loop.create_future() for _ in range(3)]
    outer = aio.gather(*futures)
    for future in reversed(futures):
        future.set_result(futures.index(future))
    assert await outer == [0, 1, 2]


async def test_it_is_a_future_of_the_loop(aio, loop):
    outer = aio.gather(answer(1))
    assert asyncio.isfuture(outer) and isinstance(outer, asyncio.Future)
    assert outer.get_loop() is loop
    assert not outer.done()
    assert await outer == [1]


async def test_of_nothing_is_done_at_once(aio, loop):
    outer = aio.gather()
    assert outer.done()
    assert await outer == []


async def test_one_argument_given_twice_is_one_child(aio, loop):
    starts = []

    async def start():
        starts.append(1)
        return len(starts)

    coroutine = start()
    future = loop.create_future()
    future.set_result("done")
    assert await aio.gather(coroutine, future, coroutine, future) == [1, "done", 1, "done"]


async def test_equal_awaitables_are_one_child(aio, loop):
    class Equal:
        def __init__(self, value):
            self.value = value

        def __eq__(self, other):
            return isinstance(other, Equal)

        def __hash__(self):
            return 1

        def __await__(self):
            yield from answer(self.value).__await__()
            return self.value

    assert await aio.gather(Equal("a"), Equal("b")) == ["a", "a"]


async def test_what_cannot_be_hashed_is_refused(aio, loop):
    class Unhashable:
        __hash__ = None

        def __await__(self):
            yield

    with pytest.raises(TypeError, match="unhashable"):
        aio.gather(Unhashable(), Unhashable())


async def test_what_cannot_be_awaited_is_refused_and_the_others_run_on(aio, loop):
    ran = []

    async def run():
        ran.append(1)
        raise ValueError("seen by nobody")

    with pytest.raises(
        TypeError, match="An asyncio.Future, a coroutine or an awaitable is required"
    ):
        aio.gather(run(), 3)
    await turns(3)
    assert ran == [1]


async def test_future_of_another_loop_is_refused(aio, loop, loop_factory):
    other = loop_factory()
    foreign = other.create_future()
    mine = loop.create_future()
    try:
        with pytest.raises(ValueError, match="The future belongs to a different loop"):
            aio.gather(mine, foreign)
    finally:
        mine.cancel()
        foreign.cancel()
        other.close()


async def test_first_exception_comes_at_once_and_the_others_run_on(aio, loop):
    last = loop.create_future()
    error = ValueError("first")
    with pytest.raises(ValueError) as caught:
        await aio.gather(last, fail(error), answer(1))
    assert caught.value is error
    assert not last.done()
    last.set_exception(ValueError("seen by nobody"))
    await turns(2)


async def test_exceptions_as_results(aio, loop):
    cancelled, silent = loop.create_future(), loop.create_future()
    cancelled.cancel("why")
    silent.cancel()
    error = ValueError()
    results = await aio.gather(answer(1), fail(error), cancelled, silent, return_exceptions=True)
    assert results[:2] == [1, error]
    assert [type(result) for result in results[2:]] == [asyncio.CancelledError] * 2
    assert [result.args for result in results[2:]] == [("why",), ("",)]


async def test_cancelled_child_raises_cancelled_error_but_cancels_nobody(aio, loop):
    child, other = loop.create_future(), loop.create_future()
    outer = aio.gather(child, other)
    child.cancel("child")
    with pytest.raises(asyncio.CancelledError):
        await outer
    assert not outer.cancelled() and not other.done()
    assert isinstance(outer.exception(), asyncio.CancelledError)
    other.cancel()


@pytest.mark.parametrize("return_exceptions", [False, True])
async def test_cancelling_it_cancels_the_children_and_ends_with_them(aio, loop, return_exceptions):
    log = []

    async def child(name):
        try:
            await loop.create_future()
        except asyncio.CancelledError as error:
            log.append((name, error.args))
            await asyncio.sleep(0)
            raise

    outer = aio.gather(child("a"), child("b"), return_exceptions=return_exceptions)
    await turns(2)
    assert outer.cancel("enough")
    assert not outer.done()
    with pytest.raises(asyncio.CancelledError):
        await outer
    assert log == [("a", ("enough",)), ("b", ("enough",))]
    assert not outer.cancel()


async def test_cancelling_who_awaits_it_cancels_the_children(aio, loop):
    future = loop.create_future()

    async def wait():
        await aio.gather(future, answer(1))

    task = loop.create_task(wait())
    await turns(3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert future.cancelled()


async def test_children_that_refuse_the_cancellation_leave_a_cancelled_gather(aio, loop):
    async def stubborn():
        try:
            await loop.create_future()
        except asyncio.CancelledError:
            return "no"

    outer = aio.gather(stubborn(), return_exceptions=True)
    await turns(2)
    outer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await outer


async def test_foreign_futures_are_children_like_others(aio, loop):
    foreign = asyncio.futures._PyFuture(loop=loop)
    ours = loop.create_future()
    outer = aio.gather(foreign, ours)
    loop.call_soon(ours.set_result, 2)
    loop.call_soon(foreign.set_result, 1)
    assert await outer == [1, 2]

    foreign = asyncio.futures._PyFuture(loop=loop)
    outer = aio.gather(foreign, return_exceptions=True)
    outer.cancel("msg")
    assert foreign.cancelled()
    with pytest.raises(asyncio.CancelledError):
        await outer


async def test_private_names_that_programs_use(aio, loop):
    future = loop.create_future()
    outer = aio.gather(future, future)
    assert list(outer._children) == [future, future]
    assert outer._cancel_requested is False
    outer.cancel()
    assert outer._cancel_requested is True
    with pytest.raises(asyncio.CancelledError):
        await outer


async def test_only_known_keywords(aio, loop):
    with pytest.raises(TypeError, match="loop"):
        aio.gather(loop=None)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks start eagerly from 3.12 on")
async def test_eager_children_end_it_at_once(aio, loop):
    loop.set_task_factory(asyncio.eager_task_factory)

    async def now(value):
        return value

    outer = aio.gather(now(1), now(2))
    assert outer.done()
    assert await outer == [1, 2]


@pytest.mark.parametrize("how", ["result", "exception", "cancel"])
async def test_no_cycle_is_left(aio, loop, how):
    class Marker:
        pass

    marker = Marker()
    seen = weakref.ref(marker)
    gc.collect()
    gc.disable()
    try:
        children = [loop.create_future() for _ in range(3)]
        outer = aio.gather(*children)
        if how == "result":
            for child in children:
                child.set_result(marker)
            await outer
        elif how == "exception":
            error = ValueError()
            error.marker = marker
            children[0].set_exception(error)
            for child in children[1:]:
                child.set_result(None)
            try:
                await outer
            except ValueError as caught:
                # The frame of this coroutine is in the traceback, and refers to the error.
                caught.__traceback__ = None
            del error
        else:
            outer.cancel()
            for child in children:
                child.marker = marker
            try:
                await outer
            except asyncio.CancelledError as caught:
                caught.__traceback__ = None
        await turns(2)
        del marker, children, outer, child
        assert seen() is None
    finally:
        gc.enable()
