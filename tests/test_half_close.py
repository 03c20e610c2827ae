"""Half-close both ways: `write_eof`, `eof_received`, and data that goes on in the other direction."""

import socket

import pytest

from support.net import io_barrier


async def test_write_eof_ends_the_stream_after_the_data(loop, link):
    assert link.transport.can_write_eof() is True
    link.transport.write(b"all of it")
    link.transport.write_eof()
    assert await link.read_to_end() == b"all of it"


async def test_write_eof_waits_for_pending_data(loop, link):
    data = await link.fill()
    link.transport.write_eof()
    assert await link.read_to_end() == data


async def test_data_still_arrives_after_write_eof(loop, link):
    link.transport.write_eof()
    assert await link.read_to_end() == b""
    link.far.send(b"answer")
    assert await link.protocol.received(6) == b"answer"
    assert not link.transport.is_closing()


async def test_write_after_write_eof_is_refused(loop, link):
    link.transport.write_eof()
    link.transport.write_eof()
    with pytest.raises(RuntimeError, match=r"^Cannot call write\(\) after write_eof\(\)$"):
        link.transport.write(b"x")
    # 3.11's writelines is a write of the joined pieces, and is named so.
    with pytest.raises(RuntimeError, match=r"^Cannot call write(lines)?\(\) after write_eof\(\)$"):
        link.transport.writelines([b"x"])


async def test_end_of_file_closes_unless_the_protocol_objects(loop, link):
    link.far.shutdown(socket.SHUT_WR)
    await link.protocol.happened("connection_lost")
    assert link.protocol.events == ["connection_made", "eof_received", "connection_lost"]
    assert link.protocol.lost_with is None


async def test_end_of_file_closes_only_after_pending_data_left(loop, link):
    data = await link.fill()
    link.far.shutdown(socket.SHUT_WR)
    await link.protocol.happened("eof_received")
    assert link.transport.is_closing()
    assert await link.read_to_end() == data
    await link.protocol.happened("connection_lost")
    assert link.protocol.lost_with is None


async def test_protocol_that_objects_goes_on_writing(loop, link):
    link.protocol.keep_open = True
    link.far.send(b"question")
    link.far.shutdown(socket.SHUT_WR)
    await link.protocol.happened("eof_received")
    await io_barrier(loop)
    assert link.protocol.events == ["connection_made", "data_received", "eof_received"]
    assert not link.transport.is_closing()
    link.transport.write(b"answer")
    assert await link.read(6) == b"answer"
    link.transport.close()
    assert await link.read_to_end() == b""
    await link.protocol.happened("connection_lost")
    assert link.protocol.lost_with is None


async def test_both_ends_half_closed_then_closed(loop, link):
    link.protocol.keep_open = True
    link.transport.write(b"last")
    link.transport.write_eof()
    assert await link.read_to_end() == b"last"
    link.far.send(b"words")
    link.far.shutdown(socket.SHUT_WR)
    await link.protocol.happened("eof_received")
    assert link.protocol.data == b"words"
    link.transport.close()
    await link.protocol.happened("connection_lost")


async def test_data_and_end_of_file_that_arrive_together_come_in_order(loop, link):
    link.far.send(b"data")
    link.far.shutdown(socket.SHUT_WR)
    await link.protocol.happened("connection_lost")
    assert link.protocol.events == [
        "connection_made",
        "data_received",
        "eof_received",
        "connection_lost",
    ]
    assert link.protocol.data == b"data"
