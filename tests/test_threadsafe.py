"""`call_soon_threadsafe` and what asyncio builds on it: entry into a loop from other threads."""

import asyncio
import concurrent.futures
import contextvars
import sys
import threading

import pytest

from support.threads import wait_until_polling


class RunningLoop:
    """Runs a loop in a thread of its own for the length of a `with` block."""

    def __init__(self, loop):
        self.loop = loop
        self.thread = threading.Thread(target=loop.run_forever)

    def __enter__(self):
        entered = threading.Event()
        self.loop.call_soon(entered.set)
        self.thread.start()
        assert entered.wait(15)
        return self

    def __exit__(self, *exc_info):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        assert not self.thread.is_alive()


@pytest.mark.real_driver("looks for the loop in the kernel's poll")
def test_sleeping_loop_wakes_for_every_call(loop):
    with (running := RunningLoop(loop)):
        for number in range(100):
            ran = threading.Event()
            wait_until_polling(running.thread.native_id)
            loop.call_soon_threadsafe(ran.set)
            assert ran.wait(15), f"call {number} did not wake the loop"


def test_callback_runs_in_the_thread_of_the_loop(loop):
    threads = []
    with RunningLoop(loop) as running:
        loop.call_soon_threadsafe(lambda: threads.append(threading.current_thread()))
    assert threads == [running.thread]


def test_calls_of_many_threads_all_run_and_keep_each_threads_order(loop):
    ran = []
    barrier = threading.Barrier(4)

    def enter(name):
        barrier.wait(15)
        for number in range(1000):
            loop.call_soon_threadsafe(ran.append, (name, number))

    with RunningLoop(loop):
        threads = [threading.Thread(target=enter, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert len(ran) == 4000
    for name in range(4):
        assert [number for who, number in ran if who == name] == list(range(1000))


def test_calls_made_while_the_loop_rests_run_when_it_is_entered(loop):
    ran = []
    thread = threading.Thread(
        target=lambda: [loop.call_soon_threadsafe(ran.append, n) for n in range(10)]
    )
    thread.start()
    thread.join(5)
    assert ran == []
    loop.call_soon(loop.call_soon, loop.stop)
    loop.run_forever()
    assert ran == list(range(10))


def test_result_is_a_handle_that_can_be_cancelled_before_it_runs(loop):
    ran = []
    handle = loop.call_soon_threadsafe(ran.append, "never")
    handle.cancel()
    assert handle.cancelled()
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == []


def test_handle_can_be_cancelled_from_the_thread_that_made_it(loop):
    ran = []
    held = threading.Event()
    release = threading.Event()
    with RunningLoop(loop):
        loop.call_soon_threadsafe(lambda: (held.set(), release.wait(15)))
        assert held.wait(15)
        # The loop is inside the callback above, so this one cannot have begun.
        handle = loop.call_soon_threadsafe(ran.append, "never")
        handle.cancel()
        release.set()
    assert ran == []


@pytest.mark.skipif(sys.version_info < (3, 14), reason="handles wait for callbacks from 3.14 on")
@pytest.mark.parametrize("method", ["cancel", "cancelled"])
def test_handle_answers_another_thread_when_its_callback_has_returned(loop, method):
    begun = threading.Event()
    answered = threading.Event()
    too_early = []

    def callback():
        begun.set()
        # The wait is over at once if the other thread gets its answer too early.
        too_early.append(answered.wait(0.05))

    with RunningLoop(loop):
        handle = loop.call_soon_threadsafe(callback)
        assert begun.wait(15)
        getattr(handle, method)()
        answered.set()
    assert too_early == [False]


@pytest.mark.skipif(sys.version_info < (3, 14), reason="handles wait for callbacks from 3.14 on")
def test_handle_answers_its_own_callback_at_once(loop):
    seen = []

    def callback():
        seen.append((handle.cancelled(), handle.cancel()))
        loop.stop()

    handle = loop.call_soon_threadsafe(callback)
    loop.run_forever()
    assert seen == [(False, None)]


def test_arguments_and_context_arrive(loop):
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []
    context = contextvars.copy_context()
    context.run(variable.set, "given")

    def callback(*args):
        seen.append((args, variable.get()))

    variable.set("caller's")
    loop.call_soon_threadsafe(callback, 1, 2, 3)
    loop.call_soon_threadsafe(callback, context=context)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == [((1, 2, 3), "caller's"), ((), "given")]


def test_closed_loop_refuses(loop):
    loop.close()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        loop.call_soon_threadsafe(print)


def test_close_while_other_threads_call_is_refusal_or_nothing(loop_factory):
    for _ in range(20):
        loop = loop_factory()
        refusals = []
        barrier = threading.Barrier(3)

        def enter(loop=loop, refusals=refusals, barrier=barrier):
            barrier.wait(15)
            try:
                while True:
                    loop.call_soon_threadsafe(print, "a closed loop must not run this")
            except RuntimeError as error:
                refusals.append(str(error))

        threads = [threading.Thread(target=enter) for _ in range(2)]
        for thread in threads:
            thread.start()
        barrier.wait(15)
        loop.close()
        for thread in threads:
            thread.join(5)
            assert not thread.is_alive()
        assert refusals == ["Event loop is closed"] * 2


def test_raising_callback_is_reported_and_the_loop_goes_on(loop, faults):
    ran = []
    loop.call_soon_threadsafe(lambda: 1 / 0)
    loop.call_soon_threadsafe(ran.append, "next")
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == ["next"]
    assert [type(context["exception"]) for context in faults] == [ZeroDivisionError]


@pytest.mark.real_driver("looks for the loop in the kernel's poll")
def test_stop_from_another_thread_ends_a_sleeping_run(loop):
    with RunningLoop(loop) as running:
        wait_until_polling(running.thread.native_id)
    assert not loop.is_running()


def test_run_coroutine_threadsafe_gives_result_exception_and_cancellation(loop):
    cancelled = threading.Event()

    async def double(value):
        await asyncio.sleep(0)
        return value * 2

    async def fail():
        raise LookupError("far away")

    async def wait_forever():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with RunningLoop(loop):
        assert asyncio.run_coroutine_threadsafe(double(21), loop).result(5) == 42
        with pytest.raises(LookupError, match="far away"):
            asyncio.run_coroutine_threadsafe(fail(), loop).result(5)
        begun = asyncio.run_coroutine_threadsafe(wait_forever(), loop)
        # A round trip through the loop: the task above has taken its first step by then.
        assert asyncio.run_coroutine_threadsafe(double(1), loop).result(5) == 2
        begun.cancel()
        assert cancelled.wait(15)
        with pytest.raises(concurrent.futures.CancelledError):
            begun.result(5)


async def test_future_set_through_the_loop_wakes_the_task(loop):
    for number in range(50):
        future = loop.create_future()
        thread = threading.Thread(
            target=loop.call_soon_threadsafe, args=(future.set_result, number)
        )
        thread.start()
        assert await future == number
        thread.join(5)
