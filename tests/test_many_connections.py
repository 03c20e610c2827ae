"""Many connections at once: each carries a pattern of its own, so that any mix-up shows."""

import asyncio
import socket

import pytest

from support.net import (
    BufferedRecorder,
    Echo,
    Recorder,
    io_barrier,
    others_done,
    pattern,
)

CONNECTIONS = 200
BYTES = 20_000


async def echo_server(loop, factory=Echo):
    server = await loop.create_server(factory, "127.0.0.1", 0, backlog=CONNECTIONS)
    return server, server.sockets[0].getsockname()


async def close(loop, server):
    server.close()
    await server.wait_closed()
    await io_barrier(loop)
    await others_done()


@pytest.mark.slow
@pytest.mark.parametrize("factory", [Recorder, BufferedRecorder])
async def test_every_connection_gets_its_own_bytes_back(loop, factory):
    server, address = await echo_server(loop)

    async def client(number):
        transport, protocol = await loop.create_connection(factory, *address)
        payload = pattern(number, BYTES)
        for start in range(0, BYTES, 4000):
            transport.write(payload[start : start + 4000])
            await asyncio.sleep(0)
        assert await protocol.received(BYTES) == payload
        transport.close()
        await protocol.happened("connection_lost")

    await asyncio.gather(*(client(number) for number in range(CONNECTIONS)))
    await close(loop, server)


@pytest.mark.slow
async def test_every_stream_gets_its_own_lines_back(loop):
    async def handle(reader, writer):
        while line := await reader.readline():
            writer.write(line[::-1][1:] + b"\n")
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, backlog=CONNECTIONS)
    address = server.sockets[0].getsockname()

    async def client(number):
        reader, writer = await asyncio.open_connection(*address)
        for step in range(10):
            line = b"%d:%d" % (number, step)
            writer.write(line + b"\n")
            await writer.drain()
            assert await reader.readline() == line[::-1] + b"\n"
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(client(number) for number in range(CONNECTIONS)))
    await close(loop, server)


@pytest.mark.slow
async def test_every_socket_call_gets_its_own_bytes_back(loop):
    server, address = await echo_server(loop)

    async def client(number):
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
            payload = pattern(number, BYTES)
            send = loop.create_task(loop.sock_sendall(sock, payload))
            got = bytearray()
            while len(got) < BYTES:
                got += await loop.sock_recv(sock, 8192)
            assert got == payload
            await send

    await asyncio.gather(*(client(number) for number in range(CONNECTIONS)))
    await close(loop, server)


@pytest.mark.slow
async def test_connections_that_come_go_and_fail_leave_the_others_intact(loop):
    server, address = await echo_server(loop)
    steady = [await loop.create_connection(Recorder, *address) for _ in range(20)]

    async def visitor(number):
        transport, protocol = await loop.create_connection(Recorder, *address)
        if number % 3 == 0:
            transport.abort()
        else:
            transport.write(pattern(number, 2000))
            if number % 3 == 1:
                transport.close()
            else:
                await protocol.received(2000)
                transport.abort()
        await protocol.happened("connection_lost")

    visitors = [loop.create_task(visitor(number)) for number in range(100)]
    for step in range(20):
        for number, (transport, _) in enumerate(steady):
            transport.write(pattern(step * 100 + number, 500))
        for _, protocol in steady:
            await protocol.received((step + 1) * 500)
    for number, (transport, protocol) in enumerate(steady):
        expected = b"".join(pattern(step * 100 + number, 500) for step in range(20))
        assert protocol.data == expected
        transport.close()
        await protocol.happened("connection_lost")
    await asyncio.gather(*visitors)
    await close(loop, server)


@pytest.mark.slow
async def test_slow_reader_does_not_hold_up_the_others(loop):
    server, address = await echo_server(loop)
    slow, slow_protocol = await loop.create_connection(Recorder, *address)
    slow.pause_reading()
    slow.write(pattern(1, 8 << 20))

    async def client(number):
        transport, protocol = await loop.create_connection(Recorder, *address)
        transport.write(pattern(number, 5000))
        assert await protocol.received(5000) == pattern(number, 5000)
        transport.close()
        await protocol.happened("connection_lost")

    await asyncio.gather(*(client(number) for number in range(2, 50)))
    assert slow_protocol.data == b""
    slow.resume_reading()
    assert await slow_protocol.received(8 << 20) == pattern(1, 8 << 20)
    slow.close()
    await slow_protocol.happened("connection_lost")
    await close(loop, server)
