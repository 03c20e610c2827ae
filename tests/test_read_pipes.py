"""The reading end of a pipe: data, end of file, pausing, closing, and what cannot be read from."""

import asyncio
import contextlib
import contextvars
import gc
import logging
import os
import socket

import pytest

from support.net import io_barrier, pattern, turns
from support.pipes import PipeRecorder, is_open, new_pipe, read_from


async def test_data_then_end_of_file_then_lost(loop):
    with new_pipe() as pipe:
        transport, protocol = await read_from(loop, pipe.reader)
        assert protocol.events == ["connection_made"]
        pipe.writer.write(b"some ")
        pipe.writer.write(b"data")
        assert await protocol.received(9) == b"some data"
        pipe.writer.close()
        await protocol.happened("connection_lost")
        assert protocol.events == [
            "connection_made",
            "data_received",
            "eof_received",
            "connection_lost",
        ]
        assert protocol.lost_with is None
        assert transport.is_closing()
        await turns(2)
        assert pipe.reader.closed


async def test_everything_arrives_in_order_whatever_the_sizes(loop):
    data = pattern(1, 3_000_000)
    with new_pipe() as pipe:
        _, protocol = await read_from(loop, pipe.reader)

        def write_all():
            for start in range(0, len(data), 70_001):
                pipe.writer.write(data[start : start + 70_001])
            pipe.writer.close()

        await loop.run_in_executor(None, write_all)
        await protocol.happened("connection_lost")
        assert bytes(protocol.data) == data


async def test_transport_is_one_of_asyncios_and_knows_its_pipe(loop):
    with new_pipe() as pipe:
        transport, protocol = await read_from(loop, pipe.reader)
        assert isinstance(transport, asyncio.ReadTransport)
        assert not isinstance(transport, asyncio.WriteTransport)
        assert transport.get_extra_info("pipe") is pipe.reader
        assert transport.get_extra_info("peername") is None
        assert transport.get_extra_info("peername", 7) == 7
        assert transport.get_protocol() is protocol
        assert not os.get_blocking(pipe.reader.fileno())
        transport.close()


async def test_paused_transport_leaves_the_data_in_the_pipe(loop):
    with new_pipe() as pipe:
        transport, protocol = await read_from(loop, pipe.reader)
        assert transport.is_reading()
        transport.pause_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        pipe.writer.write(b"later")
        await io_barrier(loop)
        assert protocol.events == ["connection_made"]
        transport.resume_reading()
        transport.resume_reading()
        assert transport.is_reading()
        assert await protocol.received(5) == b"later"
        transport.close()


async def test_pausing_while_data_is_delivered_stops_the_next_delivery(loop):
    class Pausing(PipeRecorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()

    with new_pipe() as pipe:
        transport, protocol = await loop.connect_read_pipe(Pausing, pipe.reader)
        pipe.writer.write(b"one")
        await protocol.received(3)
        pipe.writer.write(b"two")
        await io_barrier(loop)
        assert protocol.data == b"one"
        transport.resume_reading()
        assert await protocol.received(6) == b"onetwo"
        transport.close()


async def test_protocol_that_pauses_in_connection_made_gets_nothing(loop):
    class Pausing(PipeRecorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()

    with new_pipe() as pipe:
        pipe.writer.write(b"data")
        transport, protocol = await loop.connect_read_pipe(Pausing, pipe.reader)
        await io_barrier(loop)
        assert protocol.events == ["connection_made"]
        transport.close()


async def test_close_delivers_nothing_more(loop):
    with new_pipe() as pipe:
        transport, protocol = await read_from(loop, pipe.reader)
        pipe.writer.write(b"unread")
        transport.close()
        transport.close()
        assert transport.is_closing()
        assert not transport.is_reading()
        await protocol.happened("connection_lost")
        assert protocol.events == ["connection_made", "connection_lost"]
        assert protocol.lost_with is None
        transport.resume_reading()
        await turns(2)
        assert pipe.reader.closed


async def test_data_goes_to_the_protocol_that_was_set_last(loop):
    with new_pipe() as pipe:
        transport, first = await read_from(loop, pipe.reader)
        second = PipeRecorder()
        transport.set_protocol(second)
        pipe.writer.write(b"data")
        assert await second.received(4) == b"data"
        transport.close()
        await second.happened("connection_lost")
        assert first.events == ["connection_made"]


async def test_sockets_can_be_read_like_pipes(loop):
    near, far = socket.socketpair()
    with near, far:
        transport, protocol = await read_from(loop, near)
        far.sendall(b"data")
        assert await protocol.received(4) == b"data"
        far.close()
        await protocol.happened("connection_lost")
        assert protocol.events[-2:] == ["eof_received", "connection_lost"]
        assert transport.is_closing()


async def test_terminal_whose_other_side_is_gone_ends_without_a_report(loop, faults):
    master, slave = os.openpty()
    file = open(master, "rb", buffering=0)  # noqa: SIM115
    _, protocol = await read_from(loop, file)
    os.write(slave, b"typed")
    assert await protocol.received(5) == b"typed"
    os.close(slave)
    await protocol.happened("connection_lost")
    assert isinstance(protocol.lost_with, OSError)  # EIO
    assert faults == []


@contextlib.contextmanager
def terminal():
    """Gives the master side of a terminal as a file for each direction, and its slave side."""
    master, slave = os.openpty()
    with (
        open(master, "rb", buffering=0) as reader,
        open(master, "wb", buffering=0, closefd=False) as writer,
        open(slave, "r+b", buffering=0) as device,
    ):
        yield reader, writer, device


@pytest.mark.whole_writes("the bytes are there when write() returns")
async def test_terminal_can_have_a_transport_for_each_direction(loop):
    with terminal() as (reader, writer, device):
        reading, protocol = await read_from(loop, reader)
        writing, _ = await loop.connect_write_pipe(PipeRecorder, writer)
        writing.write(b"typed\n")
        assert device.readline() == b"typed\n"
        assert await protocol.received(7) == b"typed\r\n"  # the terminal's echo
        reading.close()
        await protocol.happened("connection_lost")
        writing.close()
        await turns(3)


@pytest.mark.loops(
    "antiphon"
)  # asyncio's closing write transport takes the reader of the other one with it
async def test_closing_one_direction_of_a_terminal_leaves_the_other_alone(loop):
    with terminal() as (reader, writer, device):
        reading, protocol = await read_from(loop, reader)
        writing, other = await loop.connect_write_pipe(PipeRecorder, writer)
        writing.close()
        await other.happened("connection_lost")
        device.write(b"shown")
        assert await protocol.received(5) == b"shown"
        reading.close()
        await protocol.happened("connection_lost")


@pytest.mark.parametrize("kind", ["file", "directory"])
async def test_what_is_no_pipe_is_refused_and_left_open(loop, tmp_path, kind):
    path = tmp_path / "x"
    path.write_bytes(b"")
    fd = os.open(path if kind == "file" else tmp_path, os.O_RDONLY)

    class Whatever:
        def fileno(self):
            return fd

    try:
        with pytest.raises(ValueError, match=r"^Pipe transport is for pipes/sockets only\.$"):
            await read_from(loop, Whatever())
        assert is_open(fd)
        assert os.get_blocking(fd)
    finally:
        os.close(fd)


@pytest.mark.loops(
    "antiphon"
)  # asyncio reports the error and leaves a transport that nothing ever happens to
async def test_device_that_cannot_be_waited_for_is_a_lost_connection(loop, faults):
    with open(os.devnull, "rb", buffering=0) as null:
        _, protocol = await read_from(loop, null)
        await protocol.happened("connection_lost")
        assert isinstance(protocol.lost_with, PermissionError)
        assert [fault["exception"] for fault in faults] == [protocol.lost_with]


async def test_protocol_that_raises_is_reported_and_reading_goes_on(loop, faults):
    class Raising(PipeRecorder):
        def data_received(self, data):
            super().data_received(data)
            if data == b"bad":
                raise ZeroDivisionError

    with new_pipe() as pipe:
        transport, protocol = await loop.connect_read_pipe(Raising, pipe.reader)
        pipe.writer.write(b"bad")
        await protocol.received(3)
        pipe.writer.write(b"good")
        assert await protocol.received(7) == b"badgood"
        assert [type(fault["exception"]) for fault in faults] == [ZeroDivisionError]
        transport.close()


@pytest.mark.parametrize("method", ["connection_made", "eof_received", "connection_lost"])
async def test_each_method_that_raises_is_reported_and_the_pipe_is_closed(loop, faults, method):
    class Raising(PipeRecorder):
        pass

    def fail(self, *args):
        getattr(PipeRecorder, method)(self, *args)
        raise ZeroDivisionError

    setattr(Raising, method, fail)
    with new_pipe() as pipe:
        _, protocol = await loop.connect_read_pipe(Raising, pipe.reader)
        pipe.writer.close()
        await protocol.happened("connection_lost")
        assert protocol.events == ["connection_made", "eof_received", "connection_lost"]
        assert [type(fault["exception"]) for fault in faults] == [ZeroDivisionError]
        await turns(2)
        assert pipe.reader.closed


@pytest.mark.parametrize("left_with", [KeyboardInterrupt, SystemExit])
def test_interrupt_in_a_protocol_leaves_the_loop_which_goes_on_later(loop, left_with):
    class Interrupting(PipeRecorder):
        def data_received(self, data):
            super().data_received(data)
            if data == b"stop":
                raise left_with

    with new_pipe() as pipe:
        transport, protocol = loop.run_until_complete(
            loop.connect_read_pipe(Interrupting, pipe.reader)
        )
        pipe.writer.write(b"stop")
        with pytest.raises(left_with):
            loop.run_forever()
        pipe.writer.write(b"more")
        loop.run_until_complete(protocol.received(8))
        transport.close()
        loop.run_until_complete(protocol.happened("connection_lost"))


async def test_protocol_methods_run_in_the_context_of_the_connect(loop):
    variable = contextvars.ContextVar("variable")
    seen = []

    class Looking(PipeRecorder):
        def note(self, event):
            seen.append((event, variable.get(None)))
            super().note(event)

    async def connect(file):
        variable.set("inner")
        return await loop.connect_read_pipe(Looking, file)

    with new_pipe() as pipe:
        _, protocol = await loop.create_task(connect(pipe.reader))
        pipe.writer.write(b"x")
        await protocol.received(1)
        pipe.writer.close()
        await protocol.happened("connection_lost")
    names = ["connection_made", "data_received", "eof_received", "connection_lost"]
    assert seen == [(name, "inner") for name in names]


async def test_cancelled_connect_closes_the_pipe(loop):
    with new_pipe() as pipe:
        task = loop.create_task(loop.connect_read_pipe(PipeRecorder, pipe.reader))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await turns(3)
        assert pipe.reader.closed


async def test_raising_factory_leaves_the_pipe_to_its_owner(loop):
    def fail():
        raise ZeroDivisionError

    with new_pipe() as pipe:
        with pytest.raises(ZeroDivisionError):
            await loop.connect_read_pipe(fail, pipe.reader)
        assert not pipe.reader.closed


async def test_stream_reader_on_a_pipe(loop):
    with new_pipe() as pipe:
        stream = asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), pipe.reader
        )
        pipe.writer.write(b"line 1\nline 2\nrest")
        assert [await stream.readline(), await stream.readline()] == [b"line 1\n", b"line 2\n"]
        pipe.writer.close()
        assert await stream.read() == b"rest"
        transport.close()


def test_unclosed_transport_warns_and_closes_when_the_loop_has_gone(loop, audit):
    with new_pipe() as pipe:
        transport, protocol = loop.run_until_complete(read_from(loop, pipe.reader))
        loop.close()
        assert "open" in repr(transport)
        del transport, protocol
        gc.collect()
        audit.take_warning(ResourceWarning, "^unclosed transport <.*ReadPipeTransport")
        assert pipe.reader.closed


@pytest.mark.loops(
    "antiphon"
)  # asyncio raises RuntimeError("Event loop is closed") and leaves the file open
def test_close_after_the_loop_closes_the_file_without_the_protocol(loop):
    with new_pipe() as pipe:
        transport, protocol = loop.run_until_complete(read_from(loop, pipe.reader))
        loop.close()
        transport.close()
        assert pipe.reader.closed
        assert protocol.events == ["connection_made"]


async def test_repr_says_what_it_is_doing(loop):
    with new_pipe() as pipe:
        transport, protocol = await read_from(loop, pipe.reader)
        fd = pipe.reader.fileno()
        assert f"fd={fd} polling" in repr(transport)
        transport.pause_reading()
        assert f"fd={fd} idle" in repr(transport)
        transport.close()
        assert "closing" in repr(transport)
        await protocol.happened("connection_lost")
        await turns(2)
        assert "closed" in repr(transport)


async def test_debug_mode_logs_the_life_of_a_pipe(loop, caplog):
    caplog.set_level(logging.DEBUG, "asyncio")
    loop.set_debug(True)
    with new_pipe() as pipe:
        transport, protocol = await read_from(loop, pipe.reader)
        transport.pause_reading()
        transport.resume_reading()
        pipe.writer.close()
        await protocol.happened("connection_lost")
    texts = [record.getMessage() for record in caplog.records]
    for expected in ("Read pipe ", " pauses reading", " resumes reading", " was closed by peer"):
        assert any(expected in text for text in texts), (expected, texts)
