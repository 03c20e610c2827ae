"""`run_in_executor`, the default executor and its shutdown."""

import asyncio
import concurrent.futures
import contextvars
import gc
import sys
import threading
import weakref

import pytest

from support.net import turns

has_timeout = sys.version_info >= (3, 12)  # shutdown_default_executor(timeout) came with 3.12


async def test_function_runs_in_another_thread_and_its_result_comes_back(loop):
    def work(left, right):
        return left + right, threading.current_thread()

    result, thread = await loop.run_in_executor(None, work, 20, 22)
    assert result == 42
    assert thread is not threading.current_thread()


async def test_threads_of_the_default_executor_are_named_asyncio(loop):
    name = await loop.run_in_executor(None, lambda: threading.current_thread().name)
    assert name.startswith("asyncio_")


async def test_exception_comes_back_as_it_was_raised(loop):
    error = LookupError("from the thread")

    def fail():
        raise error

    with pytest.raises(LookupError) as caught:
        await loop.run_in_executor(None, fail)
    assert caught.value is error


async def test_loop_goes_on_while_a_thread_works(loop):
    release = threading.Event()
    work = loop.run_in_executor(None, release.wait, 10)
    ran = []
    loop.call_soon(ran.append, 1)
    await turns(2)
    assert ran == [1]
    assert not work.done()
    release.set()
    assert await work is True


async def test_result_is_a_future_of_the_loop(loop):
    future = loop.run_in_executor(None, int, "7")
    assert asyncio.isfuture(future)
    assert future.get_loop() is loop
    assert await future == 7


async def test_own_executor_is_used(loop):
    with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="own") as executor:
        name = await loop.run_in_executor(executor, lambda: threading.current_thread().name)
    assert name.startswith("own")


async def test_default_executor_can_be_replaced(loop):
    executor = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="replaced")
    loop.set_default_executor(executor)
    name = await loop.run_in_executor(None, lambda: threading.current_thread().name)
    assert name.startswith("replaced")


@pytest.mark.parametrize("bad", [None, object(), concurrent.futures.Executor()])
def test_default_executor_must_be_a_thread_pool(loop, bad):
    with pytest.raises(TypeError, match="^executor must be ThreadPoolExecutor instance$"):
        loop.set_default_executor(bad)


async def test_many_calls_all_come_back(loop):
    results = await asyncio.gather(
        *(loop.run_in_executor(None, lambda n: n * n, number) for number in range(200))
    )
    assert results == [number * number for number in range(200)]


async def test_cancelled_wait_lets_the_thread_finish(loop):
    started, release, finished = threading.Event(), threading.Event(), threading.Event()

    def work():
        started.set()
        release.wait(10)
        finished.set()

    future = loop.run_in_executor(None, work)
    assert started.wait(10)
    future.cancel()
    with pytest.raises(asyncio.CancelledError):
        await future
    release.set()
    assert finished.wait(10)


async def test_work_cancelled_before_a_thread_took_it_never_runs(loop):
    ran = []
    release = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        blocker = loop.run_in_executor(executor, release.wait, 10)
        queued = loop.run_in_executor(executor, ran.append, 1)
        queued.cancel()
        await turns(1)  # the cancellation reaches the executor by a callback
        release.set()
        await blocker
        with pytest.raises(asyncio.CancelledError):
            await queued
    assert ran == []


async def test_shutdown_waits_for_the_work(loop):
    finished = []
    release = threading.Event()

    def work():
        release.wait(10)
        finished.append(1)

    future = loop.run_in_executor(None, work)
    shutdown = loop.create_task(loop.shutdown_default_executor())
    await turns(2)
    assert not shutdown.done()
    release.set()
    await shutdown
    assert finished == [1]
    await future


async def test_default_executor_refuses_after_its_shutdown(loop):
    await loop.run_in_executor(None, int)
    await loop.shutdown_default_executor()
    with pytest.raises(RuntimeError, match="^Executor shutdown has been called$"):
        loop.run_in_executor(None, int)
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        assert await loop.run_in_executor(executor, int) == 0


async def test_shutdown_without_an_executor_and_twice_is_harmless(loop):
    await loop.shutdown_default_executor()
    await loop.shutdown_default_executor()


# 3.12's early releases wait for the work itself before they look at the time.
@pytest.mark.asyncio_lacks(
    when=(3, 12) <= sys.version_info < (3, 13), reason="asyncio 3.12 waits beyond the timeout"
)
@pytest.mark.skipif(not has_timeout, reason="the argument came with 3.12")
async def test_shutdown_gives_up_after_its_timeout(loop, audit):
    release = threading.Event()
    future = loop.run_in_executor(None, release.wait, 10)
    await loop.shutdown_default_executor(timeout=0.01)
    audit.take_warning(RuntimeWarning, r"did not finishing joining its threads within 0\.01 sec")
    release.set()
    await future


def test_close_does_not_wait_for_the_work(loop, audit):
    release = threading.Event()
    started = threading.Event()

    async def main():
        loop.run_in_executor(None, lambda: (started.set(), release.wait(10)))
        while not started.is_set():
            await asyncio.sleep(0)

    loop.run_until_complete(main())
    loop.close()
    assert not release.is_set()
    release.set()


async def test_closed_loop_refuses(loop, loop_factory):
    other = loop_factory()
    other.close()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        other.run_in_executor(None, int)


async def test_coroutine_function_is_refused_in_debug_mode(loop):
    async def coroutine():
        pass

    loop.set_debug(True)
    with pytest.raises(TypeError, match=r"^coroutines cannot be used with run_in_executor\(\)$"):
        loop.run_in_executor(None, coroutine)


async def test_context_stays_behind_but_goes_along_with_to_thread(loop):
    variable = contextvars.ContextVar("variable", default="default")
    variable.set("caller's")
    assert await loop.run_in_executor(None, variable.get) == "default"
    assert await asyncio.to_thread(variable.get) == "caller's"


async def test_arguments_and_result_are_released(loop):
    class Token:
        pass

    token = Token()
    alive = weakref.ref(token)
    assert await loop.run_in_executor(None, lambda t: None, token) is None
    del token
    # A worker forgets its last piece of work when it takes the next.
    await loop.run_in_executor(None, int)
    gc.collect()
    assert alive() is None
