"""`BufferedProtocol`: the transport reads into the protocol's own memory, also when that misbehaves."""

import array
import socket

import pytest

from support.net import BufferedRecorder, connect_recorder, io_barrier, pattern, stream_pair

MEGABYTE = 1 << 20


async def connect(loop, factory):
    near, far = stream_pair()
    transport, protocol = await connect_recorder(loop, near, factory)
    return transport, protocol, far


async def close(transport, protocol, far):
    far.close()
    transport.close()
    await protocol.happened("connection_lost")


@pytest.mark.parametrize("buffer_len", [1, 100, 65536])
async def test_data_arrives_through_a_buffer_of_any_size(loop, buffer_len):
    transport, protocol, far = await connect(loop, lambda: BufferedRecorder(buffer_len))
    data = pattern(1, 5000)
    far.send(data)
    assert await protocol.received(5000) == data
    assert set(protocol.size_hints) == {-1}
    await close(transport, protocol, far)


async def test_megabytes_arrive_unchanged(loop):
    transport, protocol, far = await connect(loop, BufferedRecorder)
    data = pattern(2, 10 * MEGABYTE)
    send = loop.create_task(loop.sock_sendall(far, data))
    assert await protocol.received(len(data)) == data
    await send
    await close(transport, protocol, far)


async def test_data_and_end_of_file_come_in_order(loop):
    transport, protocol, far = await connect(loop, BufferedRecorder)
    far.send(b"data")
    far.shutdown(socket.SHUT_WR)
    await protocol.happened("connection_lost")
    assert protocol.events == [
        "connection_made",
        "data_received",
        "eof_received",
        "connection_lost",
    ]
    assert protocol.data == b"data"
    await close(transport, protocol, far)


@pytest.mark.parametrize(
    "make",
    [bytearray, lambda n: memoryview(bytearray(n)), lambda n: array.array("B", bytes(n))],
    ids=["bytearray", "memoryview", "array"],
)
async def test_any_writable_buffer_will_do(loop, make):
    class Own(BufferedRecorder):
        def get_buffer(self, sizehint):
            self.buffer = make(1000)
            return self.buffer

        def buffer_updated(self, nbytes):
            self.data += bytes(self.buffer)[:nbytes]
            self.note("data_received")

    transport, protocol, far = await connect(loop, Own)
    far.send(pattern(3, 3000))
    assert await protocol.received(3000) == pattern(3, 3000)
    await close(transport, protocol, far)


async def test_only_the_lent_part_of_a_buffer_is_written(loop):
    class Part(BufferedRecorder):
        def get_buffer(self, sizehint):
            return memoryview(self.buffer)[10:20]

        def buffer_updated(self, nbytes):
            self.data += self.buffer[10 : 10 + nbytes]
            self.note("data_received")

    transport, protocol, far = await connect(loop, Part)
    far.send(pattern(4, 1000))
    assert await protocol.received(1000) == pattern(4, 1000)
    assert protocol.buffer[:10] == bytes(10)
    assert not any(protocol.buffer[20:])
    await close(transport, protocol, far)


async def test_buffer_is_not_held_when_it_is_handed_back(loop):
    class Resizing(BufferedRecorder):
        def buffer_updated(self, nbytes):
            super().buffer_updated(nbytes)
            # A buffer that somebody still holds cannot be resized (BufferError).
            self.buffer.extend(b"more")

    transport, protocol, far = await connect(loop, lambda: Resizing(100))
    far.send(b"one")
    await protocol.received(3)
    far.send(b"two")
    assert await protocol.received(6) == b"onetwo"
    await close(transport, protocol, far)


async def test_pause_from_inside_buffer_updated_holds_back_the_rest(loop):
    class OneAtATime(BufferedRecorder):
        def buffer_updated(self, nbytes):
            self.transport.pause_reading()
            super().buffer_updated(nbytes)

    transport, protocol, far = await connect(loop, lambda: OneAtATime(4))
    far.send(b"onlyafterresume")
    await protocol.received(4)
    await io_barrier(loop)
    assert protocol.data == b"only"
    transport.resume_reading()
    assert await protocol.received(8) == b"onlyafte"
    await close(transport, protocol, far)


async def test_close_from_inside_get_buffer_ends_the_connection(loop):
    class Closing(BufferedRecorder):
        def get_buffer(self, sizehint):
            self.transport.close()
            return super().get_buffer(sizehint)

    transport, protocol, far = await connect(loop, Closing)
    far.send(b"x")
    await protocol.happened("connection_lost")
    assert protocol.lost_with is None
    await close(transport, protocol, far)


def misbehaving(behaviour):
    class Misbehaving(BufferedRecorder):
        def get_buffer(self, sizehint):
            return behaviour()

    return Misbehaving


def raise_lookup_error():
    raise LookupError("no buffer")


@pytest.mark.parametrize(
    ("behaviour", "kind", "message"),
    [
        (raise_lookup_error, LookupError, "Fatal error: protocol.get_buffer() call failed."),
        (bytearray, RuntimeError, "Fatal error: protocol.get_buffer() call failed."),
        (lambda: None, TypeError, "Fatal error: protocol.get_buffer() call failed."),
        (lambda: bytes(10), TypeError, "Fatal read error on socket transport"),
    ],
    ids=["raises", "empty", "none", "read-only"],
)
async def test_misbehaving_get_buffer_ends_this_connection_alone(
    loop, faults, behaviour, kind, message
):
    transport, protocol, far = await connect(loop, misbehaving(behaviour))
    healthy = await connect(loop, BufferedRecorder)
    far.send(b"x")
    healthy[2].send(b"healthy")
    await protocol.happened("connection_lost")
    assert isinstance(protocol.lost_with, kind)
    (context,) = faults
    assert context["message"] == message
    assert context["exception"] is protocol.lost_with
    assert context["transport"] is transport
    assert context["protocol"] is protocol
    assert await healthy[1].received(7) == b"healthy"
    await close(*healthy)
    await close(transport, protocol, far)


async def test_empty_buffer_is_named_as_the_reason(loop, faults):
    transport, protocol, far = await connect(loop, misbehaving(bytearray))
    far.send(b"x")
    await protocol.happened("connection_lost")
    assert str(protocol.lost_with) == "get_buffer() returned an empty buffer"
    await close(transport, protocol, far)


async def test_raising_buffer_updated_ends_the_connection(loop, faults):
    class Raising(BufferedRecorder):
        def buffer_updated(self, nbytes):
            raise LookupError("no room")

    transport, protocol, far = await connect(loop, Raising)
    far.send(b"x")
    await protocol.happened("connection_lost")
    (context,) = faults
    assert context["message"] == "Fatal error: protocol.buffer_updated() call failed."
    assert isinstance(context["exception"], LookupError)
    assert context["transport"] is transport and context["protocol"] is protocol
    assert protocol.lost_with is context["exception"]
    await close(transport, protocol, far)
