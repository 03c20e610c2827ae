"""What programs and debuggers see of tasks and futures: stacks, names, contexts, errors that travel, other kinds."""

import asyncio
import contextvars
import gc
import io
import pickle
import sys
import traceback
import weakref

import pytest

from support.net import turns

VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")


async def outer(future):
    await inner(future)


async def inner(future):
    await future


def names_of(stack):
    """The functions of a stack's frames."""
    return [frame.f_code.co_name for frame in stack]


def printed(task, **arguments):
    """What `print_stack` writes, less the lines of source."""
    file = io.StringIO()
    task.print_stack(file=file, **arguments)
    return [line for line in file.getvalue().splitlines() if not line.startswith("    ")]


async def test_stack_of_a_waiting_task_is_its_coroutines_frame(loop):
    waiter = loop.create_future()
    task = loop.create_task(outer(waiter))
    assert names_of(task.get_stack()) == ["outer"]  # before its first step, too
    await turns(1)
    # A suspended coroutine shows one frame, whatever it awaits.
    assert names_of(task.get_stack()) == ["outer"]
    assert names_of(task.get_stack(limit=1)) == ["outer"]
    assert names_of(task.get_stack(limit=0)) == []
    text = printed(task)
    assert text[0] == f"Stack for {task!r} (most recent call last):"
    assert text[1].startswith(f'  File "{__file__}", line ') and text[1].endswith("in outer")
    waiter.set_result(None)
    await task
    assert task.get_stack() == []
    assert printed(task) == [f"No stack for {task!r}"]


async def test_stack_of_a_failed_task_is_its_tracebacks(loop):
    waiter = loop.create_future()
    task = loop.create_task(outer(waiter))
    await turns(1)
    waiter.set_exception(LookupError("lost"))
    await asyncio.wait([task])
    assert names_of(task.get_stack()) == ["outer", "inner"]
    assert names_of(task.get_stack(limit=1)) == ["outer"]  # the oldest, as documented
    text = printed(task)
    assert text[0] == f"Traceback for {task!r} (most recent call last):"
    assert [line.rpartition(" in ")[2] for line in text[1:3]] == ["outer", "inner"]
    assert text[3] == "LookupError: lost"
    assert [line.rpartition(" in ")[2] for line in printed(task, limit=1)[1:2]] == ["outer"]
    assert isinstance(task.exception(), LookupError)


async def test_stack_of_the_running_task_is_where_it_runs(loop):
    async def running():
        return names_of(asyncio.current_task().get_stack())

    assert "running" in await loop.create_task(running())


async def test_stack_goes_to_the_standard_streams_unless_told_otherwise(loop, capsys):
    waiter = loop.create_future()
    task = loop.create_task(outer(waiter))
    await turns(1)
    task.print_stack()
    captured = capsys.readouterr()
    assert captured.out == f"Stack for {task!r} (most recent call last):\n"
    assert "in outer" in captured.err  # where `traceback` writes
    waiter.set_result(None)
    await task


async def test_names_are_strings(loop):
    class Shown:
        def __str__(self):
            return "shown"

    task = loop.create_task(asyncio.sleep(0), name=Shown())
    assert task.get_name() == "shown"
    assert "name='shown'" in repr(task)
    task.set_name(17)
    assert task.get_name() == "17"
    unnamed = loop.create_task(asyncio.sleep(0))
    prefix, number = unnamed.get_name().split("-")
    assert prefix == "Task" and int(number) > 0
    await asyncio.gather(task, unnamed)


async def test_contexts_given_and_copied(loop):
    async def body(value):
        before = VARIABLE.get()
        VARIABLE.set(value)
        await asyncio.sleep(0)
        return before, VARIABLE.get()

    VARIABLE.set("mine")
    copied = loop.create_task(body("changed"))
    assert await copied == ("mine", "changed")
    assert VARIABLE.get() == "mine"
    given = contextvars.Context()
    task = loop.create_task(body("given"), context=given)
    assert await task == ("unset", "given")
    assert given[VARIABLE] == "given"
    if sys.version_info >= (3, 12):
        assert task.get_context() is given and task.get_coro().__name__ == "body"


async def test_callbacks_run_in_their_contexts_in_order_and_are_removed_by_number(loop):
    log = []

    def called(future):
        log.append(("called", VARIABLE.get(), future is task))

    def other(future):
        log.append(("other", VARIABLE.get(), future is task))

    given = contextvars.Context()
    given.run(VARIABLE.set, "given")
    task = loop.create_task(asyncio.sleep(0))
    task.add_done_callback(called, context=given)
    task.add_done_callback(other)
    task.add_done_callback(called)
    task.add_done_callback(other)
    assert task.remove_done_callback(other) == 2
    assert task.remove_done_callback(other) == 0
    VARIABLE.set("later")
    await task
    await turns(1)
    assert log == [("called", "given", True), ("called", "unset", True)]
    task.add_done_callback(other)  # done: in the next turn
    assert len(log) == 2
    await turns(1)
    assert log[2:] == [("other", "later", True)]


async def test_cancellations_are_counted_and_carry_their_message(loop):
    async def stubborn():
        try:
            await loop.create_future()
        except asyncio.CancelledError as error:
            log.append(error.args)
            me = asyncio.current_task()
            log.append((me.cancelling(), me.uncancel(), me.uncancel(), me.cancelling()))
            await asyncio.sleep(0)
        return "went on"

    log = []
    task = loop.create_task(stubborn())
    await turns(1)
    assert task.cancel(msg="enough") and task.cancelling() == 1
    assert await task == "went on"
    assert log == [("enough",), (1, 0, 0, 0)]
    assert not task.cancel() and not task.cancelled()


async def test_message_of_a_cancellation_reaches_who_awaits(loop):
    task = loop.create_task(outer(loop.create_future()))
    await turns(1)
    task.cancel("because")
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.args == ("because",)
    assert (
        names_of(frame for frame, _ in traceback.walk_tb(caught.value.__traceback__))[-1] == "inner"
    )
    with pytest.raises(asyncio.CancelledError):
        task.exception()


def errors_that_travel():
    """Every exception that asyncio defines, with its arguments."""
    yield asyncio.CancelledError("why")
    yield asyncio.InvalidStateError("which")
    yield TimeoutError("late")
    yield asyncio.IncompleteReadError(b"partial", 10)
    yield asyncio.IncompleteReadError(b"partial", None)
    yield asyncio.LimitOverrunError("too long", 7)
    yield asyncio.SendfileNotAvailableError("cannot")
    yield asyncio.BrokenBarrierError("broken")
    yield asyncio.QueueEmpty()
    yield asyncio.QueueFull()
    if sys.version_info >= (3, 13):
        yield asyncio.QueueShutDown()


@pytest.mark.parametrize(
    "error", list(errors_that_travel()), ids=lambda error: type(error).__name__
)
async def test_errors_raised_by_a_task_can_be_pickled(loop, error):
    async def fail():
        raise error

    task = loop.create_task(fail())
    with pytest.raises(type(error)) as caught:
        await task
    copy = pickle.loads(pickle.dumps(caught.value))
    assert type(copy) is type(error)
    assert (copy.args, str(copy), vars(copy)) == (error.args, str(error), vars(error))


async def test_errors_of_native_streams_queues_and_barriers_can_be_pickled(loop, aio, streams):
    """Those that native code raises have their attributes, too."""
    reader = streams.StreamReader(limit=4, loop=loop)
    reader.feed_data(b"longer than that")
    with pytest.raises(asyncio.LimitOverrunError) as limit:
        await reader.readuntil(b"\n")
    reader.feed_eof()
    with pytest.raises(asyncio.IncompleteReadError) as incomplete:
        await reader.readexactly(100)
    with pytest.raises(asyncio.QueueEmpty) as empty:
        aio.Queue().get_nowait()
    barrier = aio.Barrier(2)
    await barrier.abort()
    with pytest.raises(asyncio.BrokenBarrierError) as broken:
        await barrier.wait()
    for caught in (limit, incomplete, empty, broken):
        copy = pickle.loads(pickle.dumps(caught.value))
        assert (type(copy), str(copy)) == (type(caught.value), str(caught.value))
        assert copy.args == caught.value.args and vars(copy) == vars(caught.value)
    assert incomplete.value.partial == b"longer than that" and incomplete.value.expected == 100
    assert limit.value.consumed == 16


@pytest.mark.parametrize("what", ["task", "future", "loop"])
async def test_what_belongs_to_a_loop_cannot_be_pickled(loop, what):
    task = loop.create_task(asyncio.sleep(0))
    thing = {"task": task, "future": loop.create_future(), "loop": loop}[what]
    with pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(thing)
    await task


async def test_weak_references_end_with_their_task(loop):
    died = []
    task = loop.create_task(asyncio.sleep(0))
    future = loop.create_future()
    references = [weakref.ref(thing, died.append) for thing in (task, future)]
    keys = weakref.WeakKeyDictionary({task: 1, future: 2})
    assert [reference() for reference in references] == [task, future] and len(keys) == 2
    await task
    del task, future
    await turns(1)  # the step that ended it may hold the task until here
    gc.collect()
    assert len(died) == 2 and all(one in references for one in died) and not keys
    assert [reference() for reference in references] == [None, None]


class Foreign:
    """Looks like a future to asyncio and is none: it has `_asyncio_future_blocking`."""

    _asyncio_future_blocking = False

    def __init__(self, loop):
        self._loop = loop
        self._callbacks = []
        self._outcome = None

    def get_loop(self):
        return self._loop

    def add_done_callback(self, callback, *, context=None):
        self._callbacks.append((callback, context))

    def remove_done_callback(self, callback):
        self._callbacks = [pair for pair in self._callbacks if pair[0] != callback]

    def cancel(self, msg=None):
        if self._outcome is not None:
            return False
        self.finish(asyncio.CancelledError(msg))
        return True

    def done(self):
        return self._outcome is not None

    def result(self):
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome

    def finish(self, outcome):
        self._outcome = outcome
        for callback, context in self._callbacks:
            self._loop.call_soon(callback, self, context=context)

    def __await__(self):
        if self._outcome is None:
            self._asyncio_future_blocking = True
            yield self
        return self.result()


async def test_futures_of_others_are_awaited(loop):
    for outcome in ("done", LookupError("lost")):
        foreign = Foreign(loop)
        assert asyncio.isfuture(foreign)
        task = loop.create_task(inner(foreign))
        await turns(1)
        assert not task.done() and not foreign._asyncio_future_blocking
        foreign.finish(outcome)
        await asyncio.wait([task])
        assert task.exception() is (outcome if isinstance(outcome, LookupError) else None)


async def test_cancelling_a_task_cancels_the_future_of_others_that_it_awaits(loop):
    foreign = Foreign(loop)
    task = loop.create_task(inner(foreign))
    await turns(1)
    task.cancel("stop")
    assert foreign.done()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.args == ("stop",)


@pytest.mark.parametrize("kind", ["_CFuture", "_PyFuture"])
async def test_futures_of_asyncios_own_are_awaited(loop, kind):
    future = getattr(asyncio.futures, kind)(loop=loop)
    task = loop.create_task(inner(future))
    await turns(1)
    future.set_result("done")
    await task
    cancelled = getattr(asyncio.futures, kind)(loop=loop)
    task = loop.create_task(inner(cancelled))
    await turns(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancelled.cancelled()


OWN_TASKS = [
    "_CTask",
    pytest.param(
        "_PyTask",
        marks=pytest.mark.skipif(
            sys.version_info >= (3, 14), reason="known to asyncio's functions in Python alone"
        ),
    ),
]


@pytest.mark.parametrize("kind", OWN_TASKS)
async def test_tasks_of_asyncios_own_run_beside_and_await_each_other(loop, kind):
    async def body(awaited):
        me = asyncio.current_task()
        assert me in asyncio.all_tasks()
        result = await awaited
        assert asyncio.current_task() is me
        return type(me), result

    first = loop.create_task(body(asyncio.sleep(0, "slept")))
    own = getattr(asyncio.tasks, kind)
    second = own(body(first), loop=loop)
    third = loop.create_task(body(second))
    assert {first, second, third} <= asyncio.all_tasks()
    assert await third == (type(third), (own, (type(first), "slept")))


async def test_registered_tasks_are_seen_by_all_and_entered_ones_are_current(loop):
    """For task classes of others: asyncio's documented hooks for extending it."""

    class OfOthers:
        def __init__(self, loop):
            self._loop = loop

        def get_loop(self):
            return self._loop

        def done(self):
            return False

    other, me = OfOthers(loop), asyncio.current_task()
    assert other not in asyncio.all_tasks(loop)
    asyncio._register_task(other)
    assert {other, me} <= asyncio.all_tasks(loop)
    with pytest.raises(RuntimeError, match="Cannot enter into task"):
        asyncio._enter_task(loop, other)
    with pytest.raises(RuntimeError, match="does not match|Invalid attempt to leave"):
        asyncio._leave_task(loop, other)
    asyncio._leave_task(loop, me)
    assert asyncio.current_task() is None
    asyncio._enter_task(loop, other)
    assert asyncio.current_task() is other
    asyncio._leave_task(loop, other)
    asyncio._enter_task(loop, me)
    asyncio._unregister_task(other)
    assert other not in asyncio.all_tasks(loop)
    await asyncio.sleep(0)
    assert asyncio.current_task() is me


async def test_derived_tasks_and_futures_are_whole(loop):
    class Task(type(loop.create_task(asyncio.sleep(0)))):
        __slots__ = ("extra",)

        def set_name(self, value):
            super().set_name(f"[{value}]")

        def cancel(self, msg=None):
            self.extra = msg
            return super().cancel(msg)

        def __repr__(self):
            return f"<mine {self.get_name()}>"

    task = Task(outer(loop.create_future()), loop=loop)
    task.set_name("named")
    assert repr(task) == "<mine [named]>" and task in asyncio.all_tasks()
    await turns(1)

    async def cancel_it():
        async with asyncio.timeout(None):
            task.cancel("twice over")
            await task

    with pytest.raises(asyncio.CancelledError):
        await cancel_it()
    assert task.extra == "twice over" and task.cancelled()


async def test_representations(loop):
    future = loop.create_future()
    assert repr(future).startswith("<Future pending")
    future.add_done_callback(print)
    assert "cb=[<built-in function print>" in repr(future) or "cb=[print()" in repr(future)
    future.remove_done_callback(print)
    future.set_result("x" * 500)
    assert repr(future).startswith("<Future finished result='xxx") and len(repr(future)) < 300
    cancelled = loop.create_future()
    cancelled.cancel()
    assert repr(cancelled).startswith("<Future cancelled")
    task = loop.create_task(outer(loop.create_future()), name="shown")
    await turns(1)
    text = repr(task)
    assert text.startswith("<Task pending name='shown' coro=<outer() running at ")
    assert "wait_for=<Future pending cb=[" in text
    task.cancel()
    assert "cancelling" in repr(task)
    await asyncio.wait([task])
    assert repr(task).startswith("<Task cancelled name='shown' coro=<outer() done, defined at ")
