"""`loop.sendfile`: files through transports, between writes, and connections that break on the way."""

import asyncio
import io
import sys
import tempfile

import pytest

from support.net import Recorder, connect_recorder, io_barrier, pattern, tcp_pair, turns
from support.tls import tls_contexts

# More than the kernel's buffers take, so that sending waits for the reader.
CONTENT = pattern(7, 16 << 20)


@pytest.fixture
def file():
    """A file that the kernel can copy."""
    with tempfile.TemporaryFile() as file:
        file.write(CONTENT)
        # Where TLS is between, asyncio begins at the position if the offset is 0.
        file.seek(0)
        yield file


@pytest.fixture(params=["by the kernel", "by hand"])
def any_file(request, file, loop_name):
    """A file that the kernel can copy, and one that it cannot."""
    if request.param == "by the kernel":
        return file
    if loop_name == "asyncio" and sys.version_info >= (3, 12):
        pytest.skip("asyncio reads into a buffer that its transport has not sent yet: bytes mix up")
    return io.BytesIO(CONTENT)


async def started(loop, link, file):
    """Starts to send a file; gives the task once sending waits for the reader."""
    task = loop.create_task(loop.sendfile(link.transport, file))
    if isinstance(file, io.BytesIO):
        # A thread reads; what it read is with the transport once the kernel takes no more.
        while not link.transport.get_write_buffer_size():
            await turns(1)
    await io_barrier(loop)
    assert not task.done()
    return task


async def test_file_goes_between_the_writes(loop, link, any_file):
    link.transport.write(b"header")
    task = loop.create_task(loop.sendfile(link.transport, any_file))
    assert await link.read(6 + len(CONTENT)) == b"header" + CONTENT
    assert await task == len(CONTENT)
    link.transport.write(b"trailer")
    assert await link.read(7) == b"trailer"
    assert any_file.tell() == len(CONTENT)


async def test_offset_and_count_choose_the_bytes(loop, link, any_file):
    assert await loop.sendfile(link.transport, any_file, 1000, 5000) == 5000
    assert any_file.tell() == 6000
    assert await link.read(5000) == CONTENT[1000:6000]


async def test_count_beyond_the_end_sends_up_to_the_end(loop, link, any_file):
    offset = len(CONTENT) - 100
    assert await loop.sendfile(link.transport, any_file, offset, 5000) == 100
    assert any_file.tell() == len(CONTENT)
    assert await link.read(100) == CONTENT[offset:]


async def test_queued_bytes_leave_first(loop, link, any_file):
    data = await link.fill()
    task = loop.create_task(loop.sendfile(link.transport, any_file))
    assert await link.read(len(data)) == data
    assert await link.read(len(CONTENT)) == CONTENT
    assert await task == len(CONTENT)


async def test_writes_meanwhile_are_refused(loop, link, file):
    task = await started(loop, link, file)
    for write in (link.transport.write, lambda data: link.transport.writelines([data])):
        # 3.11's writelines is a write of the joined pieces, and is named so.
        with pytest.raises(
            RuntimeError, match=r"^unable to write(lines)?; sendfile is in progress$"
        ):
            write(b"x")
    assert await link.read(len(CONTENT)) == CONTENT
    await task
    link.transport.write(b"after")
    assert await link.read(5) == b"after"


@pytest.mark.asyncio_lacks(when=True, reason="asyncio stumbles: a KeyError of its own")
async def test_second_file_meanwhile_is_refused(loop, link, file):
    task = await started(loop, link, file)
    with pytest.raises(RuntimeError, match=r"^unable to send a file; sendfile is in progress$"):
        await loop.sendfile(link.transport, file)
    assert await link.read(len(CONTENT)) == CONTENT
    assert await task == len(CONTENT)


@pytest.mark.real_driver("waits until the kernel takes no more")
async def test_reading_waits_until_the_file_is_sent(loop, link, any_file):
    task = await started(loop, link, any_file)
    link.far.send(b"answer")
    await io_barrier(loop)
    assert not link.transport.is_reading()
    assert link.protocol.data == b""
    assert await link.read(len(CONTENT)) == CONTENT
    await task
    assert link.transport.is_reading()
    assert await link.protocol.received(6) == b"answer"


async def test_paused_transport_stays_paused(loop, link, any_file):
    link.transport.pause_reading()
    await loop.sendfile(link.transport, any_file, 0, 10)
    assert not link.transport.is_reading()


@pytest.mark.real_driver("waits until the kernel takes no more")
async def test_peer_that_leaves_fails_the_call_and_the_connection(loop, link, any_file):
    task = await started(loop, link, any_file)
    link.far.close()
    with pytest.raises(ConnectionError):
        await task
    await link.protocol.happened("connection_lost")
    assert any_file.tell() < len(CONTENT)


@pytest.mark.asyncio_lacks(when=True, reason="asyncio's call never ends: nobody tells it")
async def test_abort_meanwhile_ends_the_call(loop, link, file):
    task = await started(loop, link, file)
    link.transport.abort()
    with pytest.raises(ConnectionError, match=r"^Connection is closed by peer$"):
        await task
    await link.protocol.happened("connection_lost")


async def test_abort_while_earlier_bytes_wait_ends_the_call(loop, link, any_file):
    await link.fill()
    task = loop.create_task(loop.sendfile(link.transport, any_file))
    await io_barrier(loop)
    link.transport.abort()
    with pytest.raises(ConnectionError):
        await task
    await link.protocol.happened("connection_lost")


async def test_cancelled_call_leaves_a_transport_that_writes(loop, link, file):
    task = await started(loop, link, file)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    link.transport.write(b"instead of the rest")
    link.transport.write_eof()
    part, trailer, nothing = (await link.read_to_end()).partition(b"instead of the rest")
    assert trailer and not nothing
    assert CONTENT.startswith(part)
    assert len(part) < len(CONTENT)


@pytest.mark.asyncio_lacks(when=True, reason="asyncio leaves the position where it was")
@pytest.mark.whole_writes("something was sent before the cancellation")
async def test_position_after_cancelling_is_behind_what_was_sent(loop, link, file):
    task = await started(loop, link, file)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    link.transport.close()
    assert len(await link.read_to_end()) == file.tell() > 0


@pytest.mark.asyncio_lacks(when=sys.version_info >= (3, 12), reason="asyncio sends mixed-up bytes")
async def test_flow_control_reaches_the_protocol_in_pairs(loop, link):
    data = await link.fill()
    assert link.protocol.events[-1] == "pause_writing"
    task = loop.create_task(loop.sendfile(link.transport, io.BytesIO(CONTENT)))
    assert await link.read(len(data) + len(CONTENT)) == data + CONTENT
    await task
    await io_barrier(loop)
    calls = [event for event in link.protocol.events if event.endswith("_writing")]
    assert calls[-1] == "resume_writing"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((-1,), ValueError, r"^offset must be a non-negative integer \(got -1\)$"),
        (("1",), TypeError, r"^offset must be a non-negative integer \(got '1'\)$"),
        ((0, 0), ValueError, r"^count must be a positive integer \(got 0\)$"),
        ((0, 1.5), TypeError, r"^count must be a positive integer \(got 1.5\)$"),
    ],
)
async def test_numbers_that_make_no_sense_are_refused(loop, link, file, arguments, error, message):
    with pytest.raises(error, match=message):
        await loop.sendfile(link.transport, file, *arguments)
    link.transport.write(b"goes on")
    assert await link.read(7) == b"goes on"
    assert link.transport.is_reading()


async def test_text_file_is_refused(loop, link):
    with (
        tempfile.TemporaryFile("w+") as file,
        pytest.raises(ValueError, match=r"^file should be opened in binary mode$"),
    ):
        await loop.sendfile(link.transport, file)


async def test_without_fallback_only_the_kernel_sends(loop, link):
    memory = io.BytesIO(CONTENT)
    with pytest.raises(asyncio.SendfileNotAvailableError):
        await loop.sendfile(link.transport, memory, fallback=False)
    assert memory.tell() == 0
    assert link.transport.is_reading()


async def test_closing_transport_is_refused(loop, link, file):
    link.transport.close()
    with pytest.raises(RuntimeError, match=r"^Transport is closing$"):
        await loop.sendfile(link.transport, file)


async def test_datagram_transport_is_refused(loop, file):
    transport, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
    )
    with pytest.raises(RuntimeError, match=r"^sendfile is not supported for transport "):
        await loop.sendfile(transport, file)
    transport.close()
    await io_barrier(loop)


async def tls_link(loop, server_context, client_context):
    """Gives both ends of a TLS connection: (transport, protocol) twice."""
    near, far = tcp_pair()
    server_side = loop.create_task(loop.connect_accepted_socket(Recorder, far, ssl=server_context))
    client = await loop.create_connection(
        Recorder, sock=near, ssl=client_context, server_hostname="localhost"
    )
    return client, await server_side


async def test_file_over_tls_goes_between_the_writes(loop, file):
    (transport, protocol), (far_transport, far_protocol) = await tls_link(loop, *tls_contexts())
    transport.write(b"header")
    assert await loop.sendfile(transport, file) == len(CONTENT)
    transport.write(b"trailer")
    expected = b"header" + CONTENT + b"trailer"
    assert await far_protocol.received(len(expected)) == expected
    with pytest.raises(RuntimeError, match=r"^fallback is disabled and native sendfile "):
        await loop.sendfile(transport, file, fallback=False)
    transport.close()
    await protocol.happened("connection_lost")
    await far_protocol.happened("connection_lost")
    assert far_transport.is_closing()


async def test_file_from_a_streams_writer(loop, file):
    near, far = tcp_pair()
    reader, writer = await asyncio.open_connection(sock=near)
    far_transport, far_protocol = await connect_recorder(loop, far)
    writer.write(b"header")
    await loop.sendfile(writer.transport, file)
    writer.close()
    await writer.wait_closed()
    await far_protocol.happened("eof_received")
    assert bytes(far_protocol.data) == b"header" + CONTENT
    assert far_transport.is_closing()
    assert reader.at_eof() or not reader._buffer
