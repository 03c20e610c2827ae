"""Bad input to tasks, futures and what is built on them: asyncio's own exceptions and words.

The paragraph "Bad input" of the specification of tasks, sentence by sentence, but for what stands with the tests of one
class alone: queues that were shut down (`test_queues`), callbacks that raise (`test_faults`).
"""

import asyncio
import contextlib
import gc
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest


@types.coroutine
def yielding(what: Any) -> Any:
    """Gives `what` to the task that awaits this, as no well-behaved awaitable does."""
    return (yield what)


def generator() -> Any:
    yield


async def answer(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


async def fail_with(error: BaseException) -> None:
    await asyncio.sleep(0)
    raise error


# Awaiting twice.


async def test_awaiting_a_coroutine_twice(aio, loop):
    for make in (lambda: answer(1), lambda: aio.wait([loop.create_task(answer(1))])):
        coroutine = make()
        await coroutine
        with pytest.raises(RuntimeError, match="^cannot reuse already awaited coroutine$"):
            await coroutine
        with pytest.raises(RuntimeError, match="^cannot reuse already awaited coroutine$"):
            await loop.create_task(coroutine)


@pytest.mark.parametrize("name", ["Lock.acquire", "Event.wait", "Queue.get", "Semaphore.acquire"])
async def test_awaiting_the_call_of_a_method_twice(aio, loop, name):
    kind, method = name.split(".")
    made = getattr(aio, kind)()
    coroutine = getattr(made, method)()
    if kind == "Event":
        made.set()
    elif kind == "Queue":
        made.put_nowait(1)
    await coroutine
    with pytest.raises(RuntimeError, match="^cannot reuse already awaited coroutine$"):
        await coroutine


async def test_awaiting_a_coroutine_that_a_task_runs(loop):
    coroutine = answer(1)
    task = loop.create_task(coroutine)
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="^coroutine is being awaited already$"):
        await coroutine
    assert await task == 1


async def test_a_task_and_a_future_can_be_awaited_again(loop):
    task = loop.create_task(answer(1))
    assert [await task, await task] == [1, 1]
    error = ValueError()
    failed = loop.create_task(fail_with(error))
    for _ in range(2):
        with pytest.raises(ValueError) as caught:
            await failed
        assert caught.value is error


async def test_a_task_that_awaits_itself(loop):
    async def wait() -> None:
        await task

    task = loop.create_task(wait())
    with pytest.raises(RuntimeError, match="^Task cannot await on itself: <Task pending"):
        await task


# A task or future of another loop.


def other_loops(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> Any:
    loop = loop_factory()
    return loop, loop.create_future()


async def test_awaiting_a_future_of_another_loop(loop, loop_factory):
    other, foreign = other_loops(loop_factory)

    async def wait() -> None:
        await foreign

    with pytest.raises(
        RuntimeError,
        match="^Task <Task pending .*> got Future <Future pending> attached to a different loop$",
    ):
        await loop.create_task(wait())
    other.close()


async def test_futures_of_another_loop_in_what_waits_for_several(aio, loop, loop_factory):
    other, foreign = other_loops(loop_factory)
    words = "^The future belongs to a different loop than the one specified as the loop argument$"
    with pytest.raises(ValueError, match=words):
        aio.gather(loop.create_future(), foreign)
    with pytest.raises(ValueError, match=words):
        aio.ensure_future(foreign, loop=loop)
    with pytest.raises(RuntimeError, match="attached to a different loop$"):
        await loop.create_task(aio.wait_for(foreign, None))
    other.close()


@pytest.mark.parametrize("name", ["Lock", "Event", "Condition", "Semaphore", "Barrier", "Queue"])
async def test_a_lock_or_queue_that_waited_in_another_loop(aio, loop, loop_factory, name):
    made = {"Semaphore": lambda: aio.Semaphore(0), "Barrier": lambda: aio.Barrier(2)}.get(
        name, lambda: getattr(aio, name)()
    )()

    async def block() -> None:
        if name == "Lock":
            if not made.locked():
                await made.acquire()
            await made.acquire()
        elif name == "Condition":
            async with made:
                await made.wait()
        elif name == "Semaphore":
            await made.acquire()
        elif name == "Queue":
            await made.get()
        else:
            await made.wait()

    def elsewhere() -> None:
        other = loop_factory()
        task = other.create_task(block())
        other.call_soon(other.call_soon, other.call_soon, other.stop)
        other.run_forever()
        task.cancel()
        other.run_until_complete(asyncio.gather(task, return_exceptions=True))
        other.close()

    await loop.run_in_executor(None, elsewhere)
    with pytest.raises(RuntimeError, match="is bound to a different event loop$"):
        await asyncio.wait_for(loop.create_task(block()), 5)


# A generator is no coroutine.


refused = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="asyncio takes generators for coroutines until 3.11"
)


@refused
@pytest.mark.parametrize("make", ["create_task", "Task"])
async def test_a_generator_for_a_task(loop, make):
    maker = loop.create_task if make == "create_task" else asyncio.Task
    for made in (generator(), yielding(None)):
        with pytest.raises(TypeError, match="^a coroutine was expected, got <generator object"):
            maker(made)


@refused
async def test_a_generator_where_anything_awaitable_would_do(aio, loop):
    for call in (aio.ensure_future, aio.gather, aio.shield):
        with pytest.raises(
            TypeError, match="^An asyncio.Future, a coroutine or an awaitable is required"
        ):
            call(generator())
    with pytest.raises(TypeError, match="^A coroutine object is required$"):
        asyncio.run_coroutine_threadsafe(generator(), loop)
    assert await aio.ensure_future(yielding(None)) is None  # marked as awaitable


@refused
@pytest.mark.loops("antiphon")  # asyncio leaves it at the refusal
async def test_a_generator_is_told_what_replaced_it(aio, loop):
    for call in (loop.create_task, aio.ensure_future):
        with pytest.raises(TypeError) as caught:
            call(generator())
        assert "'async def'" in caught.value.__notes__[0]
        with pytest.raises(TypeError) as caught:
            call("no generator")
        assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize("bad", [None, 1, "text", asyncio.sleep, object, []], ids=repr)
async def test_what_is_no_coroutine_at_all(aio, loop, bad):
    with pytest.raises(TypeError, match="^a coroutine was expected, got "):
        loop.create_task(bad)
    with pytest.raises(TypeError, match="an awaitable is required$"):
        aio.ensure_future(bad)


# A coroutine that yields a foreign object.


@pytest.mark.parametrize("what", [1, "text", object(), [], Exception("yielded")], ids=repr)
async def test_yielding_a_foreign_object(loop, what):
    async def body() -> str:
        with pytest.raises(RuntimeError, match="^Task got bad yield: ") as caught:
            await yielding(what)
        return str(caught.value)

    assert await loop.create_task(body()) == f"Task got bad yield: {what!r}"


async def test_yielding_a_future_or_generator_without_from(loop):
    async def body(what: Any, words: str) -> None:
        with pytest.raises(RuntimeError, match=words):
            await yielding(what)

    future, made = loop.create_future(), generator()
    await loop.create_task(body(future, "^yield was used instead of yield from in task <Task "))
    await loop.create_task(
        body(made, "^yield was used instead of yield from for generator in task")
    )
    future.cancel()


# Limits.


async def test_negative_and_other_odd_limits(aio, loop):
    with pytest.raises(ValueError, match="^Semaphore initial value must be >= 0$"):
        aio.Semaphore(-1)
    with pytest.raises(ValueError, match="^Semaphore initial value must be >= 0$"):
        aio.BoundedSemaphore(-1)
    for parties in (0, -1):
        with pytest.raises(ValueError, match="^parties must be >"):
            aio.Barrier(parties)
    assert not aio.Queue(-1).full()
    with pytest.raises(TypeError):
        aio.Semaphore("many")
    with pytest.raises(ValueError, match="^Limit cannot be <= 0$"):
        asyncio.StreamReader(limit=0)
    semaphore = aio.BoundedSemaphore(1)
    with pytest.raises(ValueError, match="^BoundedSemaphore released too many times$"):
        semaphore.release()
    with pytest.raises(ValueError, match="^task_done\\(\\) called too many times$"):
        aio.Queue().task_done()
    with pytest.raises(RuntimeError, match="^Lock is not acquired\\.$"):
        aio.Lock().release()


@pytest.mark.parametrize("delay", [-1, float("-inf"), 0])
async def test_negative_delays_are_none(aio, loop, delay):
    assert await asyncio.sleep(delay, "at once") == "at once"
    with pytest.raises(TimeoutError):
        await aio.wait_for(loop.create_future(), delay)
    with pytest.raises(TimeoutError):
        async with aio.timeout(delay):
            await loop.create_future()


# Recursion.


async def test_recursion_in_a_task_is_its_own(loop):
    async def deeper() -> None:
        await deeper()

    with pytest.raises(RecursionError):
        await loop.create_task(deeper())
    assert await loop.create_task(answer(1)) == 1


async def test_cancelling_through_a_long_chain_of_tasks(loop):
    async def wait(task: Any) -> None:
        await task

    task: Any = loop.create_future()
    chain = [task]
    for _ in range(sys.getrecursionlimit() * 2):
        chain.append(loop.create_task(wait(chain[-1])))
    await asyncio.sleep(0)
    with contextlib.suppress(RecursionError):  # how much is too much differs between releases
        chain[-1].cancel()
    task.cancel()
    ended = await asyncio.gather(*chain, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ended)


# Exceptions of every kind.


class Grave(BaseException):
    """Neither an `Exception` nor one that ends a program."""


@pytest.mark.parametrize("kind", [ValueError, Grave, GeneratorExit, StopAsyncIteration, OSError])
async def test_an_exception_of_a_task_reaches_who_awaits_it(aio, loop, kind):
    error = kind("words")
    for wait in (lambda task: task, lambda task: aio.gather(task), lambda task: aio.shield(task)):
        task = loop.create_task(fail_with(error))
        with pytest.raises(kind) as caught:
            await wait(task)
        assert caught.value is error and task.exception() is error


async def test_stop_iteration_in_a_task(loop):
    with pytest.raises(RuntimeError, match="^coroutine raised StopIteration$") as caught:
        await loop.create_task(fail_with(StopIteration("value")))
    assert isinstance(caught.value.__cause__, StopIteration)


async def test_stop_iteration_for_a_future(loop):
    future = loop.create_future()
    probe = asyncio.futures._PyFuture(loop=loop)
    try:
        probe.set_exception(StopIteration())
        probe.exception()
    except TypeError:  # as up to some release of 3.12
        with pytest.raises(TypeError, match="^StopIteration interacts badly with generators"):
            future.set_exception(StopIteration())
        future.cancel()
        return
    future.set_exception(StopIteration("value"))
    with pytest.raises(RuntimeError, match="^StopIteration interacts badly with generators"):
        await future


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_a_program_leaves_the_run_and_is_the_tasks_exception(aio, loop, kind):
    error = kind("words")

    async def main() -> None:
        await task

    async def leave() -> None:
        raise error

    task = loop.create_task(leave())
    with pytest.raises(kind) as caught:
        loop.run_until_complete(main())
    assert caught.value is error and task.exception() is error
    [waiting] = asyncio.all_tasks(loop)
    with pytest.raises(kind):
        loop.run_until_complete(waiting)
    assert loop.run_until_complete(answer("goes on")) == "goes on"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_a_program_inside_a_group_is_raised_alone(aio, loop, kind):
    error = kind("words")

    async def leave() -> None:
        raise error

    async def main() -> None:
        async with aio.TaskGroup() as group:
            group.create_task(leave())
            group.create_task(fail_with(ValueError()))
            await loop.create_future()

    task = loop.create_task(main())
    with pytest.raises(kind):
        loop.run_until_complete(task)
    with pytest.raises(kind) as caught:
        loop.run_until_complete(task)
    assert caught.value is error


@pytest.mark.parametrize("bad", [None, 1, "text", object])
async def test_setting_what_is_no_exception(loop, bad):
    future = loop.create_future()
    with pytest.raises(TypeError):
        future.set_exception(bad)
    assert not future.done()
    future.set_result(1)
    with pytest.raises(asyncio.InvalidStateError):
        future.set_result(2)
    with pytest.raises(asyncio.InvalidStateError):
        future.set_exception(ValueError())


# Callbacks and finalizers that raise.


async def test_a_callback_that_raises_keeps_nobody_from_hearing(loop, faults):
    heard = []
    future = loop.create_future()
    future.add_done_callback(heard.append)
    future.add_done_callback(lambda _: 1 / 0)
    future.add_done_callback(heard.append)
    future.set_result(None)
    assert await future is None
    await asyncio.sleep(0)
    assert heard == [future, future]
    assert [type(context["exception"]) for context in faults] == [ZeroDivisionError]


class Raising:
    """Its finalizer raises."""

    def __del__(self) -> None:
        raise ZeroDivisionError("of the finalizer")


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collects what finalizers raise."""
    raised: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: raised.append(args.exc_type))
    return raised


async def test_a_finalizer_that_raises_at_every_place_where_something_is_dropped(
    aio, loop, unraisable
):
    future = loop.create_future()
    future.set_result(Raising())
    del future
    future = loop.create_future()
    future.add_done_callback(lambda _, kept=Raising(): None)  # noqa: B008
    future.cancel()
    await asyncio.sleep(0)
    del future

    async def local() -> Raising:
        kept = Raising()
        await asyncio.sleep(0)
        return kept

    await loop.create_task(local())
    queue = aio.Queue()
    queue.put_nowait(Raising())
    del queue
    loop.call_soon(lambda _: None, Raising())
    await asyncio.sleep(0)
    await aio.gather(local())
    await asyncio.sleep(0)
    gc.collect()
    assert unraisable == [ZeroDivisionError] * 6
    assert await loop.create_task(answer("goes on")) == "goes on"


async def test_a_task_whose_own_finalizer_raises(loop, unraisable):
    class Finalized(asyncio.Task):
        def __del__(self) -> None:
            raise ZeroDivisionError("of the task")

    task = Finalized(answer(1), loop=loop)
    assert await task == 1
    del task
    await asyncio.sleep(0)
    gc.collect()
    assert unraisable == [ZeroDivisionError]


# From 3.15 on.


@pytest.mark.skipif(sys.version_info < (3, 15), reason="asyncio checks it from 3.15 on")
async def test_what_is_no_context(loop):
    coroutine = answer(1)
    with pytest.raises(TypeError, match=r"^a contextvars\.Context was expected, got str$"):
        loop.create_task(coroutine, context="none")
    coroutine.close()


@pytest.mark.skipif(sys.version_info < (3, 15), reason="asyncio checks it from 3.15 on")
async def test_second_init(loop):
    task, future, other = loop.create_task(answer(1)), loop.create_future(), answer(2)
    with pytest.raises(RuntimeError, match="is already initialized$"):
        task.__init__(other, loop=loop)
    other.close()
    with pytest.raises(RuntimeError, match="is already initialized$"):
        future.__init__(loop=loop)
    assert await task == 1
