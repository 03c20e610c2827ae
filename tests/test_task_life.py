"""Tasks as objects: who keeps them, what is reported at their end, how long they live."""

import asyncio
import gc
import sys
import weakref

import pytest

from support.children import Child
from support.loops import run_ready


@pytest.mark.loops("antiphon")  # asyncio may collect such a task (CPython issue 91887)
def test_task_that_nobody_keeps_is_not_lost(loop):
    done = []

    async def work(future):
        await future
        done.append(True)

    future = loop.create_future()
    waiting = weakref.ref(future)
    loop.create_task(work(future))
    run_ready(loop)
    del future
    gc.collect()
    waiting().set_result(None)
    run_ready(loop)
    assert done == [True]


def test_finished_task_is_freed_at_once(loop):
    async def work():
        return object()

    task = loop.create_task(work())
    alive = weakref.ref(task)
    loop.run_until_complete(task)
    gc.disable()
    try:
        del task
        assert alive() is None
    finally:
        gc.enable()


def test_waiting_coroutines_of_a_closed_loop_end_from_outside_in(loop_factory, audit):
    async def inner(future):
        try:
            await future
        finally:
            future.cancel()  # raises: the loop is closed

    async def outer(awaited):
        await awaited

    loop = loop_factory()
    # Made first, so that the collector closes it first, and with it what its future still refers to.
    waiting = inner(loop.create_future())
    task = loop.create_task(outer(waiting))
    run_ready(loop)
    task._log_destroy_pending = False
    loop.close()
    del waiting, task, loop
    gc.collect()
    audit.take_unraisable("Event loop is closed")
    assert audit.unraisable == []  # not: "coroutine already executing"


def test_futures_and_tasks_in_cycles_are_collected(loop):
    async def work(future):
        return await future

    future = loop.create_future()
    task = loop.create_task(work(future))
    future.task = task  # attributes are allowed, as for asyncio's
    task.future = future
    future.set_result(task)
    loop.run_until_complete(task)
    alive = [weakref.ref(task), weakref.ref(future)]
    del task, future
    gc.collect()
    assert [reference() for reference in alive] == [None, None]


def test_all_tasks_and_current_task_show_the_loops_tasks(loop):
    async def work():
        assert asyncio.current_task() in asyncio.all_tasks()
        loop.call_soon(lambda: seen.append(asyncio.current_task(loop)))
        await asyncio.sleep(0)
        return asyncio.current_task()

    seen = []
    task = loop.create_task(work())
    assert asyncio.all_tasks(loop) == {task}
    assert loop.run_until_complete(task) is task
    assert seen == [None]
    assert asyncio.all_tasks(loop) == set()
    assert asyncio.current_task(loop) is None


def test_task_is_an_instance_of_asyncios_classes(loop):
    async def work():
        pass

    task = loop.create_task(work())
    assert isinstance(task, asyncio.Task)
    assert isinstance(task, asyncio.Future)
    assert isinstance(loop.create_future(), asyncio.Future)
    assert asyncio.isfuture(task)
    loop.run_until_complete(task)


def test_resurrected_task_is_not_reported_twice(loop, faults):
    async def wait(future):
        await future

    task = loop.create_task(wait(loop.create_future()))
    run_ready(loop)
    del task
    loop.close()
    gc.collect()
    assert [context["message"] for context in faults] == ["Task was destroyed but it is pending!"]
    revived = faults.pop()["task"]
    assert "pending" in repr(revived)
    del revived
    gc.collect()
    assert faults == []


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
@pytest.mark.parametrize("whose", ["asyncio", "antiphon"])
def test_eager_tasks_run_until_they_wait(loop, whose):
    if whose == "asyncio":
        factory = asyncio.eager_task_factory
    else:
        from antiphon._antiphon import eager_task_factory as factory

    async def work(step):
        before = asyncio.current_task()
        await asyncio.sleep(step)
        assert asyncio.current_task() is before
        return before

    async def at_once():
        return asyncio.current_task()

    async def main():
        outer = asyncio.current_task()
        loop.set_task_factory(factory)
        quick = loop.create_task(at_once(), name="quick")
        assert quick.done()
        assert quick.result() is quick
        assert quick.get_name() == "quick"
        assert asyncio.current_task() is outer
        slow = loop.create_task(work(0))
        assert not slow.done()
        assert slow in asyncio.all_tasks()
        assert await slow is slow

    loop.run_until_complete(main())


def test_stop_iteration_ends_a_future_as_this_release_has_it(loop):
    def outcome(future, exception):
        try:
            future.set_exception(exception)
        except TypeError as error:  # by patch release: 3.12.1 refuses, 3.13 wraps
            return str(error), future.done()
        wrapper = future.exception()
        return type(wrapper), str(wrapper), wrapper.__cause__, wrapper.__context__

    class Derived(StopIteration):
        pass

    for exception in (StopIteration(1), Derived()):
        ours, theirs = loop.create_future(), asyncio.futures._CFuture(loop=loop)
        assert outcome(ours, exception) == outcome(theirs, exception)


LEAVING = """
import asyncio, gc, os, sys

async def sleeper():
    await asyncio.sleep(60)

def leave(in_a_cycle):
    loop = new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)

    class Task(type(loop.create_task(asyncio.sleep(0)))):
        def __del__(self):  # and asyncio's own finalizer is not called
            pass

    task = Task(sleeper(), loop=loop)
    if in_a_cycle:
        task.itself = task
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()

for in_a_cycle in (False, True):
    leave(in_a_cycle)
    gc.collect()
    loop = new_event_loop()
    assert asyncio.all_tasks(loop) == set()
    loop.close()
report(done=True)
"""


def test_pending_task_that_overrides_its_finalizer_leaves_the_list_of_tasks(loop_name, monkeypatch):
    monkeypatch.setenv("PYTHONMALLOC", "debug")  # freed memory is overwritten at once
    with Child(loop_name, LEAVING) as child:
        assert child.report() == {"done": True}


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_coroutines_of_a_task_that_dies_with_its_loop_are_closed_in_any_order(loop, audit, depth):
    """The innermost may be closed first: what it drops must not be the task, which would close it once more."""

    async def inside(future, depth):
        if depth > 0:
            await inside(future, depth - 1)
        else:
            await asyncio.wait([future])

    async def outside(gate, future):
        await gate
        await inside(future, depth)

    gate, future = loop.create_future(), loop.create_future()
    task = loop.create_task(outside(gate, future))
    run_ready(loop)
    # The collector finalizes what has survived a young collection after what has not.
    gc.disable()
    try:
        gc.collect(0)
        gate.set_result(None)
        run_ready(loop)
        run_ready(loop)
        task.cancel()  # its turn never comes
        loop.close()
        del task, gate, future
        gc.collect()
    finally:
        gc.enable()
    audit.take_log("^Task was destroyed but it is pending!")
