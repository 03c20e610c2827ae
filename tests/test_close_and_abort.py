"""The end of a stream transport: `close` keeps what was written, `abort` drops it, and either is told once."""

import socket
import sys

import pytest

from support.net import Recorder, connect_recorder, io_barrier, reset, stream_pair, tcp_pair, turns


async def test_close_tells_the_protocol_in_a_later_turn_and_once(loop, link):
    link.transport.close()
    link.transport.close()
    assert link.transport.is_closing()
    assert link.protocol.events == ["connection_made"]
    await link.protocol.happened("connection_lost")
    link.transport.close()
    await turns(3)
    assert link.protocol.events == ["connection_made", "connection_lost"]
    assert link.protocol.lost_with is None
    assert await link.read_to_end() == b""


async def test_close_sends_pending_data_first(loop, link):
    data = await link.fill()
    link.transport.close()
    await io_barrier(loop)
    assert "connection_lost" not in link.protocol.events
    assert await link.read_to_end() == data
    await link.protocol.happened("connection_lost")
    assert link.protocol.lost_with is None


async def test_close_right_after_a_write_loses_nothing(loop, link):
    link.transport.write(b"parting words")
    link.transport.close()
    assert await link.read_to_end() == b"parting words"


async def test_nothing_is_received_after_close(loop, link):
    await link.fill()
    link.transport.close()
    link.far.send(b"too late")
    await io_barrier(loop)
    assert link.protocol.data == b""


async def test_peer_reset_while_data_is_pending_after_close_ends_the_connection(loop, link):
    await link.fill()
    link.transport.close()
    reset(link.far)
    await link.protocol.happened("connection_lost")
    assert isinstance(link.protocol.lost_with, ConnectionError)


async def test_writes_after_close_are_dropped_and_in_the_end_warned_of(loop, link, audit):
    link.transport.close()
    for _ in range(4):
        link.transport.write(b"dropped")
    assert audit.log.records == []
    for _ in range(4):
        link.transport.write(b"dropped")
    texts = {record.getMessage() for record in audit.log.records}
    assert texts == {"socket.send() raised exception."}
    audit.log.records.clear()
    assert await link.read_to_end() == b""


async def test_writes_after_connection_lost_are_dropped(loop, link):
    link.transport.close()
    await link.protocol.happened("connection_lost")
    await turns(1)
    link.transport.write(b"dropped")
    assert await link.read_to_end() == b""


async def test_close_from_inside_every_protocol_method(loop):
    class ClosesIn(Recorder):
        def __init__(self, method):
            super().__init__()
            self.method = method

        def note(self, event):
            super().note(event)
            if event == self.method:
                self.transport.close()

    for method in ("connection_made", "data_received", "eof_received", "connection_lost"):
        near, far = stream_pair()
        with far:
            far.send(b"data")
            far.shutdown(socket.SHUT_WR)
            _, protocol = await connect_recorder(loop, near, lambda method=method: ClosesIn(method))
            await protocol.happened("connection_lost")
            await turns(2)
            everything = ["connection_made", "data_received", "eof_received"]
            cut = everything[: everything.index(method) + 1] if method in everything else None
            assert protocol.events == [*(cut or everything), "connection_lost"]


async def test_abort_drops_pending_data(loop, link):
    data = await link.fill()
    link.transport.abort()
    assert link.transport.is_closing()
    assert "connection_lost" not in link.protocol.events
    await link.protocol.happened("connection_lost")
    assert link.protocol.lost_with is None
    assert link.transport.get_write_buffer_size() == 0
    got = await link.read_to_end()
    assert len(got) < len(data)
    assert data.startswith(got)


async def test_abort_after_close_cuts_the_wait_short(loop, link):
    await link.fill()
    link.transport.close()
    link.transport.abort()
    link.transport.abort()
    await link.protocol.happened("connection_lost")
    assert link.protocol.events.count("connection_lost") == 1


# Before 3.14 the closed transport asks its loop, which it has let go, for one more callback.
@pytest.mark.asyncio_lacks(when=sys.version_info < (3, 14), reason="asyncio raises AttributeError")
async def test_abort_after_a_close_that_had_data_pending_is_harmless(loop, link):
    data = await link.fill()
    link.transport.close()
    assert await link.read_to_end() == data
    await link.protocol.happened("connection_lost")
    await turns(1)
    link.transport.abort()
    await turns(2)
    assert link.protocol.events.count("connection_lost") == 1


async def test_peer_reset_is_told_as_the_error(loop):
    near, far = tcp_pair()
    _, protocol = await connect_recorder(loop, near)
    reset(far)
    await protocol.happened("connection_lost")
    assert isinstance(protocol.lost_with, ConnectionResetError)
    assert protocol.events == ["connection_made", "connection_lost"]


async def test_write_to_a_peer_that_is_gone_is_told_as_the_error(loop):
    near, far = stream_pair()
    transport, protocol = await connect_recorder(loop, near)
    # Without reading, only the failing write can find out.
    transport.pause_reading()
    far.close()
    transport.write(b"x")
    await protocol.happened("connection_lost")
    assert isinstance(protocol.lost_with, BrokenPipeError)
