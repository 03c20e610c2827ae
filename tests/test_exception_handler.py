"""The exception handler: who calls it, with what, and what happens when it fails itself."""

import asyncio
import contextvars
import gc
import logging
import re
import sys

import pytest

from support.loops import run_ready

runs_in_context = sys.version_info >= (3, 12)  # handlers run in the context of what failed


def fail():
    raise ValueError("from the callback")


def test_handler_is_called_with_loop_and_context(loop):
    calls = []
    loop.set_exception_handler(lambda *args: calls.append(args))
    handle = loop.call_soon(fail)
    run_ready(loop)
    ((given_loop, context),) = calls
    assert given_loop is loop
    assert set(context) == {"message", "exception", "handle"}
    assert context["message"].startswith("Exception in callback fail() at ")
    assert isinstance(context["exception"], ValueError)
    assert context["handle"] is handle


def test_handler_can_be_read_and_reset(loop):
    def handler(loop, context):
        pass

    assert loop.get_exception_handler() is None
    loop.set_exception_handler(handler)
    assert loop.get_exception_handler() is handler
    loop.set_exception_handler(None)
    assert loop.get_exception_handler() is None


@pytest.mark.parametrize("bad", [42, "handler", object()])
def test_handler_must_be_callable(loop, bad):
    with pytest.raises(TypeError, match="^A callable object or None is expected, got "):
        loop.set_exception_handler(bad)


def test_default_handler_logs_message_and_traceback(loop, audit):
    loop.call_soon(fail)
    run_ready(loop)
    record = audit.take_log(r"^Exception in callback fail\(\) at ", logging.ERROR)
    assert "\nhandle: <Handle fail() at " in record.getMessage()
    assert record.exc_info[0] is ValueError


def test_default_handler_logs_every_key_in_order(loop, audit):
    loop.call_exception_handler({"message": "the message", "zebra": 1, "ape": "two"})
    record = audit.take_log("the message", logging.ERROR)
    assert record.getMessage() == "the message\nape: 'two'\nzebra: 1"
    assert not record.exc_info


def test_default_handler_has_a_message_of_its_own(loop, audit):
    loop.call_exception_handler({})
    assert audit.take_log("").getMessage() == "Unhandled exception in event loop"


def test_default_handler_formats_tracebacks(loop, audit):
    import traceback

    stack = traceback.extract_stack(limit=1)
    loop.call_exception_handler({"message": "m", "source_traceback": stack})
    text = audit.take_log("^m\n").getMessage()
    assert "source_traceback: Object created at (most recent call last):\n" in text
    assert "test_exception_handler.py" in text


def test_default_handler_can_be_called_from_an_own_one(loop, audit):
    loop.set_exception_handler(lambda loop, context: loop.default_exception_handler(context))
    loop.call_soon(fail)
    run_ready(loop)
    audit.take_log("Exception in callback fail", logging.ERROR)


def test_failure_of_an_own_handler_is_logged_with_what_it_was_given(loop, audit):
    def broken(loop, context):
        raise ZeroDivisionError

    loop.set_exception_handler(broken)
    loop.call_soon(fail)
    ran = []
    loop.call_soon(ran.append, 1)
    run_ready(loop)
    record = audit.take_log("^Unhandled error in exception handler", logging.ERROR)
    assert record.exc_info[0] is ZeroDivisionError
    assert "context: {" in record.getMessage()
    assert ran == [1]


def test_failure_of_an_overridden_default_handler_is_logged(loop_class, audit):
    class Broken(loop_class):
        def default_exception_handler(self, context):
            raise ZeroDivisionError

    loop = Broken()
    loop.call_soon(fail)
    run_ready(loop)
    record = audit.take_log("^Exception in default exception handler$", logging.ERROR)
    assert record.exc_info[0] is ZeroDivisionError
    loop.set_exception_handler(lambda loop, context: 1 / 0)
    loop.call_soon(fail)
    run_ready(loop)
    audit.take_log(
        "^Exception in default exception handler while handling an unexpected error "
        "in custom exception handler$"
    )
    loop.close()


def test_overridden_default_handler_is_used(loop_class):
    contexts = []

    class Own(loop_class):
        def default_exception_handler(self, context):
            contexts.append(context)

    loop = Own()
    loop.call_soon(fail)
    run_ready(loop)
    loop.close()
    assert isinstance(contexts[0]["exception"], ValueError)


def test_overridden_call_exception_handler_is_used(loop_class):
    contexts = []

    class Own(loop_class):
        def call_exception_handler(self, context):
            contexts.append(context)

    loop = Own()
    loop.call_soon(fail)
    run_ready(loop)
    loop.close()
    assert isinstance(contexts[0]["exception"], ValueError)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_exit_exceptions_of_a_handler_leave_the_run(loop, kind):
    def leave(loop, context):
        raise kind("out")

    loop.set_exception_handler(leave)
    loop.call_soon(fail)
    with pytest.raises(kind, match="^out$"):
        loop.run_forever()
    loop.set_exception_handler(None)
    run_ready(loop)


def test_task_whose_exception_nobody_retrieved_is_reported(loop, faults):
    async def raise_error():
        raise LookupError("nobody asks")

    task = loop.create_task(raise_error())
    run_ready(loop)
    run_ready(loop)
    del task
    gc.collect()
    (context,) = faults
    assert context["message"] == "Task exception was never retrieved"
    assert isinstance(context["exception"], LookupError)
    assert isinstance(context["future"], asyncio.Task)


def test_future_whose_exception_nobody_retrieved_is_reported(loop, faults):
    future = loop.create_future()
    future.set_exception(LookupError("nobody asks"))
    del future
    gc.collect()
    (context,) = faults
    assert context["message"] == "Future exception was never retrieved"
    assert isinstance(context["exception"], LookupError)


def test_pending_task_that_is_destroyed_is_reported(loop, faults):
    async def wait(future):
        await future

    future = loop.create_future()
    task = loop.create_task(wait(future))
    run_ready(loop)
    del task, future
    loop.close()  # antiphon's loop keeps its tasks until then
    gc.collect()
    (context,) = faults
    assert context["message"] == "Task was destroyed but it is pending!"
    assert isinstance(context["task"], asyncio.Task)
    # The report brought the task back to life; it must not outlive the test as "unfinished".
    del context
    faults.clear()
    gc.collect()


def test_handler_sees_the_context_of_the_callback_that_failed(loop):
    variable = contextvars.ContextVar("variable", default="outside")
    seen = []
    loop.set_exception_handler(lambda loop, context: seen.append(variable.get()))
    context = contextvars.copy_context()
    context.run(variable.set, "inside")
    loop.call_soon(fail, context=context)
    run_ready(loop)
    assert seen == ["inside" if runs_in_context else "outside"]


def test_message_names_the_callback_and_its_arguments(loop, faults):
    def callback(*args):
        raise ValueError

    loop.call_soon(callback, 1, "two")
    run_ready(loop)
    name = "test_message_names_the_callback_and_its_arguments.<locals>.callback"
    assert re.match(rf"Exception in callback {name}\(.*\) at .*:\d+$", faults[0]["message"])


def test_exception_keeps_its_traceback(loop, faults):
    loop.call_soon(fail)
    run_ready(loop)
    frames = []
    traceback = faults[0]["exception"].__traceback__
    while traceback:
        frames.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert frames[-1] == "fail"
