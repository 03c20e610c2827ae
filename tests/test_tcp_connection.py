"""`create_connection`: every argument, every way to fail."""

import asyncio
import socket
import sys

import pytest

from support.net import (
    HAS_IPV6,
    Recorder,
    closed_port,
    listening_socket,
    others_done,
    stream_pair,
)

needs_ipv6 = pytest.mark.skipif(not HAS_IPV6, reason="::1 cannot be bound on this machine")
has_all_errors = sys.version_info >= (3, 12)  # `all_errors` came with 3.12


@pytest.fixture
def listener():
    with listening_socket() as sock:
        yield sock


@pytest.fixture
def resolved(monkeypatch):
    """Makes a list of addresses that every host name resolves to, whatever thread asks.

    An exception put into the list is raised instead.
    """
    addresses = []

    def getaddrinfo(host, port, family=0, type=0, proto=0, flags=0):
        for address in addresses:
            if isinstance(address, Exception):
                raise address
        return [
            (
                socket.AF_INET6 if ":" in address[0] else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                address,
            )
            for address in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return addresses


class Blackhole:
    """An address on loopback that never answers: a listener whose queue is full, so that the kernel drops what knocks.

    Source: listen(2), tcp(7) on tcp_abort_on_overflow.
    """

    def __enter__(self):
        self.listener = listening_socket(backlog=0)
        self.fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(self.listener.getsockname())
            self.fillers.append(filler)
        return self.listener.getsockname()

    def __exit__(self, *exc_info):
        for sock in [self.listener, *self.fillers]:
            sock.close()


async def finish(transport, protocol):
    transport.close()
    await protocol.happened("connection_lost")


async def test_connection_is_made_before_the_call_returns(loop, listener):
    made = []

    def factory():
        made.append(Recorder())
        return made[-1]

    transport, protocol = await loop.create_connection(factory, *listener.getsockname())
    assert made == [protocol]
    assert protocol.events == ["connection_made"]
    assert protocol.transport is transport
    assert isinstance(transport, asyncio.Transport)
    await finish(transport, protocol)
    assert protocol.events == ["connection_made", "connection_lost"]
    assert protocol.lost_with is None


async def test_extra_info_names_both_ends(loop, listener):
    transport, protocol = await loop.create_connection(Recorder, *listener.getsockname())
    accepted, address = listener.accept()
    with accepted:
        assert transport.get_extra_info("peername") == listener.getsockname()
        assert transport.get_extra_info("sockname") == address
        await finish(transport, protocol)


async def test_data_goes_both_ways(loop, listener):
    transport, protocol = await loop.create_connection(Recorder, *listener.getsockname())
    accepted, _ = await loop.sock_accept(listener)
    with accepted:
        transport.write(b"there")
        assert await loop.sock_recv(accepted, 100) == b"there"
        await loop.sock_sendall(accepted, b"back")
        assert await protocol.received(4) == b"back"
        await finish(transport, protocol)


async def test_no_delay_is_set(loop, listener):
    transport, protocol = await loop.create_connection(Recorder, *listener.getsockname())
    sock = transport.get_extra_info("socket")
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
    await finish(transport, protocol)


async def test_host_may_be_a_name_and_port_a_string(loop, listener):
    port = listener.getsockname()[1]
    transport, protocol = await loop.create_connection(
        Recorder, "localhost", str(port), family=socket.AF_INET
    )
    assert transport.get_extra_info("peername") == listener.getsockname()
    await finish(transport, protocol)


@needs_ipv6
async def test_ipv6_literal_connects(loop):
    with listening_socket("::1") as listener:
        transport, protocol = await loop.create_connection(
            Recorder, "::1", listener.getsockname()[1]
        )
        assert transport.get_extra_info("peername")[:2] == listener.getsockname()[:2]
        await finish(transport, protocol)


async def test_family_that_does_not_fit_the_literal_is_an_error(loop, listener):
    with pytest.raises(socket.gaierror):
        await loop.create_connection(
            Recorder, "127.0.0.1", listener.getsockname()[1], family=socket.AF_INET6
        )


async def test_flags_reach_the_resolver(loop):
    with pytest.raises(socket.gaierror) as caught:
        await loop.create_connection(Recorder, "a-name.invalid", 80, flags=socket.AI_NUMERICHOST)
    assert caught.value.errno == socket.EAI_NONAME


async def test_proto_that_is_not_tcp_is_an_error(loop):
    with pytest.raises(OSError):
        await loop.create_connection(Recorder, "127.0.0.1", 80, proto=socket.IPPROTO_UDP)


async def test_sock_is_adopted_as_it_is(loop):
    near, far = stream_pair()
    near.setblocking(True)
    transport, protocol = await loop.create_connection(Recorder, sock=near)
    assert transport.get_extra_info("socket").fileno() == near.fileno()
    assert near.getblocking() is False
    far.send(b"adopted")
    assert await protocol.received(7) == b"adopted"
    await finish(transport, protocol)
    assert near.fileno() == -1
    far.close()


async def test_sock_must_be_a_stream(loop):
    words = r"^A Stream Socket was expected, got <socket"
    datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with datagram as sock, pytest.raises(ValueError, match=words):
        await loop.create_connection(Recorder, sock=sock)


async def test_host_and_sock_together_are_refused(loop, listener):
    with socket.socket() as sock:
        for arguments in (("127.0.0.1", 80), ("127.0.0.1",), (None, 80)):
            with pytest.raises(
                ValueError, match="^host/port and sock can not be specified at the same time$"
            ):
                await loop.create_connection(Recorder, *arguments, sock=sock)


async def test_neither_host_nor_sock_is_refused(loop):
    with pytest.raises(ValueError, match="^host and port was not specified and no sock specified$"):
        await loop.create_connection(Recorder)


async def test_tls_arguments_without_tls_are_refused(loop):
    for name, value in {
        "server_hostname": "localhost",
        "ssl_handshake_timeout": 1,
        "ssl_shutdown_timeout": 1,
    }.items():
        with pytest.raises(ValueError, match=f"^{name} is only meaningful with ssl$"):
            await loop.create_connection(Recorder, "127.0.0.1", 80, **{name: value})


async def test_tls_over_a_given_sock_needs_a_server_hostname(loop):
    with (
        socket.socket() as sock,
        pytest.raises(
            ValueError, match="^You must set server_hostname when using ssl without a host$"
        ),
    ):
        await loop.create_connection(Recorder, sock=sock, ssl=True)


async def test_local_addr_is_what_the_peer_sees(loop, listener):
    transport, protocol = await loop.create_connection(
        Recorder, *listener.getsockname(), local_addr=("127.0.0.5", 0)
    )
    accepted, address = await loop.sock_accept(listener)
    accepted.close()
    assert address[0] == "127.0.0.5"
    await finish(transport, protocol)


async def test_local_addr_that_is_taken_is_named(loop, listener):
    taken = listener.getsockname()
    with pytest.raises(OSError) as caught:
        await loop.create_connection(Recorder, *taken, local_addr=taken)
    assert "error while attempting to bind on address" in str(caught.value)
    assert str(taken) in str(caught.value)
    assert "address already in use" in str(caught.value)


async def test_local_addr_of_another_family_is_an_error(loop, listener):
    # 3.11 found no error to raise and failed with an IndexError or a bare OSError before 3.11.5.
    with pytest.raises(OSError, match="no matching local address with family=.* found"):
        await loop.create_connection(Recorder, *listener.getsockname(), local_addr=("::1", 0))


async def test_refused_connection_raises_and_names_the_address(loop):
    address = ("127.0.0.1", closed_port())
    with pytest.raises(ConnectionRefusedError) as caught:
        await loop.create_connection(Recorder, *address)
    assert f"Connect call failed {address}" in str(caught.value)


async def test_name_that_does_not_resolve_raises_gaierror(loop, resolved):
    resolved.append(socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
    with pytest.raises(socket.gaierror, match="Name or service not known"):
        await loop.create_connection(Recorder, "a.test", 80)


async def test_resolver_that_finds_nothing_raises(loop, resolved):
    with pytest.raises(OSError, match=r"^getaddrinfo\(\) returned empty list$"):
        await loop.create_connection(Recorder, "a.test", 80)


async def test_addresses_are_tried_in_turn_until_one_answers(loop, listener, resolved):
    resolved += [("127.0.0.1", closed_port()), ("127.0.0.2", closed_port()), listener.getsockname()]
    transport, protocol = await loop.create_connection(Recorder, "a.test", 80)
    assert transport.get_extra_info("peername") == listener.getsockname()
    await finish(transport, protocol)


async def test_different_errors_of_all_addresses_are_joined(loop, resolved):
    resolved += [("127.0.0.1", closed_port()), ("127.0.0.2", closed_port())]
    with pytest.raises(OSError, match=r"^Multiple exceptions: ") as caught:
        await loop.create_connection(Recorder, "a.test", 80)
    for address in resolved:
        assert f"Connect call failed {address}" in str(caught.value)


async def test_equal_errors_of_all_addresses_are_raised_once(loop, resolved):
    resolved += [("127.0.0.1", closed_port())] * 2
    with pytest.raises(ConnectionRefusedError, match=r"Connect call failed") as caught:
        await loop.create_connection(Recorder, "a.test", 80)
    assert "Multiple" not in str(caught.value)


@pytest.mark.parametrize("delay", [None, 30], ids=["in turn", "happy eyeballs"])
async def test_all_errors_raises_them_as_a_group_in_order(loop, resolved, delay):
    resolved += [("127.0.0.1", closed_port()), ("127.0.0.2", closed_port())]
    if not has_all_errors:
        with pytest.raises(TypeError, match="all_errors"):
            await loop.create_connection(Recorder, "a.test", 80, all_errors=True)
        return
    with pytest.raises(ExceptionGroup, match="^create_connection failed") as caught:
        await loop.create_connection(
            Recorder, "a.test", 80, all_errors=True, happy_eyeballs_delay=delay
        )
    assert [type(error) for error in caught.value.exceptions] == [ConnectionRefusedError] * 2
    for error, address in zip(caught.value.exceptions, resolved, strict=True):
        assert str(address) in str(error)


async def test_happy_eyeballs_overtakes_an_address_that_never_answers(loop, listener, resolved):
    with Blackhole() as silent:
        resolved += [silent, listener.getsockname()]
        transport, protocol = await loop.create_connection(
            Recorder, "a.test", 80, happy_eyeballs_delay=0.01
        )
        assert transport.get_extra_info("peername") == listener.getsockname()
        await finish(transport, protocol)


async def test_happy_eyeballs_goes_on_at_once_when_an_attempt_fails(loop, listener, resolved):
    # Were the delay kept, this test would run into its time limit.
    resolved += [("127.0.0.1", closed_port()), ("127.0.0.2", closed_port()), listener.getsockname()]
    transport, protocol = await loop.create_connection(
        Recorder, "a.test", 80, happy_eyeballs_delay=3600
    )
    assert transport.get_extra_info("peername") == listener.getsockname()
    await finish(transport, protocol)


async def test_happy_eyeballs_keeps_the_first_that_answers(loop, listener, resolved):
    with listening_socket() as second:
        resolved += [listener.getsockname(), second.getsockname()]
        transport, protocol = await loop.create_connection(
            Recorder, "a.test", 80, happy_eyeballs_delay=3600
        )
        assert transport.get_extra_info("peername") == listener.getsockname()
        await finish(transport, protocol)


async def test_happy_eyeballs_raises_when_every_attempt_fails(loop, resolved):
    resolved += [("127.0.0.1", closed_port()), ("127.0.0.2", closed_port())]
    with pytest.raises(OSError, match=r"^Multiple exceptions: "):
        await loop.create_connection(Recorder, "a.test", 80, happy_eyeballs_delay=3600)


@needs_ipv6
@pytest.mark.parametrize(
    ("arguments", "order"),
    [
        ({}, "6644"),
        ({"interleave": 1}, "6464"),
        ({"interleave": 2}, "6644"),
        ({"happy_eyeballs_delay": 3600}, "6464"),  # interleave=1 is its default
        ({"happy_eyeballs_delay": 3600, "interleave": 0}, "6644"),
    ],
)
async def test_interleave_mixes_the_families(loop, resolved, arguments, order):
    ports = {closed_port("::1")}
    while len(ports) < 2:  # the kernel may give the same one again
        ports.add(closed_port("::1"))
    sixes = [("::1", port, 0, 0) for port in ports]
    fours = [(f"127.0.0.{number}", closed_port()) for number in (3, 4)]
    resolved += sixes + fours
    with pytest.raises(OSError) as caught:
        await loop.create_connection(Recorder, "a.test", 80, **arguments)
    text = str(caught.value)
    assert text.startswith("Multiple exceptions: ")
    queues = {"6": list(sixes), "4": list(fours)}
    expected = [str(queues[family].pop(0)) for family in order]
    places = [text.index(address) for address in expected]
    assert places == sorted(places)


async def test_replaced_sock_connect_makes_the_connection(loop, listener, monkeypatch):
    wanted = []

    async def sock_connect(sock, address):
        wanted.append(address)
        await sock_connect_before(sock, listener.getsockname())

    sock_connect_before = loop.sock_connect
    monkeypatch.setattr(loop, "sock_connect", sock_connect)
    transport, protocol = await loop.create_connection(Recorder, "127.0.0.1", 9)
    assert wanted == [("127.0.0.1", 9)]
    assert transport.get_extra_info("peername") == listener.getsockname()
    await finish(transport, protocol)


async def test_cancelled_connect_leaves_nothing_open(loop):
    with Blackhole() as silent:
        connect = loop.create_task(loop.create_connection(Recorder, *silent))
        # One timer is enough of a proof that the attempt hangs: loopback answers in the same call.
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.shield(connect)
        connect.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connect


@pytest.mark.asyncio_lacks(when=sys.version_info < (3, 14), reason="asyncio raises IndexError")
async def test_race_without_errors_is_a_timeout(loop):
    async def give_up(*_args):
        raise asyncio.CancelledError

    loop.sock_connect = give_up
    with pytest.raises(TimeoutError, match="create_connection failed"):
        await loop.create_connection(asyncio.Protocol, "127.0.0.1", 9, happy_eyeballs_delay=0.1)


async def test_cancelled_happy_eyeballs_leaves_nothing_open(loop, resolved):
    with Blackhole() as first, Blackhole() as second:
        resolved += [first, second]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await loop.create_connection(Recorder, "a.test", 80, happy_eyeballs_delay=0.005)
    # Before 3.14 asyncio's race may return before its cancelled attempts have.
    await others_done()


async def test_raising_factory_raises_from_the_call(loop, listener, audit):
    def factory():
        raise LookupError("no protocol")

    with pytest.raises(LookupError, match="^no protocol$"):
        await loop.create_connection(factory, *listener.getsockname())
    accepted, _ = await loop.sock_accept(listener)
    with accepted:
        # The half-made connection is closed, not kept.
        assert await loop.sock_recv(accepted, 1) == b""
    # asyncio before 3.14.6 leaves the closing to the collector, which complains (gh-153133).
    audit.drop_warnings(ResourceWarning, "unclosed <socket")
