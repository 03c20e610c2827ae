"""`start_tls`: a connection that was plain goes on as TLS, also over TLS and over transports of others."""

import asyncio
import gc
import socket
import ssl
import sys
import weakref

import pytest

from support.net import (
    BufferedRecorder,
    Recorder,
    connect_recorder,
    io_barrier,
    others_done,
    pattern,
    tcp_pair,
    turns,
)
from support.tls import Peer, TlsLink, client_context, server_context

MADE, DATA, EOF, LOST = "connection_made", "data_received", "eof_received", "connection_lost"
SIDES = pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])


def upgrade(loop, transport, protocol, server_side, **options):
    """Gives the call that upgrades one end."""
    if server_side:
        return loop.start_tls(transport, protocol, server_context(), server_side=True, **options)
    return loop.start_tls(
        transport, protocol, client_context(), server_hostname="localhost", **options
    )


async def upgraded(loop, factory=Recorder, server_side=False, **options):
    """Gives a link that was plain a moment ago."""
    near, far = tcp_pair()
    plain, protocol = await connect_recorder(loop, near, factory)
    peer = Peer(loop, far, (client_context if server_side else server_context)(), not server_side)
    tls, _ = await asyncio.gather(
        upgrade(loop, plain, protocol, server_side, **options), peer.handshake()
    )
    protocol.transport = tls
    return TlsLink(loop, tls, protocol, peer)


@SIDES
@pytest.mark.parametrize(
    "factory", [Recorder, lambda: BufferedRecorder(1 << 15)], ids=["plain", "buffered"]
)
async def test_upgraded_connection_carries_data(loop, server_side, factory):
    link = await upgraded(loop, factory, server_side)
    await link.peer.send(b"question")
    assert await link.protocol.received(8) == b"question"
    link.transport.write(b"answer")
    assert await link.peer.read(6) == b"answer"
    assert link.protocol.events == [MADE, DATA]  # made once, when it was plain
    link.transport.close()
    await link.peer.goodbye()
    await link.protocol.happened(LOST)
    link.peer.sock.close()


async def test_plain_data_goes_before_the_handshake(loop):
    """What was written to the plain transport and not yet sent stays in front."""
    near, far = tcp_pair()
    plain, protocol = await connect_recorder(loop, near)
    plain.write(b"250 go ahead\r\n")
    opening = loop.create_task(upgrade(loop, plain, protocol, server_side=False))
    assert await loop.sock_recv(far, 14) == b"250 go ahead\r\n"
    peer = Peer(loop, far, server_context(), True)
    await peer.handshake()
    tls = await opening
    tls.write(b"secret")
    assert await peer.read(6) == b"secret"
    await TlsLink(loop, tls, protocol, peer).end()


@pytest.mark.loops(
    "antiphon"
)  # asyncio's TLS protocol takes the resume_writing for its own and fails
async def test_writer_that_was_asked_to_pause_is_resumed_after_the_upgrade(loop):
    near, far = tcp_pair()
    plain, protocol = await connect_recorder(loop, near)
    data = pattern(1, 16 << 20)
    plain.write(data)
    assert protocol.events == [MADE, "pause_writing"]
    opening = loop.create_task(upgrade(loop, plain, protocol, server_side=False))
    got = bytearray()
    while len(got) < len(data):
        got += await loop.sock_recv(far, len(data) - len(got))
    assert got == data
    peer = Peer(loop, far, server_context(), True)
    await peer.handshake()
    tls = await opening
    await protocol.happened("resume_writing")
    await TlsLink(loop, tls, protocol, peer).end()


async def test_streams_are_upgraded(loop):
    async def serve(reader, writer):
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go ahead\n")
        await writer.drain()
        await writer.start_tls(server_context())
        writer.write((await reader.readline()).upper())
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"STARTTLS\n")
    assert await reader.readline() == b"go ahead\n"
    await writer.start_tls(client_context(), server_hostname="localhost")
    writer.write(b"quietly\n")
    assert await reader.readline() == b"QUIETLY\n"
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    await others_done()  # 3.11's Server.wait_closed does not wait for connections
    server.close()
    await server.wait_closed()


@pytest.mark.asyncio_lacks(
    when=sys.version_info < (3, 14),
    reason="asyncio before 3.14.1 loses a record that came with the plain request",
)
async def test_first_record_may_come_with_the_plain_request(loop):
    done = loop.create_future()

    async def serve(reader, writer):
        assert await reader.readline() == b"STARTTLS\n"
        await writer.start_tls(server_context())
        done.set_result(await reader.readline())
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    with socket.create_connection(server.sockets[0].getsockname()) as sock:
        sock.setblocking(False)
        peer = Peer(loop, sock, client_context(), False)
        with pytest.raises(ssl.SSLWantReadError):
            peer.tls.do_handshake()
        await peer.send_raw(b"STARTTLS\n" + peer.outgoing.read())
        await peer.handshake()
        await peer.send(b"hello\n")
        assert await done == b"hello\n"
        await peer.read_to_goodbye()
        await peer.goodbye()
    await others_done()
    server.close()
    await server.wait_closed()


async def test_arguments_are_checked(loop):
    near, far = tcp_pair()
    plain, protocol = await connect_recorder(loop, near)
    with pytest.raises(
        TypeError, match="^sslcontext is expected to be an instance of ssl.SSLContext, got None$"
    ):
        await loop.start_tls(plain, protocol, None)
    with pytest.raises(TypeError, match="is not supported by start_tls\\(\\)$"):
        await loop.start_tls(object(), protocol, client_context())
    far.close()
    plain.abort()
    await protocol.happened(LOST)


@SIDES
async def test_nonsense_instead_of_a_handshake(loop, faults, server_side):
    near, far = tcp_pair()
    plain, protocol = await connect_recorder(loop, near)
    opening = loop.create_task(upgrade(loop, plain, protocol, server_side))
    far.send(b"this is no record of any kind of TLS")
    with pytest.raises(ssl.SSLError):
        await opening
    await protocol.happened(LOST)  # it was told of the connection, and is of its end
    assert protocol.events == [MADE, LOST]
    assert faults == []
    far.close()


async def test_handshake_that_takes_too_long(loop):
    near, far = tcp_pair()
    plain, protocol = await connect_recorder(loop, near)
    with pytest.raises(
        ConnectionAbortedError, match="^SSL handshake is taking longer than 0.05 seconds"
    ):
        await upgrade(loop, plain, protocol, False, ssl_handshake_timeout=0.05)
    far.close()


@pytest.mark.whole_writes("reads once what was written once")
async def test_cancelled_upgrade_closes_the_connection(loop):
    near, far = tcp_pair()
    plain, protocol = await connect_recorder(loop, near)
    opening = loop.create_task(upgrade(loop, plain, protocol, False))
    assert await loop.sock_recv(far, 1 << 16)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert plain.is_closing()
    assert await loop.sock_recv(far, 1) == b""
    far.close()
    await turns(3)


async def test_upgrade_cancelled_before_it_began(loop):
    near, far = tcp_pair()
    plain, protocol = await connect_recorder(loop, near)
    opening = loop.create_task(upgrade(loop, plain, protocol, False))
    await turns(1)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await io_barrier(loop)
    assert plain.is_closing()
    far.close()


@pytest.mark.parametrize("size", [5, 1 << 20])
@pytest.mark.whole_writes("names every event, pauses among them")
async def test_tls_within_tls(loop, size):
    near, far = tcp_pair()
    (plain_a, a), (plain_b, b) = await asyncio.gather(
        connect_recorder(loop, near), connect_recorder(loop, far)
    )
    outer_a, outer_b = await asyncio.gather(
        upgrade(loop, plain_a, a, False), upgrade(loop, plain_b, b, True)
    )
    inner_a, inner_b = await asyncio.gather(
        upgrade(loop, outer_a, a, False), upgrade(loop, outer_b, b, True)
    )
    inner_a.write(pattern(1, size))
    inner_b.write(pattern(2, size))
    assert await b.received(size) == pattern(1, size)
    assert await a.received(size) == pattern(2, size)
    assert inner_a.get_extra_info("peername") == plain_a.get_extra_info("peername")
    assert inner_a.get_extra_info("ssl_object") is not outer_a.get_extra_info("ssl_object")
    inner_a.close()
    await asyncio.gather(a.happened(LOST), b.happened(LOST))
    assert a.lost_with is None
    assert b.lost_with is None
    assert b.events == [MADE, DATA, EOF, LOST]


async def test_tls_within_tls_obeys_backpressure(loop):
    near, far = tcp_pair()
    (plain_a, a), (plain_b, b) = await asyncio.gather(
        connect_recorder(loop, near), connect_recorder(loop, far)
    )
    outer_a, outer_b = await asyncio.gather(
        upgrade(loop, plain_a, a, False), upgrade(loop, plain_b, b, True)
    )
    inner_a, inner_b = await asyncio.gather(
        upgrade(loop, outer_a, a, False), upgrade(loop, outer_b, b, True)
    )
    inner_b.pause_reading()
    written = bytearray()
    while "pause_writing" not in a.events:
        piece = pattern(len(written), 100000)
        inner_a.write(piece)
        written += piece
        await turns(2)
    inner_b.resume_reading()
    assert await b.received(len(written)) == written
    await a.happened("resume_writing")
    for transport in (inner_a, inner_b):
        transport.abort()
    await asyncio.gather(a.happened(LOST), b.happened(LOST))


class Relay(asyncio.Transport):
    """A transport of somebody else's: passes everything on to one of the loop's."""

    _start_tls_compatible = True

    def __init__(self, below):
        super().__init__()
        self.below = below
        self.calls = set()

    def set_protocol(self, protocol):
        self.below.set_protocol(protocol)

    def get_extra_info(self, name, default=None):
        return self.below.get_extra_info(name, default)

    def write(self, data):
        self.calls.add("write")
        self.below.write(data)

    def get_write_buffer_size(self):
        return self.below.get_write_buffer_size()

    def is_closing(self):
        return self.below.is_closing()

    def pause_reading(self):
        self.calls.add("pause_reading")
        self.below.pause_reading()

    def resume_reading(self):
        self.calls.add("resume_reading")
        self.below.resume_reading()

    def close(self):
        self.calls.add("close")
        self.below.close()

    def abort(self):
        self.below.abort()

    def _force_close(self, exc):
        self.below._force_close(exc)


async def relayed(loop):
    near, far = tcp_pair()
    plain, protocol = await connect_recorder(loop, near)
    relay = Relay(plain)
    peer = Peer(loop, far, server_context(), True)
    tls, _ = await asyncio.gather(upgrade(loop, relay, protocol, False), peer.handshake())
    protocol.transport = tls
    return relay, TlsLink(loop, tls, protocol, peer)


async def test_foreign_transport_below(loop):
    relay, link = await relayed(loop)
    data = pattern(1, 1 << 20)
    sending = loop.create_task(link.peer.send(data))
    assert await link.protocol.received(len(data)) == data
    await sending
    link.transport.write(data)
    assert await link.peer.read(len(data)) == data
    assert link.transport.get_extra_info("peername") == link.peer.sock.getsockname()
    link.transport.close()
    await link.peer.goodbye()
    await link.protocol.happened(LOST)
    assert link.protocol.lost_with is None
    assert relay.calls >= {"write", "pause_reading", "resume_reading", "close"}
    link.peer.sock.close()


async def test_foreign_transport_below_obeys_backpressure(loop):
    _, link = await relayed(loop)
    written = bytearray()
    while "pause_writing" not in link.protocol.events:
        piece = pattern(len(written), 100000)
        link.transport.write(piece)
        written += piece
        await turns(1)
    assert await link.peer.read(len(written)) == written
    await link.protocol.happened("resume_writing")
    await link.end()


async def test_foreign_transport_below_that_ends(loop):
    _, link = await relayed(loop)
    await link.peer.send(b"last words")
    link.peer.sock.shutdown(socket.SHUT_WR)
    await link.protocol.happened(LOST)
    assert link.protocol.events == [MADE, DATA, EOF, LOST]
    link.peer.sock.close()


@pytest.mark.loops(
    "antiphon"
)  # asyncio's traceback of the failed handshake is in a cycle before 3.14.3
async def test_failed_upgrade_is_in_no_cycle(loop):
    near, far = tcp_pair()
    plain, protocol = await connect_recorder(loop, near)
    references = [weakref.ref(plain), weakref.ref(protocol)]
    gc.collect()
    gc.disable()
    try:
        far.send(b"this is no record of any kind of TLS")
        with pytest.raises(ssl.SSLError):
            await upgrade(loop, plain, protocol, False)
        await protocol.happened(LOST)
        protocol.transport = protocol.lost_with = None  # whose traceback has frames of this test
        del plain, protocol
        await turns(3)
        assert [reference() for reference in references] == [None, None]
    finally:
        gc.enable()
    far.close()
