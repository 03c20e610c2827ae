"""Streams over connections: TCP, Unix sockets and TLS, from both sides."""

import asyncio
import gc
import os
import socket
import sys
import warnings
import weakref

import pytest

from support.net import closed_port, io_barrier, others_done, pattern, turns
from support.streams import Connections
from support.tls import client_context, server_context

MEGABYTE = 1 << 20


async def echo(reader, writer):
    while data := await reader.read(MEGABYTE):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def settle(loop, connections):
    """Returns once what was under way has arrived; TLS makes several rounds of it."""
    for _ in range(4 if connections.kind == "tls" else 1):
        await io_barrier(loop)


async def test_bytes_go_both_ways(connections):
    reader, writer, end = await connections.open()
    writer.write(b"question\n")
    await writer.drain()
    assert await end.read(9) == b"question\n"
    await end.send(b"answer\nand more")
    assert await reader.readline() == b"answer\n"
    assert await reader.readexactly(8) == b"and more"


@pytest.mark.parametrize("size", [1, 100, 70_000, 3 * MEGABYTE])
async def test_everything_arrives_unchanged(loop, connections, size):
    reader, writer, end = await connections.open()
    data = pattern(size, size)
    sending = loop.create_task(end.send(data))
    assert await reader.readexactly(size) == data
    await sending
    receiving = loop.create_task(end.read(size))
    writer.writelines([data[: size // 2], bytearray(data[size // 2 :])])
    await writer.drain()
    assert await receiving == data


async def test_small_packets_while_nobody_reads(loop, connections):
    reader, _, end = await connections.open()
    expected = bytearray()
    for number in range(300):
        packet = pattern(number, number)
        expected += packet
        if packet:
            await end.send(packet)
        if number % 50 == 0:
            await settle(loop, connections)
    assert await reader.readexactly(len(expected)) == expected


async def test_lines_until_the_end(connections):
    reader, _, end = await connections.open()
    await end.send(b"one\ntwo\nrest")
    await end.end()
    assert [line async for line in reader] == [b"one\n", b"two\n", b"rest"]
    assert reader.at_eof()
    assert await reader.read() == b""


async def test_read_everything(loop, connections):
    reader, _, end = await connections.open(limit=1000)
    data = pattern(1, 500_000)
    sending = loop.create_task(end.send(data))
    reading = loop.create_task(reader.read())
    await sending
    await end.end()
    assert await reading == data


async def test_unread_data_pauses_the_transport(loop, connections):
    reader, writer, end = await connections.open(limit=1000)
    data = pattern(2, 24 * MEGABYTE)
    sending = loop.create_task(end.send(data))
    while not reader._paused:
        await settle(loop, connections)
    assert not writer.transport.is_reading()
    for _ in range(5):
        await settle(loop, connections)
    assert not sending.done(), "more was taken than the buffers of the kernel"
    # A read may bring 256 KiB beyond the limit, and TLS has records of its own.
    assert len(reader._buffer) < MEGABYTE
    assert await reader.readexactly(len(data)) == data
    await sending
    assert writer.transport.is_reading()


async def test_drain_waits_while_the_peer_does_not_read(loop, connections):
    _, writer, end = await connections.open()
    data = pattern(3, 16 * MEGABYTE)
    # asyncio's TLS hands a first write down whole, and pauses with the second.
    writer.write(data[: 8 * MEGABYTE])
    writer.write(data[8 * MEGABYTE :])
    draining = loop.create_task(writer.drain())
    second = loop.create_task(writer.drain())
    await settle(loop, connections)
    assert not draining.done()
    assert not second.done()
    assert await end.read(len(data)) == data
    await draining
    await second


async def test_cancelled_drain(loop, connections):
    _, writer, end = await connections.open()
    data = pattern(3, 16 * MEGABYTE)
    # asyncio's TLS hands a first write down whole, and pauses with the second.
    writer.write(data[: 8 * MEGABYTE])
    writer.write(data[8 * MEGABYTE :])
    draining = loop.create_task(writer.drain())
    other = loop.create_task(writer.drain())
    await settle(loop, connections)
    draining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await draining
    assert len(writer._protocol._drain_waiters) == 1
    assert await end.read(len(data)) == data
    await other
    assert len(writer._protocol._drain_waiters) == 0


async def test_drain_without_pause_does_not_wait(connections):
    _, writer, _ = await connections.open()
    writer.write(b"x")
    with pytest.raises(StopIteration):
        writer.drain().send(None)


@pytest.mark.parametrize(
    "read",
    [
        lambda reader: reader.read(100),
        lambda reader: reader.read(),
        lambda reader: reader.readexactly(100),
        lambda reader: reader.readline(),
        lambda reader: reader.readuntil(b"END"),
    ],
    ids=["read", "all", "exactly", "line", "until"],
)
async def test_cancelled_reads_leave_the_connection_usable(loop, connections, read):
    reader, _, end = await connections.open()
    task = loop.create_task(read(reader))
    await turns(2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await end.send(b"later\n")
    assert await reader.readline() == b"later\n"


async def test_timeout_of_a_read(connections):
    reader, _, end = await connections.open()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(reader.readexactly(5), 0.01)
    await end.send(b"later")
    assert await asyncio.wait_for(reader.readexactly(5), 20) == b"later"


async def test_broken_connection_raises_in_reads_and_drains(loop, streams):
    connections = Connections(loop, streams, "tcp")
    reader, writer, end = await connections.open()
    reading = loop.create_task(reader.read(10))
    await turns(2)
    end.reset()
    with pytest.raises(ConnectionResetError):
        await reading
    with pytest.raises(ConnectionResetError):
        await reader.readline()
    with pytest.raises(ConnectionResetError):
        await writer.drain()
    with pytest.raises(ConnectionResetError):
        await writer.wait_closed()
    assert isinstance(reader.exception(), ConnectionResetError)
    await connections.close()


async def test_drain_after_close(connections):
    _, writer, _ = await connections.open()
    writer.close()
    assert writer.is_closing()
    if connections.kind == "tls":
        writer.transport.abort()
    await writer.wait_closed()
    with pytest.raises(ConnectionResetError, match="Connection lost"):
        await writer.drain()


async def test_close_ends_reads(loop, connections):
    reader, writer, end = await connections.open()
    reading = loop.create_task(reader.read(10))
    await turns(2)
    writer.close()
    assert await end.read_to_end() == b""
    if connections.kind == "tls":
        await end.tls.say_goodbye()
    assert await reading == b""
    await writer.wait_closed()
    await writer.wait_closed()


async def test_write_eof(connections):
    reader, writer, end = await connections.open()
    assert writer.can_write_eof() == (connections.kind != "tls")
    if connections.kind == "tls":
        with pytest.raises(NotImplementedError):
            writer.write_eof()
        return
    writer.write(b"last")
    writer.write_eof()
    assert await end.read_to_end() == b"last"
    await end.send(b"still open")
    assert await reader.readexactly(10) == b"still open"


async def test_end_of_stream_leaves_the_other_direction_open(connections):
    reader, writer, end = await connections.open()
    await end.end()
    assert await reader.read() == b""
    assert writer.is_closing() == (connections.kind == "tls")
    if connections.kind != "tls":
        writer.write(b"still open")
        await writer.drain()
        assert await end.read(10) == b"still open"


async def test_transport_of_the_writer(connections):
    _, writer, _ = await connections.open()
    assert writer.transport is writer._transport
    assert (
        writer.get_extra_info("socket").fileno()
        == writer.transport.get_extra_info("socket").fileno()
    )
    assert writer.get_extra_info("nothing", 42) == 42
    assert (writer.get_extra_info("sslcontext") is not None) == (connections.kind == "tls")
    assert repr(writer).startswith("<StreamWriter transport=<")
    assert "reader=<StreamReader" in repr(writer)


async def test_refused_data(connections):
    _, writer, _ = await connections.open()
    for wrong in ("text", 1, None):
        with pytest.raises(TypeError):
            writer.write(wrong)
    with pytest.raises(TypeError):
        writer.write()
    writer.write(data=b"")


@pytest.mark.parametrize("derived", [False, True], ids=["exact", "derived"])
async def test_methods_replaced_on_an_instance_are_called(loop, streams, derived):
    class Derived(streams.StreamReader):
        pass

    seen = []
    near, far = socket.socketpair()
    near.setblocking(False)
    reader = (Derived if derived else streams.StreamReader)(loop=loop)
    feed = reader.feed_data
    reader.feed_data = lambda data: (seen.append(data), feed(data))
    protocol = streams.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.create_unix_connection(lambda: protocol, sock=near)
    writer = streams.StreamWriter(transport, protocol, reader, loop)
    far.send(b"tapped")
    assert await reader.readexactly(6) == b"tapped"
    assert seen == [b"tapped"]
    far.close()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


@pytest.mark.antiphon_lacks(reason="transports put their bytes into readers without a call")
async def test_methods_replaced_on_the_class_are_called(connections, streams, monkeypatch):
    seen = []
    native = streams.StreamReader.feed_data
    monkeypatch.setattr(
        streams.StreamReader,
        "feed_data",
        lambda reader, data: (seen.append(data), native(reader, data)),
    )
    reader, _, end = await connections.open()
    await end.send(b"data")
    assert await reader.readexactly(4) == b"data"
    assert seen == [b"data"]


async def test_subclass_of_the_protocol_is_called(loop, streams):
    events = []

    class Noting(streams.StreamReaderProtocol):
        def data_received(self, data):
            events.append(data)
            super().data_received(data)

        def eof_received(self):
            events.append("eof")
            return super().eof_received()

        async def _drain_helper(self):
            events.append("drain")
            await super()._drain_helper()

    near, far = socket.socketpair()
    near.setblocking(False)
    reader = streams.StreamReader(loop=loop)
    protocol = Noting(reader, loop=loop)
    transport, _ = await loop.create_unix_connection(lambda: protocol, sock=near)
    writer = streams.StreamWriter(transport, protocol, reader, loop)
    far.send(b"data")
    assert await reader.read(10) == b"data"
    await writer.drain()
    far.close()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    assert events == [b"data", "drain", "eof"]


async def test_data_for_a_reader_that_nobody_has_is_dropped(loop, streams):
    near, far = socket.socketpair()
    near.setblocking(False)
    reader = streams.StreamReader(limit=10, loop=loop)
    protocol = streams.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.create_unix_connection(lambda: protocol, sock=near)
    reference = weakref.ref(reader)
    del reader
    gc.collect()
    assert reference() is None, "a transport or protocol keeps the reader"
    far.send(b"x" * 1000)
    await io_barrier(loop)
    assert transport.is_reading()
    far.close()
    await io_barrier(loop)
    transport.close()
    await protocol._get_close_waiter(None)


# Servers


async def served(streams, callback, **options):
    """Gives a server on a free port of 127.0.0.1, and the port."""
    server = await streams.start_server(callback, "127.0.0.1", 0, **options)
    return server, server.sockets[0].getsockname()[1]


async def stop(server):
    server.close()
    await others_done()
    await server.wait_closed()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_server_and_client(loop, streams, tls):
    options = {"ssl": server_context()} if tls else {}
    server, port = await served(streams, echo, **options)
    options = {"ssl": client_context(), "server_hostname": "localhost"} if tls else {}
    reader, writer = await streams.open_connection("127.0.0.1", port, **options)
    data = pattern(5, MEGABYTE)
    writer.write(data)
    assert await reader.readexactly(len(data)) == data
    writer.close()
    await writer.wait_closed()
    await stop(server)


async def test_unix_server_and_client(loop, streams, tmp_path):
    path = str(tmp_path / "socket")
    server = await streams.start_unix_server(echo, path)
    reader, writer = await streams.open_unix_connection(path)
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    writer.close()
    await writer.wait_closed()
    await stop(server)


async def test_bytes_of_one_connection_never_reach_another(loop, streams):
    server, port = await served(streams, echo, limit=500)

    async def exchange(seed):
        reader, writer = await streams.open_connection("127.0.0.1", port, limit=500)
        for step in range(4):
            data = pattern(seed * 10 + step, 1 + (seed * 7919 + step * 104_729) % 20_000)
            writer.write(data)
            assert await reader.readexactly(len(data)) == data
        writer.close()
        await writer.wait_closed()

    for first in range(0, 120, 40):
        await asyncio.gather(*(exchange(seed) for seed in range(first, first + 40)))
    await stop(server)


async def test_callback_may_be_a_function(loop, streams):
    accepted = loop.create_future()
    server, port = await served(streams, lambda *pair: accepted.set_result(pair))
    _, writer = await streams.open_connection("127.0.0.1", port)
    far_reader, far_writer = await accepted
    writer.write(b"hello\n")
    assert await far_reader.readline() == b"hello\n"
    assert type(far_writer) is streams.StreamWriter
    for each in (far_writer, writer):
        each.close()
        await each.wait_closed()
    await stop(server)


async def test_failing_callback_is_reported_and_closes(loop, streams, faults):
    async def fail(reader, writer):
        raise ZeroDivisionError("by design")

    server, port = await served(streams, fail)
    reader, writer = await streams.open_connection("127.0.0.1", port)
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    await stop(server)
    (context,) = faults
    assert context["message"] == "Unhandled exception in client_connected_cb"
    assert isinstance(context["exception"], ZeroDivisionError)
    assert context["transport"].is_closing()
    faults.clear()


@pytest.mark.skipif(sys.version_info < (3, 14), reason="reported as such from 3.14 on")
async def test_failing_function_is_reported_and_closes(loop, streams, faults):
    def fail(reader, writer):
        raise ZeroDivisionError("by design")

    server, port = await served(streams, fail)
    reader, writer = await streams.open_connection("127.0.0.1", port)
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    await stop(server)
    (context,) = faults
    assert context["message"] == "Unhandled exception in client_connected_cb"
    faults.clear()


@pytest.mark.asyncio_lacks(
    when=sys.version_info < (3, 13), reason="gh-110894: reported as a failure"
)
async def test_cancelled_callback_closes(loop, streams, faults):
    async def wait(reader, writer):
        asyncio.current_task().cancel()
        await asyncio.sleep(10)

    server, port = await served(streams, wait)
    reader, writer = await streams.open_connection("127.0.0.1", port)
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    await stop(server)
    assert faults == []


async def test_refused_connection(loop, streams):
    with pytest.raises(ConnectionRefusedError):
        await streams.open_connection("127.0.0.1", closed_port())


async def test_start_tls_from_both_sides(loop, streams):
    async def upgrade(reader, writer):
        assert await reader.readline() == b"starttls\n"
        writer.write(b"go\n")
        await writer.start_tls(server_context())
        await echo(reader, writer)

    server, port = await served(streams, upgrade)
    reader, writer = await streams.open_connection("127.0.0.1", port)
    plain = writer.transport
    writer.write(b"starttls\n")
    assert await reader.readline() == b"go\n"
    await writer.start_tls(client_context(), server_hostname="localhost")
    assert writer.transport is not plain
    assert writer.get_extra_info("sslcontext") is not None
    data = pattern(8, 300_000)
    writer.write(data)
    assert await reader.readexactly(len(data)) == data
    writer.close()
    await writer.wait_closed()
    await stop(server)


async def test_unclosed_writer_warns(loop, streams):
    near, far = socket.socketpair()
    near.setblocking(False)
    _, writer = await streams.open_unix_connection(sock=near)
    closed = writer._protocol._get_close_waiter(writer)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del writer, _
        gc.collect()
    assert len(caught) == 1
    assert str(caught[0].message).startswith("unclosed <StreamWriter transport=<")
    assert caught[0].category is ResourceWarning
    await closed
    far.close()


async def test_lost_connections_that_nobody_asks_about_are_not_reported(loop, streams, faults):
    near, far = socket.socketpair()
    near.setblocking(False)
    reader, writer = await streams.open_unix_connection(sock=near)
    protocol = writer._protocol
    writer.transport._force_close(ConnectionResetError("lost"))
    with pytest.raises(ConnectionResetError):
        await reader.read(1)
    del reader, writer, protocol
    gc.collect()
    await turns(2)
    assert faults == []
    far.close()


async def test_pipes(loop, streams):
    read_end, write_end = os.pipe()
    reader = streams.StreamReader(loop=loop)
    protocol = streams.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.connect_read_pipe(lambda: protocol, os.fdopen(read_end, "rb", 0))
    out, flow = await loop.connect_write_pipe(
        lambda: asyncio.streams.FlowControlMixin(loop=loop), os.fdopen(write_end, "wb", 0)
    )
    writer = streams.StreamWriter(out, flow, None, loop)
    data = pattern(9, 500_000)
    writer.write(data)
    reading = loop.create_task(reader.readexactly(len(data)))
    await writer.drain()
    assert await reading == data
    writer.close()
    assert await reader.read() == b""
    transport.close()
    await turns(2)


async def test_streams_of_subprocesses(loop, streams, monkeypatch):
    monkeypatch.setattr(asyncio.streams, "StreamReader", streams.StreamReader)
    monkeypatch.setattr(asyncio.streams, "StreamWriter", streams.StreamWriter)
    process = await asyncio.create_subprocess_exec(
        "cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1000
    )
    assert type(process.stdout) is streams.StreamReader
    assert type(process.stdin) is streams.StreamWriter
    data = pattern(10, MEGABYTE)
    process.stdin.write(b"line\n")
    await process.stdin.drain()
    assert await process.stdout.readline() == b"line\n"
    out, _ = await process.communicate(data)
    assert out == data
    assert await process.wait() == 0
