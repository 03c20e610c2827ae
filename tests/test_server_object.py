"""The `Server` that `create_server` gives: its life, and the connections that it counts."""

import asyncio
import contextlib
import gc
import socket
import sys
import weakref

import pytest

from support.net import Echo, Recorder, io_barrier, others_done

# Before 3.12.1 `wait_closed` returned at once when the server was closed, connections or not.
waits_for_connections = sys.version_info >= (3, 12, 1)
has_close_clients = sys.version_info >= (3, 13)


class Connections:
    """A protocol factory that keeps what it made."""

    def __init__(self, kind=Recorder):
        self.kind = kind
        self.made = []

    def __call__(self):
        self.made.append(self.kind())
        return self.made[-1]


async def connect(loop, server, connections):
    """Gives a connected client socket and the server's protocol for it."""
    client = socket.socket()
    client.setblocking(False)
    await loop.sock_connect(client, server.sockets[0].getsockname())
    await io_barrier(loop)
    protocol = connections.made[-1]
    await protocol.happened("connection_made")
    return client, protocol


@pytest.fixture
def connections():
    return Connections()


@pytest.fixture
def server(loop, connections):
    server = loop.run_until_complete(loop.create_server(connections, "127.0.0.1", 0))
    yield server
    server.close()
    loop.run_until_complete(server.wait_closed())


async def test_server_is_an_asyncio_server_of_its_loop(loop, server):
    assert isinstance(server, asyncio.AbstractServer)
    assert server.get_loop() is loop
    assert server.is_serving()


async def test_sockets_are_a_tuple_that_gives_no_way_to_read(loop, server):
    assert isinstance(server.sockets, tuple)
    (sock,) = server.sockets
    assert type(sock).__name__ == "TransportSocket"
    assert sock.family == socket.AF_INET
    assert not hasattr(sock, "recv")
    server.close()
    assert server.sockets == ()


async def test_repr_names_the_sockets(loop, server):
    assert repr(server).startswith("<Server sockets=(<asyncio.TransportSocket fd=")


async def test_closed_server_refuses_clients_and_says_so(loop, server):
    address = server.sockets[0].getsockname()
    server.close()
    assert not server.is_serving()
    with socket.socket() as client:
        client.setblocking(False)
        with pytest.raises(ConnectionRefusedError):
            await loop.sock_connect(client, address)
    server.close()
    await server.wait_closed()
    await server.wait_closed()


async def test_closed_server_cannot_start_again(loop, server):
    server.close()
    with pytest.raises(RuntimeError, match=r"^server <.*> is closed$"):
        await server.serve_forever()


async def test_close_leaves_open_connections_alone(loop, server, connections):
    client, protocol = await connect(loop, server, connections)
    server.close()
    client.send(b"still here")
    assert await protocol.received(10) == b"still here"
    protocol.transport.write(b"answered")
    assert await loop.sock_recv(client, 100) == b"answered"
    client.close()
    await protocol.happened("connection_lost")


async def test_wait_closed_waits_for_the_last_connection(loop, server, connections):
    client, protocol = await connect(loop, server, connections)
    server.close()
    waiter = loop.create_task(server.wait_closed())
    await io_barrier(loop)
    assert waiter.done() is not waits_for_connections
    client.close()
    await protocol.happened("connection_lost")
    await waiter


async def test_wait_closed_of_an_open_server_waits_for_its_close(loop, server):
    waiters = [loop.create_task(server.wait_closed()) for _ in range(3)]
    await io_barrier(loop)
    assert not any(waiter.done() for waiter in waiters)
    server.close()
    await asyncio.gather(*waiters)


async def test_wait_closed_can_be_cancelled(loop, server, connections):
    waiter = loop.create_task(server.wait_closed())
    await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    server.close()
    await server.wait_closed()


async def test_start_serving_is_idempotent(loop, connections):
    server = await loop.create_server(connections, "127.0.0.1", 0, start_serving=False)
    assert not server.is_serving()
    await server.start_serving()
    await server.start_serving()
    assert server.is_serving()
    client, protocol = await connect(loop, server, connections)
    assert len(connections.made) == 1
    client.close()
    await protocol.happened("connection_lost")
    server.close()
    await server.wait_closed()


async def test_serve_forever_serves_until_it_is_cancelled(loop, connections):
    server = await loop.create_server(connections, "127.0.0.1", 0, start_serving=False)
    serving = loop.create_task(server.serve_forever())
    await asyncio.sleep(0)
    assert server.is_serving()
    client, protocol = await connect(loop, server, connections)
    client.close()
    await protocol.happened("connection_lost")
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert not server.is_serving()
    assert server.sockets == ()


async def test_serve_forever_twice_is_refused(loop, server):
    serving = loop.create_task(server.serve_forever())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match=r"is already being awaited on serve_forever\(\)"):
        await server.serve_forever()
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving


async def test_close_ends_serve_forever(loop, server):
    serving = loop.create_task(server.serve_forever())
    await asyncio.sleep(0)
    server.close()
    with pytest.raises(asyncio.CancelledError):
        await serving


async def test_leaving_the_with_block_closes_the_server(loop, connections):
    async with await loop.create_server(connections, "127.0.0.1", 0) as server:
        assert server.is_serving()
    assert not server.is_serving()
    assert server.sockets == ()


@pytest.mark.skipif(not has_close_clients, reason="close_clients came with 3.13")
async def test_close_clients_sends_what_is_pending_and_closes(loop, server, connections):
    pairs = [await connect(loop, server, connections) for _ in range(3)]
    for _, protocol in pairs:
        protocol.transport.write(b"last words")
    server.close()
    server.close_clients()
    for client, protocol in pairs:
        assert await loop.sock_recv(client, 100) == b"last words"
        assert await loop.sock_recv(client, 100) == b""
        await protocol.happened("connection_lost")
        assert protocol.lost_with is None
        client.close()
    await server.wait_closed()


@pytest.mark.skipif(not has_close_clients, reason="abort_clients came with 3.13")
async def test_abort_clients_drops_what_is_pending(loop, server, connections):
    client, protocol = await connect(loop, server, connections)
    protocol.transport.write(bytes(1 << 24))
    assert protocol.transport.get_write_buffer_size() > 0
    server.close()
    server.abort_clients()
    await protocol.happened("connection_lost")
    received = 0
    while chunk := await loop.sock_recv(client, 1 << 20):
        received += len(chunk)
    assert received < 1 << 24
    client.close()
    await server.wait_closed()


@pytest.mark.skipif(has_close_clients, reason="the methods exist from 3.13 on")
def test_close_clients_and_abort_clients_are_absent_before_their_version(server):
    assert not hasattr(server, "close_clients")
    assert not hasattr(server, "abort_clients")


async def test_server_keeps_no_connection_alive(loop, server, connections):
    client, protocol = await connect(loop, server, connections)
    alive = weakref.ref(protocol)
    client.close()
    await protocol.happened("connection_lost")
    connections.made.clear()
    del protocol
    await asyncio.sleep(0)
    gc.collect()
    assert alive() is None


async def test_connections_of_an_echo_server_outlive_its_close(loop):
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    transport, protocol = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
    transport.write(b"one")
    assert await protocol.received(3) == b"one"
    server.close()
    transport.write(b"two")
    assert await protocol.received(6) == b"onetwo"
    transport.close()
    await protocol.happened("connection_lost")
    await server.wait_closed()
    await io_barrier(loop)
    await others_done()


async def test_start_server_serves_streams(loop):
    async def handle(reader, writer):
        line = await reader.readline()
        writer.write(line.upper())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"shout\n")
    assert await reader.read() == b"SHOUT\n"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    await others_done()
