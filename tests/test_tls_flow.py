"""Backpressure over TLS: the marks of both directions, and memory that stays bounded whatever the peer does."""

import asyncio
import socket

import pytest

from support.net import BufferedRecorder, Recorder, io_barrier, others_done, pattern, turns
from support.tls import Peer, client_context, server_context, tls_link

KIB = 1 << 10
MIB = 1 << 20


async def fill(link):
    """Writes until the protocol is asked to pause; gives what was written."""
    written = bytearray()
    while not asked(link.protocol):
        piece = pattern(len(written), 100000)
        link.transport.write(piece)
        written += piece
        await turns(1)
    return bytes(written)


def asked(protocol):
    """Gives the flow control calls of a protocol, in order."""
    return [e for e in protocol.events if e in ("pause_writing", "resume_writing")]


@pytest.mark.whole_writes("nothing waits after write()")
async def test_default_marks_are_asyncios(loop):
    link = await tls_link(loop)
    assert link.transport.get_write_buffer_limits() == (128 * KIB, 512 * KIB)
    assert link.transport.get_read_buffer_limits() == (64 * KIB, 256 * KIB)
    assert link.transport.get_write_buffer_size() == 0
    assert link.transport.get_read_buffer_size() == 0
    await link.end()


@pytest.mark.parametrize("which", ["write", "read"])
async def test_marks_can_be_set(loop, which):
    link = await tls_link(loop)
    change = getattr(link.transport, f"set_{which}_buffer_limits")
    limits = getattr(link.transport, f"get_{which}_buffer_limits")
    change(high=1000)
    assert limits() == (250, 1000)
    change(low=100)
    assert limits() == (100, 400)
    change(high=7, low=7)
    assert limits() == (7, 7)
    for high, low in [(1, 2), (-1, -2)]:
        with pytest.raises(
            ValueError, match=rf"^high \({high}\) must be >= low \({low}\) must be >= 0$"
        ):
            change(high=high, low=low)
    assert limits() == (7, 7)
    await link.end()


async def test_protocol_is_paused_and_resumed_around_the_marks(loop):
    link = await tls_link(loop)
    data = await fill(link)
    assert asked(link.protocol) == ["pause_writing"]
    assert link.transport.get_write_buffer_size() > 0
    assert await link.peer.read(len(data)) == data
    await link.protocol.happened("resume_writing")
    assert asked(link.protocol) == ["pause_writing", "resume_writing"]
    await io_barrier(loop)
    assert link.transport.get_write_buffer_size() == 0
    await link.end()


@pytest.mark.loops("antiphon")  # asyncio's TLS transport says that nothing waits, and goes on
async def test_one_large_write_pauses_the_protocol(loop):
    link = await tls_link(loop)
    data = pattern(4, 16 << 20)
    link.transport.write(data)
    await io_barrier(loop)
    assert asked(link.protocol) == ["pause_writing"]
    assert link.transport.get_write_buffer_size() > 0
    assert await link.peer.read(len(data)) == data
    await link.protocol.happened("resume_writing")
    await link.end()


async def test_peer_that_never_reads_costs_the_high_water_mark(loop):
    """A writer that obeys has at most one write more than the mark waiting, however long it goes on."""
    link = await tls_link(loop)
    link.transport.set_write_buffer_limits(high=256 * KIB)
    piece = bytes(64 * KIB)
    for _ in range(1000):
        if asked(link.protocol):
            break
        link.transport.write(piece)
        await io_barrier(loop)
    assert asked(link.protocol) == ["pause_writing"]
    assert link.transport.get_write_buffer_size() <= 256 * KIB + 2 * len(piece)
    await link.end()


async def test_stream_writers_wait_in_drain(loop):
    ends = []

    async def flood(reader, writer):
        for number in range(200):
            writer.write(pattern(number, 100000))
            await writer.drain()
            ends.append(number)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(flood, "127.0.0.1", 0, ssl=server_context())
    with socket.create_connection(server.sockets[0].getsockname()) as sock:
        sock.setblocking(False)
        peer = Peer(loop, sock, client_context(), False)
        await peer.handshake()
        for _ in range(20):
            await io_barrier(loop)
        assert len(ends) < 200
        for number in range(200):
            assert await peer.read(100000) == pattern(number, 100000)
        await peer.goodbye()
    await others_done()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("method", ["pause_writing", "resume_writing"])
async def test_raising_flow_control_method_is_reported(loop, faults, method):
    class Raising(Recorder):
        def note(self, event):
            super().note(event)
            if event == method:
                raise ZeroDivisionError

    link = await tls_link(loop, Raising)
    data = await fill(link)
    assert await link.peer.read(len(data)) == data
    await link.protocol.happened("resume_writing")
    assert [fault["message"] for fault in faults] == [f"protocol.{method}() failed"]
    assert isinstance(faults[0]["exception"], ZeroDivisionError)
    await link.end()


async def test_protocol_may_write_when_resumed(loop):
    rounds = 3
    written = bytearray()

    class Refilling(Recorder):
        def resume_writing(self):
            super().resume_writing()
            for _ in range(100):
                if len(asked(self)) % 2 or len(asked(self)) == 2 * rounds:
                    return
                piece = pattern(len(written), 100000)
                written.extend(piece)
                self.transport.write(piece)

    link = await tls_link(loop, Refilling)
    written += await fill(link)
    received = bytearray()
    while len(asked(link.protocol)) < 2 * rounds or len(received) < len(written):
        received += await link.peer.read(min(100000, len(written) - len(received)))
    assert received == written
    await link.end()


@pytest.mark.parametrize("factory", [Recorder, BufferedRecorder])
async def test_pause_reading_holds_data_back(loop, factory):
    link = await tls_link(loop, factory)
    link.transport.pause_reading()
    assert not link.transport.is_reading()
    await link.peer.send(b"held back")
    await io_barrier(loop)
    assert not link.protocol.data
    assert link.transport.get_read_buffer_size() > 0
    link.transport.resume_reading()
    assert link.transport.is_reading()
    assert await link.protocol.received(9) == b"held back"
    await turns(2)
    assert link.transport.get_read_buffer_size() == 0
    await link.end()


async def test_pausing_inside_data_received_holds_the_next_data_back(loop):
    class OneAtATime(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()

    link = await tls_link(loop, OneAtATime)
    await link.peer.send(b"first")
    await link.protocol.received(5)
    await link.peer.send(b"second")
    await io_barrier(loop)
    assert link.protocol.data == b"first"
    link.transport.resume_reading()
    assert await link.protocol.received(11) == b"firstsecond"
    await link.end()


async def test_pause_and_resume_may_be_repeated(loop):
    link = await tls_link(loop)
    for _ in range(3):
        link.transport.pause_reading()
        link.transport.pause_reading()
        link.transport.resume_reading()
        link.transport.resume_reading()
    await link.peer.send(b"x")
    assert await link.protocol.received(1) == b"x"
    await link.end()


async def test_paused_reader_bounds_what_is_received(loop):
    """The sender is held up by the kernel's buffers once the mark is passed."""
    link = await tls_link(loop)
    link.transport.pause_reading()
    data = pattern(3, 16 * MIB)
    sending = loop.create_task(link.peer.send(data))
    for _ in range(40):
        await io_barrier(loop)
    assert not sending.done()
    # At most one receive more than the mark.
    assert 256 * KIB <= link.transport.get_read_buffer_size() <= 2 * 256 * KIB
    assert not link.protocol.data
    link.transport.resume_reading()
    assert await link.protocol.received(len(data)) == data
    await sending
    await link.end()


async def test_both_directions_full_do_not_lock_up(loop):
    """Each end writes more than the buffers between them take, and reads all the time."""
    link = await tls_link(loop)
    to_peer, from_peer = pattern(4, 6 * MIB), pattern(5, 6 * MIB)
    link.transport.write(to_peer)
    sending = loop.create_task(link.peer.send(from_peer))
    assert await link.protocol.received(len(from_peer)) == from_peer
    await sending
    assert await link.peer.read(len(to_peer)) == to_peer
    await link.end()
