"""websockets: its asyncio server and client."""

import asyncio

import pytest
import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import broadcast, serve

from support.net import pattern
from support.programs import settle


@pytest.fixture
def echo(loop):
    """A server that sends every message back, reversed; gives its URL."""

    async def handler(connection):
        async for message in connection:
            await connection.send(message[::-1])

    server = loop.run_until_complete(_start(handler))
    host, port = server.sockets[0].getsockname()
    yield f"ws://{host}:{port}"
    server.close()
    loop.run_until_complete(server.wait_closed())
    loop.run_until_complete(settle())


async def _start(handler, **options):
    return await serve(handler, "127.0.0.1", 0, **options)


async def test_text_and_bytes_come_back(loop, echo):
    async with connect(echo, proxy=None) as connection:
        for number in range(50):
            await connection.send(f"message {number}")
            assert await connection.recv() == f"message {number}"[::-1]
        await connection.send(b"bytes")
        assert await connection.recv() == b"setyb"


async def test_large_compressed_message_comes_back(loop, echo):
    message = pattern(1, 200_000) * 4
    async with connect(echo, proxy=None, compression="deflate", max_size=None) as connection:
        await connection.send(message)
        assert await connection.recv() == message[::-1]


async def test_fragments_are_joined(loop, echo):
    async def fragments():
        for number in range(10):
            yield f"part {number};"
            await asyncio.sleep(0)

    async with connect(echo, proxy=None) as connection:
        await connection.send(fragments())
        assert await connection.recv() == "".join(f"part {n};" for n in range(10))[::-1]


async def test_many_clients_get_their_own_answers(loop, echo):
    async def client(number):
        async with connect(echo, proxy=None) as connection:
            for step in range(5):
                await connection.send(f"{number}:{step}")
                assert await connection.recv() == f"{number}:{step}"[::-1]

    await asyncio.gather(*(client(number) for number in range(30)))


async def test_ping_is_answered(loop, echo):
    async with connect(echo, proxy=None) as connection:
        latency = await (await connection.ping(b"are you there"))
        assert latency >= 0


async def test_broadcast_reaches_everybody(loop):
    connections = set()
    everyone = asyncio.Event()

    async def handler(connection):
        connections.add(connection)
        if len(connections) == 10:
            everyone.set()
        await connection.wait_closed()

    server = await _start(handler)
    host, port = server.sockets[0].getsockname()
    clients = [await connect(f"ws://{host}:{port}", proxy=None) for _ in range(10)]
    await everyone.wait()
    broadcast(connections, "to all")
    assert await asyncio.gather(*(client.recv() for client in clients)) == ["to all"] * 10
    for client in clients:
        await client.close()
    server.close()
    await server.wait_closed()
    await settle()


async def test_end_of_the_server_closes_its_clients_with_a_code(loop):
    async def handler(connection):
        await connection.wait_closed()

    server = await _start(handler)
    host, port = server.sockets[0].getsockname()
    client = await connect(f"ws://{host}:{port}", proxy=None)
    server.close()
    with pytest.raises(websockets.ConnectionClosed):
        await client.recv()
    assert client.close_code == 1001
    await server.wait_closed()
    await settle()
