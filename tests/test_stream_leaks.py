"""Streams leave nothing behind: no objects, no memory, no references, however they were used and ended."""

import asyncio
import contextlib
import gc
import socket
import sys
import tracemalloc
import weakref

import pytest

from support.net import io_barrier, stream_pair, turns
from support.streams import Connections

WARM_UP_ROUNDS = 3
ROUNDS = 10
PER_ROUND = 10
SLACK_OBJECTS = ROUNDS * PER_ROUND // 4
SLACK_BYTES = 20_000


class Sentinel:
    """An object whose references are counted."""


async def reads_of_every_kind(streams, sentinel):
    near, far = stream_pair()
    reader, writer = await streams.open_unix_connection(sock=near, limit=50)
    reader.sentinel = writer.sentinel = sentinel
    far.send(b"one\ntwo\nthree" + bytes(2000) + b"\nrest")
    assert await reader.readline() == b"one\n"
    assert await anext(reader) == b"two\n"
    assert await reader.readexactly(5) == b"three"
    with pytest.raises(asyncio.LimitOverrunError):
        await reader.readuntil(b"\n")
    assert len(reader._buffer) > 2000
    with pytest.raises(ValueError):
        await reader.readline()
    far.close()
    with pytest.raises(asyncio.IncompleteReadError):
        await reader.readexactly(100)
    writer.close()
    await writer.wait_closed()


async def cancelled_and_closed(streams, sentinel):
    near, far = stream_pair()
    reader, writer = await streams.open_unix_connection(sock=near)
    reader.sentinel = sentinel
    task = asyncio.ensure_future(reader.read(10))
    await turns(2)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    call = reader.readline()
    call.send(None)
    call.close()
    reader.read(1).close()
    writer.write(bytes(1 << 20))
    draining = asyncio.ensure_future(writer.drain())
    await turns(2)
    draining.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await draining
    writer.transport.abort()
    await writer.wait_closed()
    far.close()


async def broken(streams, sentinel):
    near, far = stream_pair()
    reader, writer = await streams.open_unix_connection(sock=near)
    reader.sentinel = sentinel
    error = ConnectionResetError("by design")
    task = asyncio.ensure_future(reader.readline())
    await turns(2)
    writer.transport._force_close(error)
    with pytest.raises(ConnectionResetError):
        await task
    far.close()
    reader.set_exception(None)
    await turns(2)
    error.__traceback__ = None


async def served(streams, sentinel):
    async def echo(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await streams.start_server(echo, "127.0.0.1", 0)
    reader, writer = await streams.open_connection(*server.sockets[0].getsockname())
    writer.sentinel = sentinel
    writer.write(b"ping\n")
    assert await reader.read() == b"ping\n"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    await turns(2)


@pytest.mark.parametrize(
    "scenario",
    [reads_of_every_kind, cancelled_and_closed, broken, served],
    ids=lambda it: it.__name__,
)
def test_rounds_leave_nothing_behind(loop, streams, scenario):
    sentinel = Sentinel()

    async def rounds(count):
        for _ in range(count * PER_ROUND):
            await scenario(streams, sentinel)

    tracemalloc.start()
    try:
        loop.run_until_complete(rounds(WARM_UP_ROUNDS))
        gc.collect()
        before = len(gc.get_objects()), tracemalloc.get_traced_memory()[0]
        references = sys.getrefcount(sentinel)
        loop.run_until_complete(rounds(ROUNDS))
        gc.collect()
        after = len(gc.get_objects()), tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert sys.getrefcount(sentinel) == references
    assert after[0] - before[0] <= SLACK_OBJECTS
    assert after[1] - before[1] <= SLACK_BYTES


@pytest.mark.asyncio_lacks(
    when=sys.version_info < (3, 12), reason="asyncio's transport waits for the collector"
)
async def test_closed_streams_are_freed_without_the_collector(loop, streams):
    connections = Connections(loop, streams, "tcp")
    reader, writer, end = await connections.open()
    connections.forget()
    alive = [weakref.ref(each) for each in (reader, writer, writer._protocol, writer.transport)]
    await end.send(b"x")
    assert await reader.read(10) == b"x"
    gc.disable()
    try:
        writer.close()
        await writer.wait_closed()
        end.sock.close()
        del reader, writer
        await turns(3)
        assert [reference() for reference in alive] == [None] * 4
    finally:
        gc.enable()


async def test_dropped_reads_let_go_of_the_reader(loop, streams):
    reader = streams.StreamReader(loop=loop)
    alive = weakref.ref(reader)
    task = loop.create_task(reader.read(1))
    await turns(2)
    task.cancel()
    await asyncio.wait([task])
    del reader, task
    gc.collect()
    assert alive() is None


async def test_memory_of_small_packets_is_bounded(loop, streams):
    """A peer that sends byte by byte costs no more than a small multiple of what waits."""
    near, far = socket.socketpair()
    near.setblocking(False)
    reader, writer = await streams.open_unix_connection(sock=near)
    await io_barrier(loop)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(2000):
            reader.feed_data(b"xy")
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert held < 30_000, "an object for each packet"
    assert await reader.readexactly(4000) == b"xy" * 2000
    far.close()
    writer.close()
    await writer.wait_closed()
