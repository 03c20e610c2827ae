"""A `StreamReader` that is fed by hand: what its reads give, when they wait, and what they refuse."""

import asyncio
import gc
import sys
import warnings
import weakref

import pytest

from support.net import turns

SEVERAL = pytest.mark.skipif(sys.version_info < (3, 13), reason="several separators came with 3.13")


@pytest.fixture
def reader(loop, streams):
    return streams.StreamReader(limit=16, loop=loop)


class Pausable:
    """A transport that remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")


async def waiting(call):
    """Gives a task that has begun to wait in `call`."""
    task = asyncio.ensure_future(call)
    await turns(2)
    assert not task.done()
    return task


async def test_read_gives_what_is_there(loop, reader):
    reader.feed_data(b"some bytes")
    assert await reader.read(4) == b"some"
    assert await reader.read(100) == b" bytes"


async def test_read_waits_for_the_first_byte(loop, reader):
    task = await waiting(reader.read(100))
    reader.feed_data(b"one")
    reader.feed_data(b"two")
    assert await task == b"onetwo"


async def test_read_at_the_end_gives_nothing(loop, reader):
    task = await waiting(reader.read(10))
    reader.feed_eof()
    assert await task == b""
    assert await reader.read(10) == b""
    assert reader.at_eof()


async def test_read_of_zero_bytes_does_not_wait(loop, reader):
    assert await reader.read(0) == b""
    assert await reader.readexactly(0) == b""


@pytest.mark.parametrize("n", [-1, -5])
async def test_read_everything(loop, reader, n):
    reader.feed_data(b"a" * 10)
    task = await waiting(reader.read(n))
    reader.feed_data(b"b" * 40)
    await turns(2)
    reader.feed_data(b"c")
    reader.feed_eof()
    assert await task == b"a" * 10 + b"b" * 40 + b"c"


async def test_read_everything_of_nothing(loop, reader):
    reader.feed_eof()
    assert await reader.read() == b""


async def test_the_same_bytes_come_back(loop, streams, loop_name):
    reader = streams.StreamReader(loop=loop)
    data = bytes(1000)
    reader.feed_data(data)
    got = await reader.read(1000)
    assert got == data
    if loop_name == "antiphon":
        assert got is data, "a read of all that came copies nothing"


async def test_readexactly_waits_for_all(loop, reader):
    task = await waiting(reader.readexactly(100))
    for _ in range(10):
        reader.feed_data(b"0123456789")
        await turns(1)
    reader.feed_data(b"rest")
    assert await task == b"0123456789" * 10
    assert await reader.read(10) == b"rest"


async def test_readexactly_at_the_end_tells_what_there_was(loop, reader):
    reader.feed_data(b"half")
    reader.feed_eof()
    with pytest.raises(asyncio.IncompleteReadError) as caught:
        await reader.readexactly(8)
    assert (caught.value.partial, caught.value.expected) == (b"half", 8)
    assert str(caught.value) == "4 bytes read on a total of 8 expected bytes"
    assert reader.at_eof()


async def test_refused_numbers(loop, reader):
    with pytest.raises(ValueError, match="readexactly size can not be less than zero"):
        await reader.readexactly(-1)
    for call in (reader.read, reader.readexactly):
        with pytest.raises(TypeError):
            await call(None)
        with pytest.raises(TypeError):
            await call("4")
    with pytest.raises(TypeError):
        reader.readexactly()


@pytest.mark.parametrize("n", [1 << 40, 1 << 80])
async def test_read_of_huge_numbers(loop, reader, n):
    reader.feed_data(b"few")
    assert await reader.read(n) == b"few"


async def test_lines(loop, reader):
    reader.feed_data(b"one\ntwo\n\nfour")
    reader.feed_eof()
    lines = [await reader.readline() for _ in range(5)]
    assert lines == [b"one\n", b"two\n", b"\n", b"four", b""]


async def test_line_in_single_bytes(loop, reader):
    task = await waiting(reader.readline())
    for byte in b"in pieces\n":
        reader.feed_data(bytes([byte]))
        await turns(1)
    assert await task == b"in pieces\n"


async def test_iteration_over_lines(loop, reader):
    reader.feed_data(b"one\ntwo\nrest")
    reader.feed_eof()
    assert [line async for line in reader] == [b"one\n", b"two\n", b"rest"]
    with pytest.raises(StopAsyncIteration):
        await anext(reader)


async def test_line_as_long_as_the_limit(loop, reader):
    reader.feed_data(b"x" * 16 + b"\n")
    assert await reader.readline() == b"x" * 16 + b"\n"


async def test_line_over_the_limit_is_skipped(loop, reader):
    reader.feed_data(b"x" * 17 + b"\nnext\n")
    with pytest.raises(ValueError, match="Separator is found, but chunk is longer than limit"):
        await reader.readline()
    assert await reader.readline() == b"next\n"


async def test_line_over_the_limit_without_end_is_dropped(loop, reader):
    reader.feed_data(b"x" * 17)
    with pytest.raises(ValueError, match="Separator is not found, and chunk exceed the limit"):
        await reader.readline()
    reader.feed_data(b"next\n")
    assert await reader.readline() == b"next\n"


async def test_readuntil_over_the_limit_keeps_the_data(loop, reader):
    reader.feed_data(b"x" * 17 + b"END.")
    for _ in range(2):
        with pytest.raises(asyncio.LimitOverrunError) as caught:
            await reader.readuntil(b"END")
        assert caught.value.consumed == 17
        assert caught.value.args[0] == "Separator is found, but chunk is longer than limit"
    assert await reader.readexactly(20) == b"x" * 17 + b"END"


async def test_readuntil_over_the_limit_without_separator(loop, reader):
    reader.feed_data(b"x" * 19)
    with pytest.raises(asyncio.LimitOverrunError) as caught:
        await reader.readuntil(b"END")
    assert caught.value.consumed == 17
    assert caught.value.args[0] == "Separator is not found, and chunk exceed the limit"


async def test_readuntil_across_chunks(loop, reader):
    task = await waiting(reader.readuntil(b"\r\n\r\n"))
    for piece in (b"a\r", b"\n", b"\r\r\n", b"\r", b"\nrest"):
        reader.feed_data(piece)
        await turns(1)
    assert await task == b"a\r\n\r\r\n\r\n"
    assert await reader.read(10) == b"rest"


async def test_readuntil_at_the_end_tells_what_there_was(loop, reader):
    reader.feed_data(b"no separator")
    reader.feed_eof()
    with pytest.raises(asyncio.IncompleteReadError) as caught:
        await reader.readuntil(b"END")
    assert (caught.value.partial, caught.value.expected) == (b"no separator", None)


async def test_refused_separators(loop, reader):
    reader.feed_data(b"something to look through")
    with pytest.raises(ValueError, match="Separator should be at least one-byte string"):
        await reader.readuntil(b"")
    for wrong in ("\n", ["\n"], 10, None):
        with pytest.raises(TypeError):
            await reader.readuntil(wrong)


@pytest.mark.antiphon_lacks(reason="a separator is looked at before the wait for data")
async def test_wrong_separator_waits_for_data(loop, reader):
    task = await waiting(reader.readuntil("\n"))
    reader.feed_data(b"data")
    with pytest.raises(TypeError):
        await task


async def test_separators_of_other_types(loop, reader):
    reader.feed_data(b"a-b-c-")
    assert await reader.readuntil(bytearray(b"-")) == b"a-"
    assert await reader.readuntil(memoryview(b"-")) == b"b-"
    assert await reader.readuntil(separator=b"-") == b"c-"


@SEVERAL
async def test_first_of_several_separators(loop, reader):
    reader.feed_data(b"a--b-+c")
    assert await reader.readuntil((b"--", b"-+")) == b"a--"
    assert await reader.readuntil((b"-+", b"+")) == b"b-+"
    with pytest.raises(ValueError, match="Separator should contain at least one element"):
        await reader.readuntil(())
    with pytest.raises(ValueError, match="Separator should be at least one-byte string"):
        await reader.readuntil((b"a", b""))


@SEVERAL
async def test_of_separators_with_one_end_the_shortest_has_matched(loop, streams):
    reader = streams.StreamReader(limit=4, loop=loop)
    reader.feed_data(b"xxxx\r\n")
    with pytest.raises(asyncio.LimitOverrunError) as caught:
        await reader.readuntil((b"\r\n", b"\n"))
    assert caught.value.consumed == 5


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="several separators came with 3.13")
async def test_before_3_13_a_tuple_is_no_separator(loop, reader):
    reader.feed_data(b"something")
    with pytest.raises(TypeError):
        await reader.readuntil((b"a", b"b"))


async def test_second_reader_is_refused(loop, reader):
    task = await waiting(reader.read(1))
    message = r"\(\) called while another coroutine is already waiting for incoming data"
    for name, call in (
        ("read", reader.read(1)),
        ("readexactly", reader.readexactly(1)),
        ("readuntil", reader.readuntil(b"x")),
        ("readuntil", reader.readline()),
        ("read", reader.read(-1)),
    ):
        with pytest.raises(RuntimeError, match=name + message):
            await call
    reader.feed_data(b"x")
    assert await task == b"x"


@pytest.mark.parametrize(
    "call",
    [
        lambda reader: reader.read(1),
        lambda reader: reader.read(-1),
        lambda reader: reader.readexactly(30),
        lambda reader: reader.readuntil(b"END"),
        lambda reader: reader.readline(),
        lambda reader: anext(reader),
    ],
    ids=["read", "all", "exactly", "until", "line", "next"],
)
async def test_cancelled_reads_lose_nothing(loop, reader, call):
    async def read():
        return await call(reader)

    task = await waiting(read())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert reader._waiter is None
    reader.feed_data(b"still here\n")
    assert await reader.read(100) == b"still here\n"


async def test_cancelled_in_the_turn_in_which_data_comes(loop, reader):
    task = await waiting(reader.read(100))
    reader.feed_data(b"data")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await reader.read(100) == b"data"


@pytest.mark.asyncio_lacks(when=True, reason="its read returns b'', as at the end")
async def test_read_whose_data_another_has_taken_waits_on(loop, reader):
    task = await waiting(reader.read(10))
    reader.feed_data(b"first")
    with pytest.raises(StopIteration) as stopped:
        reader.read(10).send(None)
    assert stopped.value.value == b"first"
    await turns(2)
    assert not task.done()
    reader.feed_data(b"second")
    assert await task == b"second"


async def test_exception_of_the_reader(loop, reader):
    error = OSError("lost")
    task = await waiting(reader.readline())
    reader.set_exception(error)
    with pytest.raises(OSError, match="lost"):
        await task
    assert reader.exception() is error
    for call in (
        reader.read(1),
        reader.readexactly(1),
        reader.readline(),
        reader.read(),
        anext(reader),
    ):
        with pytest.raises(OSError, match="lost"):
            await call


async def test_data_after_the_end_is_refused(loop, reader):
    reader.feed_eof()
    with pytest.raises(AssertionError, match="feed_data after feed_eof"):
        reader.feed_data(b"late")


async def test_empty_data_wakes_nobody(loop, reader):
    task = await waiting(reader.read(1))
    reader.feed_data(b"")
    await turns(2)
    assert not task.done()
    reader.feed_data(bytearray(b"x"))
    assert await task == b"x"


@pytest.mark.parametrize("data", [b"x" * 33, bytearray(b"x" * 33), memoryview(b"x" * 33)], ids=type)
async def test_pauses_above_twice_the_limit(loop, reader, data):
    transport = Pausable()
    reader.set_transport(transport)
    reader.feed_data(data[:32])
    assert transport.calls == []
    reader.feed_data(data[32:])
    assert transport.calls == ["pause"]
    await reader.read(16)
    assert transport.calls == ["pause"]
    await reader.read(1)
    assert transport.calls == ["pause", "resume"]


async def test_waiting_resumes_a_paused_transport(loop, reader):
    transport = Pausable()
    reader.set_transport(transport)
    reader.feed_data(b"x" * 40)
    task = await waiting(reader.readexactly(100))
    assert transport.calls == ["pause", "resume"]
    reader.feed_data(b"x" * 60)
    assert transport.calls == ["pause", "resume", "pause"]
    assert await task == b"x" * 100
    assert transport.calls == ["pause", "resume", "pause", "resume"]


async def test_transport_that_cannot_pause(loop, reader):
    class Never:
        def pause_reading(self):
            raise NotImplementedError

    reader.set_transport(Never())
    with pytest.raises(AssertionError, match="Transport already set"):
        reader.set_transport(Never())
    reader.feed_data(b"x" * 40)
    assert reader._transport is None
    assert await reader.readexactly(40) == b"x" * 40


@pytest.mark.parametrize("limit", [0, -1])
async def test_limits_have_to_be_positive(loop, streams, limit):
    with pytest.raises(ValueError, match="Limit cannot be <= 0"):
        streams.StreamReader(limit=limit, loop=loop)


async def test_unlimited(loop, streams):
    reader = streams.StreamReader(limit=float("inf"), loop=loop)
    reader.feed_data(b"x" * 1_000_000 + b"\n")
    assert len(await reader.readline()) == 1_000_001


async def test_limit_that_changes(loop, reader):
    reader._limit = 40
    reader.feed_data(b"x" * 30 + b"\n")
    assert len(await reader.readline()) == 31


async def test_buffer_is_a_bytearray_that_programs_may_change(loop, reader):
    reader.feed_data(b"some bytes")
    buffer = reader._buffer
    assert type(buffer) is bytearray
    assert buffer == b"some bytes"
    del buffer[:5]
    reader.feed_data(b"!")
    assert buffer == b"bytes!"
    assert await reader.readexactly(2) == b"by"
    assert buffer == b"tes!"
    buffer.extend(b"\n")
    assert await reader.readline() == b"tes!\n"
    assert not buffer
    assert not reader.at_eof()
    del buffer
    reader.feed_data(b"on")
    reader._buffer.extend(b" and on")
    reader._buffer = reader._buffer + b"\n"
    assert len(reader._buffer) == 10
    assert await reader.readline() == b"on and on\n"


async def test_buffer_in_pieces_joined(loop, streams):
    reader = streams.StreamReader(loop=loop)
    pieces = [bytes([number % 251]) * (number * 37 % 5000) for number in range(200)]
    for piece in pieces:
        reader.feed_data(piece)
    assert reader._buffer == b"".join(pieces)
    got = b"".join([await reader.readexactly(777) for _ in range(100)])
    assert got + await reader.read(1 << 20) == b"".join(pieces)


async def test_never_awaited_reads_are_reported(loop, reader):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        reader.read(1)
        gc.collect()
    assert [str(warning.message) for warning in caught] == [
        "coroutine 'StreamReader.read' was never awaited"
    ]


async def test_reads_are_coroutines(loop, reader):
    reader.feed_data(b"x" * 10)
    assert asyncio.iscoroutine(call := reader.read(1))
    assert await loop.create_task(call) == b"x"
    assert await asyncio.wait_for(reader.readexactly(2), 5) == b"xx"
    assert await asyncio.gather(reader.read(1), reader.read(1)) == [b"x", b"x"]
    call = reader.read(3)
    with pytest.raises(StopIteration) as stopped:
        call.send(None)
    assert stopped.value.value == b"xxx"
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        call.send(None)


async def test_repr(loop, reader, streams):
    assert repr(reader) == "<StreamReader limit=16>"
    reader.feed_data(b"x" * 40)
    reader.feed_eof()
    reader.set_exception(OSError("lost"))
    assert repr(reader) == "<StreamReader 40 bytes eof limit=16 exception=OSError('lost')>"
    assert repr(streams.StreamReader(loop=loop)) == "<StreamReader>"


async def test_subclass_overrides_are_used(loop, streams):
    class Counting(streams.StreamReader):
        def __init__(self, **options):
            super().__init__(**options)
            self.calls = []

        def feed_data(self, data):
            self.calls.append("feed_data")
            super().feed_data(data)

        async def readuntil(self, separator=b"\n"):
            self.calls.append("readuntil")
            return await super().readuntil(separator)

        async def read(self, n=-1):
            self.calls.append(f"read({n})")
            return await super().read(n)

    reader = Counting(limit=16, loop=loop)
    reader.feed_data(b"one\ntwo\n")
    assert await reader.readline() == b"one\n"
    assert await anext(reader) == b"two\n"
    reader.feed_data(b"x" * 20 + b"\nlast\nrest")
    with pytest.raises(ValueError, match="Separator is found"):
        await reader.readline()
    assert await reader.readline() == b"last\n"
    reader.feed_eof()
    assert await reader.read() == b"rest"
    assert reader.calls == [
        "feed_data",
        "readuntil",
        "readuntil",
        "feed_data",
        "readuntil",
        "readuntil",
        "read(-1)",
        "read(16)",
        "read(16)",
    ]


async def test_readers_in_cycles_are_collected(loop, streams):
    reader = streams.StreamReader(loop=loop)
    reader.me = reader
    reader._transport = [reader]
    reader.feed_data(b"data")
    reference = weakref.ref(reader)
    del reader
    gc.collect()
    assert reference() is None


async def test_dropped_while_it_waits(loop, streams):
    reader = streams.StreamReader(loop=loop)
    call = reader.read(1)
    call.send(None)
    reference = weakref.ref(reader)
    call.close()
    del reader, call
    gc.collect()
    assert reference() is None
