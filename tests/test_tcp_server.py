"""`create_server`: every argument, every way to fail, and what an accepted connection sees."""

import socket
import sys

import pytest

from support.net import (
    HAS_IPV6,
    Echo,
    Recorder,
    free_port,
    io_barrier,
    listening_socket,
    others_done,
    pattern,
)

needs_ipv6 = pytest.mark.skipif(not HAS_IPV6, reason="::1 cannot be bound on this machine")
has_keep_alive = sys.version_info >= (3, 13)  # `keep_alive` came with 3.13


async def close(server):
    server.close()
    await server.wait_closed()


def addresses(server):
    return [sock.getsockname() for sock in server.sockets]


async def exchange(loop, address, payload=b"ping"):
    """Sends `payload` as a client of an echo server and takes it back."""
    with socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET) as client:
        client.setblocking(False)
        await loop.sock_connect(client, address)
        await loop.sock_sendall(client, payload)
        got = bytearray()
        while len(got) < len(payload):
            got += await loop.sock_recv(client, len(payload))
        assert got == payload


async def test_accepted_connection_gets_a_protocol_of_its_own(loop):
    protocols = []

    def factory():
        protocols.append(Recorder())
        return protocols[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0)
    clients = [socket.create_connection(addresses(server)[0]) for _ in range(3)]
    for number, client in enumerate(clients):
        client.send(b"%d" % number)
    await io_barrier(loop)
    assert len(protocols) == 3
    for number, protocol in enumerate(protocols):
        assert await protocol.received(1) == b"%d" % number
        assert protocol.events == ["connection_made", "data_received"]
    for client, protocol in zip(clients, protocols, strict=True):
        client.close()
        await protocol.happened("connection_lost")
        assert protocol.events[-2:] == ["eof_received", "connection_lost"]
    await close(server)


async def test_extra_info_of_an_accepted_connection_names_both_ends(loop):
    protocol = Recorder()
    server = await loop.create_server(lambda: protocol, "127.0.0.1", 0)
    with socket.create_connection(addresses(server)[0]) as client:
        await protocol.happened("connection_made")
        transport = protocol.transport
        assert transport.get_extra_info("peername") == client.getsockname()
        assert transport.get_extra_info("sockname") == client.getpeername()
        sock = transport.get_extra_info("socket")
        assert sock.getpeername() == client.getsockname()
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        assert not sock.get_inheritable()
    await protocol.happened("connection_lost")
    await close(server)


async def test_port_zero_takes_a_free_port(loop):
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    other = await loop.create_server(Echo, "127.0.0.1", 0)
    assert addresses(server)[0][1] not in (0, addresses(other)[0][1])
    await exchange(loop, addresses(server)[0])
    await exchange(loop, addresses(other)[0])
    await close(server)
    await close(other)


async def test_port_may_be_a_string(loop):
    port = free_port()
    server = await loop.create_server(Echo, "127.0.0.1", str(port))
    assert addresses(server) == [("127.0.0.1", port)]
    await close(server)


async def test_sequence_of_hosts_listens_on_each_once(loop):
    hosts = ["127.0.0.1", "127.0.0.2", "127.0.0.1"]
    server = await loop.create_server(Echo, hosts, 0)
    assert sorted(address[0] for address in addresses(server)) == ["127.0.0.1", "127.0.0.2"]
    for address in addresses(server):
        await exchange(loop, address)
    await close(server)


@pytest.mark.parametrize("host", [None, ""])
async def test_no_host_listens_on_every_interface(loop, host):
    server = await loop.create_server(Echo, host, 0, family=socket.AF_INET)
    assert addresses(server)[0][0] == "0.0.0.0"
    await exchange(loop, ("127.0.0.1", addresses(server)[0][1]))
    await close(server)


@needs_ipv6
async def test_no_host_listens_on_both_families_beside_each_other(loop):
    port = free_port()
    server = await loop.create_server(Echo, None, port)
    assert {sock.family for sock in server.sockets} == {socket.AF_INET, socket.AF_INET6}
    six = next(sock for sock in server.sockets if sock.family == socket.AF_INET6)
    assert six.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
    await exchange(loop, ("127.0.0.1", port))
    await exchange(loop, ("::1", port))
    await close(server)


@needs_ipv6
async def test_family_chooses_among_the_addresses(loop):
    server = await loop.create_server(Echo, None, 0, family=socket.AF_INET6)
    assert [sock.family for sock in server.sockets] == [socket.AF_INET6]
    await close(server)


async def test_flags_reach_the_resolver(loop):
    with pytest.raises(socket.gaierror):
        await loop.create_server(Echo, "localhost", 0, flags=socket.AI_NUMERICHOST)


async def test_sock_is_adopted(loop):
    sock = listening_socket()
    sock.setblocking(True)
    address = sock.getsockname()
    server = await loop.create_server(Echo, sock=sock)
    assert addresses(server) == [address]
    await exchange(loop, address)
    assert sock.getblocking() is False
    await close(server)
    assert sock.fileno() == -1


async def test_sock_that_does_not_listen_yet_is_made_to(loop):
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    server = await loop.create_server(Echo, sock=sock, backlog=3)
    await exchange(loop, sock.getsockname())
    await close(server)


async def test_sock_must_be_a_stream(loop):
    words = r"^A Stream Socket was expected, got <socket"
    datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with datagram as sock, pytest.raises(ValueError, match=words):
        await loop.create_server(Echo, sock=sock)


async def test_host_and_sock_together_are_refused(loop):
    with listening_socket() as sock:
        for arguments in (("127.0.0.1", 0), (None, 0), ("127.0.0.1",)):
            with pytest.raises(
                ValueError, match="^host/port and sock can not be specified at the same time$"
            ):
                await loop.create_server(Echo, *arguments, sock=sock)


async def test_neither_host_nor_sock_is_refused(loop):
    with pytest.raises(ValueError, match="^Neither host/port nor sock were specified$"):
        await loop.create_server(Echo)


@pytest.mark.parametrize("value", [True, False])
async def test_boolean_for_tls_is_refused(loop, value):
    with pytest.raises(TypeError, match="^ssl argument must be an SSLContext or None$"):
        await loop.create_server(Echo, "127.0.0.1", 0, ssl=value)


@pytest.mark.parametrize("name", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
async def test_tls_arguments_without_tls_are_refused(loop, name):
    with pytest.raises(ValueError, match=f"^{name} is only meaningful with ssl$"):
        await loop.create_server(Echo, "127.0.0.1", 0, **{name: 1})


async def test_address_in_use_is_named(loop):
    with listening_socket() as taken:
        address = taken.getsockname()
        with pytest.raises(OSError) as caught:
            await loop.create_server(Echo, *address)
    text = str(caught.value)
    assert f"error while attempting to bind on address {address}: " in text
    assert "address already in use" in text


async def test_failure_of_one_host_closes_what_was_bound_for_the_others(loop):
    with listening_socket("127.0.0.2") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="address already in use"):
            await loop.create_server(Echo, ["127.0.0.3", "127.0.0.2"], port)
        with socket.socket() as free_again:
            # Allows for connections of other tests that linger on this port, not for a listener.
            free_again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free_again.bind(("127.0.0.3", port))


async def test_address_that_is_not_of_this_machine_is_named(loop):
    # 192.0.2.0/24 is for documentation (RFC 5737); nobody has it.
    with pytest.raises(OSError) as caught:
        await loop.create_server(Echo, "192.0.2.1", 0)
    # From 3.12.3 an address that is not available is passed over, and all of them are named.
    if sys.version_info >= (3, 13):
        assert "could not bind on any address out of [('192.0.2.1', 0)]" in str(caught.value)
    else:
        assert "error while attempting to bind on address ('192.0.2.1', 0)" in str(caught.value)


async def test_name_that_does_not_resolve_raises_gaierror(loop, monkeypatch):
    def getaddrinfo(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(socket.gaierror, match="Name or service not known"):
        await loop.create_server(Echo, "a.test", 0)


async def test_resolver_that_finds_nothing_raises(loop, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: [])
    with pytest.raises(OSError, match=r"^getaddrinfo\('a\.test'\) returned empty list$"):
        await loop.create_server(Echo, "a.test", 0)


async def test_address_can_be_bound_again_at_once_by_default(loop):
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    sock = server.sockets[0]
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1
    address = addresses(server)[0]
    await exchange(loop, address)
    await close(server)
    again = await loop.create_server(Echo, *address)
    await close(again)


async def test_reuse_address_can_be_switched_off(loop):
    server = await loop.create_server(Echo, "127.0.0.1", 0, reuse_address=False)
    assert server.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 0
    await close(server)


async def test_reuse_port_lets_two_servers_share_one(loop):
    first = await loop.create_server(Echo, "127.0.0.1", 0, reuse_port=True)
    second = await loop.create_server(Echo, *addresses(first)[0], reuse_port=True)
    assert addresses(first) == addresses(second)
    await exchange(loop, addresses(first)[0])
    await close(first)
    await exchange(loop, addresses(second)[0])
    await close(second)


async def test_keep_alive_is_set_on_the_listener(loop):
    if not has_keep_alive:
        with pytest.raises(TypeError, match="keep_alive"):
            await loop.create_server(Echo, "127.0.0.1", 0, keep_alive=True)
        return
    server = await loop.create_server(Echo, "127.0.0.1", 0, keep_alive=True)
    assert server.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    await close(server)
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    assert server.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
    await close(server)


async def test_start_serving_false_waits_for_the_start(loop):
    protocols = []

    def factory():
        protocols.append(Recorder())
        return protocols[-1]

    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    server = await loop.create_server(factory, sock=sock, start_serving=False)
    assert not server.is_serving()
    with socket.socket() as client:
        client.setblocking(False)
        # Nobody listens on the address yet.
        with pytest.raises(ConnectionRefusedError):
            await loop.sock_connect(client, sock.getsockname())
    await server.start_serving()
    with socket.create_connection(sock.getsockname()) as client:
        await io_barrier(loop)
        assert len(protocols) == 1
        await protocols[0].happened("connection_made")
    await protocols[0].happened("connection_lost")
    await close(server)


async def test_burst_of_waiting_clients_is_accepted_whole(loop):
    server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=100)
    # All of them wait in the queue of the listener before the loop can look at it.
    clients = [socket.create_connection(addresses(server)[0]) for _ in range(80)]
    for number, client in enumerate(clients):
        client.setblocking(False)
        client.send(b"%d" % number)
    for number, client in enumerate(clients):
        assert await loop.sock_recv(client, 100) == b"%d" % number
        client.close()
    await close(server)
    await others_done()


async def test_connection_that_is_reset_before_it_is_accepted_does_no_harm(loop):
    server = await loop.create_server(Echo, "127.0.0.1", 0, start_serving=True)
    for _ in range(5):
        client = socket.create_connection(addresses(server)[0])
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
    await exchange(loop, addresses(server)[0])
    await close(server)
    await others_done()


async def test_server_and_client_of_one_loop_talk_in_both_directions(loop):
    payload = pattern(5, 1 << 20)
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    transport, protocol = await loop.create_connection(Recorder, *addresses(server)[0])
    transport.write(payload)
    assert await protocol.received(len(payload)) == payload
    transport.close()
    await protocol.happened("connection_lost")
    await close(server)
