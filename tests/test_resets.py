"""Resets and peers that never read, at every stage of a connection without TLS (`test_tls_faults` has TLS)."""

import asyncio
import errno
import socket

import pytest

from support.net import (
    BufferedRecorder,
    Recorder,
    connect_recorder,
    io_barrier,
    listening_socket,
    reset,
    tcp_pair,
    turns,
)

BROKEN = (errno.ECONNRESET, errno.EPIPE)


@pytest.fixture(params=[Recorder, BufferedRecorder])
def pair(loop, request):
    """A transport over TCP, its recorder, and the raw socket at the other end."""
    near, far = tcp_pair()
    transport, recorder = loop.run_until_complete(connect_recorder(loop, near, request.param))
    yield transport, recorder, far
    far.close()
    if "connection_lost" not in recorder.events:
        transport.abort()
        loop.run_until_complete(recorder.happened("connection_lost"))
    assert recorder.events.count("connection_lost") == 1
    assert near.fileno() == -1


async def lost(recorder):
    await recorder.happened("connection_lost")
    await turns(1)
    return recorder.lost_with


async def test_reset_while_reading(pair, faults):
    _, recorder, far = pair
    far.send(b"the last words")
    assert await recorder.received(14) == b"the last words"
    reset(far)
    assert (await lost(recorder)).errno == errno.ECONNRESET
    assert "eof_received" not in recorder.events and faults == []


async def test_reset_while_the_kernel_is_full(loop, pair, faults):
    transport, recorder, far = pair
    transport.write(bytes(1 << 24))
    await io_barrier(loop)
    assert transport.get_write_buffer_size()
    reset(far)
    assert (await lost(recorder)).errno in BROKEN
    assert transport.get_write_buffer_size() == 0 and faults == []


async def test_reset_before_a_write(pair, faults):
    transport, recorder, far = pair
    transport.pause_reading()  # which would tell of the reset
    reset(far)
    transport.write(b"into nothing")
    assert (await lost(recorder)).errno in BROKEN
    assert faults == []


@pytest.mark.parametrize("pending", [False, True])
async def test_reset_while_closing(loop, pair, faults, pending):
    transport, recorder, far = pair
    if pending:
        transport.write(bytes(1 << 24))
        await io_barrier(loop)
    transport.close()
    reset(far)
    error = await lost(recorder)
    assert error.errno in BROKEN if pending else error is None
    assert faults == []


async def test_reset_between_half_close_and_end(pair, faults):
    transport, recorder, far = pair
    transport.write_eof()
    await turns(2)
    reset(far)
    assert (await lost(recorder)).errno == errno.ECONNRESET
    assert faults == []


async def test_reset_of_a_half_open_end(loop, faults):
    near, far = tcp_pair()
    transport, recorder = await connect_recorder(loop, near, lambda: Recorder(keep_open=True))
    far.shutdown(socket.SHUT_WR)
    await recorder.happened("eof_received")
    reset(far)
    for _ in range(3):
        transport.write(b"still talking")
        await turns(2)
    assert (await lost(recorder)).errno in BROKEN
    assert faults == []


async def test_reset_before_accepting_is_an_ordinary_lost_connection(loop, faults):
    recorders = []

    def factory():
        recorders.append(Recorder())
        return recorders[-1]

    sock = listening_socket()
    client = socket.create_connection(sock.getsockname())
    reset(client)
    server = await loop.create_server(factory, sock=sock)
    await io_barrier(loop)
    for recorder in recorders:
        await lost(recorder)
    transport, recorder = await loop.create_connection(Recorder, *sock.getsockname())
    transport.abort()
    await lost(recorder)
    server.close()
    await server.wait_closed()
    await io_barrier(loop)
    assert faults == []


async def test_reset_of_streams_is_the_readers_and_the_writers_error(loop, faults):
    near, far = tcp_pair()
    reader, writer = await asyncio.open_connection(sock=near)
    reading = loop.create_task(reader.read())
    writer.write(bytes(1 << 24))
    draining = loop.create_task(writer.drain())
    await io_barrier(loop)
    reset(far)
    for task in (reading, draining):
        with pytest.raises(ConnectionError):
            await task
    writer.close()
    with pytest.raises(ConnectionError):
        await writer.wait_closed()
    assert faults == []


@pytest.mark.real_driver("writes until the kernel takes no more")
@pytest.mark.parametrize("high", [0, 1, 10_000, 1 << 20])
async def test_peer_that_never_reads_costs_the_high_water_mark(loop, pair, high):
    transport, recorder, _ = pair
    transport.set_write_buffer_limits(high)
    chunk = bytes(1000)
    for _ in range(100_000):
        if "pause_writing" in recorder.events:
            break
        transport.write(chunk)
    assert recorder.events[-1] == "pause_writing"
    assert high < transport.get_write_buffer_size() <= high + len(chunk)
    await io_barrier(loop)
    assert transport.get_write_buffer_size() <= high + len(chunk)
