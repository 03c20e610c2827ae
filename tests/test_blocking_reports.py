"""`on_block="report"`: who blocks the loop, told while it is blocked."""

import asyncio
import contextlib
import ctypes
import gc
import hashlib
import logging
import os
import queue
import sys
import sysconfig
import threading
import time
import unittest.mock

import pytest

import antiphon
from antiphon import Stall, blocking_report, watchdog
from support.audit import native_thread_count
from support.blocking import Watched
from support.children import run_child

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
KEEPS_INTERPRETER = ctypes.PyDLL(None)


@pytest.fixture
def watched(audit):
    with contextlib.closing(Watched()) as watched:
        yield watched


@pytest.fixture
def every_time(monkeypatch):
    """Lets a place be reported each time."""
    monkeypatch.setattr(blocking_report, "REPORT_INTERVAL_SECONDS", 0)


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.WARNING, "antiphon.blocking")
    return caplog


def here():
    return sys._getframe(1).f_lineno


def test_blocked_step_is_reported_while_it_blocks(watched, log):
    lines = []

    async def inner():
        lines.append(here() + 1)
        event = watched.block()
        assert watched.ended.empty()
        return event

    async def outer():
        return await inner()

    task = watched.loop.create_task(outer(), name="the blocker")
    event = watched.loop.run_until_complete(task)
    assert event.task is task
    assert event.loop is watched.loop
    assert event.stall is Stall.BLOCKED
    assert event.stall.is_blocking
    assert not event.over
    assert event.seconds >= 0.01
    assert [frame.name for frame in event.stack] == ["outer", "inner", "block"]
    file, line, name = event.coroutine_line
    assert (file, line) == (__file__, lines[0])
    assert name.endswith("inner")
    assert event.place[2] == "block"
    first = log.records[0]
    assert first.name == "antiphon.blocking"
    assert first.levelno == logging.WARNING
    assert first.blocked_step is event
    text = first.getMessage()
    assert text.startswith("the blocker (")
    assert "blocks the event loop for 0." in text
    assert "blocked in a call" in text
    assert "event = watched.block()" in text, "the source line stands in the stack"


def test_end_is_reported_with_how_long_it_took(watched, log):
    async def main():
        return watched.block()

    event = watched.run(main())
    ended = watched.ended.get()
    assert ended.over
    assert ended.number == event.number
    assert ended.seconds >= event.seconds
    assert [record.blocked_step.over for record in log.records] == [False, True]
    assert "blocked the event loop for 0." in log.records[1].getMessage()
    stats = watched.loop.blocking_stats()
    assert (stats.steps, stats.reported, stats.suppressed) == (1, 1, 0)
    assert stats.by_stall == {Stall.BLOCKED: 1}
    assert stats.seconds == stats.longest


def test_callback_is_reported_without_a_task(watched):
    async def main():
        done = watched.loop.create_future()
        watched.loop.call_soon(lambda: done.set_result(watched.block()))
        return await done

    event = watched.run(main())
    assert event.task is None
    assert event.coroutine_line is None
    assert event.describe().startswith("A callback blocks")
    assert [frame.name for frame in event.stack] == ["<lambda>", "block"]


def test_step_of_the_interpreters_own_task_is_reported_with_it(watched):
    async def main():
        async def child():
            return watched.block()

        # By its exact name: install() puts ours under the public one.
        task = asyncio.tasks._CTask(child(), loop=watched.loop)
        event = await task
        assert event.task is task

    watched.run(main())


def test_code_between_steps_is_watched_too(watched):
    async def main():
        done = watched.loop.create_future()

        class Clock:
            def __call__(self):
                watched.loop.time = before
                done.set_result(watched.block())
                return before()

        before = watched.loop.time
        watched.loop.call_later(0, lambda: None)
        watched.loop.time = Clock()
        return await done

    event = watched.run(main())
    assert event.task is None
    assert [frame.name for frame in event.stack] == ["__call__", "block"]


def test_one_report_for_a_place_and_interval(watched, log, monkeypatch):
    monkeypatch.setattr(blocking_report, "REPORT_INTERVAL_SECONDS", 3600)
    gate = queue.SimpleQueue()

    def open_when_found():
        watched.found.get()
        gate.put(None)
        for count in (1, 2, 3):
            while watched.loop.blocking_stats().suppressed < count:
                time.sleep(0.001)
            gate.put(None)

    async def main():
        for _ in range(4):
            gate.get()
            await asyncio.sleep(0)

    opener = threading.Thread(target=open_when_found)
    opener.start()
    watched.run(main())
    opener.join()
    assert not [record for record in log.records[1:] if not record.blocked_step.over]
    stats = watched.loop.blocking_stats()
    assert (stats.reported, stats.suppressed) == (1, 3)


def test_next_report_tells_how_many_were_left_out(watched, log):
    reporter = watched.loop._reporter
    event = antiphon.BlockedStep(
        watched.loop, None, Stall.BLOCKED, 0.1, None, None, number=0, over=False
    )
    clock = iter([100, 101, 102, 100 + blocking_report.REPORT_INTERVAL_SECONDS])
    with unittest.mock.patch.object(blocking_report.time, "monotonic", lambda: next(clock)):
        for _ in range(4):
            reporter.deliver(event)
    assert ["more since" in record.getMessage() for record in log.records] == [False, True]
    assert "(2 more since the last report of this place)" in log.records[1].getMessage()


def keep_interpreter():
    KEEPS_INTERPRETER.usleep(30_000)


def compute_in_python():
    sum(range(100_000))


def compute_in_c(data=bytes(20_000_000)):
    hashlib.sha256(data)


@pytest.mark.skipif(FREE_THREADED, reason="there is no interpreter to keep")
@pytest.mark.usefixtures("every_time")
def test_native_code_that_keeps_the_interpreter_is_told_from_what_blocks(watched):
    async def main():
        while Stall.KEEPING_INTERPRETER not in watched.stalls:
            keep_interpreter()
            await asyncio.sleep(0)

    watched.run(main())


@pytest.mark.usefixtures("every_time")
@pytest.mark.parametrize(
    ("work", "stall"),
    [(compute_in_python, Stall.COMPUTING), (compute_in_c, Stall.COMPUTING_IN_C)],
)
def test_computing_steps_are_told_from_blocked_ones(watched, work, stall):
    if FREE_THREADED and stall is Stall.COMPUTING_IN_C:
        pytest.skip("nothing is released there, so nothing tells the two apart")

    async def main():
        while stall not in watched.stalls:
            event = watched.hold(work)
            assert event.stall is not Stall.BLOCKED
            await asyncio.sleep(0)

    watched.run(main())


@pytest.mark.usefixtures("every_time")
def test_collection_of_garbage_is_not_called_blocking(watched):
    async def main():
        def hold_up(phase, info):
            if phase == "start":
                watched.hold(compute_in_python)

        gc.callbacks.append(hold_up)
        try:
            while Stall.COLLECTING not in watched.stalls:
                gc.collect()
                await asyncio.sleep(0)
        finally:
            gc.callbacks.remove(hold_up)

    watched.run(main())
    assert not Stall.COLLECTING.is_blocking


@pytest.mark.skipif(FREE_THREADED, reason="there is no interpreter to wait for")
@pytest.mark.usefixtures("every_time")
def test_wait_for_the_interpreter_is_not_called_blocking(watched):
    over = threading.Event()

    def hog():
        while not over.is_set():
            keep_interpreter()

    async def main():
        while Stall.WAITING_FOR_GIL not in watched.stalls:
            watched.hold(compute_in_python)
            await asyncio.sleep(0)

    thread = threading.Thread(target=hog)
    thread.start()
    try:
        watched.run(main())
    finally:
        over.set()
        thread.join()
    assert not Stall.WAITING_FOR_GIL.is_blocking


@pytest.mark.slow
def test_starved_step_is_not_called_blocking():
    # On one processor beside another process that takes all of it, and with less priority each time: with the lowest at
    # once it would get next to nothing on a busy machine.
    facts = run_child(
        "antiphon",
        """
        import os, subprocess
        sys.path.insert(0, os.environ["SUPPORT"])
        from antiphon import Stall, blocking_report
        from support.blocking import Watched

        blocking_report.REPORT_INTERVAL_SECONDS = 0
        cpu = min(os.sched_getaffinity(0))
        hog = subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"import os; os.sched_setaffinity(0, [{cpu}])\\nwhile os.getppid() == {os.getpid()}: pass",
            ]
        )
        watched = Watched(block_after=0.05)  # its threads keep all processors, and their priority

        async def main():
            while Stall.STARVED not in watched.stalls:
                watched.hold(lambda: None)
                await asyncio.sleep(0)
                os.nice(1)  # this thread alone: nice(2), "C library/kernel differences"

        os.sched_setaffinity(0, [cpu])
        try:
            watched.run(main())
        finally:
            hog.kill()
            hog.wait()
        report(blocking=Stall.STARVED.is_blocking)
        watched.close()
        """,
        SUPPORT=os.path.dirname(__file__),
    )
    assert facts["blocking"] is False


def test_unregistered_function_is_not_called(watched, audit):
    heard = []
    unregister = antiphon.on_blocked(heard.append)
    antiphon.on_blocked(heard.append)()
    unregister()
    unregister()

    async def main():
        return watched.block()

    watched.run(main())
    watched.ended.get()
    assert heard == []


def test_failing_function_is_logged_and_the_others_are_called(log):
    def fail(event):
        raise ValueError("no reason")

    unregister = antiphon.on_blocked(fail)
    with contextlib.closing(Watched()) as watched:

        async def main():
            return watched.block()

        watched.run(main())
        watched.ended.get()
    unregister()
    failures = [record for record in log.records if record.exc_info]
    assert len(failures) == 2
    assert "on_blocked()" in failures[0].getMessage()


def test_what_the_log_raises_ends_no_report(watched, monkeypatch):
    failures = queue.SimpleQueue()
    monkeypatch.setattr(threading, "excepthook", lambda hook: failures.put(hook.exc_type))

    def refuse(record):
        raise SystemExit

    async def main():
        blocking_report.logger.addFilter(refuse)
        failures.get()  # of this very step's report
        blocking_report.logger.removeFilter(refuse)
        await asyncio.sleep(0)
        return watched.block()

    assert watched.run(main()).stall is Stall.BLOCKED


def test_stack_of_another_step_is_not_taken_for_it(watched):
    async def main():
        number = watched.loop._step_number()
        await asyncio.sleep(0)
        capture = watched.loop._reporter.capture
        return [
            capture(step, Stall.BLOCKED, True, 0.1, threading.get_ident())
            for step in (number, watched.loop._step_number())
        ]

    over, present = watched.run(main())
    assert (over.task, over.stack, over.place, over.coroutine_line) == (None, None, None, None)
    assert over.describe().startswith("A step blocks")
    assert present.stack is not None
    assert present.task is not None


def test_what_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match="callable"):
        antiphon.on_blocked(None)


def test_sleeping_loop_costs_no_wake_up(watched):
    watchdog_of_all = watchdog._watch.watchdog
    woken = threading.Event()

    def watch_the_watchdog():
        before = None
        while (looks := watchdog_of_all.looks) != before:
            before = looks
            time.sleep(0.05)  # five times as long as the watchdog's tick
        watched.loop.call_soon_threadsafe(woken.set)

    async def main():
        event = asyncio.Event()
        woken.set = event.set
        thread = threading.Thread(target=watch_the_watchdog)
        thread.start()
        await event.wait()
        thread.join()
        return watched.block()

    assert watched.run(main()).stall is Stall.BLOCKED, "it looks again once the loop is awake"


def test_ignoring_loop_has_nothing_of_it():
    threads, callbacks = native_thread_count(), list(gc.callbacks)
    loop = antiphon.new_event_loop(on_block="ignore")

    async def main():
        # One of before may have been about to end.
        assert native_thread_count() <= threads
        assert gc.callbacks == callbacks
        assert watchdog._watch.watchdog is None
        if sys.version_info >= (3, 12):
            assert all(sys.monitoring.get_tool(tool) is None for tool in range(6))
        assert loop._step_number() == 0

    loop.run_until_complete(main())
    assert loop.blocking_stats() == antiphon.BlockingStats()
    loop.close()


def test_threads_end_with_the_last_watched_loop():
    callbacks = list(gc.callbacks)
    first = antiphon.new_event_loop(on_block="report")
    second = antiphon.new_event_loop(on_block="report")
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("antiphon-watchdog") == 1
    first.close()
    assert "antiphon-watchdog" in [thread.name for thread in threading.enumerate()]
    second.close()
    assert "antiphon-watchdog" not in [thread.name for thread in threading.enumerate()]
    assert gc.callbacks == callbacks


@pytest.mark.usefixtures("every_time")
def test_loop_runs_several_times_and_in_other_threads(watched):
    async def main():
        return watched.block(), threading.get_ident()

    outcomes = [watched.run(main())]
    thread = threading.Thread(target=lambda: outcomes.append(watched.run(main())))
    thread.start()
    thread.join()
    (first, here), (second, there) = outcomes
    assert here != there
    assert first.stack[-1].name == second.stack[-1].name == "block"


def test_last_watched_loop_may_be_closed_by_a_callback(audit):
    watched = Watched()
    other = antiphon.new_event_loop()
    closed = threading.Event()

    def close(event):
        if event.over:
            watched.loop.close()
            closed.set()

    unregister = antiphon.on_blocked(close)

    async def main():
        watched.block()

    watched.run(main())
    closed.wait()
    unregister()
    watched.close()
    other.close()


def test_debug_modes_report_of_slow_callbacks_stays(watched, audit):
    watched.loop.set_debug(True)
    watched.loop.slow_callback_duration = 0.001

    async def main():
        watched.block()

    watched.run(main())
    audit.take_log(r"^Executing <Task finished .*> took 0\.", logging.WARNING)
    audit.log.records.clear()


@pytest.mark.slow
def test_child_of_a_fork_watches_for_itself():
    facts = run_child(
        "antiphon",
        """
        import os
        sys.path.insert(0, os.environ["SUPPORT"])
        from support.blocking import Watched

        async def main():
            return watched.block()

        watched = Watched()
        watched.run(main())
        if pid := os.fork():
            os.waitpid(pid, 0)
            watched.close()
        else:
            watched.close()
            watched = Watched()
            report(child=str(watched.run(main()).stall))
            watched.close()
            sys.stdout.flush()
            os._exit(0)
        """,
        SUPPORT=os.path.dirname(__file__),
    )
    assert facts["child"] == "blocked"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["asleep", "daemon"])
def test_interpreter_ends_with_watched_loops_left(how):
    program = """
        async def main():
            import time
            time.sleep(0.1)

        loop = new_event_loop(on_block="report", block_after=0.01)
        if {how!r} == "asleep":
            loop.run_until_complete(main())
        else:
            entered = threading.Event()
            loop.call_soon(entered.set)
            threading.Thread(target=loop.run_forever, daemon=True).start()
            entered.wait()
        report(left=True)
        """
    assert run_child("antiphon", program.replace("{how!r}", repr(how)))["left"]
