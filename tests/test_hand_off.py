"""A step that blocks loses the seat: others run during its call, and nobody runs beside its Python code."""

import asyncio
import contextvars
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.hand_off import Revoker, new_loop, quick_switches, settle, wait_for

pytestmark = [
    pytest.mark.loops("antiphon"),  # asyncio has nothing of the kind
    pytest.mark.skipif(sys.version_info < (3, 12), reason="the fence needs sys.monitoring"),
]

Loop = asyncio.AbstractEventLoop


@pytest.fixture
def loop(audit: Any, loop_name: str) -> Iterator[Loop]:
    """A loop whose steps lose the seat as soon as they block."""
    loop = new_loop()
    audit.loops.add(loop)
    with quick_switches(), Revoker(loop):
        yield loop
    assert loop._blocked_steps() == 0  # type: ignore[attr-defined]
    assert not asyncio.all_tasks(loop)
    loop.close()


async def blocked_until_ticked(ticked: threading.Event) -> str:
    """Blocks its thread until another step of the loop sets the event."""
    wait_for(ticked)
    return threading.current_thread().name


async def test_others_run_while_a_step_blocks(loop: Loop) -> None:
    ticked = threading.Event()
    blocked = [asyncio.ensure_future(blocked_until_ticked(ticked)) for _ in range(5)]
    await asyncio.sleep(0.01)
    ticked.set()
    names = await asyncio.gather(*blocked)
    assert len(set(names)) == 5, "each blocked on a thread of its own"


@pytest.mark.parametrize("debug", [False, True])
async def test_callback_that_blocks_loses_the_seat_too(loop: Loop, debug: bool) -> None:
    ticked = threading.Event()
    returned: list[str] = []
    loop.slow_callback_duration = 1e9  # type: ignore[attr-defined]
    loop.set_debug(debug)

    def callback(name: str) -> None:
        wait_for(ticked)
        returned.append(name)

    loop.call_soon(callback, "soon")
    loop.call_later(0, callback, "later")
    loop.call_soon_threadsafe(callback, "from a thread")
    while loop._blocked_steps() < 3:  # type: ignore[attr-defined]
        await asyncio.sleep(0)
    assert returned == []
    ticked.set()
    async with asyncio.timeout(20):
        while len(returned) < 3:
            await asyncio.sleep(0)


async def test_eager_step_in_a_reader_keeps_the_seat(loop: Loop) -> None:
    from antiphon._antiphon import eager_task_factory  # not in 3.11

    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    calls: list[int] = []
    loop.set_task_factory(eager_task_factory)

    async def blocks() -> None:
        time.sleep(0.3)  # the revoker asks for the seat many times

    def reader() -> None:
        calls.append(1)
        tasks.append(loop.create_task(blocks()))
        os.read(read_end, 1)  # until here there was something to read

    tasks: list[asyncio.Task[None]] = []
    os.write(write_end, b"x")
    loop.add_reader(read_end, reader)
    async with asyncio.timeout(20):
        while not tasks:
            await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    await asyncio.sleep(0.01)
    loop.remove_reader(read_end)
    os.close(read_end)
    os.close(write_end)
    assert calls == [1], "called again for what it was about to read"


@pytest.mark.skipif(sys.version_info < (3, 14), reason="before, nobody waits for a callback")
async def test_canceller_waits_for_a_callback_that_blocks_while_others_run(loop: Loop) -> None:
    ticked, asked = threading.Event(), threading.Event()
    order: list[str] = []

    def blocks() -> None:
        wait_for(ticked)
        order.append("returned")

    handle = loop.call_soon_threadsafe(blocks)
    while loop._blocked_steps() < 1:  # type: ignore[attr-defined]
        await asyncio.sleep(0)
    loop.call_soon_threadsafe(order.append, "another")

    def cancel() -> None:
        asked.set()
        handle.cancel()
        order.append("cancelled")

    canceller = threading.Thread(target=cancel)
    canceller.start()
    wait_for(asked)
    async with asyncio.timeout(20):
        while order != ["another"]:
            await asyncio.sleep(0)
        ticked.set()
        while canceller.is_alive():
            await asyncio.sleep(0)
    assert order == ["another", "returned", "cancelled"]


async def test_main_thread_has_the_seat_again_once_nothing_blocks(loop: Loop) -> None:
    ticked = threading.Event()
    blocked = asyncio.ensure_future(blocked_until_ticked(ticked))
    await asyncio.sleep(0)
    ticked.set()
    await blocked
    # Attempts of the revoker aside: sooner or later a step runs on the main thread.
    async with asyncio.timeout(20):
        while threading.current_thread() is not threading.main_thread():
            await asyncio.sleep(0)


def test_run_until_complete_returns_where_it_was_called(loop: Loop) -> None:
    ticked = threading.Event()

    async def main() -> None:
        blocked = asyncio.ensure_future(blocked_until_ticked(ticked))
        await asyncio.sleep(0.01)
        ticked.set()
        await blocked

    loop.run_until_complete(main())
    assert threading.current_thread() is threading.main_thread()
    assert asyncio._get_running_loop() is None


async def test_after_its_call_a_step_is_what_it_was(loop: Loop) -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")
    ticked = threading.Event()

    async def step(number: int) -> None:
        me = asyncio.current_task()
        variable.set(number)
        wait_for(ticked)
        assert asyncio.current_task() is me
        assert asyncio.get_running_loop() is loop
        assert variable.get() == number
        await asyncio.sleep(0)
        assert asyncio.current_task() is me
        assert variable.get() == number

    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(step(number))
        await asyncio.sleep(0.005)
        assert asyncio.current_task() not in (None, *group._tasks)  # type: ignore[attr-defined]
        ticked.set()


async def test_exception_of_a_blocked_call_keeps_its_traceback(loop: Loop) -> None:
    ticked = threading.Event()

    def fails() -> None:
        wait_for(ticked)
        raise KeyError("late")

    async def step() -> None:
        fails()

    task = asyncio.ensure_future(step())
    await asyncio.sleep(0.005)
    ticked.set()
    with pytest.raises(KeyError, match="late") as caught:
        await task
    assert [entry.name for entry in caught.traceback[-2:]] == ["step", "fails"]


async def test_cancellation_meets_a_blocked_task_at_its_next_await(loop: Loop) -> None:
    ticked = threading.Event()
    reached: list[str] = []

    async def step() -> None:
        wait_for(ticked)
        reached.append("after the call")
        await asyncio.sleep(0)
        reached.append("after the await")

    task = asyncio.ensure_future(step())
    await asyncio.sleep(0.005)
    assert task.cancel()
    ticked.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert reached == ["after the call"]


async def test_timeout_is_raised_at_the_await_after_a_call_that_outlived_it(loop: Loop) -> None:
    ticked = threading.Event()

    async def step() -> None:
        async with asyncio.timeout(0):
            wait_for(ticked)
            await asyncio.sleep(10)

    task = asyncio.ensure_future(step())
    await asyncio.sleep(0.005)
    ticked.set()
    with pytest.raises(TimeoutError):
        await task


async def test_lock_of_a_woken_step_that_the_driver_wants_is_no_deadlock(loop: Loop) -> None:
    lock, entered, ticked = threading.Lock(), threading.Event(), threading.Event()

    async def owns() -> None:
        with lock:
            entered.set()
            wait_for(ticked)

    async def wants() -> None:
        wait_for(entered)
        ticked.set()
        # The owner comes back, and waits for the seat with the lock in its hands.
        with lock:
            pass

    await asyncio.gather(owns(), wants())


async def test_handles_of_an_entered_context_wait_for_it_in_order(loop: Loop) -> None:
    context = contextvars.copy_context()
    ticked, order = threading.Event(), []

    async def step() -> None:
        wait_for(ticked)
        order.append("step")

    task = loop.create_task(step(), context=context)
    await asyncio.sleep(0.005)
    for number in range(3):
        loop.call_soon(order.append, number, context=context)
    other = loop.create_task(step(), context=context)
    await asyncio.sleep(0.005)
    assert order == []
    ticked.set()
    await asyncio.gather(task, other)
    assert order == ["step", 0, 1, 2, "step"]


async def test_context_entered_by_user_code_is_waited_for(loop: Loop) -> None:
    context = contextvars.copy_context()
    ticked, order = threading.Event(), []

    async def step() -> None:
        context.run(wait_for, ticked)
        order.append("step")

    task = loop.create_task(step())
    await asyncio.sleep(0.005)
    loop.call_soon(order.append, "handle", context=context)
    await asyncio.sleep(0.005)
    assert order == []
    ticked.set()
    await task
    await asyncio.sleep(0)
    assert sorted(order) == ["handle", "step"]


async def test_empty_contexts_are_told_apart(loop: Loop) -> None:
    ticked, ran = threading.Event(), threading.Event()
    task = loop.create_task(blocked_until_ticked(ticked), context=contextvars.Context())
    await asyncio.sleep(0.005)
    loop.call_soon(ran.set, context=contextvars.Context())
    await asyncio.sleep(0.005)
    assert ran.is_set()
    ticked.set()
    await task


@pytest.mark.parametrize("where", ["task", "callback"])
def test_what_leaves_the_loop_on_a_spare_leaves_the_run(loop: Loop, where: str) -> None:
    raised = threading.Event()

    async def blocks_main() -> None:
        wait_for(raised)

    def exits() -> None:
        raised.set()
        raise SystemExit(3)

    async def exits_in_a_task() -> None:
        exits()

    async def main() -> None:
        while threading.current_thread() is not threading.main_thread():
            await asyncio.sleep(0)
        tasks.append(asyncio.ensure_future(blocks_main()))
        if where == "task":
            tasks.append(asyncio.ensure_future(exits_in_a_task()))
        else:
            loop.call_soon(exits)
        # In one turn, on one thread, unless the revoker steps in between.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    tasks: list[asyncio.Future[None]] = []
    running = loop.create_task(main())
    with pytest.raises(SystemExit):
        loop.run_until_complete(running)
    loop.run_until_complete(asyncio.wait([running, tasks[0]]))
    assert where == "callback" or isinstance(tasks[1].exception(), SystemExit)


def test_stop_waits_for_the_call_that_blocks_the_main_thread(loop: Loop) -> None:
    ticked, returned = threading.Event(), []

    async def blocks() -> None:
        wait_for(ticked)
        returned.append(threading.current_thread())

    def stops() -> None:
        loop.stop()
        ticked.set()

    task = loop.create_task(blocks())
    loop.call_later(0.005, stops)
    loop.run_forever()
    loop.run_until_complete(task)
    assert len(returned) == 1


async def test_calls_into_the_loop_from_a_signal_handler_inside_a_blocked_call(loop: Loop) -> None:
    ticked, future = threading.Event(), loop.create_future()

    def handler(*_: object) -> None:
        # On the main thread, perhaps without the seat: a hole in the fence.
        loop.call_soon(future.set_result, asyncio.get_running_loop() is loop)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        blocked = [asyncio.ensure_future(blocked_until_ticked(ticked)) for _ in range(2)]
        await asyncio.sleep(0.005)
        signal.raise_signal(signal.SIGUSR1)
        ticked.set()
        await asyncio.gather(*blocked)
        assert await future
    finally:
        ticked.set()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGUSR1, before)


async def test_async_generators_are_finalized_wherever_they_were_begun(loop: Loop) -> None:
    ticked, closed = threading.Event(), []

    async def generator() -> Any:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            closed.append(asyncio.get_running_loop() is loop)

    async def begins() -> None:
        async for _ in generator():
            wait_for(ticked)
            break

    tasks = [asyncio.ensure_future(begins()) for _ in range(4)]
    await asyncio.sleep(0.005)
    ticked.set()
    await asyncio.gather(*tasks)
    del tasks
    gc.collect()
    async with asyncio.timeout(20):
        while len(closed) < 4:
            await asyncio.sleep(0)
    assert closed == [True] * 4


async def test_cpythons_own_tasks_run_beside(loop: Loop) -> None:
    from _asyncio import Task

    ticked = threading.Event()

    async def step() -> None:
        me = asyncio.current_task()
        wait_for(ticked)
        assert asyncio.current_task() is me
        async with asyncio.timeout(10):
            await asyncio.sleep(0)
        assert asyncio.current_task() is me

    tasks: list[Any] = [Task(step(), loop=loop) for _ in range(3)]
    await asyncio.sleep(0.005)
    ticked.set()
    await asyncio.gather(*tasks)


async def test_debug_mode_knows_whose_thread_it_is(loop: Loop) -> None:
    loop.set_debug(True)
    loop.slow_callback_duration = 100.0
    ticked = threading.Event()
    blocked = [asyncio.ensure_future(blocked_until_ticked(ticked)) for _ in range(3)]
    await asyncio.sleep(0.005)
    loop.call_soon(ticked.set)
    await asyncio.gather(*blocked)
    loop.set_debug(False)


def run_with_a_spare_blocked(loop: Any, blocks_a_spare: Callable[[], None]) -> None:
    """Runs the loop until one step has blocked it and is over, and another still blocks a spare thread.

    Args:
        loop: a new one.
        blocks_a_spare: the step that is left blocked.
    """
    first = threading.Event()

    async def blocks_main() -> None:
        wait_for(first)

    async def main() -> None:
        blocked = loop.create_task(blocks_main())
        while threading.current_thread() is threading.main_thread():
            await asyncio.sleep(0)
        loop.call_soon(blocks_a_spare)
        while loop._blocked_steps() < 2:
            await asyncio.sleep(0)
        first.set()
        await blocked

    with quick_switches(), Revoker(loop):
        loop.run_until_complete(main())


def test_closing_a_loop_whose_step_still_blocks(audit: Any, loop_name: str) -> None:
    loop: Any = new_loop()
    audit.loops.add(loop)
    release, outcome = threading.Event(), []

    def blocks_a_spare() -> None:
        try:
            wait_for(release)
            outcome.append("ran on")
        except RuntimeError as error:
            outcome.append(str(error))

    run_with_a_spare_blocked(loop, blocks_a_spare)
    assert loop._blocked_steps() == 1
    loop.close()
    audit.take_log("1 of its steps are still blocked")
    release.set()
    settle(lambda: bool(outcome))
    assert outcome == ["Event loop is closed: it was closed while this step was blocked"]
    settle(lambda: loop._blocked_steps() == 0)


def test_close_lets_woken_steps_come_to_their_ends(audit: Any, loop_name: str) -> None:
    loop: Any = new_loop()
    audit.loops.add(loop)
    release, outcome = threading.Event(), []

    def blocks_a_spare() -> None:
        wait_for(release)
        outcome.append(asyncio.get_running_loop() is loop)

    run_with_a_spare_blocked(loop, blocks_a_spare)
    release.set()
    loop.close()
    assert outcome == [True]
