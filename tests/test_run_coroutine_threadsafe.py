"""`run_coroutine_threadsafe`: outcomes, cancellation both ways, contexts, and threads that hammer it."""

import asyncio
import concurrent.futures
import contextvars
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

Submit = Callable[..., "concurrent.futures.Future[Any]"]


@pytest.fixture
def submit(loop_name: str) -> Submit:
    """asyncio's function on asyncio's loop, antiphon's on its own, whatever is installed."""
    if loop_name == "antiphon":
        from antiphon.threads import run_coroutine_threadsafe

        return run_coroutine_threadsafe
    return asyncio.run_coroutine_threadsafe


async def answer(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


async def beside(loop: asyncio.AbstractEventLoop, body: Callable[[], Any]) -> Any:
    """Runs `body` in a thread, while the loop goes on."""
    return await loop.run_in_executor(None, body)


async def test_result_and_exception_arrive_in_the_thread(loop, submit):
    error = LookupError("far away")

    async def fail() -> None:
        raise error

    def body() -> None:
        assert submit(answer(42), loop).result(10) == 42
        failed = submit(fail(), loop)
        assert failed.exception(10) is error
        assert failed.done() and not failed.cancelled()

    await beside(loop, body)


@pytest.mark.parametrize("name", ["CancelledError", "InvalidStateError"])
async def test_exceptions_that_have_two_classes_become_asyncios(loop, submit, name):
    async def fail() -> None:
        raise getattr(concurrent.futures, name)("words")

    def body() -> None:
        error = submit(fail(), loop).exception(10)
        assert type(error) is getattr(asyncio, name) and error.args == ("words",)

    await beside(loop, body)


async def test_cancelling_the_future_cancels_the_task(loop, submit):
    begun, cancelled = threading.Event(), threading.Event()

    async def wait() -> None:
        begun.set()
        try:
            await loop.create_future()
        finally:
            cancelled.set()

    def body() -> None:
        future = submit(wait(), loop)
        assert begun.wait(10) and future.cancel()
        assert cancelled.wait(10)
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(10)

    await beside(loop, body)


async def test_cancelling_the_task_cancels_the_future(loop, submit):
    async def give_up() -> None:
        asyncio.current_task().cancel()
        await loop.create_future()

    def body() -> None:
        future = submit(give_up(), loop)
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(10)
        assert future.cancelled()

    await beside(loop, body)


async def test_a_future_that_is_cancelled_before_the_loop_takes_the_coroutine(loop, submit):
    ran = []

    async def note() -> None:
        ran.append(1)
        await loop.create_future()

    future = submit(note(), loop)
    assert future.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert future.cancelled()
    # It may have had its first step, or none where the cancellation needs no turn of its own.
    assert ran in ([], [1])
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_context_is_the_callers(loop, submit):
    variable = contextvars.ContextVar("variable", default="loop's")

    async def look() -> list[str]:
        seen = [variable.get()]
        variable.set("task's")
        return seen

    def body() -> None:
        variable.set("thread's")
        assert submit(look(), loop).result(10) == ["thread's"]
        assert variable.get() == "thread's"

    await beside(loop, body)
    assert variable.get() == "loop's"


async def test_a_task_factory_that_fails_is_reported_to_both(loop, submit, faults):
    error = LookupError("no tasks today")

    def factory(loop: Any, coro: Any, **keywords: Any) -> Any:
        coro.close()
        raise error

    loop.set_task_factory(factory)

    def body() -> None:
        assert submit(answer(1), loop).exception(10) is error

    waiting = loop.run_in_executor(None, body)
    await waiting
    loop.set_task_factory(None)
    assert [context["exception"] for context in faults] == [error]


@pytest.mark.parametrize(
    "bad", [None, 1, answer, "text"], ids=["None", "number", "function", "text"]
)
def test_what_is_no_coroutine_is_refused(loop, submit, bad):
    with pytest.raises(TypeError, match="^A coroutine object is required$"):
        submit(bad, loop)


def test_a_closed_loop_refuses(loop, submit):
    loop.close()
    coroutine = answer(1)
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        submit(coroutine, loop)
    coroutine.close()


async def test_threads_that_hammer_it_get_their_own_answers(loop, submit):
    interval = sys.getswitchinterval()
    threads, rounds = 4, 300
    start = threading.Barrier(threads)

    async def work(value: int) -> int:
        await asyncio.sleep(0)
        if value % 3 == 1:
            raise ValueError(value)
        if value % 3 == 2:
            await loop.create_future()
        return value

    def body(number: int) -> list[Any]:
        start.wait(10)
        futures = [submit(work(number * rounds + place), loop) for place in range(rounds)]
        for future in futures[2::3]:
            future.cancel()
        return [
            "cancelled" if future.cancelled() else future.exception(10) or future.result(10)
            for future in futures
        ]

    sys.setswitchinterval(1e-6)
    try:
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            bodies = [loop.run_in_executor(pool, body, number) for number in range(threads)]
            answers = await asyncio.gather(*bodies)
    finally:
        sys.setswitchinterval(interval)
    for number, part in enumerate(answers):
        for place, got in enumerate(part):
            value = number * rounds + place
            if value % 3 == 0:
                assert got == value
            elif value % 3 == 1:
                assert type(got) is ValueError and got.args == (value,)
            else:
                assert got == "cancelled"
    for _ in range(3):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
