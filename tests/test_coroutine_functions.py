"""What `inspect`, `unittest.mock` and `pickle` make of the functions and methods that give coroutines."""

import asyncio
import functools
import inspect
import pickle
import sys
from unittest import mock

import pytest

from antiphon import natives

METHODS = [
    ("Lock", "acquire"),
    ("Semaphore", "acquire"),
    ("BoundedSemaphore", "acquire"),
    ("Event", "wait"),
    ("Condition", "wait"),
    ("Condition", "wait_for"),
    ("Barrier", "wait"),
    ("Barrier", "abort"),
    ("Barrier", "reset"),
    ("Queue", "put"),
    ("Queue", "get"),
    ("PriorityQueue", "join"),
    ("LifoQueue", "get"),
    ("StreamReader", "read"),
    ("StreamReader", "readline"),
    ("StreamReader", "readexactly"),
    ("StreamReader", "readuntil"),
    ("StreamWriter", "drain"),
    ("StreamWriter", "wait_closed"),
    ("StreamWriter", "start_tls"),
]
FUNCTIONS = ["sleep", "wait", "wait_for"]


@pytest.fixture
def named(loop_name):
    """Gives what has a name: asyncio's own (with install(), too), or antiphon's."""
    theirs = {id(ours): theirs for theirs, ours in natives.replacements().values()}

    def find(name):
        if loop_name == "antiphon":
            return natives.ours(name)
        return theirs.get(id(natives.ours(name)), getattr(asyncio, name))

    return find


def is_coroutine_function(function):
    """By all who are asked."""
    answers = {inspect.iscoroutinefunction(function)}
    if sys.version_info < (3, 14):  # deprecated there
        answers.add(asyncio.iscoroutinefunction(function))
    return answers == {True}


@pytest.mark.parametrize(("kind", "name"), METHODS)
def test_methods_are_coroutine_functions_with_their_parameters(named, loop_name, kind, name):
    method = getattr(named(kind), name)
    assert is_coroutine_function(method)
    assert next(iter(inspect.signature(method).parameters)) == "self"
    assert method.__name__ == name and method.__qualname__.endswith(f".{name}")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_coroutine_functions_with_their_parameters(named, loop_name, name):
    function = named(name)
    assert is_coroutine_function(function)
    first = {"sleep": "delay", "wait": "fs", "wait_for": "fut"}[name]
    assert next(iter(inspect.signature(function).parameters)) == first
    assert function.__name__ == function.__qualname__ == name and function.__doc__
    assert name in repr(function)


def test_bound_methods_and_partial_ones_too(loop, aio):
    queue = aio.Queue()
    assert is_coroutine_function(queue.get)
    assert is_coroutine_function(functools.partial(queue.put, 1))
    assert str(inspect.signature(queue.put)) == "(item)"
    assert queue.get.__self__ is queue
    assert queue.get == queue.get and queue.get != queue.put
    assert not inspect.iscoroutinefunction(queue.put_nowait)


async def test_mocks_can_be_awaited(loop, named):
    for kind in ("Queue", "Lock", "Event", "StreamReader"):
        for made in (mock.create_autospec(named(kind)), mock.MagicMock(spec=named(kind))):
            for name in {name for owner, name in METHODS if owner == kind}:
                assert isinstance(getattr(made, name), mock.AsyncMock) or is_coroutine_function(
                    getattr(made, name)
                )
    stand_in = mock.create_autospec(named("Queue"), instance=True)
    stand_in.get.return_value = "item"
    assert await stand_in.get() == "item"


async def test_a_patched_function_can_be_awaited(loop, named, monkeypatch):
    monkeypatch.setattr(asyncio, "sleep", named("sleep"))
    with mock.patch("asyncio.sleep") as sleep:
        assert isinstance(sleep, mock.AsyncMock)
        await asyncio.sleep(3600)
    sleep.assert_awaited_once_with(3600)


async def test_calls_by_every_way_do_the_same(loop, named):
    kind, sleep = named("Queue"), named("sleep")
    queue = kind()
    await kind.put(queue, 1)
    await kind.put(queue, item=2)
    await queue.put(item=3)
    arguments = {"item": 4}
    await queue.put(**arguments)
    put, get = queue.put, queue.get
    await put(5)
    assert [await get(), await kind.get(queue), await queue.get()] == [1, 2, 3]
    assert [await kind.__dict__["get"](queue), await type(queue).get(*[queue])] == [4, 5]
    assert await sleep(0, "result") == await sleep(delay=0, result="result") == "result"


async def test_wrong_calls_are_refused(loop, named):
    kind, sleep = named("Queue"), named("sleep")
    queue = kind()
    for call in (
        lambda: kind.get(),
        lambda: kind.get(queue, 1),
        lambda: queue.get(1),
        lambda: queue.get(item=1),
        lambda: queue.put(),
        lambda: queue.put(1, 2),
        lambda: queue.put(thing=1),
        lambda: sleep(),
        lambda: sleep(1, 2, 3),
        lambda: sleep(deley=1),
    ):
        with pytest.raises(TypeError):
            call()


@pytest.mark.loops("antiphon")  # asyncio's body would run and fail for what it does with the object
async def test_methods_refuse_objects_of_other_classes(loop, named):
    for wrong in (None, asyncio.Event(), named("Lock")(), 1):
        with pytest.raises(TypeError):
            named("Queue").get(wrong)


def test_overriding_and_calling_the_inherited_one(loop, named):
    class Doubling(named("Queue")):
        async def put(self, item):
            await super().put(item)
            await super().put(item)

        async def get(self):
            return [await super().get(), await super().get()]

    async def main():
        queue = Doubling()
        await queue.put("x")
        assert queue.qsize() == 2
        return await queue.get()

    assert loop.run_until_complete(main()) == ["x", "x"]


@pytest.mark.parametrize("name", ["sleep", "Queue.get", "StreamReader.readline"])
def test_they_are_pickled_by_their_names(loop_name, named, name, monkeypatch):
    owner, _, method = name.rpartition(".")
    thing = getattr(named(owner), method) if owner else named(method)
    if loop_name == "asyncio" and owner:  # where pickle looks, whatever is installed
        monkeypatch.setattr(sys.modules[thing.__module__], owner, named(owner))
    elif loop_name == "asyncio":
        monkeypatch.setattr(sys.modules[thing.__module__], name, thing)
    assert pickle.loads(pickle.dumps(thing)) is thing


def test_what_is_no_built_in_cannot_stand_for_anything():
    from antiphon._antiphon import coroutine_function

    async def stands_for():
        pass

    for wrong in (None, stands_for, int, asyncio.sleep):
        with pytest.raises(TypeError):
            coroutine_function(wrong, stands_for)
    length = coroutine_function(str.title, stands_for)  # a method of any type
    assert length("some text") == "Some Text" and inspect.iscoroutinefunction(length)
    with pytest.raises(TypeError):
        length(1)
