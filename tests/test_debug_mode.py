"""Debug mode: slow callbacks, where coroutines came from, and calls from the wrong thread."""

import asyncio
import gc
import logging
import socket
import sys
import threading
import time

import pytest

from support.children import run_child
from support.loops import run_ready
from support.net import connect_recorder, stream_pair

WRONG_THREAD = "^Non-thread-safe operation invoked on an event loop other than the current one$"


@pytest.fixture
def debug_loop(loop):
    loop.set_debug(True)
    # A busy machine makes anything slow; only the tests about slowness lower this.
    loop.slow_callback_duration = 3600
    return loop


def test_debug_mode_is_off_and_can_be_switched(loop):
    assert loop.get_debug() is False
    loop.set_debug(True)
    assert loop.get_debug() is True
    loop.set_debug(False)
    assert loop.get_debug() is False


@pytest.mark.parametrize(
    ("options", "environment", "expected"),
    [
        ((), {}, False),
        (("-X", "dev"), {}, True),
        ((), {"PYTHONASYNCIODEBUG": "1"}, True),
        ((), {"PYTHONASYNCIODEBUG": ""}, False),
        (("-E",), {"PYTHONASYNCIODEBUG": "1"}, False),
    ],
)
def test_environment_and_options_switch_it(loop_name, options, environment, expected):
    program = "loop = new_event_loop(); report(debug=loop.get_debug()); loop.close()"
    assert run_child(loop_name, program, *options, **environment)["debug"] is expected


def test_slow_callback_duration_is_a_tenth_of_a_second(loop):
    assert loop.slow_callback_duration == 0.1


def test_slow_callback_is_warned_of(debug_loop, audit):
    def slow_callback():
        time.sleep(0.002)

    debug_loop.slow_callback_duration = 0.001
    debug_loop.call_soon(slow_callback)
    run_ready(debug_loop)
    record = audit.take_log(
        r"^Executing <Handle .*slow_callback\(\) .*> took 0\.\d\d\d seconds$", logging.WARNING
    )
    assert "created at" in record.getMessage()
    audit.log.records.clear()


def test_slow_step_of_a_task_names_the_task(debug_loop, audit):
    async def slow_step():
        time.sleep(0.002)

    debug_loop.slow_callback_duration = 0.001
    debug_loop.run_until_complete(asyncio.ensure_future(slow_step(), loop=debug_loop))
    audit.take_log(r"^Executing <Task finished .*slow_step\(\) .* took 0\.", logging.WARNING)
    audit.log.records.clear()


def test_quick_callback_is_not_warned_of(debug_loop, audit):
    debug_loop.call_soon(lambda: None)
    run_ready(debug_loop)
    assert audit.log.records == []


def test_slowness_is_nobodys_business_in_release_mode(loop, audit):
    loop.slow_callback_duration = 0
    loop.call_soon(time.sleep, 0.001)
    run_ready(loop)
    assert audit.log.records == []


def test_failing_slow_callback_is_reported_and_the_loop_goes_on(debug_loop, audit):
    def fail():
        time.sleep(0.002)
        raise ZeroDivisionError

    debug_loop.slow_callback_duration = 0.001
    debug_loop.call_soon(fail)
    run_ready(debug_loop)
    audit.take_log("^Exception in callback", logging.ERROR)
    audit.log.records.clear()


@pytest.mark.parametrize(
    "call",
    [
        lambda loop: loop.call_soon(print),
        lambda loop: loop.call_later(1, print),
        lambda loop: loop.call_at(1, print),
    ],
    ids=["call_soon", "call_later", "call_at"],
)
def test_calls_from_another_thread_are_refused_while_the_loop_runs(debug_loop, call):
    errors = []

    def enter():
        try:
            call(debug_loop)
        except RuntimeError as error:
            errors.append(error)
        finally:
            debug_loop.call_soon_threadsafe(debug_loop.stop)

    thread = threading.Thread(target=enter)
    debug_loop.call_soon(thread.start)
    debug_loop.run_forever()
    thread.join(5)
    with pytest.raises(RuntimeError, match=WRONG_THREAD):
        raise errors[0]


def test_calls_from_any_thread_are_taken_while_the_loop_rests(debug_loop):
    ran = []
    thread = threading.Thread(target=debug_loop.call_soon, args=(ran.append, 1))
    thread.start()
    thread.join(5)
    run_ready(debug_loop)
    assert ran == [1]


def test_release_mode_does_not_check_the_thread(loop):
    ran = []

    def from_another_thread():
        thread = threading.Thread(target=loop.call_soon, args=(ran.append, 1))
        thread.start()
        thread.join(5)
        loop.call_soon(loop.stop)

    loop.call_soon(from_another_thread)
    loop.run_forever()
    assert ran == [1]


def test_call_soon_threadsafe_is_welcome_from_any_thread(debug_loop):
    ran = []
    thread = threading.Thread(
        target=lambda: debug_loop.call_soon_threadsafe(lambda: (ran.append(1), debug_loop.stop()))
    )
    debug_loop.call_soon(thread.start)
    debug_loop.run_forever()
    thread.join(5)
    assert ran == [1]


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_at", "call_later"])
def test_coroutines_and_non_callables_are_refused(debug_loop, method):
    async def coroutine():
        pass

    def call(callback):
        timed = (0,) if method in ("call_at", "call_later") else ()
        return getattr(debug_loop, method)(*timed, callback)

    # call_later goes through call_at, and is named so.
    named = "call_at" if method == "call_later" else method
    instance = coroutine()
    for bad in (coroutine, instance):
        with pytest.raises(TypeError, match=rf"^coroutines cannot be used with {named}\(\)$"):
            call(bad)
    instance.close()
    with pytest.raises(
        TypeError, match=rf"^a callable object was expected by {named}\(\), got 42$"
    ):
        call(42)


def test_coroutines_remember_where_they_were_made(debug_loop, audit):
    async def never_awaited():
        pass

    async def main():
        never_awaited()

    debug_loop.run_until_complete(main())
    gc.collect()
    warning = audit.take_warning(RuntimeWarning, "never_awaited' was never awaited")
    assert "Coroutine created at (most recent call last)" in str(warning.message)
    assert "in main" in str(warning.message)


def test_origin_tracking_is_on_only_while_the_loop_runs(debug_loop):
    depths = []
    before = sys.get_coroutine_origin_tracking_depth()
    debug_loop.call_soon(lambda: depths.append(sys.get_coroutine_origin_tracking_depth()))
    run_ready(debug_loop)
    assert depths[0] > 0
    assert sys.get_coroutine_origin_tracking_depth() == before


def test_origin_tracking_follows_a_switch_during_the_run(loop):
    depths = []

    async def main():
        for debug in (True, False):
            loop.set_debug(debug)
            # The switch is carried out by a callback.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            depths.append(sys.get_coroutine_origin_tracking_depth())

    loop.run_until_complete(main())
    assert depths[0] > 0 and depths[1] == 0


def test_own_origin_tracking_is_put_back(debug_loop):
    sys.set_coroutine_origin_tracking_depth(3)
    try:
        run_ready(debug_loop)
        assert sys.get_coroutine_origin_tracking_depth() == 3
    finally:
        sys.set_coroutine_origin_tracking_depth(0)


def test_handles_tell_where_they_were_made(debug_loop):
    for handle in (
        debug_loop.call_soon(print),
        debug_loop.call_later(1, print),
        debug_loop.call_at(1, print),
        debug_loop.call_soon_threadsafe(print),
    ):
        assert f"created at {__file__}:" in repr(handle)
        handle.cancel()
        # What was cancelled still tells what it was.
        assert "print" in repr(handle) and "cancelled" in repr(handle)


def test_handles_of_release_mode_do_not(loop):
    assert "created at" not in repr(loop.call_soon(print))


def test_failing_callback_tells_where_it_was_queued(debug_loop, audit):
    def fail():
        raise ValueError

    debug_loop.call_soon(fail)
    run_ready(debug_loop)
    text = audit.take_log("^Exception in callback").getMessage()
    assert "source_traceback: Object created at (most recent call last):\n" in text
    assert "debug_loop.call_soon(fail)" in text


def test_fault_reported_inside_a_callback_tells_where_that_was_queued(debug_loop, audit):
    debug_loop.call_soon(lambda: debug_loop.call_exception_handler({"message": "by hand"}))
    run_ready(debug_loop)
    text = audit.take_log("^by hand").getMessage()
    assert "handle_traceback: Handle created at (most recent call last):\n" in text


async def test_io_works_as_in_release_mode(debug_loop, loop):
    near, far = stream_pair()
    transport, protocol = await connect_recorder(loop, near)
    transport.write(b"out")
    assert await loop.sock_recv(far, 10) == b"out"
    await loop.sock_sendall(far, b"in")
    assert await protocol.received(2) == b"in"
    transport.pause_reading()
    transport.resume_reading()
    far.close()
    await protocol.happened("connection_lost")


async def test_slow_name_resolution_is_logged(debug_loop, loop, caplog):
    caplog.set_level(logging.DEBUG, logger="asyncio")
    loop.slow_callback_duration = -1
    await loop.getaddrinfo("localhost", 80, family=socket.AF_INET)
    assert any("Getting address info localhost" in text for text in caplog.messages)
    loop.slow_callback_duration = 3600
