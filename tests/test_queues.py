"""Queues: order, waiting on both sides, cancellation races, shutting down, subclasses, what programs look at."""

import asyncio
import collections
import gc
import random
import sys
import threading
import weakref

import pytest

from support.net import turns

SHUTS_DOWN = sys.version_info >= (3, 13)
needs_shutdown = pytest.mark.skipif(not SHUTS_DOWN, reason="queues cannot be shut down before 3.13")

KINDS = ("Queue", "LifoQueue", "PriorityQueue")
EXPECTED = {"Queue": [3, 1, 2], "LifoQueue": [2, 1, 3], "PriorityQueue": [1, 2, 3]}


async def cancelled(task):
    """Whether the task, awaited, turns out to be cancelled."""
    try:
        await task
    except asyncio.CancelledError:
        return True
    return False


@pytest.mark.parametrize("kind", KINDS)
async def test_items_come_in_the_order_of_the_kind(aio, loop, kind):
    queue = getattr(aio, kind)()
    for item in (3, 1, 2):
        await queue.put(item)
    assert queue.qsize() == 3 and not queue.empty()
    assert [await queue.get() for _ in range(3)] == EXPECTED[kind]
    assert queue.empty()


@pytest.mark.parametrize("kind", KINDS)
async def test_the_same_once_somebody_looked_at_the_container(aio, loop, kind):
    queue = getattr(aio, kind)(4)
    queue.put_nowait(3)
    queue.put_nowait(1)
    container = queue._queue
    assert type(container) is (collections.deque if kind == "Queue" else list)
    assert sorted(container) == [1, 3] and queue._queue is container
    queue.put_nowait(2)
    assert len(container) == queue.qsize() == 3 and not queue.full()
    assert [queue.get_nowait() for _ in range(3)] == EXPECTED[kind]
    assert not container
    container.append(9)
    assert await queue.get() == 9
    with pytest.raises(asyncio.QueueEmpty):
        queue.get_nowait()


async def test_limits(aio, loop):
    queue = aio.Queue(maxsize=2)
    assert queue.maxsize == 2
    queue.put_nowait(item=1)
    queue.put_nowait(2)
    assert queue.full()
    with pytest.raises(asyncio.QueueFull):
        queue.put_nowait(3)
    queue._maxsize = 3
    queue.put_nowait(3)
    assert queue.full() and queue.qsize() == 3
    for size in (0, -1, -7.5):
        assert not aio.Queue(size).full()
    fractional = aio.Queue(1.5)
    fractional.put_nowait(1)
    assert not fractional.full()
    fractional.put_nowait(1)
    assert fractional.full()


async def test_getters_are_served_in_turn(aio, loop):
    queue = aio.Queue()
    got = []

    async def getter(number):
        got.append((number, await queue.get()))

    tasks = [loop.create_task(getter(number)) for number in range(3)]
    await turns(1)
    assert len(queue._getters) == 3
    for item in "abc":
        queue.put_nowait(item)
    await asyncio.gather(*tasks)
    assert got == [(0, "a"), (1, "b"), (2, "c")]


async def test_putters_are_served_in_turn(aio, loop):
    queue = aio.Queue(1)
    queue.put_nowait(0)
    tasks = [loop.create_task(queue.put(number)) for number in (1, 2, 3)]
    await turns(1)
    assert len(queue._putters) == 3
    assert [await queue.get() for _ in range(4)] == [0, 1, 2, 3]
    assert await asyncio.gather(*tasks) == [None] * 3


async def test_a_getter_that_was_woken_and_is_cancelled_wakes_the_next(aio, loop):
    queue = aio.Queue()
    first, second = (loop.create_task(queue.get()) for _ in range(2))
    await turns(1)
    queue.put_nowait("item")
    first.cancel()
    assert await cancelled(first)
    assert await second == "item"


async def test_a_putter_that_was_woken_and_is_cancelled_wakes_the_next(aio, loop):
    queue = aio.Queue(1)
    queue.put_nowait(0)
    first, second = (loop.create_task(queue.put(number)) for number in (1, 2))
    await turns(1)
    assert queue.get_nowait() == 0
    first.cancel()
    assert await cancelled(first)
    await second
    assert queue.get_nowait() == 2


async def test_a_getter_that_somebody_overtook_waits_again(aio, loop):
    queue = aio.Queue()
    task = loop.create_task(queue.get())
    await turns(1)
    queue.put_nowait(1)
    assert queue.get_nowait() == 1
    await turns(3)
    assert not task.done() and len(queue._getters) == 1
    queue.put_nowait(2)
    assert await task == 2


async def test_who_gives_up_leaves_no_trace(aio, loop):
    queue = aio.Queue(1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), 0.001)
    queue.put_nowait(1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.put(2), 0.001)
    assert not queue._getters and not queue._putters and queue.qsize() == 1
    closed = queue.put(3)
    closed.send(None)
    closed.close()
    assert not queue._putters


async def test_join_waits_until_everything_is_done(aio, loop):
    queue = aio.Queue()
    await queue.join()
    queue.put_nowait(1)
    queue.put_nowait(2)
    joining = loop.create_task(queue.join())
    for _ in range(2):
        queue.get_nowait()
        await turns(2)
        assert not joining.done()
        queue.task_done()
    assert await joining is None
    with pytest.raises(ValueError, match=r"^task_done\(\) called too many times$"):
        queue.task_done()
    # What was put meanwhile counts.
    queue.put_nowait(3)
    joining = loop.create_task(queue.join())
    await turns(2)
    assert not joining.done() and not queue._finished.is_set() and queue._unfinished_tasks == 1
    queue.task_done()
    await joining
    assert queue._finished.is_set()


@needs_shutdown
@pytest.mark.parametrize("kind", KINDS)
async def test_shutting_down_lets_items_out_and_nothing_in(aio, loop, kind):
    queue = getattr(aio, kind)(2)
    queue.put_nowait(1)
    queue.put_nowait(2)
    putting = loop.create_task(queue.put(3))
    await turns(1)
    queue.shutdown()
    for attempt in (putting, queue.put(4)):
        with pytest.raises(asyncio.QueueShutDown):
            await attempt
    with pytest.raises(asyncio.QueueShutDown):
        queue.put_nowait(4)
    assert sorted([await queue.get(), queue.get_nowait()]) == [1, 2]
    with pytest.raises(asyncio.QueueShutDown):
        await queue.get()
    with pytest.raises(asyncio.QueueShutDown):
        queue.get_nowait()
    assert repr(queue).endswith("shutdown>")


@needs_shutdown
async def test_shutting_down_at_once(aio, loop):
    queue = aio.Queue()
    queue.put_nowait(1)
    queue.put_nowait(2)
    joining = loop.create_task(queue.join())
    await turns(1)
    assert queue.get_nowait() == 1
    queue.shutdown(immediate=True)
    assert queue.empty() and queue._unfinished_tasks == 1
    await turns(2)
    assert not joining.done()
    queue.task_done()
    await joining
    getters = aio.Queue()
    tasks = [loop.create_task(getters.get()) for _ in range(3)]
    await turns(1)
    getters.shutdown(immediate=True)
    for task in tasks:
        with pytest.raises(asyncio.QueueShutDown):
            await task


async def test_representations(aio, loop):
    queue = aio.Queue(2)
    assert str(queue) == "<Queue maxsize=2>"
    assert repr(queue) == f"<Queue at {id(queue):#x} maxsize=2>"
    getting = loop.create_task(queue.get())
    await turns(1)
    assert str(queue) == "<Queue maxsize=2 _getters[1]>"
    queue.put_nowait("item")
    await getting
    queue.put_nowait("a")
    queue.put_nowait("b")
    putting = loop.create_task(queue.put("c"))
    await turns(1)
    assert str(queue) == "<Queue maxsize=2 _queue=['a', 'b'] _putters[1] tasks=3>"
    assert str(queue) == f"<Queue {queue._format()}>"
    queue.get_nowait()
    await putting
    assert str(aio.PriorityQueue()) == "<PriorityQueue maxsize=0>"


async def test_generic_aliases(aio, loop):
    assert aio.Queue[int].__origin__ is aio.Queue
    assert aio.PriorityQueue[int].__args__ == (int,)


async def test_a_subclass_with_a_container_of_its_own(aio, loop):
    class SetQueue(aio.Queue):
        def _init(self, maxsize):
            self.asked = maxsize
            self._queue = set()

        def _put(self, item):
            self._queue.add(item)

        def _get(self):
            return self._queue.pop()

    queue = SetQueue(2)
    assert queue.asked == 2
    await queue.put(1)
    await queue.put(1)
    assert queue.qsize() == 1 and not queue.full()
    await queue.put(2)
    assert queue.full()
    putting = loop.create_task(queue.put(3))
    await turns(1)
    assert not putting.done()
    assert {await queue.get(), await queue.get()} <= {1, 2, 3}
    await putting
    assert sorted(queue._queue)


async def test_a_subclass_that_counts(aio, loop):
    """Everything that asyncio's own methods call by name is called."""
    calls = []

    class Counting(aio.Queue):
        def put_nowait(self, item):
            calls.append("put_nowait")
            super().put_nowait(item)

        def get_nowait(self):
            calls.append("get_nowait")
            return super().get_nowait()

        def full(self):
            calls.append("full")
            return super().full()

        def empty(self):
            calls.append("empty")
            return super().empty()

    queue = Counting(1)
    await queue.put("item")
    assert calls == ["full", "put_nowait", "full"]
    calls.clear()
    assert await queue.get() == "item"
    assert calls == ["empty", "get_nowait", "empty"]
    getting = loop.create_task(queue.get())
    await turns(1)
    queue.put_nowait("next")
    assert await getting == "next"


async def test_a_subclass_of_a_subclass_and_its_constructor(aio, loop):
    class Named(aio.PriorityQueue):
        def __init__(self, name):
            super().__init__(maxsize=3)
            self.name = name

        def _put(self, item):
            super()._put((-item, item))

        def _get(self):
            return super()._get()[1]

    queue = Named("greatest first")
    for item in (1, 3, 2):
        queue.put_nowait(item)
    assert queue.full() and queue.name == "greatest first"
    assert [await queue.get() for _ in range(3)] == [3, 2, 1]


async def test_an_item_that_cannot_be_compared(aio, loop):
    queue = aio.PriorityQueue()
    queue.put_nowait(1)
    with pytest.raises(TypeError):
        queue.put_nowait("a")
    assert queue._unfinished_tasks == 1


async def test_items_are_let_go(aio, loop):
    class Item:
        pass

    queue = aio.Queue()
    item = Item()
    reference = weakref.ref(item)
    await queue.put(item)
    del item
    assert reference() is not None
    await queue.get()
    gc.collect()
    assert reference() is None
    # A queue in a cycle with what is in it.
    loops = Item()
    loops.queue = aio.Queue()
    loops.queue.put_nowait(loops)
    loops.getter = aio.Queue().get()
    reference = weakref.ref(loops)
    loops.getter.close()
    del loops
    gc.collect()
    assert reference() is None


async def test_nothing_is_lost_under_random_cancellation(aio, loop):
    rng = random.Random(7)
    queue = aio.Queue(3)
    put, got = [], []

    async def producer(number):
        for item in range(40):
            await queue.put((number, item))
            put.append((number, item))

    async def consumer():
        while True:
            got.append(await queue.get())

    producers = [loop.create_task(producer(number)) for number in range(4)]
    consumers = [loop.create_task(consumer()) for _ in range(4)]
    while any(not task.done() for task in producers):
        await turns(1)
        place = rng.randrange(len(consumers))
        if rng.random() < 0.3:
            consumers[place].cancel()
            assert await cancelled(consumers[place])
            consumers[place] = loop.create_task(consumer())
    while not queue.empty():
        await turns(1)
    await turns(2)
    for task in consumers:
        task.cancel()
        await cancelled(task)
    assert sorted(got) == sorted(put) and len(got) == 160
    for number in range(4):
        assert [item for who, item in got if who == number] == list(range(40))


@pytest.mark.loops("antiphon")  # asyncio's queues are for one thread; these must survive several
def test_threads_that_hammer_a_queue_lose_nothing(aio, loop):
    queue = aio.Queue()
    per_thread, threads = 3_000, 4
    got = [[] for _ in range(threads)]

    def work(number):
        for item in range(per_thread):
            queue.put_nowait((number, item))
            if item % 3:
                got[number].append(queue.get_nowait())
            queue.qsize(), queue.full(), repr(queue._getters)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    rest = [queue.get_nowait() for _ in range(queue.qsize())]
    everything = sorted([item for part in got for item in part] + rest)
    assert everything == sorted(
        (number, item) for number in range(threads) for item in range(per_thread)
    )
    assert queue._unfinished_tasks == per_thread * threads


@pytest.mark.loops("antiphon")  # as above
def test_threads_that_hammer_a_lock_never_have_it_twice(aio, loop):
    lock, semaphore = aio.Lock(), aio.Semaphore(2)
    inside, worst, done = [0, 0], [0, 0], []

    def attempt(thing):
        """Acquires without a loop, or gives up."""
        coroutine = thing.acquire()
        try:
            coroutine.send(None)
        except StopIteration:
            return True
        except RuntimeError as error:
            assert "no running event loop" in str(error)
            return False
        raise AssertionError("it waits")

    def work():
        for _ in range(3_000):
            for place, thing in enumerate((lock, semaphore)):
                if attempt(thing):
                    inside[place] += 1
                    worst[place] = max(worst[place], inside[place])
                    inside[place] -= 1
                    thing.release()
        done.append(True)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(done) == 4 and worst[0] == 1 and worst[1] <= 2
    assert not lock.locked() and semaphore._value == 2


async def test_methods_replaced_on_an_instance_are_called(aio, loop):
    queue = aio.Queue(2)
    log = []
    put, get = queue._put, queue._get
    queue._put = lambda item: log.append(("put", item)) or put(item)
    queue._get = lambda: log.append("get") or get()
    queue.put_nowait(1)
    await queue.put(2)
    putting = loop.create_task(queue.put(3))
    await asyncio.sleep(0)
    assert [queue.get_nowait(), await queue.get()] == [1, 2]
    await putting
    assert await queue.get() == 3
    assert log == [("put", 1), ("put", 2), "get", "get", ("put", 3), "get"]


async def test_what_is_replaced_on_an_instance_that_is_waited_at_is_called(aio, loop):
    queue = aio.Queue()
    getting = loop.create_task(queue.get())
    await asyncio.sleep(0)
    queue.get_nowait = lambda: "replaced"
    queue.put_nowait("item")
    assert await getting == "replaced"
    del queue.get_nowait
    assert queue.get_nowait() == "item"


@pytest.mark.parametrize("attributes", [0, 1])
async def test_methods_replaced_on_an_instance_of_a_plain_subclass_are_called(
    aio, loop, attributes
):
    class Named(aio.Queue):
        """Overrides nothing, and its instances have attributes, as a subclass's have."""

    queue = Named(2)
    for number in range(attributes):
        setattr(queue, f"attribute_{number}", number)
    queue.put_nowait(0)
    assert await queue.get() == 0
    log = []
    put = queue._put
    queue._put = lambda item: log.append(item) or put(item)
    queue.put_nowait(1)
    await queue.put(2)
    assert log == [1, 2]
    del queue._put
    assert [await queue.get(), queue.get_nowait()] == [1, 2]
    queue.put_nowait(3)
    assert log == [1, 2]
    queue.get_nowait = lambda: "replaced"
    assert await queue.get() == "replaced"
    queue.__dict__ = {**queue.__dict__, "empty": lambda: True}
    del queue.get_nowait
    getting = loop.create_task(queue.get())
    await turns(2)
    assert not getting.done()
    del queue.empty
    queue.put_nowait(4)
    assert await getting == 3
    assert queue.qsize() == 1


@needs_shutdown
async def test_shutting_down_with_an_argument_that_is_neither_true_nor_false(aio, loop):
    class Odd:
        def __bool__(self):
            raise LookupError("neither")

    queue = aio.Queue()
    queue.put_nowait(1)
    with pytest.raises(LookupError, match="neither"):
        queue.shutdown(Odd())
    with pytest.raises(asyncio.QueueShutDown):
        queue.put_nowait(2)
    assert queue.get_nowait() == 1
