"""The writing end of a pipe: writing, flow control, readers that go away, closing."""

import asyncio
import gc
import os
import socket

import pytest

from support.net import io_barrier, pattern, turns
from support.pipes import PIPE_FILLING_BYTES, PipeRecorder, new_pipe, write_to

TOO_MUCH = b"x" * PIPE_FILLING_BYTES


@pytest.mark.whole_writes("the bytes are there when write() returns")
async def test_written_bytes_are_in_the_pipe_at_once(loop):
    with new_pipe() as pipe:
        transport, protocol = await write_to(loop, pipe.writer)
        transport.write(b"one ")
        transport.write(bytearray(b"two "))
        transport.write(memoryview(b"three"))
        transport.write(b"")
        transport.writelines([b" and", b" four"])
        assert pipe.read_available() == b"one two three and four"
        transport.close()
        await protocol.happened("connection_lost")
        assert protocol.lost_with is None
        await turns(2)
        assert pipe.writer.closed


async def test_transport_is_one_of_asyncios_and_knows_its_pipe(loop):
    with new_pipe() as pipe:
        transport, protocol = await write_to(loop, pipe.writer)
        assert isinstance(transport, asyncio.WriteTransport)
        assert transport.get_extra_info("pipe") is pipe.writer
        assert transport.get_protocol() is protocol
        assert transport.can_write_eof()
        assert transport.get_write_buffer_limits() == (16384, 65536)
        assert transport.get_write_buffer_size() == 0
        transport.close()


async def test_slow_reader_pauses_the_protocol_and_gets_every_byte(loop):
    data = pattern(2, PIPE_FILLING_BYTES)
    with new_pipe() as pipe:
        transport, protocol = await write_to(loop, pipe.writer)
        transport.write(data)
        assert protocol.events == ["connection_made", "pause_writing"]
        assert transport.get_write_buffer_size() > 65536
        transport.write(b"after")
        received = bytearray()
        while "resume_writing" not in protocol.events:
            received += pipe.read_available()
            await io_barrier(loop)
        transport.close()
        while not pipe.writer.closed:
            received += pipe.read_available()
            await asyncio.sleep(0)
        received += pipe.read_available()
        assert bytes(received) == data + b"after"
        assert protocol.events == [
            "connection_made",
            "pause_writing",
            "resume_writing",
            "connection_lost",
        ]


async def test_limits_decide_when_the_protocol_pauses(loop):
    with new_pipe() as pipe:
        transport, protocol = await write_to(loop, pipe.writer)
        transport.set_write_buffer_limits(high=PIPE_FILLING_BYTES, low=0)
        assert transport.get_write_buffer_limits() == (0, PIPE_FILLING_BYTES)
        transport.write(TOO_MUCH)
        assert protocol.events == ["connection_made"]
        transport.write(TOO_MUCH)
        assert protocol.events == ["connection_made", "pause_writing"]
        with pytest.raises(ValueError, match=r"^high \(1\) must be >= low \(2\) must be >= 0$"):
            transport.set_write_buffer_limits(high=1, low=2)
        transport.abort()


async def test_abort_loses_what_is_queued(loop):
    with new_pipe() as pipe:
        transport, protocol = await write_to(loop, pipe.writer)
        transport.write(TOO_MUCH)
        transport.abort()
        assert transport.is_closing()
        assert transport.get_write_buffer_size() == 0
        await protocol.happened("connection_lost")
        assert protocol.lost_with is None
        assert len(pipe.read_available()) < PIPE_FILLING_BYTES


@pytest.mark.parametrize("how", ["close", "write_eof"])
async def test_close_and_write_eof_finish_what_is_queued(loop, how):
    with new_pipe() as pipe:
        transport, protocol = await write_to(loop, pipe.writer)
        transport.write(TOO_MUCH)
        getattr(transport, how)()
        getattr(transport, how)()
        transport.close()
        assert transport.is_closing()
        await io_barrier(loop)
        assert "connection_lost" not in protocol.events
        received = 0
        while received < PIPE_FILLING_BYTES:
            received += len(pipe.read_available())
            await asyncio.sleep(0)
        await protocol.happened("connection_lost")
        assert protocol.lost_with is None


async def test_reader_that_goes_away_from_an_idle_pipe_is_a_clean_end(loop):
    with new_pipe() as pipe:
        transport, protocol = await write_to(loop, pipe.writer)
        pipe.reader.close()
        await protocol.happened("connection_lost")
        assert protocol.lost_with is None
        assert transport.is_closing()


async def test_reader_that_goes_away_with_data_queued_is_a_broken_pipe(loop, faults):
    with new_pipe() as pipe:
        transport, protocol = await write_to(loop, pipe.writer)
        transport.write(TOO_MUCH)
        pipe.reader.close()
        await protocol.happened("connection_lost")
        assert isinstance(protocol.lost_with, BrokenPipeError)
        assert transport.get_write_buffer_size() == 0
        assert faults == []


@pytest.mark.whole_writes("the bytes are there when write() returns")
async def test_write_without_readers_is_a_broken_pipe(loop, faults):
    with new_pipe() as pipe:
        transport, protocol = await write_to(loop, pipe.writer)
        pipe.reader.close()
        transport.write(b"data")
        assert transport.is_closing()
        await protocol.happened("connection_lost")
        assert isinstance(protocol.lost_with, BrokenPipeError)
        assert faults == []


async def test_writes_after_the_end_are_ignored_and_then_logged(loop, audit):
    with new_pipe() as pipe:
        transport, protocol = await write_to(loop, pipe.writer)
        transport.close()
        for _ in range(5):
            transport.write(b"lost")
        assert audit.log.records == []
        transport.write(b"lost")
        audit.take_log(r"^pipe closed by peer or os\.write\(pipe, data\) raised exception\.$")
        await protocol.happened("connection_lost")
        assert pipe.read_available() == b""


async def test_what_is_no_data_is_refused(loop):
    with new_pipe() as pipe:
        transport, _ = await write_to(loop, pipe.writer)
        with pytest.raises((TypeError, AssertionError)):  # asyncio's is an `assert`
            transport.write("text")
        transport.close()


async def test_file_is_refused(loop, tmp_path):
    with open(tmp_path / "x", "wb") as file:
        words = "^Pipe transport is only for pipes, sockets and character devices$"
        with pytest.raises(ValueError, match=words):
            await write_to(loop, file)
        assert not file.closed


@pytest.mark.whole_writes("such a device never holds back")
async def test_device_that_cannot_be_waited_for_can_be_written_to(loop):
    with open(os.devnull, "wb", buffering=0) as null:
        transport, protocol = await write_to(loop, null)
        transport.write(TOO_MUCH)
        transport.close()
        await protocol.happened("connection_lost")
        assert protocol.events == ["connection_made", "connection_lost"]


@pytest.mark.whole_writes("the bytes are there when write() returns")
async def test_socket_can_be_written_like_a_pipe(loop):
    near, far = socket.socketpair()
    with near, far:
        transport, protocol = await write_to(loop, near)
        transport.write(b"data")
        assert far.recv(100) == b"data"
        far.close()
        await protocol.happened("connection_lost")
        assert transport.is_closing()


@pytest.mark.whole_writes("the bytes are there when write() returns")
@pytest.mark.real_driver("reads what the kernel has not got")
async def test_each_write_to_a_socket_of_messages_is_a_message(loop):
    near, far = socket.socketpair(type=socket.SOCK_DGRAM)
    with near, far:
        transport, _ = await write_to(loop, near)
        transport.write(b"one")
        transport.write(b"two")
        assert [far.recv(100), far.recv(100)] == [b"one", b"two"]
        transport.close()


async def test_raising_pause_writing_is_reported_and_writing_goes_on(loop, faults):
    class Raising(PipeRecorder):
        def pause_writing(self):
            super().pause_writing()
            raise ZeroDivisionError

    with new_pipe() as pipe:
        transport, protocol = await loop.connect_write_pipe(Raising, pipe.writer)
        transport.write(TOO_MUCH)
        assert [fault["message"] for fault in faults] == ["protocol.pause_writing() failed"]
        while "resume_writing" not in protocol.events:
            pipe.read_available()
            await io_barrier(loop)
        transport.abort()


async def test_stream_writer_drains_through_a_pipe(loop):
    data = pattern(3, PIPE_FILLING_BYTES)
    with new_pipe() as pipe:
        transport, protocol = await loop.connect_write_pipe(
            lambda: asyncio.streams.FlowControlMixin(loop=loop), pipe.writer
        )
        writer = asyncio.StreamWriter(transport, protocol, None, loop)

        async def produce():
            for start in range(0, len(data), 10_000):
                writer.write(data[start : start + 10_000])
                await writer.drain()
            writer.close()

        producing = loop.create_task(produce())
        received = await loop.run_in_executor(None, pipe.reader.read, PIPE_FILLING_BYTES)
        while len(received) < len(data):
            received += await loop.run_in_executor(None, pipe.reader.read, PIPE_FILLING_BYTES)
        await producing
        assert received == data


@pytest.mark.whole_writes("the bytes are there when write() returns")
def test_write_before_the_loop_runs_reaches_the_reader(loop):
    with new_pipe() as pipe:
        transport, _ = loop.run_until_complete(write_to(loop, pipe.writer))
        transport.write(b"now")
        assert pipe.reader.read(10) == b"now"
        transport.close()
        loop.run_until_complete(turns(3))


def test_unclosed_transport_warns_and_closes_when_the_loop_has_gone(loop, audit):
    with new_pipe() as pipe:
        transport, protocol = loop.run_until_complete(write_to(loop, pipe.writer))
        loop.close()
        assert "open" in repr(transport)
        del transport, protocol
        gc.collect()
        audit.take_warning(ResourceWarning, "^unclosed transport <.*WritePipeTransport")
        assert pipe.writer.closed


async def test_repr_says_how_much_is_queued(loop):
    with new_pipe() as pipe:
        transport, protocol = await write_to(loop, pipe.writer)
        fd = pipe.writer.fileno()
        assert f"fd={fd} idle bufsize=0" in repr(transport)
        transport.write(TOO_MUCH)
        queued = transport.get_write_buffer_size()
        assert f"fd={fd} polling bufsize={queued}" in repr(transport)
        transport.abort()
        assert "closing" in repr(transport)
        await protocol.happened("connection_lost")
        await turns(2)
        assert "closed" in repr(transport)


async def test_cancelled_connect_closes_the_pipe(loop):
    with new_pipe() as pipe:
        task = loop.create_task(loop.connect_write_pipe(PipeRecorder, pipe.writer))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await turns(3)
        assert pipe.writer.closed
