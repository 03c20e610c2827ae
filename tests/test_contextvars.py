"""Context variables: every callback runs in the context in which it was asked for."""

import asyncio
import contextvars
import os
import signal

from support.loops import run_ready
from support.net import Recorder, connect_recorder, io_barrier, stream_pair, turns

variable = contextvars.ContextVar("variable", default="default")


def in_context(value, function, *args, **kwargs):
    """Calls `function` in a copy of the context in which the variable has `value`."""
    context = contextvars.copy_context()
    context.run(variable.set, value)
    return context.run(lambda: function(*args, **kwargs))


def test_callbacks_see_the_values_at_the_call_not_at_the_run(loop):
    seen = []

    def look(name):
        seen.append((name, variable.get()))

    in_context("soon", loop.call_soon, look, "call_soon")
    in_context("threadsafe", loop.call_soon_threadsafe, look, "call_soon_threadsafe")
    in_context("later", loop.call_later, 0, look, "call_later")
    in_context("at", loop.call_at, 0, look, "call_at")
    run_ready(loop)
    assert sorted(seen) == [
        ("call_at", "at"),
        ("call_later", "later"),
        ("call_soon", "soon"),
        ("call_soon_threadsafe", "threadsafe"),
    ]


def test_given_context_is_used_itself_not_copied(loop):
    context = contextvars.copy_context()
    seen = []

    def step():
        seen.append(variable.get())
        variable.set(f"set {len(seen)}")

    loop.call_soon(step, context=context)
    loop.call_soon(step, context=context)
    loop.call_later(0, step, context=context)
    loop.call_at(0, step, context=context)
    loop.call_soon_threadsafe(step, context=context)
    run_ready(loop)
    assert seen == ["default", "set 1", "set 2", "set 3", "set 4"]
    assert context[variable] == "set 5"
    assert variable.get() == "default"


def test_changes_of_one_callback_are_hidden_from_the_others(loop):
    seen = []

    def change(value):
        seen.append(variable.get())
        variable.set(value)
        seen.append(variable.get())

    loop.call_soon(change, "one")
    loop.call_soon(change, "two")
    loop.call_soon(change, "three")
    run_ready(loop)
    assert seen == ["default", "one", "default", "two", "default", "three"]
    assert variable.get() == "default"


def test_changes_are_inherited_by_what_a_callback_queues(loop):
    seen = []

    def first():
        variable.set("inherited")
        loop.call_soon(lambda: seen.append(variable.get()))
        variable.set("changed later")
        loop.call_soon(loop.stop)

    loop.call_soon(first)
    loop.run_forever()
    assert seen == ["inherited"]


def test_context_is_left_when_a_callback_raises(loop, faults):
    def fail():
        variable.set("of the failure")
        raise ValueError

    seen = []
    loop.call_soon(fail)
    loop.call_soon(lambda: seen.append(variable.get()))
    run_ready(loop)
    assert seen == ["default"]
    assert len(faults) == 1
    assert variable.get() == "default"


def test_context_that_is_entered_already_is_an_error_of_that_callback(loop, audit):
    context = contextvars.copy_context()
    ran = []

    def entered():
        loop.call_soon(ran.append, "never", context=context)
        loop.call_soon(loop.stop)
        loop.run_forever()

    context.run(entered)
    assert ran == []
    record = audit.take_log(r"^Exception in callback list\.append\(")
    assert record.exc_info[0] is RuntimeError
    assert "already entered" in str(record.exc_info[1])


def test_handle_gives_its_context(loop):
    context = contextvars.copy_context()
    handle = loop.call_soon(print, context=context)
    timer = loop.call_later(1, print, context=context)
    if hasattr(asyncio.Handle, "get_context"):  # from 3.12 on
        assert handle.get_context() is context
        assert timer.get_context() is context
        implicit = in_context("implicit", loop.call_soon, print)
        assert implicit.get_context()[variable] == "implicit"
        implicit.cancel()
    handle.cancel()
    timer.cancel()


async def test_tasks_inherit_a_copy(loop):
    async def change(value):
        before = variable.get()
        variable.set(value)
        await asyncio.sleep(0)
        return before, variable.get()

    variable.set("parent")
    results = await asyncio.gather(change("one"), change("two"))
    assert results == [("parent", "one"), ("parent", "two")]
    assert variable.get() == "parent"


async def test_done_callbacks_run_in_the_context_of_their_addition(loop):
    seen = []
    future = loop.create_future()
    in_context("added", future.add_done_callback, lambda _: seen.append(variable.get()))
    context = contextvars.copy_context()
    context.run(variable.set, "given")
    future.add_done_callback(lambda _: seen.append(variable.get()), context=context)
    future.set_result(None)
    await turns(1)
    assert seen == ["added", "given"]


async def test_readers_and_writers_run_in_the_context_of_their_addition(loop):
    near, far = stream_pair()
    seen = []
    in_context("reader", loop.add_reader, near, lambda: seen.append((near.recv(1), variable.get())))
    in_context(
        "writer",
        loop.add_writer,
        far,
        lambda: seen.append((loop.remove_writer(far), variable.get())),
    )
    far.send(b"x")
    await io_barrier(loop)
    assert sorted(seen, key=str) == sorted([(True, "writer"), (b"x", "reader")], key=str)
    loop.remove_reader(near)
    near.close()
    far.close()


async def test_signal_handlers_run_in_the_context_of_their_addition(loop):
    got = loop.create_future()
    in_context(
        "handler",
        loop.add_signal_handler,
        signal.SIGUSR1,
        lambda: got.set_result(variable.get()),
    )
    os.kill(os.getpid(), signal.SIGUSR1)
    assert await got == "handler"
    loop.remove_signal_handler(signal.SIGUSR1)


class Looking(Recorder):
    """Notes the variable's value at every event."""

    def __init__(self):
        super().__init__()
        self.seen = {}

    def note(self, event):
        self.seen[event] = variable.get()
        super().note(event)


async def test_client_protocol_runs_in_the_context_of_the_connecting_task(loop):
    near, far = stream_pair()
    variable.set("connecting")
    _, protocol = await connect_recorder(loop, near, Looking)
    variable.set("later")
    far.send(b"x")
    await protocol.received(1)
    far.close()
    await protocol.happened("connection_lost")
    assert protocol.seen == dict.fromkeys(
        ("connection_made", "data_received", "eof_received", "connection_lost"), "connecting"
    )


async def test_server_protocols_run_in_the_context_of_create_server(loop):
    protocols = []

    def factory():
        protocols.append(Looking())
        protocols[-1].seen["factory"] = variable.get()
        return protocols[-1]

    variable.set("serving")
    server = await loop.create_server(factory, "127.0.0.1", 0)
    variable.set("client")
    transport, client = await loop.create_connection(Looking, *server.sockets[0].getsockname())
    await io_barrier(loop)
    (protocol,) = protocols
    transport.write(b"x")
    await protocol.received(1)
    transport.close()
    await client.happened("connection_lost")
    await protocol.happened("connection_lost")
    assert protocol.seen == dict.fromkeys(
        ("factory", "connection_made", "data_received", "eof_received", "connection_lost"),
        "serving",
    )
    server.close()
    await server.wait_closed()
