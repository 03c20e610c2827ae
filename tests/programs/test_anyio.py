"""anyio: its sockets, task groups and threads on the asyncio backend."""

import contextlib
import subprocess
import sys

import anyio
import anyio.abc
import anyio.from_thread
import anyio.streams.buffered
import anyio.to_thread
import pytest

from support.net import pattern
from support.programs import settle


async def test_tcp_listener_and_stream_exchange_data(loop):
    async def handle(stream):
        async with stream:
            with contextlib.suppress(anyio.EndOfStream):
                while True:
                    await stream.send((await stream.receive())[::-1])

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            for word in (b"one", b"two", b"three"):
                await stream.send(word)
                assert await stream.receive() == word[::-1]
            assert stream.extra(anyio.abc.SocketAttribute.remote_port) == port
        group.cancel_scope.cancel()
    await listener.aclose()
    await settle()


async def test_megabytes_pass_with_backpressure(loop):
    payload = pattern(1, 4_000_000)
    received = bytearray()

    async def handle(stream):
        async with stream:
            with contextlib.suppress(anyio.EndOfStream):
                while True:
                    received.extend(await stream.receive(65536))
            group.cancel_scope.cancel()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(payload)
            await stream.send_eof()
            with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                await stream.receive()
    await listener.aclose()
    await settle()
    assert received == payload


async def test_lines_are_read_through_a_buffered_stream(loop):
    async def handle(stream):
        async with stream:
            for number in range(100):
                await stream.send(b"line %d\n" % number)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            lines = anyio.streams.buffered.BufferedByteReceiveStream(stream)
            for number in range(100):
                assert await lines.receive_until(b"\n", 100) == b"line %d" % number
        group.cancel_scope.cancel()
    await listener.aclose()
    await settle()


async def test_failure_of_one_task_cancels_its_group(loop):
    cancelled = []

    async def wait(name):
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append(name)

    async def fail():
        await anyio.lowlevel.checkpoint()
        raise LookupError("one of them")

    with pytest.raises(ExceptionGroup) as caught:
        async with anyio.create_task_group() as group:
            group.start_soon(wait, "first")
            group.start_soon(wait, "second")
            group.start_soon(fail)
    assert [type(error) for error in caught.value.exceptions] == [LookupError]
    assert sorted(cancelled) == ["first", "second"]


async def test_deadlines_cancel_scopes(loop):
    with anyio.move_on_after(0.005) as scope:
        await anyio.sleep_forever()
    assert scope.cancelled_caught
    with pytest.raises(TimeoutError):
        with anyio.fail_after(0.005):
            await anyio.sleep_forever()
    with anyio.CancelScope(shield=True), anyio.move_on_after(3600):
        await anyio.lowlevel.checkpoint()


async def test_thread_calls_back_into_the_loop(loop):
    log = []

    async def coroutine(value):
        await anyio.lowlevel.checkpoint()
        log.append(value)
        return value * 2

    def in_a_thread():
        first = anyio.from_thread.run(coroutine, 1)
        second = anyio.from_thread.run_sync(lambda: log.append("sync") or 21)
        return first, second

    assert await anyio.to_thread.run_sync(in_a_thread) == (2, 21)
    assert log == [1, "sync"]


async def test_memory_streams_pass_items_between_tasks(loop):
    send, receive = anyio.create_memory_object_stream(0)
    got = []

    async def produce():
        async with send:
            for number in range(100):
                await send.send(number)

    async with anyio.create_task_group() as group:
        group.start_soon(produce)
        async with receive:
            async for number in receive:
                got.append(number)
    assert got == list(range(100))


def test_anyio_run_takes_the_loop_by_its_factory(loop_factory, loop_class):
    seen = []

    async def main():
        import asyncio

        seen.append(type(asyncio.get_running_loop()))
        return await anyio.to_thread.run_sync(lambda: "worked")

    options = {"loop_factory": loop_factory}
    assert anyio.run(main, backend="asyncio", backend_options=options) == "worked"
    assert seen == [loop_class]


def test_blocking_portal_serves_threads(loop_factory):
    async def double(value):
        await anyio.lowlevel.checkpoint()
        return value * 2

    options = {"loop_factory": loop_factory}
    with anyio.from_thread.start_blocking_portal("asyncio", options) as portal:
        assert portal.call(double, 21) == 42
        future = portal.start_task_soon(double, 4)
        assert future.result(5) == 8


# In a process of its own: it is the first import of anyio that looks at asyncio's functions.
IMPORTED_AFTER_INSTALL = """
import asyncio
import sys
import antiphon

async def main():
    if sys.version_info >= (3, 12):
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    steps = []

    async def child(number):
        steps.append(f"{number} begins")
        await anyio.sleep(0)
        steps.append(f"{number} ends")

    async with anyio.create_task_group() as group:
        for number in range(2):
            group.start_soon(child, number)
        steps.append("started")  # anyio's tasks start later even with an eager factory
    print(steps)

antiphon.install()
import anyio
antiphon.run(main())
"""


@pytest.mark.loops("antiphon")
def test_anyio_is_imported_after_install():
    ended = subprocess.run(
        [sys.executable, "-c", IMPORTED_AFTER_INSTALL],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    steps = ["started", "0 begins", "1 begins", "0 ends", "1 ends"]
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{steps}\n", "")
