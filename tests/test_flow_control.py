"""Write buffer limits: when a protocol is told to pause and to resume writing."""

import asyncio

import pytest

from support.net import Recorder, connect_recorder, io_barrier, stream_pair

MEGABYTE = 1 << 20
MORE_THAN_FITS = 16 * MEGABYTE


@pytest.fixture
def ends(loop):
    near, far = stream_pair()
    transport, protocol = loop.run_until_complete(connect_recorder(loop, near))
    yield transport, protocol, far
    far.close()
    transport.abort()
    loop.run_until_complete(protocol.happened("connection_lost"))


async def drain_from(loop, far, transport):
    """Reads at the far end until the transport has nothing left; gives how much was read."""
    received = 0
    while transport.get_write_buffer_size():
        received += len(await loop.sock_recv(far, MEGABYTE))
    return received


def pauses(protocol):
    return [event for event in protocol.events if event.endswith("_writing")]


async def test_default_limits_are_asyncios(loop, ends):
    transport, _, _ = ends
    assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        ({"high": 1000, "low": 10}, (10, 1000)),
        ({"high": 1000}, (250, 1000)),
        ({"low": 1000}, (1000, 4000)),
        ({"high": 0}, (0, 0)),
        ({"high": 5, "low": 5}, (5, 5)),
        ({}, (16 * 1024, 64 * 1024)),
    ],
)
async def test_one_limit_gives_the_other(loop, ends, given, limits):
    transport, _, _ = ends
    transport.set_write_buffer_limits(high=1, low=1)
    transport.set_write_buffer_limits(**given)
    assert transport.get_write_buffer_limits() == limits


@pytest.mark.parametrize("given", [{"high": 1, "low": 2}, {"high": -1}, {"high": 1, "low": -1}])
async def test_limits_in_the_wrong_order_are_refused(loop, ends, given):
    transport, _, _ = ends
    with pytest.raises(ValueError, match=r"^high \(.*\) must be >= low \(.*\) must be >= 0$"):
        transport.set_write_buffer_limits(**given)
    assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)


async def test_write_beyond_the_high_mark_pauses_at_once(loop, ends):
    transport, protocol, _ = ends
    transport.write(bytes(MORE_THAN_FITS))
    assert pauses(protocol) == ["pause_writing"]


async def test_pause_comes_once_and_resume_once(loop, ends):
    transport, protocol, far = ends
    for _ in range(10):
        transport.write(bytes(2 * MEGABYTE))
    assert pauses(protocol) == ["pause_writing"]
    received = await drain_from(loop, far, transport)
    assert received <= 20 * MEGABYTE
    await io_barrier(loop)
    assert pauses(protocol) == ["pause_writing", "resume_writing"]


async def test_pause_and_resume_alternate_over_many_rounds(loop, ends):
    transport, protocol, far = ends
    for _ in range(5):
        transport.write(bytes(MORE_THAN_FITS))
        await drain_from(loop, far, transport)
        await io_barrier(loop)
    assert pauses(protocol) == ["pause_writing", "resume_writing"] * 5


async def test_resume_comes_at_the_low_mark_not_before(loop, ends):
    transport, protocol, far = ends
    low = 4 * MEGABYTE
    transport.set_write_buffer_limits(high=8 * MEGABYTE, low=low)
    seen = []
    note = protocol.note
    protocol.note = lambda event: (
        seen.append((event, transport.get_write_buffer_size())),
        note(event),
    )
    transport.write(bytes(MORE_THAN_FITS))
    await drain_from(loop, far, transport)
    await io_barrier(loop)
    sizes = dict(seen)
    assert sizes["pause_writing"] > 8 * MEGABYTE
    assert sizes["resume_writing"] <= low


async def test_buffer_of_exactly_the_high_mark_does_not_pause(loop, ends):
    transport, protocol, _ = ends
    transport.write(bytes(MORE_THAN_FITS))
    await io_barrier(loop)
    size = transport.get_write_buffer_size()
    protocol.events.clear()
    near, far = stream_pair()
    other, other_protocol = await connect_recorder(loop, near)
    other.set_write_buffer_limits(high=MORE_THAN_FITS * 2)
    other.write(bytes(MORE_THAN_FITS))
    await io_barrier(loop)
    other.set_write_buffer_limits(high=other.get_write_buffer_size())
    assert pauses(other_protocol) == []
    other.write(b"x")
    assert pauses(other_protocol) == ["pause_writing"]
    assert size > 0
    other.abort()
    await other_protocol.happened("connection_lost")
    far.close()


async def test_lowering_the_limit_below_what_is_pending_pauses(loop, ends):
    transport, protocol, _ = ends
    transport.set_write_buffer_limits(high=2 * MORE_THAN_FITS)
    transport.write(bytes(MORE_THAN_FITS))
    await io_barrier(loop)
    assert pauses(protocol) == []
    transport.set_write_buffer_limits(high=10)
    assert pauses(protocol) == ["pause_writing"]


async def test_high_mark_zero_pauses_on_the_first_byte_that_stays(loop, ends):
    transport, protocol, far = ends
    transport.set_write_buffer_limits(high=0)
    transport.write(bytes(MORE_THAN_FITS))
    assert pauses(protocol) == ["pause_writing"]
    await drain_from(loop, far, transport)
    await io_barrier(loop)
    assert pauses(protocol) == ["pause_writing", "resume_writing"]
    assert transport.get_write_buffer_size() == 0


async def test_small_writes_that_the_kernel_takes_never_pause(loop, ends):
    transport, protocol, far = ends
    for number in range(1000):
        transport.write(b"%04d" % number)
        if number % 10 == 9:
            await loop.sock_recv(far, 40)
    await io_barrier(loop)
    assert pauses(protocol) == []
    assert transport.get_write_buffer_size() == 0


async def test_buffer_size_counts_the_bytes_that_are_pending(loop, ends):
    transport, _, far = ends
    transport.write(bytes(MORE_THAN_FITS))
    await io_barrier(loop)
    pending = transport.get_write_buffer_size()
    assert 0 < pending < MORE_THAN_FITS
    transport.writelines([bytes(1000), bytearray(2000)])
    await io_barrier(loop)
    assert transport.get_write_buffer_size() == pending + 3000
    received = 0
    while received < MORE_THAN_FITS + 3000:
        received += len(await loop.sock_recv(far, MEGABYTE))
    await io_barrier(loop)
    assert transport.get_write_buffer_size() == 0


async def test_abort_while_paused_does_not_resume(loop, ends):
    transport, protocol, _ = ends
    transport.write(bytes(MORE_THAN_FITS))
    transport.abort()
    await protocol.happened("connection_lost")
    assert protocol.events == ["connection_made", "pause_writing", "connection_lost"]


async def test_protocol_that_pauses_its_own_producer_loses_nothing(loop):
    class Producer(Recorder):
        """Writes blocks as long as it may."""

        def __init__(self):
            super().__init__()
            self.left = 500
            self.may_write = True

        def produce(self):
            while self.may_write and self.left:
                self.left -= 1
                self.transport.write(self.left.to_bytes(2, "big") * 10_000)
            if not self.left:
                self.transport.write_eof()

        def pause_writing(self):
            super().pause_writing()
            self.may_write = False

        def resume_writing(self):
            super().resume_writing()
            self.may_write = True
            loop.call_soon(self.produce)

    near, far = stream_pair()
    transport, protocol = await connect_recorder(loop, near, Producer)
    protocol.produce()
    got = bytearray()
    while chunk := await loop.sock_recv(far, MEGABYTE):
        got += chunk
    assert got == b"".join(left.to_bytes(2, "big") * 10_000 for left in range(499, -1, -1))
    # The buffer stayed near its limits however much there was to send.
    assert pauses(protocol)[:2] == ["pause_writing", "resume_writing"]
    far.close()
    transport.close()
    await protocol.happened("connection_lost")


async def test_drain_of_a_stream_waits_for_the_peer(loop):
    near, far = stream_pair()
    _, writer = await asyncio.open_connection(sock=near)
    writer.write(bytes(MORE_THAN_FITS))
    drain = loop.create_task(writer.drain())
    await io_barrier(loop)
    assert not drain.done()
    received = 0
    while received < MORE_THAN_FITS:
        received += len(await loop.sock_recv(far, MEGABYTE))
    await drain
    writer.close()
    await writer.wait_closed()
    far.close()


async def test_stream_reader_pauses_the_transport_at_its_limit(loop):
    near, far = stream_pair()
    reader, writer = await asyncio.open_connection(sock=near, limit=1000)
    send = loop.create_task(loop.sock_sendall(far, b"x" * MORE_THAN_FITS))
    for _ in range(5):
        await io_barrier(loop)
    assert not send.done()
    assert not writer.transport.is_reading()
    received = 0
    while received < MORE_THAN_FITS:
        received += len(await reader.read(MEGABYTE))
    await send
    writer.close()
    await writer.wait_closed()
    far.close()
