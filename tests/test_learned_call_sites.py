"""A place that has blocked gives the loop away as its next call begins, and takes it back as that returns."""

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import antiphon
from support.children import run_child
from support.hand_off import LIMIT_SECONDS, wait_for

pytestmark = [
    pytest.mark.loops("antiphon"),  # asyncio has nothing of the kind
    pytest.mark.skipif(sys.version_info < (3, 12), reason="the fence needs sys.monitoring"),
]

Loop = Any


@pytest.fixture
def loop(audit: Any, loop_name: str) -> Iterator[Loop]:
    """A loop that hands off after a few milliseconds, and learns."""
    loop = antiphon.new_event_loop(on_block="handoff", block_after=0.005)
    audit.loops.add(loop)
    yield loop
    assert loop._blocked_steps() == 0
    loop.close()
    assert antiphon.learned_call_sites() == []


def known(name: str) -> list[antiphon.CallSite]:
    """The learned places of the function with this name."""
    sites = antiphon.learned_call_sites()
    return [site for site in sites if site.file == __file__ and site.function == name]


async def teach(
    loop: Loop, name: str = "acquire", block: Callable[[threading.Event], object] | None = None
) -> None:
    """Has the function with this name block until its place is learned."""
    released = threading.Event()

    async def blocks() -> None:
        (block or acquire_until)(released)

    blocked = asyncio.ensure_future(blocks())
    async with asyncio.timeout(LIMIT_SECONDS):
        while not known(name):
            await asyncio.sleep(0.001)
    released.set()
    await blocked


def acquire(lock: Any) -> bool:
    """The call that is learned: a lock's, of native code."""
    return lock.acquire(True, LIMIT_SECONDS)


def acquire_until(released: threading.Event) -> None:
    """Blocks in `acquire` until `released` is set by somebody else."""
    lock = threading.Lock()
    lock.acquire()
    waker = threading.Thread(target=lambda: (wait_for(released), lock.release()))
    waker.start()
    acquire(lock)
    waker.join()


async def test_place_is_learned_when_a_step_loses_the_loop_there(loop: Loop) -> None:
    assert known("acquire") == []
    await teach(loop)
    (site,) = known("acquire")
    assert site.file == __file__
    assert site.line == acquire.__code__.co_firstlineno + 2
    assert site.given == 0


async def test_later_calls_give_the_loop_away_before_anybody_notices(loop: Loop) -> None:
    async def blocks(lock: threading.Lock) -> None:
        me = asyncio.current_task()
        assert acquire(lock)
        assert asyncio.current_task() is me
        assert asyncio.get_running_loop() is loop

    async def five_at_once() -> None:
        locks = [threading.Lock() for _ in range(5)]
        for lock in locks:
            lock.acquire()
        tasks = [asyncio.ensure_future(blocks(lock)) for lock in locks]
        while loop._blocked_steps() < 5:
            await asyncio.sleep(0)
        for lock in reversed(locks):
            lock.release()
        await asyncio.gather(*tasks)

    # Where no spare has come to sleep yet, it takes the watchdog; and calls that end at once are forgotten.
    async with asyncio.timeout(LIMIT_SECONDS):
        while loop._hand_off_counts()[1] < 5:
            await teach(loop)
            await five_at_once()
    assert loop.blocking_stats().given_away == loop._hand_off_counts()[1]


async def test_exception_of_a_learned_call_keeps_its_traceback(loop: Loop) -> None:
    await teach(loop, "sleep_once", sleep_until)
    assert known("sleep_once")
    before = loop._hand_off_counts()[1]

    async def fails() -> None:
        sleep_once(-1.0)

    with pytest.raises(ValueError, match="non-negative") as caught:
        await fails()
    assert [entry.name for entry in caught.traceback[-2:]] == ["fails", "sleep_once"]
    assert loop._hand_off_counts()[1] in (before, before + 1)  # if a spare slept
    assert asyncio.get_running_loop() is loop


def sleep_once(seconds: float) -> None:
    time.sleep(seconds)


def sleep_until(released: threading.Event) -> None:
    while not released.is_set():
        sleep_once(0.05)


async def test_place_whose_calls_turn_out_quick_is_forgotten(loop: Loop) -> None:
    await teach(loop)
    async with asyncio.timeout(LIMIT_SECONDS):
        while known("acquire"):
            acquire(threading.Lock())  # free
    before = loop._hand_off_counts()[1]
    acquire(threading.Lock())
    assert loop._hand_off_counts()[1] == before
    await teach(loop)
    assert known("acquire"), "it can be learned anew"


def call(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


async def test_callee_that_may_run_python_code_keeps_the_loop(loop: Loop) -> None:
    lock = threading.Lock()
    lock.acquire()

    def block(released: threading.Event) -> None:
        waker = threading.Thread(target=lambda: (wait_for(released), lock.release()))
        waker.start()
        call(lock.acquire, True, LIMIT_SECONDS)
        waker.join()

    await teach(loop, "call", block)
    assert known("call")
    before = loop._hand_off_counts()[1]
    assert call(
        sorted,
        [2, 1],
    ) == [1, 2]
    assert loop._hand_off_counts()[1] == before
    assert known("call") == [], "such a place is not asked again"


def acquire_one_of_two(lock: Any, first: bool) -> bool:
    if first:
        return lock.acquire(True, LIMIT_SECONDS)
    return lock.acquire(True, LIMIT_SECONDS + 1)


async def test_second_place_of_a_function_is_learned_after_its_calls_were_left_alone(
    loop: Loop,
) -> None:
    def block(released: threading.Event, first: bool) -> None:
        lock = threading.Lock()
        lock.acquire()
        waker = threading.Thread(target=lambda: (wait_for(released), lock.release()))
        waker.start()
        acquire_one_of_two(lock, first)
        waker.join()

    await teach(loop, "acquire_one_of_two", lambda released: block(released, True))
    acquire_one_of_two(threading.Lock(), False)  # a call without an event from here on
    released = threading.Event()

    async def blocks() -> None:
        block(released, False)

    blocked = asyncio.ensure_future(blocks())
    async with asyncio.timeout(LIMIT_SECONDS):
        while len(known("acquire_one_of_two")) < 2:
            await asyncio.sleep(0.001)
    released.set()
    await blocked
    lines = {site.line for site in known("acquire_one_of_two")}

    def given() -> int:
        return sum(site.given for site in known("acquire_one_of_two") if site.line == max(lines))

    async with asyncio.timeout(LIMIT_SECONDS):
        while not given():
            acquire_one_of_two(threading.Lock(), False)


class Sections:
    """Critical sections without an await; counts those that found somebody else inside."""

    def __init__(self) -> None:
        self.inside = self.torn = self.passed = 0

    def go_through(self) -> None:
        self.inside += 1
        found = self.inside
        sum(range(20))
        self.torn += not found == self.inside == 1
        self.inside -= 1
        self.passed += 1


async def test_sections_between_learned_calls_are_whole(loop: Loop) -> None:
    sections, rounds = Sections(), 200

    async def works() -> None:
        me = asyncio.current_task()
        for _ in range(rounds):
            sections.go_through()
            sleep_once(0.0011)
            assert asyncio.current_task() is me
            sections.go_through()
            sleep_once(0.0)
            sections.go_through()
            await asyncio.sleep(0)

    await teach(loop, "sleep_once", sleep_until)
    await asyncio.gather(*(works() for _ in range(8)))
    assert sections.torn == 0
    assert sections.passed == 8 * 3 * rounds
    assert loop._hand_off_counts()[1] > 0


async def test_cancellation_during_a_learned_call(loop: Loop) -> None:
    await teach(loop)
    lock, reached = threading.Lock(), []
    lock.acquire()

    async def blocks() -> None:
        acquire(lock)
        reached.append("after the call")
        await asyncio.sleep(0)
        reached.append("after the await")

    task = asyncio.ensure_future(blocks())
    while loop._blocked_steps() < 1:
        await asyncio.sleep(0)
    task.cancel()
    lock.release()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert reached == ["after the call"]


def test_learning_can_be_switched_off(audit: Any, loop_name: str) -> None:
    async def main() -> int:
        loop: Loop = asyncio.get_running_loop()
        released = threading.Event()

        async def blocks() -> None:
            acquire_until(released)

        for _ in range(3):
            released.clear()
            blocked = asyncio.ensure_future(blocks())
            while not loop._blocked_steps():
                await asyncio.sleep(0.001)
            released.set()
            await blocked
        return loop.blocking_stats().given_away + len(antiphon.learned_call_sites())

    assert antiphon.run(main(), on_block="handoff", block_after=0.005, learn=False) == 0


@pytest.mark.parametrize("value, learns", [("0", False), ("off", False), ("1", True), ("", True)])
def test_environment_says_whether_to_learn(monkeypatch, value, learns) -> None:
    monkeypatch.setenv("ANTIPHON_LEARN", value)
    assert antiphon.blocking.resolve_learning() is learns
    assert antiphon.blocking.resolve_learning(not learns) is not learns


def test_single_threaded_loop_is_never_handed_off(audit: Any, loop_name: str) -> None:
    threads = []

    async def main() -> None:
        loop: Loop = asyncio.get_running_loop()
        found = threading.Event()
        forget = antiphon.on_blocked(lambda event: found.set())
        ticks: list[int] = []
        loop.call_soon(ticks.append, 1)
        wait_for(found)  # reported, and nobody goes on with the loop
        assert ticks == []
        forget()
        await asyncio.sleep(0)
        threads.append(threading.current_thread())
        assert loop._hand_off_counts() == (0, 0)

    antiphon.run(main(), on_block="handoff", block_after=0.005, single_threaded=True)
    assert threads == [threading.main_thread()]


def test_single_threaded_wins_over_the_environment(monkeypatch) -> None:
    monkeypatch.setenv("ANTIPHON_ON_BLOCK", "handoff")
    with contextlib.closing(antiphon.new_event_loop(single_threaded=True)) as loop:
        assert loop._rescued_step(0) is None
        assert antiphon.blocking.resolve_options() == ("handoff", 0.05)
        assert loop._step_number() > 0, "it is watched"
    with pytest.raises(ValueError, match="^single_threaded are for antiphon's own loops"):
        antiphon.Runner(loop_factory=antiphon.new_event_loop, single_threaded=True)


async def test_rescued_step_is_reported_with_its_stack(loop: Loop, caplog) -> None:
    caplog.set_level("INFO", logger="antiphon.blocking")
    events: list[antiphon.BlockedStep] = []
    released, told = threading.Event(), threading.Event()

    def listen(event: antiphon.BlockedStep) -> None:
        # Under load the step may be blocked in other calls before, as in the start of a thread.
        is_it = event.place is not None and event.place[2] == "acquire"
        if event.loop is loop and event.rescued and is_it:
            events.append(event)
            told.set()

    forget = antiphon.on_blocked(listen)

    async def blocks() -> None:
        acquire_until(released)

    blocked = loop.create_task(blocks(), name="the blocker")
    while not told.is_set():
        await asyncio.sleep(0.001)
    released.set()
    await blocked
    while not any(event.over for event in events):
        await asyncio.sleep(0.001)
    forget()
    first, last = events[0], next(event for event in events if event.over)
    assert first.task is last.task is blocked
    assert not first.over
    assert first.stall is antiphon.Stall.BLOCKED
    assert first.stack is not None
    names = [frame.name for frame in first.stack]
    assert names[-3:] == ["blocks", "acquire_until", "acquire"]
    assert first.learned
    assert "another thread runs the loop" in first.describe()
    assert first.describe().endswith("later calls there give the loop away at once")
    assert last.seconds >= first.seconds > 0
    assert "while another thread ran the loop" in last.describe()
    records = [record for record in caplog.records if record.blocked_step in events]
    assert {record.levelname for record in records} == {"INFO"}
    stats = loop.blocking_stats()
    assert stats.rescued == loop._hand_off_counts()[0] >= 1
    assert antiphon.Stall.BLOCKED not in stats.by_stall


def test_closing_a_loop_in_a_learned_call_ends_the_step_with_an_error(loop_name: str) -> None:
    run_child(
        loop_name,
        """
        import asyncio, threading, time, antiphon

        release, outcome = threading.Event(), []

        def sleep(seconds):
            time.sleep(seconds)

        def hold(lock):
            lock.acquire(True, 20)

        async def learn(lock):
            hold(lock)

        async def blocks(lock):
            try:
                hold(lock)
            except RuntimeError as error:
                outcome.append(str(error))
                raise

        async def main(loop, lock):
            first = threading.Lock(); first.acquire()
            learning = loop.create_task(learn(first))
            while not loop._hand_off_counts()[0]:
                await asyncio.sleep(0.001)
            first.release()
            await learning
            main_blocked = loop.create_task(learn(first))
            while threading.current_thread() is threading.main_thread():
                await asyncio.sleep(0)
            loop.create_task(blocks(lock))
            while loop._blocked_steps() < 2:
                await asyncio.sleep(0)
            first.release()
            await main_blocked

        loop = antiphon.new_event_loop(on_block="handoff", block_after=0.005)
        lock = threading.Lock(); lock.acquire()
        loop.run_until_complete(main(loop, lock))
        assert loop._blocked_steps() == 1
        loop.close()
        lock.release()
        while not outcome or loop._blocked_steps():
            time.sleep(0.001)
        assert outcome == ["Event loop is closed: it was closed while this step was blocked"], outcome
        with antiphon.Runner(on_block="handoff") as runner:
            assert runner.run(asyncio.sleep(0, "fine")) == "fine"
        assert antiphon.learned_call_sites() == []
        report(ok=True)
        """,
    )
