"""`call_later`, `call_at`, `time` and timer handles."""

import asyncio
import gc
import random
import time
import weakref

import pytest

RESOLUTION = time.get_clock_info("monotonic").resolution


def run_until(loop, condition):
    """Runs the loop until `condition` holds at a stop; a timer in between is what makes it hold."""
    while not condition():
        loop.call_later(0.001, loop.stop)
        loop.run_forever()


def test_timer_never_fires_before_its_deadline(loop):
    early = []

    def fired(deadline):
        early.append(deadline - loop.time())

    for thousandths in range(1, 30):
        deadline = loop.time() + thousandths / 1000 + 0.000_37
        loop.call_at(deadline, fired, deadline)
    run_until(loop, lambda: len(early) == 29)
    assert max(early) <= RESOLUTION


def test_timers_fire_in_order_of_deadline_whatever_the_order_of_the_calls(loop):
    ran = []
    start = loop.time()
    numbers = list(range(500))
    random.Random(7).shuffle(numbers)
    for number in numbers:
        loop.call_at(start + number / 100_000, ran.append, number)
    run_until(loop, lambda: len(ran) == 500)
    assert ran == list(range(500))


# asyncio's documentation leaves the order of equal deadlines undefined, and its heap does mix them.
@pytest.mark.loops("antiphon")
def test_equal_deadlines_fire_in_the_order_of_the_calls(loop):
    ran = []
    deadline = loop.time() + 0.002
    for number in range(300):
        loop.call_at(deadline, ran.append, number)
    run_until(loop, lambda: len(ran) == 300)
    assert ran == list(range(300))


def test_timer_wakes_an_otherwise_idle_loop(loop):
    loop.call_later(0.005, loop.stop)
    loop.run_forever()


@pytest.mark.parametrize("delay", [0, -0.0, -1, -1e9])
def test_deadline_that_has_passed_fires_after_what_is_ready(loop, delay):
    ran = []
    loop.call_later(delay, ran.append, "timer")
    loop.call_soon(ran.append, "soon")
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == ["soon", "timer"]


def test_timer_set_by_a_timer_that_is_due_at_once_waits_for_the_next_turn(loop):
    ran = []

    def first():
        loop.call_at(loop.time() - 1, ran.append, "nested")
        loop.call_soon(loop.stop)

    loop.call_at(loop.time() - 1, first)
    loop.call_at(loop.time() - 1, ran.append, "beside")
    loop.run_forever()
    # The stop is carried out at the end of the turn in which the nested timer came due.
    assert ran == ["beside", "nested"]


def test_when_is_the_deadline_on_the_clock_of_the_loop(loop):
    before = loop.time()
    later = loop.call_later(1.5, print)
    after = loop.time()
    assert before + 1.5 <= later.when() <= after + 1.5
    assert loop.call_at(before + 2.25, print).when() == before + 2.25
    assert loop.call_at(10**12, print).when() == 10**12


def test_result_is_an_asyncio_timer_handle(loop):
    handle = loop.call_later(10, print)
    assert isinstance(handle, asyncio.TimerHandle)
    assert isinstance(handle, asyncio.Handle)


def test_handles_compare_by_deadline(loop):
    soon, late = loop.call_at(1e9, print), loop.call_at(2e9, print)
    assert soon < late and soon <= late and late > soon and late >= soon
    assert soon <= soon and soon >= soon
    assert soon == soon and soon != late
    assert sorted([late, soon]) == [soon, late]
    assert len({soon, late, soon}) == 2
    with pytest.raises(TypeError):
        soon < 3


def test_cancelled_timer_never_fires(loop):
    ran = []
    handles = [loop.call_later(number / 10_000, ran.append, number) for number in range(400)]
    for number, handle in enumerate(handles):
        if number % 4:
            handle.cancel()
            assert handle.cancelled()
    run_until(loop, lambda: len(ran) == 100)
    assert ran == list(range(0, 400, 4))


def test_timer_cancelled_by_another_of_the_same_turn_never_fires(loop):
    ran = []
    past = loop.time() - 1
    loop.call_at(past - 1, lambda: victim.cancel())
    victim = loop.call_at(past, ran.append, "victim")
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == []


def test_cancelling_twice_and_after_firing_is_harmless(loop):
    ran = []
    handle = loop.call_later(0, ran.append, 1)
    run_until(loop, lambda: ran == [1])
    handle.cancel()
    handle.cancel()
    assert handle.cancelled()
    other = loop.call_later(0, ran.append, 2)
    run_until(loop, lambda: ran == [1, 2])
    assert not other.cancelled()


def test_cancel_releases_the_arguments_at_once(loop):
    class Token:
        pass

    token = Token()
    alive = weakref.ref(token)
    handle = loop.call_later(1000, print, token)
    del token
    handle.cancel()
    gc.collect()
    assert alive() is None


def test_closing_releases_timers_that_never_fired(loop):
    class Token:
        pass

    token = Token()
    alive = weakref.ref(token)
    loop.call_later(1000, print, token)
    del token
    loop.close()
    gc.collect()
    assert alive() is None


def test_raising_timer_does_not_keep_others_from_firing(loop, faults):
    ran = []
    past = loop.time() - 1
    handle = loop.call_at(past - 1, lambda: 1 / 0)
    loop.call_at(past, ran.append, "next")
    run_until(loop, lambda: ran == ["next"])
    assert isinstance(faults[0]["exception"], ZeroDivisionError)
    assert faults[0]["handle"] is handle


def test_unlimited_and_enormous_delays_are_accepted(loop):
    for delay in (float("inf"), 1e300, 10**15):
        handle = loop.call_later(delay, print)
        assert handle.when() >= delay
    loop.call_later(0.001, loop.stop)
    loop.run_forever()


def test_none_is_refused(loop):
    with pytest.raises(TypeError, match="^delay must not be None$"):
        loop.call_later(None, print)
    with pytest.raises(TypeError, match="^when cannot be None$"):
        loop.call_at(None, print)


@pytest.mark.parametrize("bad", ["1", b"1", [], object()])
def test_anything_but_a_number_is_refused(loop, bad):
    with pytest.raises(TypeError):
        loop.call_later(bad, print)


def test_closed_loop_refuses(loop):
    loop.close()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        loop.call_later(1, print)
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        loop.call_at(1, print)


def test_time_is_a_float_that_never_goes_back(loop):
    readings = [loop.time() for _ in range(1000)]
    assert all(type(reading) is float for reading in readings)
    assert readings == sorted(readings)


@pytest.mark.real_driver("compares with the kernel's clock")
def test_time_is_the_monotonic_clock(loop):
    before = time.monotonic()
    reading = loop.time()
    assert before <= reading <= time.monotonic()


def test_repr_tells_the_deadline(loop):
    handle = loop.call_at(12345.5, print)
    assert "when=12345.5" in repr(handle)
    assert "TimerHandle" in repr(handle)
    handle.cancel()
    assert "cancelled" in repr(handle)


@pytest.mark.slow
def test_hundred_thousand_timers_set_and_cancelled_leave_the_live_ones_alone(loop):
    ran = []
    keep = loop.time() + 0.01
    for number in range(10):
        loop.call_at(keep + number / 10_000, ran.append, number)
    for _ in range(100):
        for handle in [loop.call_later(3600, print) for _ in range(1000)]:
            handle.cancel()
    run_until(loop, lambda: len(ran) == 10)
    assert ran == list(range(10))


async def test_sleep_zero_lets_what_is_ready_run_first(loop):
    ran = []
    loop.call_soon(ran.append, "ready")
    await asyncio.sleep(0)
    assert ran == ["ready"]


async def test_wait_for_and_timeout_use_the_timers_of_the_loop(loop):
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(asyncio.Event().wait(), 0.005)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.005):
            await asyncio.Event().wait()
