"""`TaskGroup` beyond CPython's own tests: private names, derived classes, foreign tasks, races, leftovers."""

import asyncio
import contextlib
import contextvars
import gc
import sys
import weakref

import pytest

from support.net import turns

before_313 = sys.version_info < (3, 13)


async def answer(value):
    await asyncio.sleep(0)
    return value


async def fail(error):
    raise error


async def test_results_are_the_tasks_own(aio, loop):
    async with aio.TaskGroup() as group:
        tasks = [group.create_task(answer(value)) for value in range(3)]
        assert group._tasks == set(tasks)
        assert repr(group) == "<TaskGroup tasks=3 entered>"
    assert [task.result() for task in tasks] == [0, 1, 2]
    assert repr(group) == "<TaskGroup entered>"


async def test_name_and_context(aio, loop):
    variable = contextvars.ContextVar("variable", default="outside")
    context = contextvars.copy_context()
    context.run(variable.set, "given")

    async def read():
        return variable.get()

    async with aio.TaskGroup() as group:
        named = group.create_task(read(), name="name", context=context)
        other = group.create_task(coro=read(), name=None, context=None)
        third = group.create_task(read(), name="third")
    assert named.get_name() == "name" and named.result() == "given"
    assert other.result() == "outside" and third.get_name() == "third"


async def test_refusals(aio, loop):
    group = aio.TaskGroup()
    coroutine = answer(1)
    with pytest.raises(RuntimeError, match="has not been entered"):
        group.create_task(coroutine)
    coroutine.close()
    async with group:
        with pytest.raises(RuntimeError, match="has already been entered"):
            await group.__aenter__()
        with pytest.raises(TypeError):
            group.create_task()
        with pytest.raises(TypeError):
            group.create_task(coroutine, "name")
    coroutine = answer(1)
    with pytest.raises(RuntimeError, match="is finished"):
        group.create_task(coroutine)
    coroutine.close()


async def test_errors_come_as_a_group_and_the_siblings_are_cancelled(aio, loop):
    first, second = ValueError(), KeyError()
    sibling = None

    async def also(error):
        try:
            await loop.create_future()
        finally:
            raise error

    with pytest.raises(BaseExceptionGroup) as caught:
        async with aio.TaskGroup() as group:
            sibling = group.create_task(asyncio.sleep(60))
            group.create_task(also(second))
            group.create_task(fail(first))
            await loop.create_future()
    assert caught.value.message == "unhandled errors in a TaskGroup"
    assert caught.value.exceptions == (first, second)
    assert caught.value.__suppress_context__
    assert sibling.cancelled()
    assert asyncio.current_task().cancelling() == 0


async def test_no_task_is_taken_while_it_shuts_down(aio, loop):
    refused = []

    async def late(group):
        try:
            await loop.create_future()
        except asyncio.CancelledError:
            coroutine = answer(1)
            with pytest.raises(RuntimeError, match="is shutting down"):
                group.create_task(coroutine)
            coroutine.close()
            refused.append(1)

    with pytest.raises(BaseExceptionGroup):
        async with aio.TaskGroup() as group:
            group.create_task(late(group))
            await turns(1)
            group.create_task(fail(ValueError()))
    assert refused == [1]


async def test_tasks_may_be_added_while_it_waits(aio, loop):
    async def child(group, left):
        await asyncio.sleep(0)
        if left:
            group.create_task(child(group, left - 1))
        done.append(left)

    done = []
    async with aio.TaskGroup() as group:
        group.create_task(child(group, 3))
    assert sorted(done) == [0, 1, 2, 3]


async def test_cancellation_from_elsewhere_cancels_the_children_and_passes(aio, loop):
    child = None

    async def parent():
        nonlocal child
        async with aio.TaskGroup() as group:
            child = group.create_task(asyncio.sleep(60))

    task = loop.create_task(parent())
    await turns(3)
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert child.cancelled()


async def test_second_cancellation_does_not_end_the_wait(aio, loop):
    released = loop.create_future()

    async def stubborn():
        while not released.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(released)

    async def parent():
        async with aio.TaskGroup() as group:
            group.create_task(stubborn())

    task = loop.create_task(parent())
    await turns(3)
    for _ in range(3):
        task.cancel()
        await turns(3)
        assert not task.done()
    released.set_result(None)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_base_errors_come_alone(aio, loop):
    # What ends a loop ends it from within a task; the block's own shows the rule as well.
    with pytest.raises(KeyboardInterrupt):
        async with aio.TaskGroup() as group:
            child = group.create_task(asyncio.sleep(60))
            raise KeyboardInterrupt
    assert child.cancelled()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks start eagerly from 3.12 on")
async def test_eager_children(aio, loop):
    loop.set_task_factory(asyncio.eager_task_factory)

    async def now(value):
        return value

    async with aio.TaskGroup() as group:
        task = group.create_task(now(1))
        assert task.done()
    assert task.result() == 1


@pytest.mark.skipif(
    sys.version_info < (3, 13),
    reason="before 3.13 the parent's cancellation came after the group had ended (CPython issue 128588)",
)
async def test_eager_child_that_raises(aio, loop):
    loop.set_task_factory(asyncio.eager_task_factory)
    with pytest.raises(BaseExceptionGroup):
        async with aio.TaskGroup() as group:
            group.create_task(fail(ValueError()))
    assert asyncio.current_task().cancelling() == 0


async def test_tasks_of_somebody_elses_kind(aio, loop):
    loop.set_task_factory(
        lambda loop, coro, **given: asyncio.tasks._PyTask(coro, loop=loop, **given)
    )
    async with aio.TaskGroup() as group:
        task = group.create_task(answer(1))
    assert type(task) is asyncio.tasks._PyTask and task.result() == 1
    with pytest.raises(BaseExceptionGroup):
        async with aio.TaskGroup() as group:
            group.create_task(fail(ValueError()))
            await loop.create_future()
    loop.set_task_factory(None)


async def test_derived_groups_may_do_things_their_own_way(aio, loop):
    log = []

    class Derived(aio.TaskGroup):
        def __init__(self, name):
            super().__init__()
            self.name = name

        def create_task(self, coro, **given):
            log.append("create")
            return super().create_task(coro, **given)

        def _on_task_done(self, task):
            log.append("done")
            super()._on_task_done(task)

        async def __aexit__(self, *exc_info):
            log.append("exit")
            return await super().__aexit__(*exc_info)

    async with Derived("name") as group:
        task = group.create_task(answer(1))
    assert task.result() == 1
    assert log == ["create", "exit", "done"] and group.name == "name"


def kinds_of_forgiving_groups(aio):
    """Yields groups that go on after an error, as libraries make them: each relies on other private names."""

    class WithoutAbort(aio.TaskGroup):
        _abort = lambda self: None  # noqa: E731

        def __init__(self):
            super().__init__()
            self._parent_cancel_requested = True

    class Requested(aio.TaskGroup):
        def _on_task_done(self, task):
            before = self._parent_cancel_requested
            self._parent_cancel_requested = True
            super()._on_task_done(task)
            self._parent_cancel_requested = before

    class Collecting(aio.TaskGroup):
        def _on_task_done(self, task):
            if task.cancelled() or task.exception() is None:
                super()._on_task_done(task)
                return
            self._errors.append(task.exception())
            self._tasks.discard(task)
            if self._on_completed_fut is not None and not self._tasks:
                self._on_completed_fut.set_result(True)

    class OfAClassBetween(Requested):
        pass

    return [WithoutAbort, Requested, Collecting, OfAClassBetween]


@pytest.mark.parametrize("place", range(4))
async def test_groups_whose_class_changes_the_rules(aio, loop, place):
    kind = kinds_of_forgiving_groups(aio)[place]
    gate = loop.create_future()
    error = ValueError()
    with pytest.raises(BaseExceptionGroup) as caught:
        async with kind() as group:
            assert isinstance(group, aio.TaskGroup)
            assert repr(group) == "<TaskGroup entered>"
            other = group.create_task(asyncio.wait_for(gate, None))
            failing = group.create_task(fail(error))
            await asyncio.wait([failing])
            assert group._tasks == {other} and group._loop is loop
            gate.set_result("went on")
    assert caught.value.exceptions == (error,)
    assert other.result() == "went on"
    assert not asyncio.current_task().cancelling()


async def test_a_class_that_judges_errors_otherwise(aio, loop):
    class Strict(aio.TaskGroup):
        def _is_base_error(self, error):
            return isinstance(error, LookupError) or super()._is_base_error(error)

    with pytest.raises(LookupError, match="alone"):
        async with Strict() as group:
            group.create_task(fail(LookupError("alone")))
            group.create_task(fail(ValueError()))


async def test_a_class_that_fills_in_the_private_parts_itself(aio, loop):
    class Own(aio.TaskGroup):
        def __init__(self):
            super().__init__()
            self._entered = self._exiting = self._aborting = False
            self._tasks, self._errors = set(), []

        async def __aexit__(self, kind, error, traceback):
            self._exiting = True
            while self._tasks:
                await asyncio.wait(self._tasks)
                await asyncio.sleep(0)

    async with Own() as group:
        task = group.create_task(answer(1))
    assert task.result() == 1 and group._errors == []
    del group._entered
    with pytest.raises(AttributeError, match="^'Own' object has no attribute '_entered'$"):
        _ = group._entered


async def test_a_class_that_changes_no_rules_has_the_native_parts(aio, loop):
    class Named(aio.TaskGroup):
        def __init_subclass__(cls, **keywords):
            super().__init_subclass__(**keywords)

        def create_task(self, coro, **given):
            return super().create_task(coro, name="named", **given)

    async with Named() as group:
        task = group.create_task(answer(1))
        assert group._tasks == {task} and group._parent_task is asyncio.current_task()
    assert task.get_name() == "named"
    with pytest.raises(TypeError):
        type("Wrong", (aio.TaskGroup,), {}, keyword=1)


async def test_it_can_be_driven_by_hand(aio, loop):
    group = aio.TaskGroup()
    assert await group.__aenter__() is group
    task = group.create_task(answer(1))
    assert group._parent_task is asyncio.current_task()
    await group.__aexit__(None, None, None)
    assert task.done()


async def test_without_a_task_around_it(aio, loop):
    caught = loop.create_future()

    def outside():
        try:
            aio.TaskGroup().__aenter__().send(None)
        except RuntimeError as error:
            caught.set_result(str(error))

    loop.call_soon(outside)
    assert "cannot determine the parent task" in await caught


class Marker:
    """Something that is gone when nobody refers to it."""


async def test_no_cycle_is_left(aio, loop):
    marker = Marker()
    seen = weakref.ref(marker)

    async def parent(marker):
        async with aio.TaskGroup() as group:
            group.create_task(answer(marker))
        return group

    gc.collect()
    gc.disable()
    try:
        task = loop.create_task(parent(marker))
        await asyncio.wait([task])
        del marker, task
        await turns(2)
        assert seen() is None
    finally:
        gc.enable()


@pytest.mark.asyncio_lacks(
    when=sys.version_info < (3, 14),
    reason="the frames of a failed asyncio.TaskGroup refer to each other (CPython issue 124958)",
)
async def test_no_cycle_is_left_by_a_failure(aio, loop):
    marker = Marker()
    seen = weakref.ref(marker)

    async def child(marker):
        await asyncio.sleep(0)
        raise ValueError

    async def parent(marker):
        async with aio.TaskGroup() as group:
            group.create_task(child(marker))

    gc.collect()
    gc.disable()
    try:
        task = loop.create_task(parent(marker))
        await asyncio.wait([task])
        # Frames that the exceptions went through are theirs, not the group's.
        for error in task.exception().exceptions:
            error.__traceback__ = None
        task.exception().__traceback__ = None
        del marker, task, error
        await turns(2)
        assert seen() is None
    finally:
        gc.enable()


@pytest.mark.skipif(sys.version_info < (3, 15), reason="TaskGroup.cancel came with 3.15")
async def test_cancelled_group_ends_quietly(aio, loop):
    async with aio.TaskGroup() as group:
        child = group.create_task(asyncio.sleep(60))
        await turns(1)
        group.cancel()
        await loop.create_future()
    assert child.cancelled() and asyncio.current_task().cancelling() == 0
    group = aio.TaskGroup()
    group.cancel()
    async with group:
        await loop.create_future()
