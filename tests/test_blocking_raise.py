"""`on_block="raise"`: the task whose step blocked fails, and nobody else does."""

import asyncio
import contextlib
import gc
import pickle
import signal
import threading

import pytest

import antiphon
from antiphon import BlockingError, Stall, blocking, blocking_report, natives
from support.blocking import Watched


@pytest.fixture
def watched(audit):
    with contextlib.closing(Watched("raise")) as watched:
        yield watched


@pytest.fixture
def faults(watched):
    contexts = []
    watched.loop.set_exception_handler(lambda _, context: contexts.append(context))
    return contexts


def test_task_that_returns_in_the_step_fails_instead(watched):
    async def main():
        watched.block()
        return "done"

    task = watched.loop.create_task(main(), name="the blocker")
    with pytest.raises(BlockingError) as caught:
        watched.run(task)
    error = caught.value
    assert task.exception() is error
    assert error.stall is Stall.BLOCKED
    assert error.seconds >= 0.01
    assert error.stack[-1].name == "block"
    assert str(error).startswith("the blocker (")
    assert "blocked the event loop for 0." in str(error)
    assert "watched.block()" in error.__notes__[0], "the stack stands in tracebacks"


def test_task_that_goes_on_is_cancelled_and_fails_at_its_end(watched):
    seen = []

    async def main():
        try:
            watched.block()
            seen.append("the step goes on to its end")
            await asyncio.sleep(3600)
        except Exception:
            seen.append("swallowed")
        except asyncio.CancelledError as cancelled:
            assert "blocked the event loop" in str(cancelled)
            seen.append("cancelled")
            raise
        finally:
            await asyncio.sleep(0)
            seen.append("cleaned up")

    with pytest.raises(BlockingError):
        watched.run(main())
    assert seen == ["the step goes on to its end", "cancelled", "cleaned up"]


def test_task_that_refuses_the_cancellation_fails_nevertheless(watched):
    async def main():
        watched.block()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        for _ in range(3):
            await asyncio.sleep(0)
        return "done"

    with pytest.raises(BlockingError):
        watched.run(main())


def test_task_that_blocks_twice_fails_with_the_first_error(watched):
    async def main():
        first = watched.block()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        second = watched.block()
        numbers.extend([first.number, second.number])

    numbers, errors = [], []
    unregister = blocking.on_verdict(errors.append)
    task = watched.loop.create_task(main())
    with pytest.raises(BlockingError) as caught:
        watched.run(task)
    unregister()
    assert numbers[0] < numbers[1]
    assert caught.value is errors[0]
    assert len(errors) == 2
    assert task.cancelling() == 1


def test_bare_yield_after_the_block_is_interrupted_too(watched):
    seen = []

    async def main():
        watched.block()
        await asyncio.sleep(0)
        seen.append("ran on")

    with pytest.raises(BlockingError):
        watched.run(main())
    assert seen == []


def test_exception_of_the_step_is_the_errors_context(watched):
    async def main():
        watched.block()
        raise ValueError("the step's own")

    with pytest.raises(BlockingError) as caught:
        watched.run(main())
    assert isinstance(caught.value.__context__, ValueError)


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_what_leaves_the_loop_leaves_it(watched, exception):
    async def main():
        watched.block()
        raise exception

    task = watched.loop.create_task(main())
    with pytest.raises(exception):
        watched.run(task)
    assert isinstance(task.exception(), exception)


def test_task_that_is_cancelled_while_its_step_blocks_fails(watched):
    async def main():
        asyncio.current_task().cancel()
        watched.block()
        await asyncio.sleep(3600)

    with pytest.raises(BlockingError):
        watched.run(main())


def test_others_of_the_same_turn_are_not_touched(watched):
    async def innocent():
        for _ in range(20):
            await asyncio.sleep(0)
        return "fine"

    async def blocker():
        await asyncio.sleep(0)
        watched.block()

    async def main():
        coros = [innocent(), blocker(), innocent(), blocker(), innocent()]
        return await asyncio.gather(*coros, return_exceptions=True)

    results = watched.run(main())
    assert [type(result) for result in results] == [str, BlockingError, str, BlockingError, str]


def test_waiters_of_one_future_are_told_apart(watched):
    # Their steps are one entry of the ready queue: the one that blocks is found by its own number.
    async def waiter(future, blocks):
        await future
        if blocks:
            watched.block()
        return "fine"

    async def main():
        future = watched.loop.create_future()
        tasks = [watched.loop.create_task(waiter(future, n == 1)) for n in range(4)]
        await asyncio.sleep(0)
        future.set_result(None)
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = watched.run(main())
    assert [type(result) for result in results] == [str, BlockingError, str, str]


def test_group_cleans_up_after_a_child_that_blocked(watched):
    seen = []

    async def sibling():
        try:
            await asyncio.sleep(3600)
        finally:
            seen.append("cancelled")

    async def child():
        await asyncio.sleep(0)
        watched.block()

    async def main():
        async with asyncio.TaskGroup() as group:
            group.create_task(sibling())
            group.create_task(child())

    with pytest.raises(ExceptionGroup) as caught:
        watched.run(main())
    assert [type(error) for error in caught.value.exceptions] == [BlockingError]
    assert seen == ["cancelled"]


def test_group_whose_owner_blocked_takes_its_children_along(watched):
    seen = []

    async def child():
        try:
            await asyncio.sleep(3600)
        finally:
            seen.append("cancelled")

    async def main():
        async with asyncio.TaskGroup() as group:
            group.create_task(child())
            await asyncio.sleep(0)
            watched.block()

    with pytest.raises(BlockingError):
        watched.run(main())
    assert seen == ["cancelled"]


def test_eager_child_that_blocks_is_its_parents_step(watched):
    factory = natives.ours("eager_task_factory")
    if factory is None:
        pytest.skip("eager tasks came with 3.12")

    async def child():
        watched.block()
        return "fine"

    async def main():
        task = watched.loop.create_task(child())
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        return task.result()

    task = watched.loop.create_task(main())
    watched.loop.set_task_factory(factory)
    with pytest.raises(BlockingError):
        watched.run(task)


def test_callback_that_blocks_goes_to_the_exception_handler(watched, faults):
    async def main():
        done = watched.loop.create_future()
        watched.loop.call_soon(lambda: done.set_result(watched.block()))
        await done

    watched.run(main())
    (context,) = faults
    assert context["message"] == "A callback blocked the event loop"
    assert isinstance(context["exception"], BlockingError)


def test_task_of_the_interpreters_own_class_is_cancelled(watched, faults):
    async def child():
        watched.block()
        await asyncio.sleep(3600)

    async def main():
        task = asyncio.tasks._CTask(child(), loop=watched.loop)
        await asyncio.wait([task])
        return task

    task = watched.run(main())
    assert task.cancelled()
    (context,) = faults
    assert context["task"] is task
    assert isinstance(context["exception"], BlockingError)


def test_collection_of_garbage_fails_nobody(watched):
    async def main():
        def hold_up(phase, info):
            if phase == "start":
                watched.hold(lambda: sum(range(100_000)))

        gc.callbacks.append(hold_up)
        try:
            while Stall.COLLECTING not in watched.stalls:
                gc.collect()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0)
        finally:
            gc.callbacks.remove(hold_up)
        return "fine"

    errors = []
    unregister = blocking.on_verdict(errors.append)
    with contextlib.suppress(BlockingError):
        # The scheduler may have made it look like something else first.
        assert watched.run(main()) == "fine"
    unregister()
    assert Stall.COLLECTING not in [error.stall for error in errors]


@pytest.mark.parametrize("stall", Stall)
def test_only_blocking_is_blamed(watched, stall):
    async def main():
        reporter, number = watched.loop._reporter, watched.loop._step_number()
        reporter.capture(number, stall, True, 0.1, threading.get_ident())
        return reporter.verdict(number)

    event = watched.run(main())
    if stall in ("blocked", "keeping the interpreter", "computing", "computing in C"):
        assert event.over
        assert event.seconds >= 0.1
    else:
        assert event is None


def test_finding_about_another_step_is_no_verdict(watched):
    async def main():
        reporter, number = watched.loop._reporter, watched.loop._step_number()
        reporter.capture(number, Stall.BLOCKED, True, 0.1, threading.get_ident())
        return reporter.verdict(number - 1)

    assert watched.run(main()) is None


def test_step_that_was_only_looked_at_fails_nobody(watched, monkeypatch):
    # The watchdog found nothing out before the step had ended: in doubt nobody fails.
    monkeypatch.setattr(blocking_report.Reporter, "verdict", lambda self, number: None)

    async def main():
        watched.block()
        await asyncio.sleep(0)
        return "fine"

    assert watched.run(main()) == "fine"


def test_report_only_fails_nobody():
    with contextlib.closing(Watched("report")) as watched:

        async def main():
            watched.block()
            await asyncio.sleep(0)
            return "fine"

        assert watched.run(main()) == "fine"


def test_signal_handler_in_the_blocked_step_sees_no_error(watched):
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda *_: seen.append("handled"))

    async def main():
        signal.raise_signal(signal.SIGUSR1)
        watched.block()
        signal.raise_signal(signal.SIGUSR1)

    try:
        with pytest.raises(BlockingError):
            watched.run(main())
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == ["handled", "handled"]


def test_error_survives_pickling(watched):
    async def main():
        watched.block()

    with pytest.raises(BlockingError) as caught:
        watched.run(main())
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value)
    assert copy.stall is caught.value.stall
    assert copy.__notes__ == caught.value.__notes__
    assert (
        copy.stack.format()[-1].splitlines()[:2] == caught.value.stack.format()[-1].splitlines()[:2]
    )


def test_run_fails_with_the_error():
    unregister = antiphon.on_blocked(lambda event: found.set())
    found = threading.Event()

    async def main():
        found.wait()

    try:
        with pytest.raises(BlockingError):
            antiphon.run(main(), on_block="raise", block_after=0.01)
    finally:
        unregister()
