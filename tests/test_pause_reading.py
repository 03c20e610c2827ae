"""`pause_reading` and `resume_reading`: a paused transport delivers nothing, not even the end."""

import socket

from support.net import Recorder, connect_recorder, io_barrier, stream_pair


async def test_paused_transport_delivers_nothing_until_resumed(loop, link):
    link.transport.pause_reading()
    assert not link.transport.is_reading()
    link.far.send(b"held back")
    await io_barrier(loop)
    assert link.protocol.data == b""
    link.transport.resume_reading()
    assert link.transport.is_reading()
    assert await link.protocol.received(9) == b"held back"


async def test_pausing_and_resuming_twice_is_harmless(loop, link):
    link.transport.resume_reading()
    link.transport.pause_reading()
    link.transport.pause_reading()
    link.transport.resume_reading()
    link.transport.resume_reading()
    link.far.send(b"x")
    assert await link.protocol.received(1) == b"x"


async def test_end_of_file_waits_for_the_resume(loop, link):
    link.transport.pause_reading()
    link.far.send(b"data")
    link.far.shutdown(socket.SHUT_WR)
    await io_barrier(loop)
    assert link.protocol.events == ["connection_made"]
    link.transport.resume_reading()
    await link.protocol.happened("connection_lost")
    assert link.protocol.data == b"data"


async def test_pause_from_inside_data_received_holds_back_the_rest(loop):
    class OneAtATime(Recorder):
        def data_received(self, data):
            self.transport.pause_reading()
            super().data_received(data)

    near, far = stream_pair()
    transport, protocol = await connect_recorder(loop, near, OneAtATime)
    for number in range(5):
        far.send(b"%d" % number)
        await protocol.received(number + 1)
        far.send(b"")
        assert not transport.is_reading()
        transport.resume_reading()
    far.close()
    await protocol.happened("connection_lost")
    assert protocol.data == b"01234"


async def test_pause_from_inside_connection_made_holds_from_the_start(loop):
    class Shy(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()

    near, far = stream_pair()
    far.send(b"early")
    transport, protocol = await connect_recorder(loop, near, Shy)
    await io_barrier(loop)
    assert protocol.data == b""
    transport.resume_reading()
    assert await protocol.received(5) == b"early"
    far.close()
    await protocol.happened("connection_lost")


async def test_closing_transport_does_not_read_and_cannot_be_resumed(loop, link):
    link.transport.pause_reading()
    link.transport.close()
    assert not link.transport.is_reading()
    link.transport.resume_reading()
    assert not link.transport.is_reading()


async def test_writing_goes_on_while_reading_is_paused(loop, link):
    link.transport.pause_reading()
    data = await link.fill()
    assert await link.read(len(data)) == data
