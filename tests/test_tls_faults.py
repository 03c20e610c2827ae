"""TLS against peers that send nonsense, stop, vanish or flood, and against protocols that raise."""

import asyncio
import logging
import re
import socket
import ssl

import pytest

from support.net import Echo, Recorder, io_barrier, pattern, reset, tcp_pair
from support.tls import (
    TLS_1_2,
    TLS_1_3,
    Peer,
    begin,
    client_context,
    server_context,
    tls_link,
)

MADE, DATA, EOF, LOST = "connection_made", "data_received", "eof_received", "connection_lost"
SIDES = pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
NONSENSE = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    bytes(64),
    b"\xff" * 64,
    b"\x16\x03\x01\xff\xff" + bytes(64),  # a handshake record longer than any may be
    b"\x17\x03\x03\x00\x05hello",  # data before the handshake
    pattern(1, 1000),
]


@SIDES
@pytest.mark.parametrize("nonsense", NONSENSE, ids=[str(i) for i in range(len(NONSENSE))])
async def test_nonsense_instead_of_a_handshake(loop, faults, server_side, nonsense):
    near, far = tcp_pair()
    opening = loop.create_task(begin(loop, near, server_side=server_side))
    far.send(nonsense)
    far.shutdown(socket.SHUT_WR)  # some of it looks like the beginning of a longer record
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        await opening
    assert faults == []
    far.close()


@pytest.mark.loops("antiphon")  # asyncio leaves the alert in its buffer
@pytest.mark.whole_writes("an alert that the kernel does not take is lost with the connection")
async def test_peer_is_told_why_the_handshake_failed(loop):
    near, far = tcp_pair()
    opening = loop.create_task(begin(loop, near, context=client_context()))
    untrusted = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    untrusted.maximum_version = TLS_1_2  # in 1.3 the server is done before the client has looked
    untrusted.load_cert_chain(*_other_certificate())
    peer = Peer(loop, far, untrusted, True)
    with pytest.raises(ssl.SSLError, match="(?i)alert unknown ca"):
        await peer.handshake()
    with pytest.raises(ssl.SSLCertVerificationError):
        await opening
    far.close()


def _other_certificate():
    """Gives certificate and key that nobody here trusts: those of CPython's own tests."""
    import os

    import test

    for name in ("certdata/keycert.pem", "keycert.pem"):
        path = os.path.join(os.path.dirname(test.__file__), name)
        if os.path.exists(path):
            return path, path
    pytest.skip("the interpreter came without its tests, whose certificate this needs")


async def test_certificate_that_is_not_trusted_ends_the_handshake(loop, faults):
    near, far = tcp_pair()
    opening = loop.create_task(begin(loop, near, context=ssl.create_default_context()))
    peer = Peer(loop, far, server_context(), True)
    serving = loop.create_task(peer.handshake())
    with pytest.raises(ssl.SSLCertVerificationError, match="self.signed certificate"):
        await opening
    await asyncio.gather(serving, return_exceptions=True)
    assert faults == []
    far.close()


async def test_name_that_does_not_match_ends_the_handshake(loop):
    near, far = tcp_pair()
    opening = loop.create_task(
        loop.create_connection(
            Recorder, sock=near, ssl=client_context(), server_hostname="elsewhere.example"
        )
    )
    peer = Peer(loop, far, server_context(), True)
    serving = loop.create_task(peer.handshake())
    with pytest.raises(ssl.SSLCertVerificationError, match="elsewhere.example"):
        await opening
    await asyncio.gather(serving, return_exceptions=True)
    far.close()


@SIDES
async def test_peer_that_stops_in_the_handshake_times_out(loop, faults, server_side):
    near, far = tcp_pair()
    peer = Peer(loop, far, (client_context if server_side else server_context)(), not server_side)
    opening = loop.create_task(
        begin(loop, near, server_side=server_side, ssl_handshake_timeout=0.05)
    )
    if server_side:
        with pytest.raises(ssl.SSLWantReadError):
            peer.tls.do_handshake()
        await peer.send_raw(peer.outgoing.read()[:-10])
    with pytest.raises(
        ConnectionAbortedError,
        match=r"^SSL handshake is taking longer than 0\.05 seconds: aborting the connection$",
    ):
        await opening
    assert faults == []
    far.close()


@SIDES
@pytest.mark.whole_writes("the peer is gone before the handshake is sent")
async def test_stream_that_ends_in_the_handshake(loop, faults, server_side):
    near, far = tcp_pair()
    opening = loop.create_task(begin(loop, near, server_side=server_side))
    far.close()
    with pytest.raises(ConnectionResetError):
        await opening
    assert faults == []


@SIDES
async def test_reset_in_the_handshake(loop, faults, server_side):
    near, far = tcp_pair()
    opening = loop.create_task(begin(loop, near, server_side=server_side))
    await io_barrier(loop)
    reset(far)
    with pytest.raises(ConnectionResetError):
        await opening
    assert faults == []


@pytest.mark.parametrize("debug", [False, True])
async def test_failed_handshakes_of_a_server_are_its_own_affair(loop, faults, audit, debug):
    """Debug mode tells of them, and the server goes on accepting."""
    loop.set_debug(debug)
    server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=server_context())
    address = server.sockets[0].getsockname()
    for _ in range(3):
        with socket.create_connection(address) as sock:
            sock.setblocking(False)
            sock.send(b"GET / HTTP/1.1\r\n\r\n")
            await loop.sock_recv(sock, 100)  # an alert or the end
    transport, protocol = await loop.create_connection(
        Recorder, *address, ssl=client_context(), server_hostname="localhost"
    )
    transport.write(b"x")
    await protocol.received(1)
    transport.close()
    await protocol.happened(LOST)
    messages = [fault["message"] for fault in faults]
    assert set(messages) <= {"Error on transport creation for incoming connection"}
    assert len(messages) == (3 if debug else 0)
    for fault in faults:
        assert isinstance(fault["exception"], ssl.SSLError)
        assert isinstance(fault["protocol"], Echo)
    loop.set_debug(False)
    server.close()
    await server.wait_closed()


@SIDES
async def test_reset_while_reading(loop, faults, server_side):
    link = await tls_link(loop, server_side=server_side)
    await link.peer.flush()
    link.peer.reset()
    await link.protocol.happened(LOST)
    assert isinstance(link.protocol.lost_with, ConnectionResetError)
    assert link.protocol.events == [MADE, LOST]
    assert faults == []


async def test_reset_while_writing(loop, faults):
    link = await tls_link(loop)
    link.transport.write(pattern(2, 8 << 20))
    await io_barrier(loop)
    link.peer.reset()
    await link.protocol.happened(LOST)
    assert isinstance(link.protocol.lost_with, (ConnectionResetError, BrokenPipeError))
    assert faults == []


async def test_reset_while_closing(loop, faults):
    link = await tls_link(loop)
    link.transport.close()
    await io_barrier(loop)
    link.peer.reset()
    await link.protocol.happened(LOST)
    assert isinstance(link.protocol.lost_with, ConnectionResetError)
    assert faults == []


async def test_damaged_record_ends_the_connection_after_the_good_ones(loop, faults):
    link = await tls_link(loop)
    good = link.peer.records(b"good")
    bad = bytearray(link.peer.records(b"damaged"))
    bad[-1] ^= 1
    await link.peer.send_raw(good)
    await link.protocol.received(4)
    await link.peer.send_raw(bytes(bad))
    await link.protocol.happened(LOST)
    assert isinstance(link.protocol.lost_with, ssl.SSLError)
    # Which words depends on the version of OpenSSL.
    assert re.search("BAD_RECORD_MAC|RECORD_LAYER_FAILURE", str(link.protocol.lost_with))
    assert link.protocol.data == b"good"
    assert faults == []
    link.peer.sock.close()


@pytest.mark.loops("antiphon")  # asyncio drops what it had read in the same round
async def test_good_records_before_a_damaged_one_are_delivered(loop):
    link = await tls_link(loop)
    bad = bytearray(link.peer.records(b"good") + link.peer.records(b"damaged"))
    bad[-1] ^= 1
    await link.peer.send_raw(bytes(bad))
    await link.protocol.happened(LOST)
    assert link.protocol.data == b"good"
    link.peer.sock.close()


async def test_nonsense_between_records_ends_the_connection(loop, faults):
    link = await tls_link(loop)
    await link.peer.send(b"good")
    await link.protocol.received(4)
    await link.peer.send_raw(b"this is no record at all, whatever its length may be")
    await link.protocol.happened(LOST)
    assert isinstance(link.protocol.lost_with, ssl.SSLError)
    assert faults == []
    link.peer.sock.close()


async def test_alert_of_the_peer_ends_the_connection(loop):
    """A server that does not trust the certificate says so when the client of TLS 1.3 is done."""
    context = server_context(TLS_1_3)
    context.verify_mode = ssl.CERT_REQUIRED
    near, far = tcp_pair()
    peer = Peer(loop, far, context, True)
    opening = loop.create_task(begin(loop, near, context=client_context(TLS_1_3)))
    with pytest.raises(ssl.SSLError):
        await peer.handshake()
    _, protocol = await opening
    await protocol.happened(LOST)
    assert isinstance(protocol.lost_with, ssl.SSLError)
    assert "ALERT" in str(protocol.lost_with).upper()
    far.close()


@pytest.mark.parametrize("method", [MADE, DATA, EOF])
async def test_raising_protocol_method_ends_the_connection(loop, faults, method):
    class Raising(Recorder):
        def note(self, event):
            super().note(event)
            if event == method:
                raise ZeroDivisionError

    if method == MADE:
        near, far = tcp_pair()
        peer = Peer(loop, far, client_context(), False)
        made = []

        def factory():
            made.append(Raising())
            return made[-1]

        opening = loop.create_task(begin(loop, near, factory, server_side=True))
        handshake = loop.create_task(peer.handshake())
        with pytest.raises(ZeroDivisionError):
            await opening
        await asyncio.gather(handshake, return_exceptions=True)
        protocol = made[0]
    else:
        link = await tls_link(loop, Raising)
        protocol, far = link.protocol, link.peer.sock
        if method == DATA:
            await link.peer.send(b"x")
        else:
            await link.peer.say_goodbye()
    await protocol.happened(LOST)
    assert isinstance(protocol.lost_with, ZeroDivisionError)
    assert len(faults) == 1
    assert faults[0]["exception"] is protocol.lost_with
    far.close()


async def test_raising_connection_lost_is_reported(loop, faults):
    class Raising(Recorder):
        def connection_lost(self, exc):
            super().connection_lost(exc)
            raise ZeroDivisionError

    link = await tls_link(loop, Raising)
    link.transport.abort()
    await link.protocol.happened(LOST)
    assert [type(fault["exception"]) for fault in faults] == [ZeroDivisionError]
    link.peer.sock.close()


@pytest.mark.parametrize("method", [DATA, EOF, MADE])
def test_interrupts_leave_the_loop(loop, faults, method):
    class Interrupting(Recorder):
        def note(self, event):
            super().note(event)
            if event == method:
                raise KeyboardInterrupt

    near, far = tcp_pair()
    peer = Peer(loop, far, client_context(), False)
    opening = loop.create_task(begin(loop, near, Interrupting, server_side=True))

    async def drive():
        await peer.handshake()
        if method == DATA:
            await peer.send(b"x")
        if method == EOF:
            await peer.say_goodbye()
        await asyncio.Event().wait()

    driver = loop.create_task(drive())
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(driver)
    driver.cancel()
    far.close()

    async def settle():
        outcome = (await asyncio.gather(opening, driver, return_exceptions=True))[0]
        if isinstance(outcome, tuple):
            outcome[0].abort()
            await outcome[1].happened(LOST)

    opening.cancel()
    loop.run_until_complete(settle())
    loop.run_until_complete(io_barrier(loop))


async def test_buffers_of_the_wrong_kind_end_the_connection(loop, faults):
    class Wrong(asyncio.BufferedProtocol):
        def get_buffer(self, sizehint):
            return b"cannot be written to"

        def buffer_updated(self, nbytes):
            raise AssertionError("nothing was written")

        def connection_lost(self, exc):
            lost.set_result(exc)

    lost = loop.create_future()
    link_protocol = []

    def factory():
        link_protocol.append(Wrong())
        return link_protocol[-1]

    link = await tls_link(loop, factory)
    await link.peer.send(b"x")
    assert isinstance(await lost, (TypeError, BufferError))
    assert len(faults) == 1
    link.peer.sock.close()


async def test_protocol_without_data_received_fails_when_data_comes(loop, faults):
    class Mute(Recorder):
        data_received = None

        def __getattribute__(self, name):
            if name == "data_received":
                raise AttributeError(name)
            return super().__getattribute__(name)

    link = await tls_link(loop, Mute)
    await link.peer.send(b"x")
    await link.protocol.happened(LOST)
    assert isinstance(link.protocol.lost_with, AttributeError)
    assert len(faults) == 1
    link.peer.sock.close()


async def test_ten_thousand_empty_and_tiny_records(loop):
    """Records of one byte, in one burst: no call each, nothing lost."""
    link = await tls_link(loop)
    stream = b"".join(link.peer.records(bytes([i % 256])) for i in range(10000))
    sending = loop.create_task(link.peer.send_raw(stream))
    assert await link.protocol.received(10000) == bytes(i % 256 for i in range(10000))
    await sending
    await link.end()


async def test_debug_mode_logs_the_life(loop, caplog):
    loop.set_debug(True)
    with caplog.at_level(logging.DEBUG, logger="asyncio"):
        link = await tls_link(loop)
        link.peer.sock.shutdown(socket.SHUT_WR)
        await link.protocol.happened(LOST)
    loop.set_debug(False)
    link.peer.sock.close()
    texts = "\n".join(record.getMessage() for record in caplog.records)
    for words in ("starts SSL handshake", ": SSL handshake took ", "received EOF"):
        assert words in texts
