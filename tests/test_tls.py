"""TLS: data both ways, what the connection tells about itself, and every setting of the context that it must honour."""

import asyncio
import contextvars
import ssl

import pytest

from support.net import BufferedRecorder, Echo, Recorder, io_barrier, others_done, pattern, tcp_pair
from support.tls import (
    CERTIFICATE,
    KEY,
    TLS_1_2,
    TLS_1_3,
    Peer,
    begin,
    client_context,
    server_context,
    tls_link,
)

SIDES = pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
VERSIONS = pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3], ids=["1.2", "1.3"])
RECORD = 1 << 14
"""The most plaintext of one record."""


@SIDES
@VERSIONS
async def test_data_goes_both_ways(loop, server_side, version):
    link = await tls_link(loop, server_side=server_side, version=version)
    await link.peer.send(b"question")
    assert await link.protocol.received(8) == b"question"
    link.transport.write(b"answer")
    assert await link.peer.read(6) == b"answer"
    await link.end()
    assert link.protocol.events == ["connection_made", "data_received", "connection_lost"]


@SIDES
@pytest.mark.parametrize("size", [1, RECORD - 1, RECORD, RECORD + 1, 1 << 20])
async def test_every_size_arrives_unchanged(loop, server_side, size):
    link = await tls_link(loop, server_side=server_side)
    data = pattern(size, size)
    sending = loop.create_task(link.peer.send(data))
    assert await link.protocol.received(size) == data
    await sending
    link.transport.write(data)
    assert await link.peer.read(size) == data
    await link.end()


async def test_a_record_may_come_in_pieces(loop):
    link = await tls_link(loop)
    for byte in link.peer.records(b"by bytes"):
        assert not link.protocol.data
        await link.peer.send_raw(bytes([byte]))
        await io_barrier(loop)
    assert await link.protocol.received(8) == b"by bytes"
    await link.end()


@pytest.mark.whole_writes("reads once what was written once")
async def test_records_that_come_together_are_one_call(loop):
    calls = []

    class Counting(Recorder):
        def data_received(self, data):
            calls.append(data)
            super().data_received(data)

    link = await tls_link(loop, Counting)
    await link.peer.send_raw(b"".join(link.peer.records(bytes([i])) for i in range(10)))
    assert await link.protocol.received(10) == bytes(range(10))
    assert calls == [bytes(range(10))]
    await link.end()


async def test_pieces_of_records_beside_whole_ones(loop):
    """However the stream is cut, every byte arrives once and in order."""
    link = await tls_link(loop)
    parts = [pattern(i, size) for i, size in enumerate([1, 70, RECORD, 3 * RECORD + 5, 2, 900])]
    stream = b"".join(link.peer.records(part) for part in parts)
    data = b"".join(parts)
    for start in range(0, len(stream), 4999):
        await link.peer.send_raw(stream[start : start + 4999])
        await io_barrier(loop)
    assert await link.protocol.received(len(data)) == data
    await link.end()


async def test_writes_of_one_turn_keep_their_order(loop):
    link = await tls_link(loop)
    pieces = [pattern(i, size) for i, size in enumerate([1, 0, 20000, 3, 70000, 16384, 5, 200000])]
    for piece in pieces:
        link.transport.write(piece)
    link.transport.writelines([b"a", bytearray(b"b"), memoryview(b"c")])
    expected = b"".join(pieces) + b"abc"
    assert await link.peer.read(len(expected)) == expected
    await link.end()


async def test_what_is_written_is_taken_as_it_is_now(loop):
    link = await tls_link(loop)
    data = bytearray(b"before")
    link.transport.write(data)
    data[:] = b"after!"
    assert await link.peer.read(6) == b"before"
    await link.end()


@pytest.mark.parametrize("data", ["text", 1, None, [b"x"]])
async def test_only_bytes_can_be_written(loop, data):
    link = await tls_link(loop)
    name = type(data).__name__
    with pytest.raises(TypeError, match=f"^data: expecting a bytes-like instance, got {name}$"):
        link.transport.write(data)
    await link.end()


async def test_data_written_in_connection_made_is_the_first(loop):
    class Greeting(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.write(b"hello")

    link = await tls_link(loop, Greeting)
    assert await link.peer.read(5) == b"hello"
    await link.end()


@pytest.mark.whole_writes("reads once what was written once")
async def test_data_behind_the_handshake_follows_connection_made(loop):
    near, far = tcp_pair()
    # A 1.2 client's last flight and its first data can travel together.
    peer = Peer(loop, far, client_context(TLS_1_2), False)
    opening = loop.create_task(begin(loop, near, server_side=True))
    with pytest.raises(ssl.SSLWantReadError):
        peer.tls.do_handshake()
    await peer.flush()
    await peer.receive_more()
    with pytest.raises(ssl.SSLWantReadError):
        peer.tls.do_handshake()
    await peer.flush()
    await peer.receive_more()
    peer.tls.do_handshake()
    await peer.send(b"early")
    transport, protocol = await opening
    assert await protocol.received(5) == b"early"
    assert protocol.events == ["connection_made", "data_received"]
    far.close()
    transport.abort()
    await protocol.happened("connection_lost")


class ViewRecorder(BufferedRecorder):
    """Lends a view of its buffer: asyncio's TLS copies slices of anything else, and fills the copies."""

    def get_buffer(self, sizehint):
        super().get_buffer(sizehint)
        return memoryview(self.buffer)


@pytest.mark.parametrize("buffer_len", [1, 100, RECORD, 200000])
async def test_buffered_protocols_get_their_bytes(loop, buffer_len):
    link = await tls_link(loop, lambda: ViewRecorder(buffer_len))
    size = 300 if buffer_len == 1 else 100000
    data = pattern(5, size)
    sending = loop.create_task(link.peer.send(data))
    assert await link.protocol.received(size) == data
    await sending
    link.transport.write(b"answer")
    assert await link.peer.read(6) == b"answer"
    await link.end()


@pytest.mark.loops("antiphon")  # asyncio fills copies of the buffer's parts, so that bytes get lost
async def test_buffers_need_not_be_views(loop):
    link = await tls_link(loop, lambda: BufferedRecorder(100000))
    data = pattern(6, 300000)
    sending = loop.create_task(link.peer.send(data))
    assert await link.protocol.received(len(data)) == data
    await sending
    await link.end()


async def test_protocol_may_change_between_the_two_kinds(loop):
    link = await tls_link(loop)
    buffered = BufferedRecorder(16)
    link.transport.set_protocol(buffered)
    assert link.transport.get_protocol() is buffered
    await link.peer.send(b"into the buffer, in two steps")
    assert await buffered.received(29) == b"into the buffer, in two steps"
    link.transport.set_protocol(link.protocol)
    await link.peer.send(b"as bytes")
    assert await link.protocol.received(8) == b"as bytes"
    await link.end()


async def test_streams(loop):
    async def shout(reader, writer):
        writer.write((await reader.readline()).upper())
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(shout, "127.0.0.1", 0, ssl=server_context())
    address = server.sockets[0].getsockname()
    reader, writer = await asyncio.open_connection(
        *address, ssl=client_context(), server_hostname="localhost"
    )
    writer.write(b"quietly\n")
    assert await reader.read() == b"QUIETLY\n"
    writer.close()
    await writer.wait_closed()
    await others_done()  # 3.11's Server.wait_closed does not wait for connections
    server.close()
    await server.wait_closed()


async def test_unix_sockets(loop, tmp_path):
    server = await loop.create_unix_server(Echo, tmp_path / "s", ssl=server_context())
    transport, protocol = await loop.create_unix_connection(
        Recorder, tmp_path / "s", ssl=client_context(), server_hostname="localhost"
    )
    transport.write(b"over a path")
    assert await protocol.received(11) == b"over a path"
    transport.close()
    await protocol.happened("connection_lost")
    server.close()
    await server.wait_closed()


@SIDES
async def test_what_the_connection_tells(loop, server_side):
    link = await tls_link(loop, server_side=server_side)
    info = link.transport.get_extra_info
    assert info("ssl_object").server_side is server_side
    assert info("sslcontext") is info("ssl_object").context
    assert info("cipher") == info("ssl_object").cipher()
    assert info("compression") is None
    assert info("peercert") == info("ssl_object").getpeercert()
    assert info("peername") == link.peer.sock.getsockname()
    assert info("sockname") == link.peer.sock.getpeername()
    assert info("socket").getsockname() == info("sockname")
    assert info("nothing of the kind") is None
    assert info("nothing of the kind", 7) == 7
    await link.end()


async def test_transport_is_one_of_asyncios(loop):
    link = await tls_link(loop)
    assert isinstance(link.transport, asyncio.Transport)
    assert link.transport.get_protocol() is link.protocol
    assert link.transport.can_write_eof() is False
    with pytest.raises(NotImplementedError):
        link.transport.write_eof()
    assert link.transport.is_reading()
    assert not link.transport.is_closing()
    await link.end()
    assert link.transport.is_closing()


async def test_alpn_is_agreed_upon(loop):
    context = server_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    near, far = tcp_pair()
    client = client_context()
    client.set_alpn_protocols(["http/1.1"])
    peer = Peer(loop, far, client, False)
    (transport, protocol), _ = await asyncio.gather(
        begin(loop, near, server_side=True, context=context), peer.handshake()
    )
    assert transport.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
    assert peer.tls.selected_alpn_protocol() == "http/1.1"
    far.close()
    transport.abort()
    await protocol.happened("connection_lost")


async def test_sni_callback_sees_the_name_and_may_change_the_context(loop):
    seen = []
    other = server_context()
    other.set_alpn_protocols(["other"])
    context = server_context()

    def choose(tls, name, of):
        seen.append((name, of is context))
        tls.context = other

    context.sni_callback = choose
    near, far = tcp_pair()
    client = client_context()
    client.set_alpn_protocols(["other"])
    peer = Peer(loop, far, client, False)
    (transport, protocol), _ = await asyncio.gather(
        begin(loop, near, server_side=True, context=context), peer.handshake()
    )
    assert seen == [("localhost", True)]
    assert transport.get_extra_info("ssl_object").context is other
    assert peer.tls.selected_alpn_protocol() == "other"
    far.close()
    transport.abort()
    await protocol.happened("connection_lost")
    context.sni_callback = None


@VERSIONS
async def test_client_certificates_are_asked_for_and_shown(loop, version):
    context = server_context(version)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(CERTIFICATE)
    client = client_context(version)
    client.load_cert_chain(CERTIFICATE, KEY)
    near, far = tcp_pair()
    peer = Peer(loop, far, client, False)
    (transport, protocol), _ = await asyncio.gather(
        begin(loop, near, server_side=True, context=context), peer.handshake()
    )
    subject = transport.get_extra_info("peercert")["subject"]
    assert subject == ((("commonName", "localhost"),),)
    far.close()
    transport.abort()
    await protocol.happened("connection_lost")


@VERSIONS
async def test_sessions_are_resumed(loop, version):
    """`wrap_bio` of a subclass may add what asyncio has no argument for."""

    class Remembering(ssl.SSLContext):
        last = None

        def wrap_bio(self, *args, **kwargs):
            return super().wrap_bio(*args, session=self.last, **kwargs)

    client = Remembering(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(CERTIFICATE)
    client.minimum_version = client.maximum_version = version
    server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=server_context(version))
    address = server.sockets[0].getsockname()
    reused = []
    for _ in range(2):
        transport, protocol = await loop.create_connection(
            Recorder, *address, ssl=client, server_hostname="localhost"
        )
        # The tickets of 1.3 come behind the handshake, before the echo.
        transport.write(b"x")
        await protocol.received(1)
        tls = transport.get_extra_info("ssl_object")
        reused.append(tls.session_reused)
        client.last = tls.session
        transport.close()
        await protocol.happened("connection_lost")
    assert reused == [False, True]
    server.close()
    await server.wait_closed()


async def test_certificate_can_be_asked_for_after_the_handshake(loop):
    """TLS 1.3: the request leaves with the next write, the answer comes among data."""
    context = server_context(TLS_1_3)
    context.load_verify_locations(CERTIFICATE)
    context.verify_mode = ssl.CERT_REQUIRED
    context.post_handshake_auth = True
    client = client_context(TLS_1_3)
    client.load_cert_chain(CERTIFICATE, KEY)
    client.post_handshake_auth = True
    near, far = tcp_pair()
    peer = Peer(loop, far, client, False)
    (transport, protocol), _ = await asyncio.gather(
        begin(loop, near, server_side=True, context=context), peer.handshake()
    )
    tls = transport.get_extra_info("ssl_object")
    assert not tls.getpeercert()
    tls.verify_client_post_handshake()
    transport.write(b"who are you?")
    assert await peer.read(12) == b"who are you?"
    await peer.send(b"here")
    assert await protocol.received(4) == b"here"
    assert tls.getpeercert(binary_form=True)
    far.close()
    transport.abort()
    await protocol.happened("connection_lost")


async def test_own_methods_of_an_ssl_object_are_called(loop):
    """A class of the program's own behind `sslobject_class` sees every step."""
    calls = set()

    class Watched(ssl.SSLObject):
        def do_handshake(self):
            calls.add("do_handshake")
            return super().do_handshake()

        def read(self, len=1024, buffer=None):
            calls.add("read")
            return super().read(len, buffer)

        def write(self, data):
            calls.add("write")
            return super().write(data)

        def unwrap(self):
            calls.add("unwrap")
            return super().unwrap()

    context = server_context()
    context.sslobject_class = Watched
    link = await tls_link(loop, context=context)
    for size in (5, 70000):
        data = pattern(size, size)
        sending = loop.create_task(link.peer.send(data))
        await link.protocol.until(lambda data=data: link.protocol.data.endswith(data))
        await sending
        link.transport.write(data[:3])
        link.transport.write(data[3:])
        assert await link.peer.read(size) == data
    link.transport.close()
    await link.peer.goodbye()
    await link.protocol.happened("connection_lost")
    link.peer.sock.close()
    assert calls == {"do_handshake", "read", "write", "unwrap"}


async def test_buffered_protocol_over_an_own_ssl_object(loop):
    class Own(ssl.SSLObject):
        def read(self, len=1024, buffer=None):
            return super().read(len, buffer)

    context = server_context()
    context.sslobject_class = Own
    link = await tls_link(loop, lambda: ViewRecorder(1000), context=context)
    data = pattern(8, 50000)
    sending = loop.create_task(link.peer.send(data))
    assert await link.protocol.received(len(data)) == data
    await sending
    await link.end()


async def test_connections_do_not_mix(loop):
    """Each connection has its own pattern; all talk at once."""
    server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=server_context())
    address = server.sockets[0].getsockname()
    context = client_context()

    async def talk(number):
        transport, protocol = await loop.create_connection(
            Recorder, *address, ssl=context, server_hostname="localhost"
        )
        expected = b""
        for turn in range(5):
            data = pattern(number * 100 + turn, 1 + 977 * number * (turn + 1) % 30000)
            expected += data
            transport.write(data)
            assert await protocol.received(len(expected)) == expected
        transport.close()
        await protocol.happened("connection_lost")

    await asyncio.gather(*(talk(number) for number in range(20)))
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("name", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
@pytest.mark.parametrize("value", [0, -1.5])
async def test_timeouts_must_be_positive(loop, name, value):
    near, far = tcp_pair()
    with (
        near,
        far,
        pytest.raises(ValueError, match=f"^{name} should be a positive number, got {value}$"),
    ):
        await begin(loop, near, **{name: value})


async def test_server_needs_a_context(loop):
    near, far = tcp_pair()
    with near, far, pytest.raises(ValueError, match="^Server side SSL needs a valid SSLContext$"):
        await loop.connect_accepted_socket(Recorder, near, ssl=True)


async def test_protocol_methods_see_their_context_variables(loop):
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []

    class Looking(Recorder):
        def note(self, event):
            seen.append((event, variable.get()))
            super().note(event)

    variable.set("set")
    link = await tls_link(loop, Looking)
    variable.set("changed later")
    await link.peer.send(b"x")
    await link.protocol.received(1)
    await link.peer.goodbye()
    await link.protocol.happened("connection_lost")
    link.peer.sock.close()
    assert seen == [
        (event, "set")
        for event in ("connection_made", "data_received", "eof_received", "connection_lost")
    ]
