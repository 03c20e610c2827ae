"""`antiphon.sync`: locks, events, semaphores, queues and channels between loops and threads."""

import asyncio
import contextlib
import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from antiphon import sync

pytestmark = pytest.mark.real_driver("threads meet at real clocks")

ROUNDS = 300


@pytest.fixture
def busy_switching() -> Iterator[None]:
    """Threads change places as often as the interpreter lets them."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


class Crew:
    """Threads, with and without loops, that start together; an exception in one is the test's."""

    def __init__(self, loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self._loop_factory = loop_factory
        self._bodies: list[Callable[[], None]] = []
        self.errors: list[BaseException] = []

    def thread(self, body: Callable[[], Any]) -> None:
        """Adds a thread without a loop."""
        self._bodies.append(body)

    def loop(self, *mains: Callable[[], Any]) -> None:
        """Adds a thread with a loop, which runs tasks."""

        async def main() -> None:
            async with asyncio.TaskGroup() as group:
                for coroutine_function in mains:
                    group.create_task(coroutine_function())

        def body() -> None:
            with asyncio.Runner(loop_factory=self._loop_factory) as runner:
                runner.run(main())

        self._bodies.append(body)

    def work(self) -> None:
        """Runs all to their end."""
        start = threading.Barrier(len(self._bodies))

        def run(body: Callable[[], None]) -> None:
            try:
                start.wait()
                body()
            except BaseException as error:
                self.errors.append(error)

        threads = [threading.Thread(target=run, args=(body,), daemon=True) for body in self._bodies]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(15)
            assert not thread.is_alive(), "somebody was not woken"
        if self.errors:
            raise self.errors[0]


@pytest.fixture
def crew(loop_factory: Any) -> Crew:
    return Crew(loop_factory)


async def waiting(condition: Callable[[], bool]) -> None:
    """Lets the loop turn until others have come so far."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


def waiters(thing: Any, line: str = "_waiters") -> int:
    return len(getattr(thing, line))


def test_lock_excludes_tasks_and_threads(crew: Crew, busy_switching: None) -> None:
    lock = sync.Lock()
    inside = 0
    entered: Counter[str] = Counter()

    async def task() -> None:
        nonlocal inside
        for _ in range(ROUNDS):
            async with lock:
                inside += 1
                assert inside == 1
                await asyncio.sleep(0)
                inside -= 1
                entered["task"] += 1

    def thread() -> None:
        nonlocal inside
        for _ in range(ROUNDS):
            with lock:
                inside += 1
                assert inside == 1
                inside -= 1
                entered["thread"] += 1

    crew.loop(task, task)
    crew.loop(task)
    crew.thread(thread)
    crew.thread(thread)
    crew.work()
    assert entered == {"task": 3 * ROUNDS, "thread": 2 * ROUNDS}
    assert not lock.locked()


def test_semaphore_lets_in_as_many_as_it_says(crew: Crew, busy_switching: None) -> None:
    semaphore = sync.BoundedSemaphore(3)
    mutex = threading.Lock()
    inside = most = 0

    def step(change: int) -> None:
        nonlocal inside, most
        with mutex:
            inside += change
            most = max(most, inside)

    async def task() -> None:
        for _ in range(ROUNDS):
            async with semaphore:
                step(+1)
                await asyncio.sleep(0)
                step(-1)

    def thread() -> None:
        for _ in range(ROUNDS):
            assert semaphore.acquire_blocking()
            step(+1)
            step(-1)
            semaphore.release()

    for _ in range(2):
        crew.loop(task, task, task)
        crew.thread(thread)
    crew.work()
    assert inside == 0 and 1 < most <= 3
    with pytest.raises(ValueError, match="too many times"):
        semaphore.release()


@pytest.mark.parametrize("maxsize", [0, 1, 7])
def test_queue_brings_every_item_once(crew: Crew, busy_switching: None, maxsize: int) -> None:
    queue: sync.Queue[tuple[str, int]] = sync.Queue(maxsize)
    got: list[list[tuple[str, int]]] = []

    def producer(name: str) -> tuple[Callable[[], Any], Callable[[], None]]:
        async def task() -> None:
            for number in range(ROUNDS):
                await queue.put((name, number))

        def thread() -> None:
            for number in range(ROUNDS):
                queue.put_blocking((name, number))

        return task, thread

    async def task_consumer() -> None:
        mine: list[tuple[str, int]] = []
        got.append(mine)
        try:
            while True:
                mine.append(await queue.get())
                queue.task_done()
        except sync.QueueShutDown:
            pass

    def thread_consumer() -> None:
        mine: list[tuple[str, int]] = []
        got.append(mine)
        try:
            while True:
                mine.append(queue.get_blocking())
                queue.task_done()
        except sync.QueueShutDown:
            pass

    producers_left = threading.Semaphore(0)

    def shutter() -> None:
        for _ in range(4):
            producers_left.acquire()
        queue.join_blocking()
        queue.shutdown()

    def counted(body: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            body()
            producers_left.release()

        return run

    async def counted_task(body: Callable[[], Any]) -> None:
        await body()
        producers_left.release()

    crew.loop(lambda: counted_task(producer("a")[0]), task_consumer)
    crew.loop(lambda: counted_task(producer("b")[0]), task_consumer, task_consumer)
    crew.thread(counted(producer("c")[1]))
    crew.thread(counted(producer("d")[1]))
    crew.thread(thread_consumer)
    crew.thread(shutter)
    crew.work()
    everything = Counter(item for mine in got for item in mine)
    assert everything == Counter((name, number) for name in "abcd" for number in range(ROUNDS))
    # Of each producer, each consumer has seen the items in order.
    for mine in got:
        for name in "abcd":
            numbers = [number for other, number in mine if other == name]
            assert numbers == sorted(numbers)


def test_cancelled_getters_lose_no_item(crew: Crew, busy_switching: None) -> None:
    queue: sync.Queue[int] = sync.Queue(2)
    got: list[int] = []
    randomness = random.Random(7)

    async def impatient() -> None:
        while len(got) < ROUNDS:
            task = asyncio.create_task(queue.get())
            for _ in range(randomness.randrange(4)):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                got.append(await task)

    def thread() -> None:
        for number in range(ROUNDS):
            queue.put_blocking(number)

    crew.loop(impatient)
    crew.thread(thread)
    crew.work()
    assert got == list(range(ROUNDS))


def test_cancelled_acquisitions_lose_no_place(crew: Crew, busy_switching: None) -> None:
    lock = sync.Lock()

    async def impatient() -> None:
        for number in range(ROUNDS):
            task = asyncio.create_task(lock.acquire())
            for _ in range(number % 4):
                await asyncio.sleep(0)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                continue
            lock.release()

    def thread() -> None:
        for number in range(ROUNDS):
            if lock.acquire_blocking(timeout=1e-5 * (number % 3) if number % 2 else None):
                lock.release()

    crew.loop(impatient, impatient)
    crew.loop(impatient)
    crew.thread(thread)
    crew.work()
    assert not lock.locked() and not waiters(lock)


def test_event_wakes_all(crew: Crew) -> None:
    event = sync.Event()
    woken: list[str] = []

    async def task() -> None:
        assert await event.wait() is True
        woken.append("task")

    def thread() -> None:
        assert event.wait_blocking()
        woken.append("thread")

    def setter() -> None:
        while waiters(event) < 4:
            pass
        event.set()

    crew.loop(task, task)
    crew.loop(task)
    crew.thread(thread)
    crew.thread(setter)
    crew.work()
    assert sorted(woken) == ["task", "task", "task", "thread"]
    assert event.is_set() and event.wait_blocking(0)
    event.clear()
    assert not event.wait_blocking(0.001)
    assert not waiters(event)


def test_channel_is_iterated_until_it_is_closed(crew: Crew, busy_switching: None) -> None:
    channel: sync.Channel[int] = sync.Channel(3)
    got: list[int] = []

    async def sender() -> None:
        for number in range(ROUNDS):
            await channel.send(number)

    def thread_sender() -> None:
        for number in range(ROUNDS):
            channel.send_blocking(number)
        while len(got) + len(channel) < 2 * ROUNDS:
            pass
        channel.close()

    async def receiver() -> None:
        async for item in channel:
            got.append(item)

    def thread_receiver() -> None:
        for item in channel:
            got.append(item)

    crew.loop(sender, receiver)
    crew.loop(receiver)
    crew.thread(thread_sender)
    crew.thread(thread_receiver)
    crew.work()
    assert Counter(got) == Counter(list(range(ROUNDS)) * 2)
    assert channel.closed
    with pytest.raises(sync.ChannelClosed):
        channel.send_blocking(1)
    with pytest.raises(sync.ChannelClosed):
        channel.receive_blocking()


async def test_who_waits_first_is_served_first(loop: Any) -> None:
    lock = sync.Lock()
    await lock.acquire()
    order: list[str] = []

    async def task(name: str) -> None:
        async with lock:
            order.append(name)

    def thread() -> None:
        with lock:
            order.append("thread")

    first = asyncio.create_task(task("first"))
    await waiting(lambda: waiters(lock) == 1)
    second = threading.Thread(target=thread)
    second.start()
    await waiting(lambda: waiters(lock) == 2)
    third = asyncio.create_task(task("third"))
    await waiting(lambda: waiters(lock) == 3)
    # Who comes when it is handed on cannot be faster.
    lock.release()
    assert lock.locked()
    await asyncio.gather(first, third)
    second.join()
    assert order == ["first", "thread", "third"]


async def test_release_wakes_one(loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    woken = 0
    wake = sync.waiter.TaskWaiter.wake

    def counted(waiter: Any) -> bool:
        nonlocal woken
        woken += 1
        return wake(waiter)

    monkeypatch.setattr(sync.waiter.TaskWaiter, "wake", counted)
    semaphore = sync.Semaphore(0)
    tasks = [asyncio.create_task(semaphore.acquire()) for _ in range(3)]
    await waiting(lambda: waiters(semaphore) == 3)
    semaphore.release()
    await waiting(lambda: tasks[0].done())
    assert woken == 1 and not tasks[1].done()
    for task in tasks[1:]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert not waiters(semaphore)


async def test_blocking_calls_are_refused_in_a_loop(loop: Any) -> None:
    queue: sync.Queue[int] = sync.Queue()
    for call in (
        lambda: queue.put_blocking(1),
        queue.get_blocking,
        queue.join_blocking,
        sync.Lock().acquire_blocking,
        sync.Lock().__enter__,
        sync.Event().wait_blocking,
    ):
        with pytest.raises(RuntimeError, match="would block the running event loop"):
            call()


def test_blocking_calls_take_a_timeout() -> None:
    queue: sync.Queue[int] = sync.Queue(1)
    with pytest.raises(asyncio.QueueEmpty):
        queue.get_blocking(0.001)
    queue.put_blocking(1, timeout=0.001)
    with pytest.raises(asyncio.QueueFull):
        queue.put_blocking(2, timeout=0.001)
    assert not queue.join_blocking(0.001)
    assert queue.get_blocking(0.001) == 1
    assert not any(waiters(queue, line) for line in ("_getters", "_putters", "_joiners"))
    lock = sync.Lock()
    assert lock.acquire_blocking() and not lock.acquire_blocking(0.001)
    assert not lock.acquire_blocking(0)
    lock.release()
    with pytest.raises(RuntimeError, match="not acquired"):
        lock.release()
    channel: sync.Channel[int] = sync.Channel()
    with pytest.raises(TimeoutError):
        channel.receive_blocking(0.001)
    channel.send_blocking(1)
    with pytest.raises(TimeoutError):
        channel.send_blocking(2, 0.001)
    with pytest.raises(ValueError):
        sync.Channel(0)
    with pytest.raises(ValueError):
        sync.Semaphore(-1)


async def test_queue_has_asyncios_manners(loop: Any) -> None:
    queue: sync.Queue[int] = sync.Queue(2)
    assert queue.empty() and queue.maxsize == 2
    queue.put_nowait(1)
    await queue.put(2)
    assert queue.full() and queue.qsize() == 2
    with pytest.raises(asyncio.QueueFull):
        queue.put_nowait(3)
    putter = asyncio.create_task(queue.put(3))
    await asyncio.sleep(0)
    assert [queue.get_nowait(), await queue.get(), await queue.get()] == [1, 2, 3]
    await putter
    with pytest.raises(asyncio.QueueEmpty):
        queue.get_nowait()
    joiner = asyncio.create_task(queue.join())
    for _ in range(3):
        assert not joiner.done()
        queue.task_done()
        await asyncio.sleep(0)
    await joiner
    with pytest.raises(ValueError):
        queue.task_done()


async def test_cancelled_put_leaves_no_item(loop: Any) -> None:
    queue: sync.Queue[str] = sync.Queue(1)
    await queue.put("first")
    second, third = (asyncio.create_task(queue.put(name)) for name in ("second", "third"))
    await asyncio.sleep(0)
    # The place that is free goes to the second, which is cancelled in the same moment; so the third has it.
    assert queue.get_nowait() == "first"
    second.cancel()
    await asyncio.wait([second, third])
    assert second.cancelled() and queue.get_nowait() == "third" and queue.empty()
    fourth = asyncio.create_task(queue.put("fourth"))
    await fourth
    fifth = asyncio.create_task(queue.put("fifth"))
    await asyncio.sleep(0)
    fifth.cancel()
    await asyncio.wait([fifth])
    assert queue.get_nowait() == "fourth" and queue.empty() and not waiters(queue, "_putters")


async def test_shutdown_ends_waits(loop: Any) -> None:
    queue: sync.Queue[int] = sync.Queue(1)
    getter = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.shutdown()
    with pytest.raises(sync.QueueShutDown):
        await getter
    with pytest.raises(sync.QueueShutDown):
        queue.put_nowait(1)
    full: sync.Queue[int] = sync.Queue(1)
    full.put_nowait(1)
    putter = asyncio.create_task(full.put(2))
    await asyncio.sleep(0)
    full.shutdown()
    with pytest.raises(sync.QueueShutDown):
        await putter
    assert await full.get() == 1
    with pytest.raises(sync.QueueShutDown):
        await full.get()
    dropped: sync.Queue[int] = sync.Queue()
    dropped.put_nowait(1)
    dropped.shutdown(immediate=True)
    await dropped.join()
    with pytest.raises(sync.QueueShutDown):
        dropped.get_nowait()


def test_what_a_closed_loop_was_given_goes_on(loop_factory: Any) -> None:
    """A loop is closed while a task of it waits: the grant that it cannot take is not lost."""
    lock: Any = sync.Semaphore()
    queue: sync.Queue[int] = sync.Queue()
    lock.acquire_blocking()
    loop = loop_factory()
    tasks = [loop.create_task(lock.acquire()), loop.create_task(queue.get())]
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert waiters(lock) == 1 and waiters(queue, "_getters") == 1
    loop.close()
    lock.release()
    queue.put_nowait(1)
    for task in tasks:  # they give up what was taken from them already
        task._log_destroy_pending = False
        task.get_coro().close()
    assert lock.acquire_blocking(0) and not lock.acquire_blocking(0)
    assert queue.get_nowait() == 1 and queue.empty()
