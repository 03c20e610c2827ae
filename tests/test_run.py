"""`run_forever`, `run_until_complete`, `stop`, `close`, and who may run a loop where."""

import asyncio
import gc
import sys
import threading
import weakref

import pytest

from support.loops import run_ready

CLOSED = "^Event loop is closed$"

# 3.12 and 3.13 run the clean-up of a run also when entering it was refused: it unsets the running loop of the thread
# and makes the loop that another thread runs look idle (mended in 3.14).
refused_entry_is_harmless = pytest.mark.asyncio_lacks(
    when=(3, 12) <= sys.version_info < (3, 14),
    reason="asyncio 3.12 and 3.13 clean up after a run that never began",
)


async def answer():
    return 42


def test_loop_is_an_asyncio_event_loop(loop):
    assert isinstance(loop, asyncio.AbstractEventLoop)


def test_run_until_complete_gives_the_result(loop):
    assert loop.run_until_complete(answer()) == 42


def test_run_until_complete_raises_what_the_coroutine_raised(loop):
    error = ValueError("from the coroutine")

    async def fail():
        raise error

    with pytest.raises(ValueError) as caught:
        loop.run_until_complete(fail())
    assert caught.value is error


def test_run_until_complete_takes_futures_tasks_and_awaitables(loop):
    class Awaitable:
        def __await__(self):
            yield from asyncio.sleep(0).__await__()
            return "awaited"

    future = loop.create_future()
    loop.call_soon(future.set_result, "future")
    assert loop.run_until_complete(future) == "future"
    assert loop.run_until_complete(future) == "future"
    assert loop.run_until_complete(loop.create_task(answer())) == 42
    assert loop.run_until_complete(Awaitable()) == "awaited"


def test_run_until_complete_refuses_what_cannot_be_awaited(loop):
    with pytest.raises(TypeError):
        loop.run_until_complete(42)
    assert loop.run_until_complete(answer()) == 42


def test_run_until_complete_refuses_the_future_of_another_loop(loop, loop_factory):
    other = loop_factory()
    future = other.create_future()
    with pytest.raises(ValueError, match="different loop"):
        loop.run_until_complete(future)
    other.close()


def test_run_until_complete_raises_cancelled_error(loop):
    future = loop.create_future()
    loop.call_soon(future.cancel)
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(future)


def test_stop_before_completion_is_an_error_and_the_task_can_go_on(loop):
    gate = asyncio.Event()

    async def main():
        await gate.wait()
        return "went on"

    task = loop.create_task(main())
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match=r"^Event loop stopped before Future completed\.$"):
        loop.run_until_complete(task)
    gate.set()
    assert loop.run_until_complete(task) == "went on"


def test_stop_before_the_run_lets_one_turn_happen(loop):
    ran = []
    loop.call_soon(loop.call_soon, ran.append, "second turn")
    loop.call_soon(ran.append, "first turn")
    loop.stop()
    loop.run_forever()
    assert ran == ["first turn"]
    run_ready(loop)
    assert ran == ["first turn", "second turn"]


def test_run_forever_can_be_entered_again_and_again(loop):
    ran = []
    for number in range(100):
        loop.call_soon(ran.append, number)
        run_ready(loop)
    assert ran == list(range(100))


def test_stop_called_twice_in_a_turn_stops_one_run_only(loop):
    loop.call_soon(loop.stop)
    loop.call_soon(loop.stop)
    loop.run_forever()
    ran = []
    loop.call_soon(ran.append, 1)
    loop.call_later(0.002, loop.stop)
    loop.call_later(0.001, ran.append, 2)
    loop.run_forever()
    assert ran == [1, 2]


def test_is_running_and_the_running_loop_hold_inside_callbacks_only(loop):
    seen = []

    def look():
        seen.append((loop.is_running(), asyncio.get_running_loop() is loop))

    assert not loop.is_running()
    loop.call_soon(look)
    run_ready(loop)
    assert seen == [(True, True)]
    assert not loop.is_running()
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()


@refused_entry_is_harmless
def test_entering_a_running_loop_is_refused(loop):
    async def main():
        inner = answer()
        try:
            with pytest.raises(RuntimeError, match="^This event loop is already running$"):
                loop.run_until_complete(inner)
            with pytest.raises(RuntimeError, match="^This event loop is already running$"):
                loop.run_forever()
        finally:
            inner.close()
        assert asyncio.get_running_loop() is loop
        assert loop.is_running()
        return "still running"

    assert loop.run_until_complete(main()) == "still running"


@refused_entry_is_harmless
def test_entering_a_second_loop_in_the_thread_is_refused(loop, loop_factory):
    other = loop_factory()

    async def main():
        inner = answer()
        try:
            with pytest.raises(
                RuntimeError, match="^Cannot run the event loop while another loop is running$"
            ):
                other.run_until_complete(inner)
            with pytest.raises(
                RuntimeError, match="^Cannot run the event loop while another loop is running$"
            ):
                other.run_forever()
        finally:
            inner.close()
        assert asyncio.get_running_loop() is loop

    loop.run_until_complete(main())
    assert other.run_until_complete(answer()) == 42
    other.close()


@refused_entry_is_harmless
def test_entering_a_loop_that_another_thread_runs_is_refused(loop):
    entered = threading.Event()
    thread = threading.Thread(target=loop.run_forever)
    loop.call_soon(entered.set)
    thread.start()
    try:
        assert entered.wait(15)
        assert loop.is_running()
        with pytest.raises(RuntimeError, match="^This event loop is already running$"):
            loop.run_forever()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
    assert not loop.is_running()
    assert loop.run_until_complete(answer()) == 42


def test_loop_made_in_one_thread_runs_in_another_and_then_in_the_first(loop):
    results = []
    thread = threading.Thread(target=lambda: results.append(loop.run_until_complete(answer())))
    thread.start()
    thread.join(5)
    assert results == [42]
    assert loop.run_until_complete(answer()) == 42


def test_two_loops_in_two_threads_pass_a_ball(loop_factory):
    left, right = loop_factory(), loop_factory()
    log = []

    def hit(number):
        log.append((number, threading.current_thread().name))
        here, there = (left, right) if number % 2 == 0 else (right, left)
        if number < 100:
            there.call_soon_threadsafe(hit, number + 1)
        else:
            there.call_soon_threadsafe(there.stop)
            here.stop()

    threads = [
        threading.Thread(target=left.run_forever, name="left"),
        threading.Thread(target=right.run_forever, name="right"),
    ]
    left.call_soon(hit, 0)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert log == [(number, "left" if number % 2 == 0 else "right") for number in range(101)]
    left.close()
    right.close()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_exit_exceptions_leave_the_run_and_the_loop_stays_usable(loop, kind):
    ran = []

    def leave():
        raise kind("out")

    loop.call_soon(leave)
    loop.call_soon(ran.append, "kept for the next run")
    with pytest.raises(kind, match="^out$"):
        loop.run_forever()
    assert not loop.is_running()
    assert ran == []
    run_ready(loop)
    assert ran == ["kept for the next run"]
    assert loop.run_until_complete(answer()) == 42


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_exit_exceptions_of_a_task_leave_the_run(loop, kind):
    async def leave():
        await asyncio.sleep(0)
        raise kind("out")

    with pytest.raises(kind, match="^out$"):
        loop.run_until_complete(leave())
    assert loop.run_until_complete(answer()) == 42


def test_close_says_so_and_may_be_repeated(loop):
    assert not loop.is_closed()
    loop.close()
    loop.close()
    assert loop.is_closed()
    assert not loop.is_running()


def test_close_of_a_running_loop_is_refused(loop):
    async def main():
        with pytest.raises(RuntimeError, match="^Cannot close a running event loop$"):
            loop.close()
        return "still running"

    assert loop.run_until_complete(main()) == "still running"


def test_closed_loop_cannot_run(loop):
    loop.close()
    with pytest.raises(RuntimeError, match=CLOSED):
        loop.run_forever()
    coroutine = answer()
    with pytest.raises(RuntimeError, match=CLOSED):
        loop.run_until_complete(coroutine)
    coroutine.close()


def test_loop_that_was_never_closed_warns_when_it_dies(loop_factory, audit):
    loop = loop_factory()
    alive = weakref.ref(loop)
    del loop
    gc.collect()
    # The recorded warning holds the loop: taken out first.
    audit.take_warning(ResourceWarning, "unclosed event loop")
    gc.collect()
    assert alive() is None


def test_loop_with_work_in_it_is_collected(loop_factory, audit):
    loop = loop_factory()
    alive = weakref.ref(loop)
    # Each of these makes a cycle through the loop.
    loop.call_soon(loop.stop)
    loop.call_later(1000, loop.stop)
    loop.call_soon_threadsafe(loop.stop)
    loop.create_future().add_done_callback(lambda _, loop=loop: loop)
    loop.close()
    del loop
    gc.collect()
    assert alive() is None


def test_repr_tells_the_state(loop):
    assert "running=False closed=False debug=False" in repr(loop)
    texts = []
    loop.call_soon(lambda: texts.append(repr(loop)))
    run_ready(loop)
    assert "running=True closed=False debug=False" in texts[0]
    loop.set_debug(True)
    loop.close()
    assert "running=False closed=True debug=True" in repr(loop)


def test_loops_are_hashable_and_distinct(loop, loop_factory):
    other = loop_factory()
    assert len({loop, other, loop}) == 2
    other.close()


def test_user_attributes_can_be_set(loop):
    loop.the_users_own = "kept"
    assert loop.the_users_own == "kept"


async def test_deep_await_chain_returns_through_all_frames(loop):
    async def level(depth):
        if depth == 0:
            await asyncio.sleep(0)
            return 0
        return 1 + await level(depth - 1)

    assert await level(200) == 200
