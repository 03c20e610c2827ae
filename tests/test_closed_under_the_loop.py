"""Descriptors that a program closes by their numbers while the loop uses them (uvloop's issue 645).

The kernel gives the number to the next connection at once. Whoever had it before may not send a byte
to the new one, take one from it, or close it. On asyncio all of that happens, or the new connection
is refused: its transports trust their numbers.
"""

import asyncio
import contextlib
import errno
import os
import socket

import pytest

from support.datagrams import DatagramRecorder
from support.net import Recorder, connect_recorder, io_barrier, pattern, stream_pair, turns
from support.pipes import PipeRecorder, is_open
from support.tls import client_context, server_context

pytestmark = pytest.mark.loops("antiphon")  # see above

BYTES = 300_000


def usurp(number):
    """Closes `number` and gives it to a new connection at once; gives that and its other end."""
    near, far = stream_pair()
    os.dup2(near.fileno(), number, inheritable=False)
    near.close()
    return socket.socket(fileno=number), far


async def hold_a_conversation(loop, transport, recorder, far):
    """Asserts that a connection carries its bytes, all of them and no others, both ways."""
    there, back = pattern(1, BYTES), pattern(2, BYTES)
    sending = loop.create_task(loop.sock_sendall(far, there))
    transport.write(back)
    got = bytearray()
    while len(got) < BYTES:
        got += await loop.sock_recv(far, 1 << 16)
    assert got == back
    assert await recorder.received(BYTES) == there
    await sending


def call_late(transport):
    """Calls everything that a transport which is not yet known to be dead may be asked to do."""
    transport.pause_reading()
    transport.resume_reading()
    transport.write(b"stale")
    transport.writelines([b"stale", b"staler"])
    transport.get_write_buffer_size()


async def end(transport, recorder, *socks):
    transport.abort()
    await recorder.happened("connection_lost")
    await turns(1)
    for sock in socks:
        sock.close()


# The first connection, by how the loop came by it. Each gives its transport, its recorder, its number
# and what has to be closed by the test.


async def given(loop, factory=Recorder):
    near, far = stream_pair()
    transport, recorder = await connect_recorder(loop, near, factory)
    return transport, recorder, near.fileno(), [far]


async def paused(loop):
    transport, recorder, number, socks = await given(loop)
    transport.pause_reading()
    return transport, recorder, number, socks


async def blocked(loop):
    transport, recorder, number, socks = await given(loop)
    transport.write(b"stale" * (1 << 20))
    assert transport.get_write_buffer_size()
    return transport, recorder, number, socks


async def accepted(loop):
    recorders = asyncio.Queue()

    class Accepted(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            recorders.put_nowait(self)

    server = await loop.create_server(Accepted, "127.0.0.1", 0)
    far = socket.create_connection(server.sockets[0].getsockname())
    recorder = await recorders.get()
    server.close()
    transport = recorder.transport
    return transport, recorder, transport.get_extra_info("socket").fileno(), [far]


async def encrypted(loop):
    near, far = stream_pair()
    (transport, recorder), (far_transport, _far_recorder) = await asyncio.gather(
        loop.create_connection(
            Recorder, sock=near, ssl=client_context(), server_hostname="localhost"
        ),
        loop.connect_accepted_socket(Recorder, far, ssl=server_context()),
    )
    return transport, recorder, near.fileno(), [far_transport]


FIRST = [given, paused, blocked, accepted, encrypted]


@pytest.mark.parametrize("first", FIRST)
async def test_next_transport_with_the_number_is_left_alone(loop, first):
    transport, recorder, number, ends = await first(loop)
    sock, far = usurp(number)
    second, second_recorder = await connect_recorder(loop, sock)
    call_late(transport)
    await hold_a_conversation(loop, second, second_recorder, far)
    await recorder.happened("connection_lost")
    assert recorder.lost_with.errno == errno.EBADF
    assert bytes(recorder.data) == b""
    for late in (transport.close, transport.abort):
        late()
    await turns(3)
    assert is_open(number)
    await hold_a_conversation(loop, second, Fresh(second_recorder), far)
    await end(second, second_recorder, far, *ends)
    assert not is_open(number)


class Fresh:
    """A recorder from now on."""

    def __init__(self, recorder):
        self.recorder = recorder
        self.start = len(recorder.data)

    async def received(self, size):
        return (await self.recorder.received(self.start + size))[self.start :]


# What a transport sends after that is beyond help: a system call for each write would be too dear. So
# those that have something to send (TLS a goodbye) are aborted here.
@pytest.mark.parametrize("how", ["close", "abort"])
@pytest.mark.parametrize("first", FIRST)
async def test_number_that_the_program_took_itself_stays_open(loop, first, how):
    """The loop has never heard of the file, and asks the kernel before it closes the number."""
    transport, recorder, number, ends = await first(loop)
    sock, far = usurp(number)
    if first in (blocked, encrypted):
        transport.abort()
    getattr(transport, how)()
    await recorder.happened("connection_lost")
    await turns(3)
    assert is_open(number)
    far.send(b"still there")
    assert sock.recv(100) == b"still there"
    for stream in (sock, far, *ends):
        stream.close()
    await turns(3)


@pytest.mark.parametrize("first", [given, paused, accepted])
async def test_transport_does_not_read_from_a_file_that_it_never_had(loop, first):
    transport, recorder, number, ends = await first(loop)
    sock, far = usurp(number)
    far.send(b"for the owner")
    transport.pause_reading()
    transport.resume_reading()
    await recorder.happened("connection_lost")
    assert recorder.data == b""
    assert sock.recv(100) == b"for the owner"
    for stream in (sock, far, *ends):
        stream.close()


@pytest.mark.parametrize("first", [given, paused, accepted])
async def test_socket_calls_may_use_a_number_that_a_transport_has_lost(loop, first):
    _transport, recorder, number, ends = await first(loop)
    sock, far = usurp(number)
    receiving = loop.create_task(loop.sock_recv(sock, 100))
    await turns(2)
    far.send(b"for the caller")
    assert await receiving == b"for the caller"
    await recorder.happened("connection_lost")
    assert recorder.data == b"" and is_open(number)
    for stream in (sock, far, *ends):
        stream.close()


@pytest.mark.parametrize("first", [given, accepted])
async def test_readers_may_watch_a_number_that_a_transport_has_lost(loop, first):
    _transport, recorder, number, ends = await first(loop)
    sock, far = usurp(number)
    got = []
    loop.add_reader(sock, lambda: got.append(sock.recv(100)))
    far.send(b"for the reader")
    await io_barrier(loop)
    assert got == [b"for the reader"]
    assert loop.remove_reader(sock)
    await recorder.happened("connection_lost")
    for stream in (sock, far, *ends):
        stream.close()


@pytest.mark.parametrize("first", [given, paused, accepted])
async def test_transport_that_has_its_number_keeps_it(loop, first):
    """Only what the kernel says is lost is given away."""
    transport, recorder, number, ends = await first(loop)
    with pytest.raises(RuntimeError, match="is used by transport"):
        loop.add_reader(number, print)
    second = socket.socket(fileno=number)
    with pytest.raises(RuntimeError, match="is used by transport"):
        await loop.create_connection(Recorder, sock=second)
    second.detach()
    await end(transport, recorder, *ends)


async def test_reader_of_a_number_that_a_transport_gets_is_not_called(loop):
    near, far = stream_pair()
    number = near.fileno()
    called = []
    loop.add_reader(near, called.append, "the first")
    sock, second_far = usurp(number)
    second, recorder = await connect_recorder(loop, sock)
    await hold_a_conversation(loop, second, recorder, second_far)
    assert called == []
    near.detach()
    await end(second, recorder, far, second_far)


@pytest.mark.real_driver("waits for what a descriptor brings")
async def test_socket_call_on_a_number_that_a_transport_gets_takes_nothing(loop):
    near, far = stream_pair()
    number = near.fileno()
    receiving = loop.create_task(loop.sock_recv(near, 100))
    await turns(1)
    sock, second_far = usurp(number)
    second, recorder = await connect_recorder(loop, sock)
    await hold_a_conversation(loop, second, recorder, second_far)
    assert not receiving.done()
    receiving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await receiving
    await hold_a_conversation(loop, second, Fresh(recorder), second_far)
    near.detach()
    await end(second, recorder, far, second_far)


async def test_listener_that_lost_its_number_accepts_nothing_and_closes_nothing(loop):
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    number = server.sockets[0].fileno()
    sock, far = usurp(number)
    second, recorder = await connect_recorder(loop, sock)
    await hold_a_conversation(loop, second, recorder, far)
    server.close()
    await server.wait_closed()
    assert is_open(number)
    await hold_a_conversation(loop, second, Fresh(recorder), far)
    await end(second, recorder, far)


async def test_listener_whose_number_the_program_took_itself_closes_nothing(loop):
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    sock, far = usurp(server.sockets[0].fileno())
    server.close()
    await server.wait_closed()
    far.send(b"still there")
    assert sock.recv(100) == b"still there"
    sock.close()
    far.close()


@pytest.mark.parametrize("known", [False, True], ids=["program's", "transport's"])
async def test_datagram_transport_that_lost_its_number(loop, known):
    transport, recorder = await loop.create_datagram_endpoint(
        DatagramRecorder, local_addr=("127.0.0.1", 0)
    )
    number = transport.get_extra_info("socket").fileno()
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    os.dup2(near.fileno(), number, inheritable=False)
    near.close()
    sock = socket.socket(fileno=number)
    if known:
        second, second_recorder = await loop.create_datagram_endpoint(DatagramRecorder, sock=sock)
        transport.sendto(b"stale", far.getsockname())
        far.send(b"for the second")
        assert await second_recorder.got(1) == [b"for the second"]
    transport.abort()
    await recorder.happened("connection_lost")
    await turns(3)
    assert recorder.datagrams == [] and is_open(number)
    far.setblocking(False)
    with pytest.raises(BlockingIOError):
        far.recv(100)
    if known:
        second.close()
        await second_recorder.happened("connection_lost")
    await turns(1)
    sock.close()
    far.close()


@pytest.mark.real_driver("waits for what a descriptor brings")
@pytest.mark.parametrize("way", ["connect_read_pipe", "connect_write_pipe"])
async def test_pipe_that_lost_its_number_to_a_transport(loop, way):
    reading, writing = os.pipe()
    number, other = (reading, writing) if way == "connect_read_pipe" else (writing, reading)
    # Not to be closed by this object, whose number is another's in the end.
    file = open(number, "rb" if number == reading else "wb", buffering=0, closefd=False)  # noqa: SIM115
    pipe, recorder = await getattr(loop, way)(PipeRecorder, file)
    sock, far = usurp(number)
    second, second_recorder = await connect_recorder(loop, sock)
    if way == "connect_write_pipe":
        pipe.write(b"stale")
    await hold_a_conversation(loop, second, second_recorder, far)
    await recorder.happened("connection_lost")
    assert recorder.lost_with.errno == errno.EBADF
    assert is_open(number)
    await end(second, second_recorder, far)
    os.close(other)


async def test_pipe_on_a_number_that_a_transport_has_lost(loop):
    transport, recorder, number, ends = await given(loop)
    reading, writing = os.pipe()
    os.dup2(reading, number, inheritable=False)
    os.close(reading)
    pipe, pipe_recorder = await loop.connect_read_pipe(
        PipeRecorder, os.fdopen(number, "rb", buffering=0)
    )
    call_late(transport)
    transport.abort()
    await recorder.happened("connection_lost")
    os.write(writing, b"through the pipe")
    assert await pipe_recorder.received(16) == b"through the pipe"
    pipe.close()
    await pipe_recorder.happened("connection_lost")
    os.close(writing)
    for stream in ends:
        stream.close()
