"""Stream transports: what is written arrives, whole and in order, and so does what is received.

A transport may keep what is written until the end of the turn, so no test here looks at the peer
before the loop had a turn.
"""

import array
import asyncio
import random
import sys

import pytest

from support.net import Recorder, io_barrier, pattern

MEGABYTE = 1 << 20


async def test_write_arrives_unchanged(loop, link):
    link.transport.write(b"hello")
    assert await link.read(5) == b"hello"


async def test_received_data_reaches_the_protocol(loop, link):
    link.far.send(b"hello")
    assert await link.protocol.received(5) == b"hello"
    assert link.protocol.events == ["connection_made", "data_received"]


@pytest.mark.parametrize("turn_every", [1, 7, 5000])
async def test_many_small_writes_arrive_in_order(loop, link, turn_every):
    lines = [b"%d\n" % number for number in range(5000)]
    expected = b"".join(lines)
    reader = loop.create_task(link.read(len(expected)))
    for number, line in enumerate(lines):
        link.transport.write(line)
        if number % turn_every == 0:
            await asyncio.sleep(0)
    assert await reader == expected


@pytest.mark.parametrize("seed", range(3))
async def test_ten_megabytes_in_odd_pieces_arrive_unchanged(loop, link, seed):
    data = pattern(seed, 10 * MEGABYTE)
    sizes = random.Random(seed)
    reader = loop.create_task(link.read(len(data)))
    position = 0
    while position < len(data):
        size = sizes.choice((1, 7, 100, 4096, 65535, 65537, 300_001, 2 * MEGABYTE))
        link.transport.write(data[position : position + size])
        position += size
        if sizes.random() < 0.2:
            await asyncio.sleep(0)
    assert await reader == data


async def test_ten_megabytes_are_received_unchanged(loop, link):
    data = pattern(4, 10 * MEGABYTE)
    send = loop.create_task(loop.sock_sendall(link.far, data))
    assert await link.protocol.received(len(data)) == data
    await send


async def test_writes_from_inside_data_received_keep_their_order(loop, link):
    class Numbering(Recorder):
        def data_received(self, data):
            for byte in data:
                self.transport.write(b"%d," % byte)

    link.transport.set_protocol(numbering := Numbering())
    numbering.connection_made(link.transport)
    link.far.send(bytes(range(256)))
    expected = b"".join(b"%d," % byte for byte in range(256))
    assert await link.read(len(expected)) == expected
    link.transport.set_protocol(link.protocol)


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
async def test_every_bytes_like_can_be_written(loop, link, make):
    link.transport.write(make(b"data"))
    link.transport.writelines([make(b"more"), make(b" data")])
    assert await link.read(13) == b"datamore data"


async def test_view_of_wider_items_is_written_whole(loop, link):
    numbers = array.array("I", range(100))
    link.transport.write(memoryview(numbers))
    assert await link.read(400) == numbers.tobytes()


async def test_buffer_may_be_changed_and_resized_after_the_write(loop, link):
    buffer = bytearray(b"one")
    link.transport.write(buffer)
    buffer[:] = b"two"
    link.transport.write(memoryview(buffer))
    buffer[:] = b"XXX"
    buffer.extend(b"longer")
    assert await link.read(6) == b"onetwo"


async def test_writing_nothing_is_nothing(loop, link):
    link.transport.write(b"")
    link.transport.writelines([])
    link.transport.write(b"x")
    assert await link.read(1) == b"x"


@pytest.mark.parametrize("bad", ["text", None, 3, [b"list"]])
async def test_what_is_not_bytes_like_is_refused(loop, link, bad):
    with pytest.raises(TypeError, match="^data argument must be a bytes"):
        link.transport.write(bad)
    link.transport.write(b"still usable")
    assert await link.read(12) == b"still usable"


async def test_writelines_takes_any_iterable(loop, link):
    link.transport.writelines(b"%d" % number for number in range(10))
    link.transport.writelines((b"a", b"b"))
    assert await link.read(12) == b"0123456789ab"


async def test_writelines_of_many_pieces_keeps_their_order(loop, link):
    # More than the kernel takes pieces in one call (IOV_MAX is 1024).
    pieces = [pattern(number, 700) for number in range(5000)]
    reader = loop.create_task(link.read(3_500_000))
    link.transport.writelines(pieces)
    link.transport.write(b"")
    assert await reader == b"".join(pieces)


# Before 3.14.6 an empty piece that is left over keeps the transport writing nothing for ever.
@pytest.mark.asyncio_lacks(
    when=(3, 12) <= sys.version_info < (3, 14), reason="asyncio spins on an empty piece"
)
@pytest.mark.whole_writes("nothing waits after write()")
async def test_writelines_passes_over_empty_pieces(loop, link):
    link.transport.writelines([b"", b"a", b"", b"b", b""])
    await io_barrier(loop)
    assert link.transport.get_write_buffer_size() == 0
    assert await link.read(2) == b"ab"


async def test_writes_and_writelines_mixed_while_the_buffer_is_full_keep_their_order(loop, link):
    data = await link.fill()
    link.transport.write(b"one ")
    link.transport.writelines([b"two ", b"three "])
    link.transport.write(bytearray(b"four"))
    assert await link.read(len(data) + 18) == data + b"one two three four"
