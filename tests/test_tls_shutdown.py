"""The end of TLS connections: goodbyes from either side, truncated streams, time-outs, aborts."""

import asyncio
import gc
import logging
import socket
import ssl
import weakref

import pytest

from support.net import (
    BufferedRecorder,
    Recorder,
    io_barrier,
    others_done,
    pattern,
    tcp_pair,
    turns,
)
from support.tls import Peer, begin, client_context, server_context, tls_link

MADE, DATA, EOF, LOST = "connection_made", "data_received", "eof_received", "connection_lost"
SIDES = pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
BIG = 8 << 20
"""More than the kernel's buffers take."""


@SIDES
async def test_close_says_goodbye_and_waits_for_the_answer(loop, server_side):
    link = await tls_link(loop, server_side=server_side)
    link.transport.close()
    assert link.transport.is_closing()
    assert await link.peer.read_to_goodbye() == b""
    await io_barrier(loop)
    assert link.protocol.events == [MADE]
    await link.peer.goodbye()
    await link.protocol.happened(LOST)
    assert link.protocol.lost_with is None
    assert await loop.sock_recv(link.peer.sock, 1) == b""
    link.peer.sock.close()


@SIDES
async def test_goodbye_of_the_peer_closes(loop, server_side):
    link = await tls_link(loop, server_side=server_side)
    await link.peer.send(b"last words")
    await link.peer.goodbye()
    await link.protocol.happened(LOST)
    assert link.protocol.events == [MADE, DATA, EOF, LOST]
    assert link.protocol.data == b"last words"
    assert link.protocol.lost_with is None
    link.peer.sock.close()


async def test_data_and_goodbye_in_one_piece(loop):
    link = await tls_link(loop)
    stream = link.peer.records(b"one") + link.peer.records(b"two")
    with pytest.raises(ssl.SSLWantReadError):
        link.peer.tls.unwrap()
    await link.peer.send_raw(stream + link.peer.outgoing.read())
    await link.protocol.happened(LOST)
    assert link.protocol.events == [MADE, DATA, EOF, LOST]
    assert link.protocol.data == b"onetwo"
    link.peer.sock.close()


async def test_goodbye_reaches_a_buffered_protocol(loop):
    link = await tls_link(loop, lambda: BufferedRecorder(1 << 15))
    await link.peer.send(b"last words")
    await link.peer.goodbye()
    await link.protocol.happened(LOST)
    assert link.protocol.events == [MADE, DATA, EOF, LOST]
    link.peer.sock.close()


async def test_written_data_leaves_before_the_goodbye(loop):
    link = await tls_link(loop)
    data = pattern(1, BIG)
    link.transport.write(data)
    link.transport.close()
    assert await link.peer.read_to_goodbye() == data
    await link.peer.goodbye()
    await link.protocol.happened(LOST)
    assert link.protocol.lost_with is None
    link.peer.sock.close()


async def test_what_eof_received_writes_leaves_after_the_peers_goodbye(loop):
    class Answering(Recorder):
        def eof_received(self):
            self.transport.write(b"farewell")
            return super().eof_received()

    link = await tls_link(loop, Answering)
    await link.peer.say_goodbye()
    assert await link.peer.read_to_goodbye() == b"farewell"
    await link.protocol.happened(LOST)
    link.peer.sock.close()


async def test_pending_data_leaves_after_the_peers_goodbye(loop):
    link = await tls_link(loop)
    data = pattern(2, BIG)
    link.transport.write(data)
    await link.peer.say_goodbye()
    assert await link.peer.read_to_goodbye() == data
    await link.protocol.happened(LOST)
    assert link.protocol.lost_with is None
    link.peer.sock.close()


@pytest.mark.whole_writes(
    "data of which a part comes after the goodbye ends the connection, as in asyncio"
)
async def test_data_that_was_under_way_is_delivered_after_close(loop):
    link = await tls_link(loop)
    await link.peer.send(b"under way")
    await io_barrier_without_reading(loop, link)
    link.transport.close()
    await link.peer.read_to_goodbye()
    await link.peer.goodbye()
    await link.protocol.happened(LOST)
    assert link.protocol.data in (b"under way", b"")
    link.peer.sock.close()


async def io_barrier_without_reading(loop, link):
    """Lets what was sent arrive while the transport holds it back."""
    link.transport.pause_reading()
    await io_barrier(loop)
    link.transport.resume_reading()
    await turns(3)


@SIDES
async def test_stream_that_ends_without_goodbye_ends_the_connection(loop, server_side):
    link = await tls_link(loop, server_side=server_side)
    await link.peer.send(b"last words")
    link.peer.sock.shutdown(socket.SHUT_WR)
    await link.protocol.happened(LOST)
    assert link.protocol.events == [MADE, DATA, EOF, LOST]
    assert link.protocol.lost_with is None
    link.peer.sock.close()


async def test_stream_that_ends_within_a_record_ends_the_connection(loop):
    link = await tls_link(loop)
    record = link.peer.records(b"cut off")
    await link.peer.send_raw(link.peer.records(b"")[:0] + record[:-1])
    link.peer.sock.shutdown(socket.SHUT_WR)
    await link.protocol.happened(LOST)
    assert link.protocol.events == [MADE, EOF, LOST]
    assert link.protocol.lost_with is None
    link.peer.sock.close()


async def test_pending_data_leaves_after_a_truncated_stream(loop):
    link = await tls_link(loop)
    data = pattern(3, BIG)
    link.transport.write(data)
    link.peer.sock.shutdown(socket.SHUT_WR)
    assert await link.peer.read_any_end() == data
    await link.protocol.happened(LOST)
    assert link.protocol.lost_with is None
    link.peer.sock.close()


async def test_keeping_a_half_closed_connection_is_not_possible(loop, audit):
    link = await tls_link(loop, lambda: Recorder(keep_open=True))
    await link.peer.goodbye()
    await link.protocol.happened(LOST)
    link.peer.sock.close()
    audit.take_log(
        "^returning true from eof_received\\(\\) has no effect when using ssl$", logging.WARNING
    )


async def test_truncated_stream_waits_for_a_protocol_that_has_paused(loop):
    link = await tls_link(loop)
    link.transport.pause_reading()
    await link.peer.send(b"held back")
    link.peer.sock.shutdown(socket.SHUT_WR)
    await io_barrier(loop)
    assert link.protocol.events == [MADE]
    link.transport.resume_reading()
    await link.protocol.happened(LOST)
    assert link.protocol.events == [MADE, DATA, EOF, LOST]
    assert link.protocol.data == b"held back"
    link.peer.sock.close()


@pytest.mark.loops("antiphon")  # asyncio waits for a resume_reading that need not come
async def test_close_ends_a_truncated_stream_that_was_paused(loop):
    link = await tls_link(loop)
    link.transport.pause_reading()
    await link.peer.send(b"not wanted")
    link.peer.sock.shutdown(socket.SHUT_WR)
    await io_barrier(loop)
    link.transport.close()
    await link.protocol.happened(LOST)
    assert DATA not in link.protocol.events
    link.peer.sock.close()


@pytest.mark.parametrize("where", ["connection_made", "data_received", "eof_received"])
async def test_close_inside_a_protocol_method(loop, where):
    class Closing(Recorder):
        def note(self, event):
            super().note(event)
            if event == where:
                self.transport.write(b"bye")
                self.transport.close()

    link = await tls_link(loop, Closing)
    if where == "data_received":
        await link.peer.send(b"x")
    if where == "eof_received":
        await link.peer.say_goodbye()
    assert await link.peer.read_to_goodbye() == b"bye"
    await link.peer.goodbye()
    await link.protocol.happened(LOST)
    assert link.protocol.lost_with is None
    assert link.protocol.events[-1] == LOST
    link.peer.sock.close()


@pytest.mark.parametrize("where", ["connection_made", "data_received", "eof_received"])
async def test_abort_inside_a_protocol_method(loop, where):
    class Aborting(Recorder):
        def note(self, event):
            super().note(event)
            if event == where:
                self.transport.abort()

    link = await tls_link(loop, Aborting)
    if where == "data_received":
        await link.peer.send(b"x")
    if where == "eof_received":
        await link.peer.say_goodbye()
    await link.protocol.happened(LOST)
    assert link.protocol.lost_with is None
    link.peer.sock.close()


async def test_abort_drops_what_was_written(loop):
    link = await tls_link(loop)
    link.transport.write(pattern(4, BIG))
    link.transport.abort()
    assert link.transport.is_closing()
    await link.protocol.happened(LOST)
    assert link.protocol.lost_with is None
    link.peer.sock.close()


@pytest.mark.loops("antiphon")  # asyncio's second close() makes abort() do nothing
async def test_close_and_abort_may_be_called_again(loop):
    link = await tls_link(loop)
    link.transport.close()
    link.transport.close()
    link.transport.abort()
    link.transport.abort()
    await link.protocol.happened(LOST)
    link.transport.close()
    link.transport.abort()
    await turns(3)
    assert link.protocol.events == [MADE, LOST]
    link.peer.sock.close()


async def test_data_behind_our_goodbye_is_an_error_of_the_peer(loop):
    link = await tls_link(loop)
    link.transport.close()
    await link.peer.flush()
    await link.peer.send(b"too late")
    await link.protocol.happened(LOST)
    assert isinstance(link.protocol.lost_with, ssl.SSLError)
    assert "APPLICATION_DATA_AFTER_CLOSE_NOTIFY" in str(link.protocol.lost_with)
    assert link.protocol.data == b""
    link.peer.sock.close()


@pytest.mark.parametrize("pending", [0, BIG], ids=["nothing-pending", "data-pending"])
async def test_unanswered_goodbye_times_out(loop, pending):
    link = await tls_link(loop, ssl_shutdown_timeout=0.05)
    link.transport.write(bytes(pending))
    link.transport.close()
    await link.protocol.happened(LOST)
    assert isinstance(link.protocol.lost_with, TimeoutError)
    assert str(link.protocol.lost_with) == "SSL shutdown timed out"
    link.peer.sock.close()


# Before 3.14.1 asyncio stops its clock once both goodbyes are there, sent or not.
@pytest.mark.loops("antiphon")
async def test_goodbye_that_cannot_be_sent_times_out(loop):
    link = await tls_link(loop, ssl_shutdown_timeout=0.05)
    link.transport.write(bytes(BIG))
    await link.peer.say_goodbye()
    await link.protocol.happened(LOST)
    assert isinstance(link.protocol.lost_with, TimeoutError)
    link.peer.sock.close()


async def test_writes_to_a_closed_connection_are_dropped_then_logged(loop, audit):
    link = await tls_link(loop)
    link.transport.abort()
    await link.protocol.happened(LOST)
    for _ in range(4):
        link.transport.write(b"x")
    assert not [r for r in audit.log.records if "SSL" in r.getMessage()]
    link.transport.write(b"x")
    audit.take_log("^SSL connection is closed$", logging.WARNING)
    link.peer.sock.close()


@pytest.mark.whole_writes("reads once what was written once")
async def test_cancelled_handshake_closes_the_connection(loop):
    near, far = tcp_pair()
    opening = loop.create_task(begin(loop, near))
    assert await loop.sock_recv(far, 1 << 16)  # its first flight
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert await loop.sock_recv(far, 1) == b""
    far.close()


async def test_server_that_closes_its_clients_ends_tls_connections(loop):
    if not hasattr(asyncio.Server, "close_clients"):
        pytest.skip("the method exists from 3.13 on")
    accepted = []

    def factory():
        accepted.append(Recorder())
        return accepted[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0, ssl=server_context())
    sock = socket.create_connection(server.sockets[0].getsockname())
    sock.setblocking(False)
    peer = Peer(loop, sock, client_context(), False)
    await peer.handshake()
    await peer.send(b"x")
    while not accepted:
        await io_barrier(loop)
    await accepted[0].received(1)
    accepted[0].transport.write(b"written before")
    server.close()
    server.close_clients()
    await server.wait_closed()
    assert await peer.read_any_end() == b"written before"
    await accepted[0].happened(LOST)
    sock.close()


async def test_ended_connections_leave_nothing_behind(loop):
    """No cycle keeps the transport, its context or its protocol; asyncio's own has some before 3.14."""
    references = []
    for way in ("close", "abort", "peer"):
        link = await tls_link(loop)
        if way == "close":
            link.transport.close()
            await link.peer.goodbye()
        elif way == "abort":
            link.transport.abort()
        else:
            await link.peer.goodbye()
        await link.protocol.happened(LOST)
        link.peer.sock.close()
        link.protocol.transport = None
        references += [
            weakref.ref(link.transport),
            weakref.ref(link.protocol),
            weakref.ref(link.transport.get_extra_info("sslcontext") or link.peer),
        ]
        del link
    await turns(3)
    gc.collect()
    assert [reference() for reference in references] == [None] * len(references)


@pytest.mark.loops(
    "antiphon"
)  # asyncio's traceback of the failed handshake is in a cycle before 3.14.3
async def test_failed_handshake_is_in_no_cycle(loop):
    near, far = tcp_pair()
    gc.collect()
    gc.disable()
    try:
        opening = loop.create_task(begin(loop, near))
        far.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(ssl.SSLError):
            await opening
        del opening
        await turns(3)
        left = [o for o in gc.get_objects() if issubclass(type(o), asyncio.BaseTransport)]
        assert left == []
    finally:
        gc.enable()
    far.close()


async def test_forgotten_transport_warns(loop, audit):
    link = await tls_link(loop)
    link.transport.pause_reading()
    protocol = weakref.ref(link.protocol)
    link.protocol.transport = None
    sock = link.peer.sock
    # Enough to make the transport below stop reading: then nobody knows the two any more.
    sending = loop.create_task(link.peer.send(bytes(4 << 20)))
    for _ in range(10):
        await io_barrier(loop)
    sending.cancel()
    await others_done()
    del link, sending
    gc.collect()
    await io_barrier(loop)
    assert protocol() is None
    texts = [str(warning.message) for warning in audit.warnings]
    assert sum("unclosed transport" in text for text in texts) == 2, texts  # TLS and TCP
    audit.drop_warnings(ResourceWarning, "^unclosed (transport|<socket)")
    sock.close()
