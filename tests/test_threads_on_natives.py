"""Futures, tasks, queues and locks under threads that hammer them, with the GIL and without.

asyncio promises nothing here: its objects belong to their loop's thread. antiphon's promise that nothing is torn: one
thread wins each race, what was put is got once, every callback runs once and in the loop.
"""

import asyncio
import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import antiphon

THREADS = 4
ROUNDS = 2_000

pytestmark = pytest.mark.loops("antiphon")  # asyncio's own are not made for it


@pytest.fixture(autouse=True)
def natives() -> Iterator[None]:
    """All of asyncio is antiphon's, and threads change places as often as the interpreter lets them."""
    interval = sys.getswitchinterval()
    antiphon.install()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


async def in_threads(*bodies: Callable[[], None]) -> None:
    """Runs the bodies at the same time, each in a thread of its own, and waits for all beside the loop."""
    start = threading.Barrier(len(bodies))

    def run(body: Callable[[], None]) -> None:
        start.wait()
        body()

    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(len(bodies)) as pool:
        await asyncio.gather(*(loop.run_in_executor(pool, run, body) for body in bodies))


async def settled(condition: Callable[[], bool]) -> None:
    """Lets the loop turn until `condition` holds."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


async def test_one_thread_settles_a_future(loop: asyncio.AbstractEventLoop) -> None:
    futures = [loop.create_future() for _ in range(ROUNDS)]
    called: Counter[int] = Counter()
    wins: list[Counter[int]] = [Counter() for _ in range(THREADS)]
    for number, future in enumerate(futures):
        future.add_done_callback(lambda _, number=number: called.update([number]))

    def racer(index: int) -> Callable[[], None]:
        def settle() -> None:
            for number, future in enumerate(futures):
                try:
                    if index % 2:
                        won = future.cancel()
                    else:
                        future.set_result(index)
                        won = True
                except asyncio.InvalidStateError:
                    won = False
                wins[index][number] += won

        return settle

    await in_threads(*(racer(index) for index in range(THREADS)))
    await settled(lambda: len(called) == ROUNDS)
    assert sum(wins, Counter()) == Counter(range(ROUNDS)) == called
    for number, future in enumerate(futures):
        winner = next(index for index in range(THREADS) if wins[index][number])
        assert future.cancelled() if winner % 2 else future.result() == winner


async def test_callbacks_added_while_it_is_settled_run_once(
    loop: asyncio.AbstractEventLoop,
) -> None:
    futures = [loop.create_future() for _ in range(ROUNDS)]
    called: list[Counter[int]] = [Counter() for _ in range(THREADS - 1)]
    home = threading.get_ident()
    elsewhere: list[int] = []

    def adder(index: int) -> Callable[[], None]:
        def note(_: object, number: int) -> None:
            called[index][number] += 1
            if threading.get_ident() != home:
                elsewhere.append(number)

        def add() -> None:
            for number, future in enumerate(futures):
                future.add_done_callback(lambda done, number=number: note(done, number))

        return add

    def settle() -> None:
        for future in futures:
            future.set_result(None)

    await in_threads(settle, *(adder(index) for index in range(THREADS - 1)))
    await settled(lambda: all(len(counter) == ROUNDS for counter in called))
    assert all(counter == Counter(range(ROUNDS)) for counter in called)
    assert not elsewhere


async def test_tasks_wake_once_whoever_settles_what_they_wait_for(
    loop: asyncio.AbstractEventLoop,
) -> None:
    futures: list[asyncio.Future[int]] = [loop.create_future() for _ in range(ROUNDS)]

    async def wait(future: asyncio.Future[int]) -> int:
        return await future

    tasks = [loop.create_task(wait(future)) for future in futures]
    await asyncio.sleep(0)

    def settle(part: int) -> Callable[[], None]:
        def body() -> None:
            for number in range(part, ROUNDS, THREADS):
                futures[number].set_result(number)

        return body

    await in_threads(*(settle(part) for part in range(THREADS)))
    assert await asyncio.gather(*tasks) == list(range(ROUNDS))


async def test_cancelling_tasks_from_threads(loop: asyncio.AbstractEventLoop) -> None:
    caught: Counter[int] = Counter()

    async def wait(number: int) -> None:
        try:
            await loop.create_future()
        except asyncio.CancelledError:
            caught[number] += 1
            raise

    tasks = [loop.create_task(wait(number)) for number in range(ROUNDS)]
    await asyncio.sleep(0)

    def cancel() -> None:
        for task in tasks:
            task.cancel()

    await in_threads(*[cancel] * THREADS)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    assert caught == Counter(range(ROUNDS))


async def test_a_queue_loses_and_doubles_nothing(loop: asyncio.AbstractEventLoop) -> None:
    queue: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
    got: list[list[Any]] = [[] for _ in range(THREADS)]
    ended = [threading.Event() for _ in range(THREADS)]

    def putter(index: int) -> Callable[[], None]:
        def put() -> None:
            for number in range(ROUNDS):
                queue.put_nowait((index, number))
            ended[index].set()

        return put

    def getter(index: int) -> Callable[[], None]:
        def get() -> None:
            while True:
                all_put = all(event.is_set() for event in ended)
                try:
                    got[index].append(queue.get_nowait())
                except asyncio.QueueEmpty:
                    if all_put:
                        return

        return get

    await in_threads(*(putter(i) for i in range(THREADS)), *(getter(i) for i in range(THREADS)))
    taken = Counter(item for part in got for item in part)
    assert taken == Counter((index, number) for index in range(THREADS) for number in range(ROUNDS))
    for part in got:  # each producer's items in its order
        for index in range(THREADS):
            numbers = [number for producer, number in part if producer == index]
            assert numbers == sorted(numbers)


async def test_permits_are_conserved(loop: asyncio.AbstractEventLoop) -> None:
    semaphore = asyncio.Semaphore(0)
    entered = 0

    async def enter() -> None:
        nonlocal entered
        await semaphore.acquire()
        entered += 1

    tasks = [loop.create_task(enter()) for _ in range(THREADS * ROUNDS)]
    await asyncio.sleep(0)

    def release() -> None:
        for _ in range(ROUNDS):
            semaphore.release()

    await in_threads(*[release] * THREADS)
    async with asyncio.timeout(10):
        await asyncio.gather(*tasks)
    assert entered == THREADS * ROUNDS
    assert semaphore.locked()


async def test_events_set_from_threads_wake_everybody(loop: asyncio.AbstractEventLoop) -> None:
    events = [asyncio.Event() for _ in range(ROUNDS)]
    tasks = [loop.create_task(event.wait()) for event in events]
    await asyncio.sleep(0)

    def set_all() -> None:
        for event in random.sample(events, len(events)):
            event.set()

    await in_threads(*[set_all] * THREADS)
    async with asyncio.timeout(10):
        assert all(await asyncio.gather(*tasks))
