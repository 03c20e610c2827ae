"""`on_block="handoff"` as programs use it: the watchdog finds who blocks, and another thread goes on.

The blocked calls end only if other steps of the same loop run meanwhile; no machine is too slow for that.
"""

import asyncio
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import antiphon
from support.hand_off import LIMIT_SECONDS, wait_for

pytestmark = pytest.mark.loops("antiphon")  # asyncio has nothing of the kind

needs_fence = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="the fence needs sys.monitoring"
)
Loop = asyncio.AbstractEventLoop


@pytest.fixture
def loop(audit: Any, loop_name: str) -> Iterator[Loop]:
    """A loop that hands off after a few milliseconds."""
    loop = antiphon.new_event_loop(on_block="handoff", block_after=0.005)
    audit.loops.add(loop)
    yield loop
    assert loop._blocked_steps() == 0
    loop.close()


def tools() -> list[str | None]:
    return [sys.monitoring.get_tool(number) for number in range(6)]  # type: ignore[attr-defined]


@needs_fence
async def test_five_blocked_calls_last_no_longer_than_one(loop: Loop) -> None:
    barrier = threading.Barrier(5)

    async def blocks() -> int:
        return barrier.wait(LIMIT_SECONDS)  # until all five are in it

    numbers = await asyncio.gather(*(blocks() for _ in range(5)))
    assert sorted(numbers) == list(range(5))


class Calls:
    """One blocking call of each kind, which end when `release` is called from another step."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.queue: queue.Queue[int] = queue.Queue()
        self.thread = threading.Thread(target=self.event.wait, args=(LIMIT_SECONDS,))
        self.thread.start()
        self.pipes = [os.pipe() for _ in range(3)]
        self.child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
        self.lock = threading.Lock()
        self.lock.acquire()

    def read(self, place: int) -> bytes:
        return os.read(self.pipes[place][0], 1)

    def iterate(self) -> str:
        with os.fdopen(os.dup(self.pipes[2][0])) as file:
            for line in file:
                return line
        return ""

    def hold(self) -> bool:
        with self.lock:
            return True

    def all(self) -> list[Callable[[], object]]:
        return [
            lambda: wait_for(self.event),
            lambda: self.queue.get(timeout=LIMIT_SECONDS),
            lambda: self.thread.join(LIMIT_SECONDS),
            lambda: self.read(0),
            lambda: select.select([self.pipes[1][0]], [], [], LIMIT_SECONDS),
            lambda: self.child.wait(LIMIT_SECONDS),
            lambda: sorted([2, 1], key=lambda item: (wait_for(self.event), item)[1]),
            self.iterate,
            self.hold,
        ]

    def release(self) -> None:
        self.event.set()
        self.queue.put(1)
        self.lock.release()
        for _, writer in self.pipes:
            os.write(writer, b"x\n")
        assert self.child.stdin is not None
        self.child.stdin.close()

    def close(self) -> None:
        self.thread.join()
        self.child.wait()
        for pipe in self.pipes:
            for end in pipe:
                os.close(end)


@needs_fence
async def test_calls_of_every_kind_at_once(loop: Any) -> None:
    calls = Calls()

    async def blocks(call: Callable[[], object]) -> bool:
        me = asyncio.current_task()
        call()
        return asyncio.current_task() is me and asyncio.get_running_loop() is loop

    tasks = [asyncio.ensure_future(blocks(call)) for call in calls.all()]
    while loop._blocked_steps() < len(tasks):
        await asyncio.sleep(0.001)
    calls.release()
    assert await asyncio.gather(*tasks) == [True] * len(tasks)
    calls.close()


@needs_fence
async def test_computing_step_keeps_the_seat(loop: Any) -> None:
    ran: list[int] = []
    loop.call_soon(ran.append, 1)
    end = time.monotonic() + LIMIT_SECONDS
    while not loop.blocking_stats().by_stall:  # until the watchdog has found this very step
        assert time.monotonic() < end
    assert ran == []
    assert loop._blocked_steps() == 0


@needs_fence
def test_default_handler_of_ctrl_c_leaves_the_run(loop: Any) -> None:
    blocked = threading.Event()

    async def blocks() -> None:
        blocked.set()
        threading.Event().wait(LIMIT_SECONDS)

    async def interrupts() -> None:
        while loop._blocked_steps() < 1:
            await asyncio.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    first = loop.create_task(blocks())
    second = loop.create_task(interrupts())
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(first)
    loop.run_until_complete(second)
    assert isinstance(first.exception(), KeyboardInterrupt)


@needs_fence
def test_runner_turns_ctrl_c_into_a_cancellation(audit: Any, loop_name: str) -> None:
    ended = []

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()

        async def blocks() -> None:
            wait_for(interrupted)

        interrupted = threading.Event()
        blocked = asyncio.ensure_future(blocks())
        while loop._blocked_steps() < 1:
            await asyncio.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.sleep(LIMIT_SECONDS)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        finally:
            interrupted.set()
            await blocked

    with pytest.raises(KeyboardInterrupt):
        antiphon.run(main(), on_block="handoff", block_after=0.005)
    assert ended == ["cancelled"]


@needs_fence
async def test_child_of_a_fork_in_a_spare_is_left_alone(loop: Any) -> None:
    release = threading.Event()

    async def blocks() -> None:
        wait_for(release)

    blocked = asyncio.ensure_future(blocks())
    while loop._blocked_steps() < 1:
        await asyncio.sleep(0.001)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            other = antiphon.new_event_loop(on_block="handoff")
            answer = other.run_until_complete(asyncio.sleep(0, b"fine"))
            other.close()
        except BaseException as error:
            answer = repr(error).encode()
        os.write(writer, answer)
        os._exit(0)
    os.close(writer)
    release.set()
    await blocked
    answer = await loop.run_in_executor(None, os.read, reader, 1000)
    os.close(reader)
    os.waitpid(child, 0)
    await loop.shutdown_default_executor()
    # In the child this thread seems to run the parent's loop, as after any fork in a task.
    assert answer == b"fine" or b"another loop is running" in answer


@needs_fence
def test_without_it_there_is_no_tool_and_no_thread(audit: Any, loop_name: str) -> None:
    before, threads = tools(), threading.active_count()
    antiphon.run(asyncio.sleep(0), on_block="ignore")
    assert tools() == before
    assert threading.active_count() == threads


@needs_fence
def test_the_tool_is_given_back_with_the_last_loop(audit: Any, loop_name: str) -> None:
    before = tools()

    async def during() -> list[str | None]:
        return tools()

    assert "antiphon" in antiphon.run(during(), on_block="handoff")
    assert tools() == before


@needs_fence
def test_all_tools_taken_is_said(audit: Any, loop_name: str) -> None:
    taken = [number for number, tool in enumerate(tools()) if tool is None]
    for number in taken:
        sys.monitoring.use_tool_id(number, "test")  # type: ignore[attr-defined]
    try:
        with pytest.raises(RuntimeError, match="needs a tool of sys.monitoring"):
            antiphon.new_event_loop(on_block="handoff")
    finally:
        for number in taken:
            sys.monitoring.free_tool_id(number)  # type: ignore[attr-defined]


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="there it works")
def test_refused_where_there_is_no_fence(audit: Any, loop_name: str) -> None:
    with pytest.raises(RuntimeError, match="needs Python 3.12"):
        antiphon.new_event_loop(on_block="handoff")


@needs_fence
async def test_pinned_task_stays_on_the_main_thread(loop: Any) -> None:
    main, release, threads = threading.main_thread(), threading.Event(), []

    @antiphon.pinned()
    async def pinned_task() -> None:
        for _ in range(5):
            threads.append(threading.current_thread())
            await asyncio.sleep(0)

    async def blocks() -> threading.Thread:
        wait_for(release)
        return threading.current_thread()

    # The first to block does so on the main thread, everything else then runs on spares.
    while threading.current_thread() is not main:
        await asyncio.sleep(0)
    blocked = asyncio.ensure_future(blocks())
    kept = asyncio.ensure_future(pinned_task())
    others = [asyncio.ensure_future(blocks()) for _ in range(2)]
    while loop._blocked_steps() < 3:
        await asyncio.sleep(0.001)
    assert threading.current_thread() is not main
    assert set(threads) <= {main}
    assert not kept.done()
    release.set()
    assert await blocked is main
    await asyncio.gather(kept, *others)
    assert threads == [main] * 5


def test_pinned_does_nothing_elsewhere(audit: Any, loop_name: str) -> None:
    @antiphon.pinned()
    async def add(one: int, other: int) -> int:
        await asyncio.sleep(0)
        return one + other

    assert antiphon.run(add(1, other=2), on_block="ignore") == 3
