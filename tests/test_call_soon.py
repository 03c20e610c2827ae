"""`call_soon` and the handles it gives."""

import asyncio
import functools
import gc
import weakref

import pytest

from support.loops import run_ready


class Token:
    """Something to refer to weakly."""


def test_callbacks_run_in_the_order_of_the_calls(loop):
    ran = []
    for number in range(10_000):
        loop.call_soon(ran.append, number)
    run_ready(loop)
    assert ran == list(range(10_000))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 9])
def test_positional_arguments_arrive_unchanged(loop, count):
    got = []
    arguments = tuple(object() for _ in range(count))
    loop.call_soon(lambda *args: got.append(args), *arguments)
    run_ready(loop)
    assert got == [arguments]


def test_any_callable_is_accepted(loop):
    ran = []

    class Instance:
        def __call__(self, value):
            ran.append(value)

        def method(self, value):
            ran.append(value)

        @staticmethod
        def static(value):
            ran.append(value)

    loop.call_soon(Instance(), "instance")
    loop.call_soon(Instance().method, "bound method")
    loop.call_soon(Instance.static, "static method")
    loop.call_soon(functools.partial(ran.append, "partial"))
    loop.call_soon(ran.append, "builtin")
    loop.call_soon(type("Made", (), {"__init__": lambda self, value: ran.append(value)}), "class")
    run_ready(loop)
    assert ran == ["instance", "bound method", "static method", "partial", "builtin", "class"]


def test_keyword_arguments_other_than_context_are_refused(loop):
    with pytest.raises(TypeError):
        loop.call_soon(print, end="")
    with pytest.raises(TypeError):
        loop.call_soon()


def test_result_is_an_asyncio_handle(loop):
    handle = loop.call_soon(print)
    assert isinstance(handle, asyncio.Handle)
    assert not isinstance(handle, asyncio.TimerHandle)
    assert handle.cancelled() is False
    handle.cancel()
    assert handle.cancelled() is True


def test_cancelled_handle_never_runs(loop):
    ran = []
    loop.call_soon(ran.append, "before")
    loop.call_soon(ran.append, "cancelled").cancel()
    loop.call_soon(ran.append, "after")
    run_ready(loop)
    assert ran == ["before", "after"]


def test_handle_cancelled_by_an_earlier_callback_of_the_same_turn_never_runs(loop):
    ran = []
    loop.call_soon(lambda: victim.cancel())
    victim = loop.call_soon(ran.append, "victim")
    run_ready(loop)
    assert ran == []


def test_callback_may_cancel_its_own_handle(loop):
    ran = []

    def callback(argument):
        handle.cancel()
        handle.cancel()
        ran.append(argument)

    handle = loop.call_soon(callback, "argument")
    run_ready(loop)
    assert ran == ["argument"]
    assert handle.cancelled()


def test_cancelling_after_the_run_changes_nothing_but_the_flag(loop):
    ran = []
    handle = loop.call_soon(ran.append, 1)
    run_ready(loop)
    handle.cancel()
    run_ready(loop)
    assert ran == [1]
    assert handle.cancelled()


def test_callback_and_arguments_are_released_after_the_run(loop):
    token = Token()
    alive = weakref.ref(token)
    loop.call_soon(lambda argument: None, token)
    del token
    run_ready(loop)
    gc.collect()
    assert alive() is None


def test_callback_and_arguments_are_released_by_cancel(loop):
    token = Token()
    alive = weakref.ref(token)
    handle = loop.call_soon(lambda argument: None, token)
    del token
    handle.cancel()
    gc.collect()
    assert alive() is None


def test_handle_can_be_referred_to_weakly_and_dies_after_the_run(loop):
    alive = weakref.ref(loop.call_soon(lambda: None))
    assert alive() is not None
    run_ready(loop)
    gc.collect()
    assert alive() is None


def test_repr_names_the_callback_and_tells_a_cancel(loop):
    def the_callback():
        pass

    handle = loop.call_soon(the_callback)
    assert "the_callback" in repr(handle)
    assert not repr(handle).startswith("<Handle cancelled")
    handle.cancel()
    assert repr(handle).startswith("<Handle cancelled")


def test_callbacks_queued_when_the_loop_closes_never_run(loop):
    ran = []
    token = Token()
    alive = weakref.ref(token)
    loop.call_soon(ran.append, token)
    del token
    loop.close()
    gc.collect()
    assert ran == []
    assert alive() is None


def test_closed_loop_refuses(loop):
    loop.close()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        loop.call_soon(print)


def test_not_a_callable_is_reported_when_its_turn_comes(loop, faults):
    loop.call_soon(42)
    run_ready(loop)
    assert [type(context["exception"]) for context in faults] == [TypeError]
