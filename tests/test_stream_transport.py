"""Stream transports: data, half-close, close, abort, and what a protocol is told in which order.

A transport may keep what is written until the end of the turn, so no test here looks at the peer
before the loop had a turn.
"""

import array
import asyncio
import gc
import random
import socket
import sys

import pytest
from support.net import (
    BufferedRecorder,
    Recorder,
    connect_recorder,
    io_barrier,
    pattern,
    stream_pair,
    tcp_pair,
    turns,
)

MEGABYTE = 1 << 20


class Link:
    """A transport with its recording protocol, and the raw socket at the other end."""

    def __init__(self, loop, transport, protocol, far):
        self.loop = loop
        self.transport = transport
        self.protocol = protocol
        self.far = far

    async def read(self, size):
        """Reads exactly `size` bytes at the far end."""
        got = bytearray()
        while len(got) < size:
            chunk = await self.loop.sock_recv(self.far, size - len(got))
            assert chunk, f"end of file after {len(got)} of {size} bytes"
            got += chunk
        return bytes(got)

    async def read_to_end(self):
        """Reads at the far end until end of file."""
        got = bytearray()
        while chunk := await self.loop.sock_recv(self.far, MEGABYTE):
            got += chunk
        return bytes(got)

    async def fill(self):
        """Writes more than the kernel takes, so that data stays with the transport; gives the data."""
        data = pattern(99, 16 * MEGABYTE)
        self.transport.write(data)
        await io_barrier(self.loop)
        assert self.transport.get_write_buffer_size() > 0
        return data


@pytest.fixture(params=["tcp", "unix"])
def link(loop, request):
    near, far = tcp_pair() if request.param == "tcp" else stream_pair()
    link = Link(loop, *loop.run_until_complete(connect_recorder(loop, near)), far)
    yield link
    far.close()
    if "connection_lost" not in link.protocol.events:
        link.transport.abort()
        loop.run_until_complete(link.protocol.happened("connection_lost"))
    assert link.protocol.events.count("connection_lost") == 1
    assert link.protocol.events[-1] == "connection_lost"


def reset(sock):
    """Closes a TCP socket so that the peer gets a reset (SO_LINGER with zero seconds)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()


class TestData:
    async def test_write_arrives_unchanged(self, loop, link):
        link.transport.write(b"hello")
        assert await link.read(5) == b"hello"

    async def test_received_data_reaches_the_protocol(self, loop, link):
        link.far.send(b"hello")
        assert await link.protocol.received(5) == b"hello"
        assert link.protocol.events == ["connection_made", "data_received"]

    @pytest.mark.parametrize("turn_every", [1, 7, 5000])
    async def test_many_small_writes_arrive_in_order(self, loop, link, turn_every):
        lines = [b"%d\n" % number for number in range(5000)]
        expected = b"".join(lines)
        reader = loop.create_task(link.read(len(expected)))
        for number, line in enumerate(lines):
            link.transport.write(line)
            if number % turn_every == 0:
                await asyncio.sleep(0)
        assert await reader == expected

    @pytest.mark.parametrize("seed", range(3))
    async def test_ten_megabytes_in_odd_pieces_arrive_unchanged(self, loop, link, seed):
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

    async def test_ten_megabytes_are_received_unchanged(self, loop, link):
        data = pattern(4, 10 * MEGABYTE)
        send = loop.create_task(loop.sock_sendall(link.far, data))
        assert await link.protocol.received(len(data)) == data
        await send

    async def test_writes_from_inside_data_received_keep_their_order(self, loop, link):
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
    async def test_every_bytes_like_can_be_written(self, loop, link, make):
        link.transport.write(make(b"data"))
        link.transport.writelines([make(b"more"), make(b" data")])
        assert await link.read(13) == b"datamore data"

    async def test_view_of_wider_items_is_written_whole(self, loop, link):
        numbers = array.array("I", range(100))
        link.transport.write(memoryview(numbers))
        assert await link.read(400) == numbers.tobytes()

    async def test_buffer_may_be_changed_and_resized_after_the_write(self, loop, link):
        buffer = bytearray(b"one")
        link.transport.write(buffer)
        buffer[:] = b"two"
        link.transport.write(memoryview(buffer))
        buffer[:] = b"XXX"
        buffer.extend(b"longer")
        assert await link.read(6) == b"onetwo"

    async def test_writing_nothing_is_nothing(self, loop, link):
        link.transport.write(b"")
        link.transport.writelines([])
        link.transport.write(b"x")
        assert await link.read(1) == b"x"

    @pytest.mark.parametrize("bad", ["text", None, 3, [b"list"]])
    async def test_what_is_not_bytes_like_is_refused(self, loop, link, bad):
        with pytest.raises(TypeError, match="^data argument must be a bytes"):
            link.transport.write(bad)
        link.transport.write(b"still usable")
        assert await link.read(12) == b"still usable"

    async def test_writelines_takes_any_iterable(self, loop, link):
        link.transport.writelines(b"%d" % number for number in range(10))
        link.transport.writelines((b"a", b"b"))
        assert await link.read(12) == b"0123456789ab"

    async def test_writelines_of_many_pieces_keeps_their_order(self, loop, link):
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
    async def test_writelines_passes_over_empty_pieces(self, loop, link):
        link.transport.writelines([b"", b"a", b"", b"b", b""])
        await io_barrier(loop)
        assert link.transport.get_write_buffer_size() == 0
        assert await link.read(2) == b"ab"

    async def test_writes_and_writelines_mixed_while_the_buffer_is_full_keep_their_order(
        self, loop, link
    ):
        data = await link.fill()
        link.transport.write(b"one ")
        link.transport.writelines([b"two ", b"three "])
        link.transport.write(bytearray(b"four"))
        assert await link.read(len(data) + 18) == data + b"one two three four"


class TestHalfClose:
    async def test_write_eof_ends_the_stream_after_the_data(self, loop, link):
        assert link.transport.can_write_eof() is True
        link.transport.write(b"all of it")
        link.transport.write_eof()
        assert await link.read_to_end() == b"all of it"

    async def test_write_eof_waits_for_pending_data(self, loop, link):
        data = await link.fill()
        link.transport.write_eof()
        assert await link.read_to_end() == data

    async def test_data_still_arrives_after_write_eof(self, loop, link):
        link.transport.write_eof()
        assert await link.read_to_end() == b""
        link.far.send(b"answer")
        assert await link.protocol.received(6) == b"answer"
        assert not link.transport.is_closing()

    async def test_write_after_write_eof_is_refused(self, loop, link):
        link.transport.write_eof()
        link.transport.write_eof()
        with pytest.raises(RuntimeError, match=r"^Cannot call write\(\) after write_eof\(\)$"):
            link.transport.write(b"x")
        # 3.11's writelines is a write of the joined pieces.
        name = "write" if sys.version_info < (3, 12) else "writelines"
        with pytest.raises(
            RuntimeError, match=rf"^Cannot call {name}\(\) after write_eof\(\)$"
        ):
            link.transport.writelines([b"x"])

    async def test_end_of_file_closes_unless_the_protocol_objects(self, loop, link):
        link.far.shutdown(socket.SHUT_WR)
        await link.protocol.happened("connection_lost")
        assert link.protocol.events == ["connection_made", "eof_received", "connection_lost"]
        assert link.protocol.lost_with is None

    async def test_end_of_file_closes_only_after_pending_data_left(self, loop, link):
        data = await link.fill()
        link.far.shutdown(socket.SHUT_WR)
        await link.protocol.happened("eof_received")
        assert link.transport.is_closing()
        assert await link.read_to_end() == data
        await link.protocol.happened("connection_lost")
        assert link.protocol.lost_with is None

    async def test_protocol_that_objects_goes_on_writing(self, loop, link):
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

    async def test_both_ends_half_closed_then_closed(self, loop, link):
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

    async def test_data_and_end_of_file_that_arrive_together_come_in_order(self, loop, link):
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


class TestClose:
    async def test_close_tells_the_protocol_in_a_later_turn_and_once(self, loop, link):
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

    async def test_close_sends_pending_data_first(self, loop, link):
        data = await link.fill()
        link.transport.close()
        await io_barrier(loop)
        assert "connection_lost" not in link.protocol.events
        assert await link.read_to_end() == data
        await link.protocol.happened("connection_lost")
        assert link.protocol.lost_with is None

    async def test_close_right_after_a_write_loses_nothing(self, loop, link):
        link.transport.write(b"parting words")
        link.transport.close()
        assert await link.read_to_end() == b"parting words"

    async def test_nothing_is_received_after_close(self, loop, link):
        await link.fill()
        link.transport.close()
        link.far.send(b"too late")
        await io_barrier(loop)
        assert link.protocol.data == b""

    async def test_peer_reset_while_data_is_pending_after_close_ends_the_connection(
        self, loop, link
    ):
        await link.fill()
        link.transport.close()
        reset(link.far)
        await link.protocol.happened("connection_lost")
        assert isinstance(link.protocol.lost_with, ConnectionError)

    async def test_writes_after_close_are_dropped_and_in_the_end_warned_of(
        self, loop, link, audit
    ):
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

    async def test_writes_after_connection_lost_are_dropped(self, loop, link):
        link.transport.close()
        await link.protocol.happened("connection_lost")
        await turns(1)
        link.transport.write(b"dropped")
        assert await link.read_to_end() == b""

    async def test_close_from_inside_every_protocol_method(self, loop):
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
                _, protocol = await connect_recorder(
                    loop, near, lambda method=method: ClosesIn(method)
                )
                await protocol.happened("connection_lost")
                await turns(2)
                everything = ["connection_made", "data_received", "eof_received"]
                cut = everything[: everything.index(method) + 1] if method in everything else None
                assert protocol.events == [*(cut or everything), "connection_lost"]


class TestAbort:
    async def test_abort_drops_pending_data(self, loop, link):
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

    async def test_abort_after_close_cuts_the_wait_short(self, loop, link):
        await link.fill()
        link.transport.close()
        link.transport.abort()
        link.transport.abort()
        await link.protocol.happened("connection_lost")
        assert link.protocol.events.count("connection_lost") == 1

    # Before 3.14 the closed transport asks its loop, which it has let go, for one more callback.
    @pytest.mark.asyncio_lacks(when=sys.version_info < (3, 14), reason="asyncio raises AttributeError")
    async def test_abort_after_a_close_that_had_data_pending_is_harmless(self, loop, link):
        data = await link.fill()
        link.transport.close()
        assert await link.read_to_end() == data
        await link.protocol.happened("connection_lost")
        await turns(1)
        link.transport.abort()
        await turns(2)
        assert link.protocol.events.count("connection_lost") == 1

    async def test_peer_reset_is_told_as_the_error(self, loop):
        near, far = tcp_pair()
        _, protocol = await connect_recorder(loop, near)
        reset(far)
        await protocol.happened("connection_lost")
        assert isinstance(protocol.lost_with, ConnectionResetError)
        assert protocol.events == ["connection_made", "connection_lost"]

    async def test_write_to_a_peer_that_is_gone_is_told_as_the_error(self, loop):
        near, far = stream_pair()
        transport, protocol = await connect_recorder(loop, near)
        # Without reading, only the failing write can find out.
        transport.pause_reading()
        far.close()
        transport.write(b"x")
        await protocol.happened("connection_lost")
        assert isinstance(protocol.lost_with, BrokenPipeError)


class TestReading:
    async def test_paused_transport_delivers_nothing_until_resumed(self, loop, link):
        link.transport.pause_reading()
        assert not link.transport.is_reading()
        link.far.send(b"held back")
        await io_barrier(loop)
        assert link.protocol.data == b""
        link.transport.resume_reading()
        assert link.transport.is_reading()
        assert await link.protocol.received(9) == b"held back"

    async def test_pausing_and_resuming_twice_is_harmless(self, loop, link):
        link.transport.resume_reading()
        link.transport.pause_reading()
        link.transport.pause_reading()
        link.transport.resume_reading()
        link.transport.resume_reading()
        link.far.send(b"x")
        assert await link.protocol.received(1) == b"x"

    async def test_end_of_file_waits_for_the_resume(self, loop, link):
        link.transport.pause_reading()
        link.far.send(b"data")
        link.far.shutdown(socket.SHUT_WR)
        await io_barrier(loop)
        assert link.protocol.events == ["connection_made"]
        link.transport.resume_reading()
        await link.protocol.happened("connection_lost")
        assert link.protocol.data == b"data"

    async def test_pause_from_inside_data_received_holds_back_the_rest(self, loop):
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

    async def test_pause_from_inside_connection_made_holds_from_the_start(self, loop):
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

    async def test_closing_transport_does_not_read_and_cannot_be_resumed(self, loop, link):
        link.transport.pause_reading()
        link.transport.close()
        assert not link.transport.is_reading()
        link.transport.resume_reading()
        assert not link.transport.is_reading()

    async def test_writing_goes_on_while_reading_is_paused(self, loop, link):
        link.transport.pause_reading()
        data = await link.fill()
        assert await link.read(len(data)) == data


class TestIdentity:
    async def test_transport_is_asyncios_transport(self, loop, link):
        assert isinstance(link.transport, asyncio.Transport)

    async def test_extra_info_has_the_socket_and_a_default(self, loop, link):
        sock = link.transport.get_extra_info("socket")
        assert type(sock).__name__ == "TransportSocket"
        assert sock.type == socket.SOCK_STREAM
        assert link.transport.get_extra_info("sockname") == sock.getsockname()
        assert link.transport.get_extra_info("peername") == sock.getpeername()
        assert link.transport.get_extra_info("nothing") is None
        assert link.transport.get_extra_info("nothing", "default") == "default"

    async def test_extra_info_outlives_the_connection(self, loop, link):
        names = [link.transport.get_extra_info(key) for key in ("sockname", "peername")]
        link.transport.close()
        await link.protocol.happened("connection_lost")
        await turns(1)
        assert [link.transport.get_extra_info(key) for key in ("sockname", "peername")] == names
        assert link.transport.get_extra_info("socket").fileno() == -1

    async def test_repr_tells_descriptor_and_state(self, loop, link):
        assert f"fd={link.transport.get_extra_info('socket').fileno()}" in repr(link.transport)
        link.transport.close()
        assert "closing" in repr(link.transport)
        await link.protocol.happened("connection_lost")
        await turns(1)
        assert "closed" in repr(link.transport)

    async def test_get_protocol_gives_what_was_set(self, loop, link):
        assert link.transport.get_protocol() is link.protocol
        other = Recorder()
        link.transport.set_protocol(other)
        assert link.transport.get_protocol() is other
        link.far.send(b"for the other")
        assert await other.received(13) == b"for the other"
        assert link.protocol.data == b""
        link.transport.set_protocol(link.protocol)

    async def test_protocol_may_change_between_plain_and_buffered(self, loop, link):
        buffered = BufferedRecorder()
        link.far.send(b"plain")
        assert await link.protocol.received(5) == b"plain"
        link.transport.set_protocol(buffered)
        link.far.send(b"buffered")
        assert await buffered.received(8) == b"buffered"
        link.transport.set_protocol(link.protocol)
        link.far.send(b" again")
        assert await link.protocol.received(11) == b"plain again"

    async def test_protocol_may_change_from_inside_data_received(self, loop, link):
        class Handshake(Recorder):
            def data_received(self, data):
                super().data_received(data)
                link.transport.set_protocol(link.protocol)

        handshake = Handshake()
        link.transport.set_protocol(handshake)
        link.far.send(b"hello")
        await handshake.received(5)
        link.far.send(b"payload")
        assert await link.protocol.received(7) == b"payload"
        assert handshake.data == b"hello"

    async def test_abandoned_transport_warns_and_closes_its_socket(self, loop, audit):
        near, far = stream_pair()
        transport, protocol = await connect_recorder(loop, near)
        # A transport that reads is kept by the loop; one that does not is its owner's alone.
        transport.pause_reading()
        await turns(1)
        del near
        protocol.transport = None
        del transport, protocol
        gc.collect()
        audit.take_warning(ResourceWarning, "unclosed transport")
        # asyncio's transport owns a socket object, which complains for itself.
        audit.drop_warnings(ResourceWarning, "unclosed <socket")
        assert await loop.sock_recv(far, 1) == b""
        far.close()
