"""Leaks: after many rounds of anything there are as many objects, descriptors and threads as before.

Each scenario runs in rounds. The first ones fill caches and free lists; what still grows between
the later ones leaks. Objects are counted by the collector, references to a sentinel by the
interpreter, descriptors and threads by the kernel.
"""

import asyncio
import concurrent.futures
import contextlib
import contextvars
import gc
import socket
import sys
import threading
import weakref

import pytest

from support.audit import open_descriptors
from support.loops import run_ready
from support.net import (
    BufferedRecorder,
    Echo,
    Recorder,
    connect_recorder,
    io_barrier,
    others_done,
    stream_pair,
    turns,
)

WARM_UP_ROUNDS = 3
ROUNDS = 10
PER_ROUND = 20
SLACK_OBJECTS = ROUNDS * PER_ROUND // 4
"""Objects that may come and go by chance; a leak of one object each time is four times that."""


class Sentinel:
    """An object whose references are counted."""


async def callbacks(loop, sentinel):
    loop.call_soon(lambda _: None, sentinel)
    loop.call_soon(lambda _: None, sentinel).cancel()
    loop.call_soon_threadsafe(lambda _: None, sentinel)
    loop.call_soon(lambda *_: None, *[sentinel] * 10)
    await turns(2)


async def raising_callbacks(loop, sentinel):
    def fail(_):
        raise ValueError

    loop.set_exception_handler(lambda loop, context: None)
    loop.call_soon(fail, sentinel)
    await turns(2)


async def timers(loop, sentinel):
    loop.call_later(0, lambda _: None, sentinel)
    loop.call_later(3600, lambda _: None, sentinel).cancel()
    loop.call_at(0, lambda _: None, sentinel)
    await turns(3)


async def contexts(loop, sentinel):
    variable = contextvars.ContextVar("variable")
    context = contextvars.copy_context()
    context.run(variable.set, sentinel)
    loop.call_soon(variable.get, context=context)
    variable.set(sentinel)
    loop.call_soon(lambda: variable.set(None))
    await turns(2)


async def tasks(loop, sentinel):
    async def work(argument):
        await asyncio.sleep(0)
        return argument

    assert await loop.create_task(work(sentinel)) is sentinel
    cancelled = loop.create_task(work(sentinel))
    cancelled.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await cancelled


async def watches(loop, sentinel):
    near, far = stream_pair()
    loop.add_reader(near, lambda _: None, sentinel)
    loop.add_writer(near, lambda _: None, sentinel)
    far.send(b"x")
    await io_barrier(loop)
    loop.add_reader(near, lambda _: None, sentinel)
    loop.remove_reader(near)
    loop.remove_writer(near)
    near.close()
    far.close()


async def socket_calls(loop, sentinel):
    near, far = stream_pair()
    receive = loop.create_task(loop.sock_recv(near, 10))
    await turns(1)
    await loop.sock_sendall(far, b"hello")
    assert b"hello".startswith(await receive)  # a stream may bring less at once
    buffer = bytearray(10)
    receive = loop.create_task(loop.sock_recv_into(near, buffer))
    await turns(1)
    receive.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await receive
    send = loop.create_task(loop.sock_sendall(near, bytes(1 << 20)))
    await turns(1)
    send.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await send
    near.close()
    far.close()


async def transports(loop, sentinel, factory=Recorder):
    near, far = stream_pair()
    transport, protocol = await connect_recorder(loop, near, factory)
    protocol.sentinel = sentinel
    transport.write(b"out")
    transport.writelines([b"more", bytearray(b"out")])
    assert await loop.sock_recv(far, 100)
    far.send(b"in")
    await protocol.received(2)
    transport.pause_reading()
    transport.resume_reading()
    far.close()
    await protocol.happened("connection_lost")


async def buffered_transports(loop, sentinel):
    await transports(loop, sentinel, BufferedRecorder)


async def aborted_transports(loop, sentinel):
    near, far = stream_pair()
    transport, protocol = await connect_recorder(loop, near)
    protocol.sentinel = sentinel
    transport.write(bytes(1 << 20))
    transport.abort()
    await protocol.happened("connection_lost")
    far.close()


async def faulty_transports(loop, sentinel):
    class Raising(Recorder):
        def data_received(self, data):
            raise ValueError

    loop.set_exception_handler(lambda loop, context: None)
    near, far = stream_pair()
    _, protocol = await connect_recorder(loop, near, Raising)
    protocol.sentinel = sentinel
    far.send(b"x")
    await protocol.happened("connection_lost")
    protocol.lost_with = None
    far.close()


async def servers(loop, sentinel):
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    transport, protocol = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
    protocol.sentinel = sentinel
    transport.write(b"ping")
    assert await protocol.received(4) == b"ping"
    transport.close()
    await protocol.happened("connection_lost")
    server.close()
    await server.wait_closed()
    await io_barrier(loop)
    await others_done()


async def failed_connections(loop, sentinel):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with contextlib.suppress(ConnectionRefusedError):
            await loop.create_connection(lambda: sentinel, *taken.getsockname())


async def executor_calls(loop, sentinel):
    assert await loop.run_in_executor(None, lambda argument: argument, sentinel) is sentinel


async def resolutions(loop, sentinel):
    assert await loop.getaddrinfo("127.0.0.1", 80)
    with contextlib.suppress(OSError):
        await loop.getaddrinfo("no address", 80, flags=socket.AI_NUMERICHOST)


async def streams(loop, sentinel):
    async def handle(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"line\n")
    assert await reader.read() == b"line\n"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    await others_done()


SCENARIOS = [
    callbacks,
    raising_callbacks,
    timers,
    contexts,
    tasks,
    watches,
    socket_calls,
    transports,
    buffered_transports,
    aborted_transports,
    faulty_transports,
    servers,
    failed_connections,
    executor_calls,
    resolutions,
    streams,
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_rounds_leave_nothing_behind(loop, scenario):
    sentinel = Sentinel()
    # One worker from the first call on; a pool that still grows could be taken for a leak.
    loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(1))

    async def one_round():
        for _ in range(PER_ROUND):
            await scenario(loop, sentinel)
        # The one worker has let go of its last piece of work once it takes the next.
        await loop.run_in_executor(None, int)

    for _ in range(WARM_UP_ROUNDS):
        loop.run_until_complete(one_round())
    gc.collect()
    before = len(gc.get_objects()), sys.getrefcount(sentinel), set(open_descriptors())
    threads = threading.active_count()
    for _ in range(ROUNDS):
        loop.run_until_complete(one_round())
    gc.collect()
    after = len(gc.get_objects()), sys.getrefcount(sentinel), set(open_descriptors())
    assert after[0] - before[0] <= SLACK_OBJECTS
    assert after[1:] == before[1:]
    assert threading.active_count() == threads


def test_loops_leave_nothing_behind(loop_factory):
    sentinel = Sentinel()

    def one_round():
        for _ in range(5):
            loop = loop_factory()
            loop.call_soon(lambda _: None, sentinel)
            loop.call_later(3600, lambda _: None, sentinel)
            loop.run_until_complete(asyncio.sleep(0))
            loop.call_soon(lambda _: None, sentinel)
            loop.call_soon_threadsafe(lambda _: None, sentinel)
            loop.close()

    for _ in range(WARM_UP_ROUNDS):
        one_round()
    gc.collect()
    before = len(gc.get_objects()), sys.getrefcount(sentinel), len(open_descriptors())
    for _ in range(ROUNDS):
        one_round()
    gc.collect()
    after = len(gc.get_objects()), sys.getrefcount(sentinel), len(open_descriptors())
    assert after[0] - before[0] <= SLACK_OBJECTS
    assert after[1:] == before[1:]


@pytest.mark.real_driver("counts the driver's descriptors")
def test_close_releases_the_descriptors_at_once(loop_factory):
    before = open_descriptors()
    loop = loop_factory()
    loop.run_until_complete(asyncio.sleep(0))
    assert len(open_descriptors()) > len(before)
    loop.close()
    # Not some day by the collector: the loop object is still here.
    assert open_descriptors() == before
    assert loop.is_closed()


@pytest.mark.real_driver("a run gives its threads so many seconds of the loop's to end")
def test_threads_of_a_run_end_with_it(loop_factory):
    before = threading.active_count()

    async def main():
        await asyncio.gather(*(asyncio.to_thread(int) for _ in range(10)))
        await asyncio.get_running_loop().getaddrinfo("127.1", 80)

    for _ in range(5):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())
    assert threading.active_count() == before


# 3.11's transport refers to itself by its bound callbacks.
@pytest.mark.asyncio_lacks(
    when=sys.version_info < (3, 12), reason="asyncio's transport waits for the collector"
)
@pytest.mark.parametrize("factory", [Recorder, BufferedRecorder])
async def test_connection_is_freed_without_the_collector(loop, factory):
    """Reference counting alone must free a closed connection; servers turn collection off."""
    near, far = stream_pair()
    transport, protocol = await connect_recorder(loop, near, factory)
    alive = weakref.ref(protocol), weakref.ref(transport)
    far.send(b"x")
    await protocol.received(1)
    far.close()
    await protocol.happened("connection_lost")
    gc.disable()
    try:
        protocol.transport = None
        del transport, protocol
        await turns(2)
        assert [reference() for reference in alive] == [None, None]
    finally:
        gc.enable()


def test_handles_and_their_arguments_are_freed_without_the_collector(loop):
    sentinel = Sentinel()
    alive = weakref.ref(sentinel)
    gc.disable()
    try:
        loop.call_soon(lambda _: None, sentinel)
        loop.call_later(0, lambda _: None, sentinel)
        cancelled = loop.call_later(3600, lambda _: None, sentinel)
        cancelled.cancel()
        del sentinel
        run_ready(loop)
        run_ready(loop)
        assert alive() is None
    finally:
        gc.enable()


def test_cancelled_timers_take_no_room(loop):
    def cancel_many():
        for _ in range(20):
            handles = [loop.call_later(3600, lambda: None) for _ in range(100)]
            for handle in handles:
                handle.cancel()
            run_ready(loop)

    cancel_many()
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(10):
        cancel_many()
    gc.collect()
    # asyncio keeps up to a hundred, and as many again as are alive.
    assert len(gc.get_objects()) - before < 1000


@pytest.mark.antiphon_lacks(reason="the collector does not see handles that user code keeps")
def test_cycle_through_handle_and_loop_is_collected(loop_factory, audit):
    loop = loop_factory()
    alive = weakref.ref(loop)

    class Owner:
        pass

    owner = Owner()
    owner.loop = loop
    owner.handle = loop.call_later(3600, lambda owner: None, owner)
    owner.soon = loop.call_soon(lambda owner: None, owner)
    owner_alive = weakref.ref(owner)
    del loop, owner
    gc.collect()
    # The recorded warning holds the loop: taken out first.
    audit.take_warning(ResourceWarning, "unclosed event loop")
    gc.collect()
    assert owner_alive() is None
    assert alive() is None
    # asyncio's loop owns a socket pair, which complains for itself.
    audit.drop_warnings(ResourceWarning, "unclosed <socket")
