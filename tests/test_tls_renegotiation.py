"""New handshakes and new keys within a connection: refused, allowed, and as a flood.

Renegotiation is TLS 1.2's; a server's OpenSSL refuses it unless its context says otherwise. In TLS 1.3 either end may
ask the other for new keys; each such wish makes the other end send an answer, whether it is read or not.
"""

import asyncio
import socket

import pytest

from support.net import Recorder, io_barrier, pattern, tcp_pair
from support.openssl import (
    ALLOW_CLIENT_RENEGOTIATION,
    TLS_1_2,
    TLS_1_3,
    Client,
    OpenSSLError,
)
from support.tls import begin, server_context, tls_link


async def connect(loop, version, factory, context=None, far_options=(), near_options=()):
    """Gives a client, the server's transport and its protocol, after the handshake."""
    near, far = tcp_pair()
    for sock, options in ((near, near_options), (far, far_options)):
        for option, value in options:
            sock.setsockopt(socket.SOL_SOCKET, option, value)
    client = Client(loop, far, version)
    (transport, protocol), _ = await asyncio.gather(
        begin(loop, near, factory, server_side=True, context=context), client.handshake()
    )
    return client, transport, protocol


class EchoRecorder(Recorder):
    def data_received(self, data):
        super().data_received(data)
        self.transport.write(data)


async def end(client, transport, protocol):
    client.sock.close()
    client.close()
    transport.abort()
    await protocol.happened("connection_lost")


async def test_renegotiation_is_refused_and_harms_nobody_else(loop, faults):
    other = await tls_link(loop, EchoRecorder)
    client, transport, protocol = await connect(loop, TLS_1_2, EchoRecorder)
    client.write(b"before")
    await client.flush()
    assert await client.read(6) == b"before"
    client.renegotiate()
    with pytest.raises(OpenSSLError):
        await client.handshake()
    await other.peer.send(b"still here")
    assert await other.peer.read(10) == b"still here"
    assert faults == []
    await other.end()
    await end(client, transport, protocol)


def renegotiating_context():
    context = server_context()
    context.options |= ALLOW_CLIENT_RENEGOTIATION
    return context


@pytest.mark.whole_writes(
    "data before the server's answer is more than a call for the handshake takes"
)
async def test_data_goes_on_through_renegotiations(loop):
    client, transport, protocol = await connect(
        loop, TLS_1_2, EchoRecorder, renegotiating_context()
    )
    expected = b""
    for round_ in range(20):
        data = pattern(round_, 5000)
        client.write(data)
        client.renegotiate()
        await client.handshake()
        assert await client.read(len(data)) == data
        expected += data
    assert protocol.data == expected
    await end(client, transport, protocol)


async def test_writes_wait_for_a_renegotiation_that_is_under_way(loop):
    """What is written between the client's first flight and its second leaves after it, in order."""
    client, transport, protocol = await connect(loop, TLS_1_2, Recorder, renegotiating_context())
    pieces = [pattern(number, 3000) for number in range(30)]
    client.renegotiate()
    # Unlike a call for the handshake alone, reading takes data that comes before the server's answer.
    reading = loop.create_task(client.read(sum(map(len, pieces))))
    for piece in pieces:
        transport.write(piece)
        await asyncio.sleep(0)
    assert await reading == b"".join(pieces)
    await end(client, transport, protocol)


@pytest.mark.whole_writes("thousands of answers, each in many turns, take minutes")
async def test_flood_of_renegotiations_leaves_others_their_turns(loop):
    flooder, transport, protocol = await connect(loop, TLS_1_2, Recorder, renegotiating_context())
    other = await tls_link(loop, EchoRecorder)

    async def flood():
        for _ in range(100):
            flooder.renegotiate()
            await flooder.handshake()

    flooding = loop.create_task(flood())
    answered = 0
    while not flooding.done():
        await other.peer.send(b"x")
        await other.peer.read(1)
        answered += 1
    await flooding
    assert answered > 50
    await other.end()
    await end(flooder, transport, protocol)


async def test_data_goes_on_through_new_keys(loop):
    client, transport, protocol = await connect(loop, TLS_1_3, EchoRecorder)
    for round_ in range(20):
        data = pattern(round_, 5000)
        client.ask_for_new_keys()
        client.write(data)
        await client.flush()
        assert await client.read(len(data)) == data
    await end(client, transport, protocol)


@pytest.mark.slow
@pytest.mark.loops("antiphon")  # asyncio reads on for ever and keeps every answer
async def test_answers_to_a_peer_that_never_reads_are_bounded(loop):
    client, transport, protocol = await connect(
        loop, TLS_1_3, Recorder, None, [(socket.SO_RCVBUF, 4096)], [(socket.SO_SNDBUF, 4096)]
    )

    wishes = 40000

    async def flood():
        for _ in range(wishes):
            # OpenSSL allows 32 wishes in a row without data between them.
            client.ask_for_new_keys()
            client.write(b"x")
            await client.flush()

    flooding = loop.create_task(flood())
    before = -1
    while len(protocol.data) != before:
        before = len(protocol.data)
        for _ in range(50):
            await io_barrier(loop)
    assert len(protocol.data) < wishes, "all wishes of a peer were read that reads no answer"
    assert transport.get_write_buffer_size() < 512 * 1024
    # It goes on as soon as the peer reads, whatever it makes of the answers.
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    while len(protocol.data) < wishes:
        await loop.sock_recv(client.sock, 1 << 16)
    await flooding
    await end(client, transport, protocol)
