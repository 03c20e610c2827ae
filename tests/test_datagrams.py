"""`create_datagram_endpoint`: sockets that are made, taken over or refused, in asyncio's words."""

import asyncio
import errno
import socket
import sys

import pytest

from support.datagrams import SENDS_EMPTY, DatagramRecorder, Echoing, address_of, receive
from support.net import HAS_IPV6

needs_ipv6 = pytest.mark.skipif(not HAS_IPV6, reason="::1 cannot be bound here")


async def test_local_address_is_bound_and_nobody_is_the_peer(loop, endpoints):
    transport, protocol = await endpoints.udp()
    host, port = address_of(transport)
    assert host == "127.0.0.1"
    assert port > 0
    assert transport.get_extra_info("peername") is None
    assert protocol.events == ["connection_made"]
    assert transport.get_protocol() is protocol
    assert not transport.is_closing()
    assert transport.is_reading()


async def test_transport_is_one_of_asyncios(loop, endpoints):
    transport, _ = await endpoints.udp()
    assert isinstance(transport, asyncio.Transport)
    with pytest.raises(NotImplementedError):
        transport.write(b"stream data")


@pytest.mark.asyncio_lacks(when=sys.version_info < (3, 12), reason="asyncio's was none before 3.12")
async def test_transport_is_a_datagram_transport(loop, endpoints):
    transport, _ = await endpoints.udp()
    assert isinstance(transport, asyncio.DatagramTransport)


async def test_remote_address_is_the_peer(loop, endpoints):
    far = endpoints.socket()
    transport, _ = await endpoints.make(remote_addr=far.getsockname())
    assert transport.get_extra_info("peername") == far.getsockname()
    transport.sendto(b"connected")
    data, sender = await loop.sock_recvfrom(far, 100)
    assert (data, sender) == (b"connected", address_of(transport))


async def test_both_addresses(loop, endpoints):
    far = endpoints.socket()
    transport, protocol = await endpoints.udp(remote_addr=far.getsockname())
    far.sendto(b"hello", address_of(transport))
    await protocol.got(1)
    assert protocol.datagrams == [(b"hello", far.getsockname())]


async def test_names_are_resolved(loop, endpoints):
    transport, _ = await endpoints.make(
        local_addr=("localhost", 0), remote_addr=("localhost", 9), family=socket.AF_INET
    )
    assert transport.get_extra_info("peername") == ("127.0.0.1", 9)


@needs_ipv6
async def test_ipv6_addresses_have_four_items(loop, endpoints):
    transport, protocol = await endpoints.make(Echoing, local_addr=("::1", 0))
    far = endpoints.socket(socket.AF_INET6, ("::1", 0))
    far.sendto(b"six", address_of(transport))
    await protocol.got(1)
    assert protocol.datagrams == [(b"six", far.getsockname())]
    assert len(protocol.datagrams[0][1]) == 4
    assert await receive(loop, far, 1) == [b"six"]
    transport.sendto(b"two items do", far.getsockname()[:2])
    assert await receive(loop, far, 1) == [b"two items do"]


async def test_family_alone_makes_an_unbound_socket(loop, endpoints):
    far = endpoints.socket()
    transport, protocol = await endpoints.make(Echoing, family=socket.AF_INET)
    transport.sendto(b"from anywhere", far.getsockname())
    _, sender = await loop.sock_recvfrom(far, 100)
    far.sendto(b"back", ("127.0.0.1", sender[1]))
    assert await protocol.got(1) == [b"back"]


async def test_ready_made_socket_is_taken_over(loop, endpoints):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    transport, protocol = await endpoints.make(sock=sock)
    assert not sock.getblocking()
    wrapped = transport.get_extra_info("socket")
    assert wrapped.fileno() == sock.fileno()
    assert not isinstance(wrapped, socket.socket)
    transport.close()
    await protocol.happened("connection_lost")
    assert sock.fileno() == -1


async def test_connected_socket_ignores_addresses(loop, endpoints):
    near, far = endpoints.socket(), endpoints.socket()
    near.connect(far.getsockname())
    transport, _ = await endpoints.make(sock=near)
    transport.sendto(b"x", ("127.0.0.1", 1))
    assert await receive(loop, far, 1) == [b"x"]


async def test_ports_are_shared_with_reuse_port(loop, endpoints):
    first, _ = await endpoints.udp(reuse_port=True)
    second, _ = await endpoints.make(local_addr=address_of(first), reuse_port=True)
    assert address_of(first) == address_of(second)


async def test_broadcast_endpoint_is_not_connected(loop, endpoints):
    far = endpoints.socket()
    transport, protocol = await endpoints.make(remote_addr=far.getsockname(), allow_broadcast=True)
    sock = transport.get_extra_info("socket")
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)
    assert transport.get_extra_info("peername") is None
    transport.sendto(b"to the only address")
    transport.sendto(b"which may be named", far.getsockname())
    assert await receive(loop, far, 2) == [b"to the only address", b"which may be named"]
    third = endpoints.socket()
    # The first sendto has bound the socket to a port.
    third.sendto(b"anybody may answer", ("127.0.0.1", sock.getsockname()[1]))
    assert await protocol.got(1) == [b"anybody may answer"]


@pytest.mark.parametrize("name", ["path", "abstract"])
async def test_unix_sockets(loop, endpoints, tmp_path, name):
    def place(end):
        return str(tmp_path / end) if name == "path" else f"\0{tmp_path / end}"

    def seen(end):
        return place(end) if name == "path" else place(end).encode()

    _, protocol = await endpoints.make(Echoing, local_addr=place("a"), family=socket.AF_UNIX)
    transport, other = await endpoints.make(
        local_addr=place("b"), remote_addr=place("a"), family=socket.AF_UNIX
    )
    assert transport.get_extra_info("peername") == seen("a")
    transport.sendto(b"unix")
    assert await other.got(1) == [b"unix"]
    assert protocol.datagrams == [(b"unix", seen("b"))]
    assert other.datagrams == [(b"unix", seen("a"))]


async def test_unix_sender_without_a_name_is_none(loop, endpoints, tmp_path):
    path = str(tmp_path / "s")
    _, protocol = await endpoints.make(local_addr=path, family=socket.AF_UNIX)
    endpoints.socket(socket.AF_UNIX).sendto(b"who?", path)
    await protocol.got(1)
    assert protocol.datagrams == [(b"who?", None)]


# asyncio takes a peer without a name for none, and fails the transport.
@pytest.mark.loops("antiphon")
async def test_unix_pair_without_names_is_connected(loop, endpoints):
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    endpoints.sockets.append(far)
    far.setblocking(False)
    transport, _ = await endpoints.make(sock=near)
    transport.sendto(b"pair")
    assert await receive(loop, far, 1) == [b"pair"]


async def test_stale_unix_socket_is_replaced(loop, endpoints, tmp_path):
    path = str(tmp_path / "stale")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stale:
        stale.bind(path)
    transport, _ = await endpoints.make(local_addr=path, family=socket.AF_UNIX)
    assert address_of(transport) == path


async def test_file_in_the_way_is_left_alone(loop, tmp_path):
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(OSError) as caught:
        await loop.create_datagram_endpoint(
            DatagramRecorder, local_addr=str(path), family=socket.AF_UNIX
        )
    assert caught.value.errno == errno.EADDRINUSE
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, ValueError, "unexpected address family"),
        ({"local_addr": "127.0.0.1"}, TypeError, "2-tuple is expected"),
        ({"local_addr": ("127.0.0.1", 0, 0)}, TypeError, "2-tuple is expected"),
        ({"remote_addr": ["127.0.0.1", 9]}, TypeError, "2-tuple is expected"),
        ({"local_addr": b"p", "family": socket.AF_UNIX}, TypeError, "string is expected"),
        (
            {"local_addr": ("127.0.0.1", 0), "remote_addr": ("::1", 9)},
            ValueError,
            "can not get address information",
        ),
    ],
)
async def test_arguments_are_refused_in_asyncios_words(loop, options, error, words):
    with pytest.raises(error) as caught:
        await loop.create_datagram_endpoint(DatagramRecorder, **options)
    assert str(caught.value) == words


async def test_stream_socket_is_refused(loop):
    expected = "A datagram socket was expected" if SENDS_EMPTY else "A UDP Socket was expected"
    with socket.socket() as sock:
        with pytest.raises(ValueError) as caught:
            await loop.create_datagram_endpoint(DatagramRecorder, sock=sock)
        assert str(caught.value) == f"{expected}, got {sock!r}"


async def test_ready_made_socket_excludes_every_modifier(loop, endpoints):
    sock = endpoints.socket()
    with pytest.raises(ValueError) as caught:
        await loop.create_datagram_endpoint(
            DatagramRecorder,
            local_addr=("h", 1),
            remote_addr=("h", 2),
            family=1,
            proto=2,
            flags=3,
            reuse_port=True,
            allow_broadcast=True,
            sock=sock,
        )
    assert str(caught.value) == (
        "socket modifier keyword arguments can not be used when sock is specified. "
        "(local_addr=('h', 1), remote_addr=('h', 2), family=1, proto=2, flags=3, "
        "reuse_port=True, allow_broadcast=True)"
    )


async def test_address_in_use_is_an_os_error(loop, endpoints):
    taken = endpoints.socket().getsockname()
    with pytest.raises(OSError) as caught:
        await loop.create_datagram_endpoint(DatagramRecorder, local_addr=taken)
    assert caught.value.errno == errno.EADDRINUSE


async def test_error_of_the_first_address_is_raised(loop, endpoints, monkeypatch):
    taken = endpoints.socket().getsockname()

    async def two_addresses(host, port, **kwargs):
        return [
            (socket.AF_INET, socket.SOCK_DGRAM, 17, "", taken),
            (socket.AF_INET6, socket.SOCK_DGRAM, 17, "", ("2001:db8::1", 1, 0, 0)),
        ]

    monkeypatch.setattr(loop, "getaddrinfo", two_addresses)
    with pytest.raises(OSError) as caught:
        await loop.create_datagram_endpoint(DatagramRecorder, local_addr=("name.invalid", 1))
    assert caught.value.errno == errno.EADDRINUSE


async def test_second_address_is_taken_when_the_first_cannot_be_bound(loop, endpoints, monkeypatch):
    taken = endpoints.socket().getsockname()

    async def two_addresses(host, port, **kwargs):
        return [
            (socket.AF_INET, socket.SOCK_DGRAM, 17, "", taken),
            (socket.AF_INET, socket.SOCK_DGRAM, 0, "", ("127.0.0.1", 0)),
        ]

    monkeypatch.setattr(loop, "getaddrinfo", two_addresses)
    transport, _ = await endpoints.make(local_addr=("name.invalid", 1))
    assert address_of(transport)[0] == "127.0.0.1"


# asyncio leaves the socket to the garbage collector.
@pytest.mark.loops("antiphon")
async def test_raising_factory_leaves_no_socket(loop):
    def factory():
        raise LookupError("no protocol")

    with pytest.raises(LookupError):
        await loop.create_datagram_endpoint(factory, local_addr=("127.0.0.1", 0))


async def test_cancelled_creation_closes_the_transport(loop):
    protocol = DatagramRecorder()
    task = loop.create_task(
        loop.create_datagram_endpoint(lambda: protocol, local_addr=("127.0.0.1", 0))
    )
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await protocol.happened("connection_lost")
    assert protocol.events == ["connection_made", "connection_lost"]
