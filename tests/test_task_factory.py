"""`create_task`, task factories, and the tasks that others can see."""

import asyncio
import contextvars
import sys

import pytest

from support.net import turns

has_eager_factory = sys.version_info >= (3, 12)
# From 3.13.3 a factory gets every keyword argument of create_task; before, only the context.
factory_gets_keywords = sys.version_info >= (3, 13, 3)


async def answer():
    await asyncio.sleep(0)
    return 42


async def test_task_is_asyncios_and_belongs_to_the_loop(loop):
    task = loop.create_task(answer())
    assert isinstance(task, asyncio.Task)
    assert task.get_loop() is loop
    assert await task == 42


async def test_name_and_context_are_taken(loop):
    variable = contextvars.ContextVar("variable", default="default")
    context = contextvars.copy_context()
    context.run(variable.set, "given")

    async def read():
        return variable.get()

    task = loop.create_task(read(), name="the name", context=context)
    assert task.get_name() == "the name"
    if sys.version_info >= (3, 12):
        assert task.get_context() is context
    assert await task == "given"


async def test_unnamed_tasks_get_names_of_their_own(loop):
    tasks = [loop.create_task(answer()) for _ in range(3)]
    assert len({task.get_name() for task in tasks}) == 3
    await asyncio.gather(*tasks)


async def test_current_task_and_all_tasks_see_it(loop):
    seen = []

    async def look():
        seen.append((asyncio.current_task(), asyncio.all_tasks()))

    main = asyncio.current_task()
    task = loop.create_task(look())
    assert asyncio.all_tasks() == {main, task}
    await task
    assert seen == [(task, {main, task})]
    assert asyncio.all_tasks() == {main}
    assert asyncio.current_task() is main


async def test_factory_makes_the_tasks(loop):
    made = []

    class OwnTask(asyncio.Task):
        pass

    def factory(loop, coro, **kwargs):
        made.append((loop, kwargs))
        return OwnTask(coro, loop=loop, **kwargs)

    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory
    first = loop.create_task(answer())
    second = asyncio.create_task(answer(), name="second")
    assert type(first) is OwnTask and type(second) is OwnTask
    assert second.get_name() == "second"
    assert await asyncio.gather(first, second) == [42, 42]
    assert [given for given, _ in made] == [loop, loop]
    if factory_gets_keywords:
        assert made[1][1]["name"] == "second"
    loop.set_task_factory(None)
    assert loop.get_task_factory() is None
    plain = loop.create_task(answer())
    assert type(plain) is not OwnTask
    await plain


async def test_factory_gets_the_context_only_where_one_is_given(loop):
    given = []

    def factory(loop, coro, **kwargs):
        given.append(kwargs.get("context"))
        return asyncio.Task(coro, loop=loop, **kwargs)

    context = contextvars.copy_context()
    loop.set_task_factory(factory)
    await loop.create_task(answer())
    await loop.create_task(answer(), context=context)
    assert given == [None, context]


@pytest.mark.parametrize("bad", [42, "factory", object()])
def test_factory_must_be_callable(loop, bad):
    with pytest.raises(TypeError, match="^task factory must be a callable or None$"):
        loop.set_task_factory(bad)


async def test_raising_factory_raises_from_create_task(loop):
    def factory(loop, coro, **kwargs):
        raise LookupError("no task")

    loop.set_task_factory(factory)
    coroutine = answer()
    with pytest.raises(LookupError, match="^no task$"):
        loop.create_task(coroutine)
    coroutine.close()
    loop.set_task_factory(None)


@pytest.mark.skipif(not has_eager_factory, reason="eager tasks came with 3.12")
async def test_eager_factory_takes_the_first_step_at_once(loop):
    ran = []

    async def worker():
        ran.append("first step")
        await asyncio.sleep(0)
        ran.append("second step")
        return asyncio.current_task()

    loop.set_task_factory(asyncio.eager_task_factory)
    task = loop.create_task(worker())
    assert ran == ["first step"]
    assert await task is task
    assert ran == ["first step", "second step"]
    loop.set_task_factory(None)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="create_task(eager_start=) came with 3.14")
async def test_eager_start_can_be_asked_for_one_task(loop):
    ran = []

    async def worker():
        ran.append(1)

    task = loop.create_task(worker(), eager_start=True)
    assert ran == [1]
    assert task.done()
    await task


def test_closed_loop_refuses(loop):
    loop.close()
    coroutine = answer()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        loop.create_task(coroutine)
    coroutine.close()


async def test_create_task_refuses_what_is_no_coroutine(loop):
    with pytest.raises(TypeError, match="^a coroutine was expected, got 42$"):
        loop.create_task(42)


async def test_create_future_gives_a_future_of_the_loop(loop):
    future = loop.create_future()
    assert asyncio.isfuture(future)
    assert isinstance(future, asyncio.Future)
    assert future.get_loop() is loop
    loop.call_soon(future.set_result, 7)
    assert await future == 7


def test_overridden_create_task_is_used_by_asyncio(loop_class):
    made = []

    class Own(loop_class):
        def create_task(self, coro, **kwargs):
            made.append(coro.__name__)
            return super().create_task(coro, **kwargs)

    async def main():
        return await asyncio.create_task(answer())

    loop = Own()
    assert loop.run_until_complete(main()) == 42
    assert made == ["main", "answer"]
    loop.close()


@pytest.mark.installed_lacks(reason="native locks and queues make their futures themselves")
def test_overridden_create_future_is_used_by_asyncio(loop_class):
    made = []

    class Own(loop_class):
        def create_future(self):
            made.append("future")
            return super().create_future()

    async def main():
        lock = asyncio.Lock()
        async with lock:
            waiter = asyncio.ensure_future(lock.acquire())
            await asyncio.sleep(0)
        await waiter

    loop = Own()
    loop.run_until_complete(main())
    assert made == ["future"]
    loop.close()


async def test_cancellation_reaches_a_task_that_sleeps(loop):
    task = loop.create_task(asyncio.sleep(3600))
    await turns(1)
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_task_group_gather_and_wait_run_on_the_loop(loop):
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(answer()) for _ in range(5)]
    assert [task.result() for task in tasks] == [42] * 5
    assert await asyncio.gather(*(answer() for _ in range(5))) == [42] * 5
    done, pending = await asyncio.wait([loop.create_task(answer()) for _ in range(5)])
    assert len(done) == 5 and not pending
