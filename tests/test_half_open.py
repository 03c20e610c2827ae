"""Thousands of peers that connect, say nothing or the beginning of something, and vanish."""

import asyncio
import resource
import socket
import subprocess
import sys

import pytest

from support.audit import open_descriptors
from support.net import Echo, Recorder, io_barrier, pattern, turns
from support.tls import server_context

WANTED = 10_000
HANDSHAKES = 400
#: Descriptors for everything else.
SPARE = 200
#: What one connection that does nothing may cost, transport and protocol together.
MOST_BYTES_EACH = 4096
HALF_A_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


#: Connects as often as it is told, is silent until its input ends, then resets half and closes the rest.
PEERS = """
import resource, socket, sys
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
port, count = map(int, sys.argv[1:])
socks = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
sys.stdin.read()
for place, sock in enumerate(socks):
    if place % 2:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
    sock.close()
"""


@pytest.fixture
def connections():
    """How many connections fit the hard limit of a process: their other ends are in a process of their own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, WANTED + SPARE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield wanted - SPARE
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def rss_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


async def connect(loop, address, count, words=b""):
    """Connects `count` sockets, a few at a time so that none waits for the backlog."""
    socks = []
    for start in range(0, count, 100):
        batch = [socket.socket() for _ in range(min(100, count - start))]
        for sock in batch:
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
            if words:
                sock.send(words)
        socks += batch
    return socks


class Counting(Echo):
    """An echo server's end that counts the living."""

    alive = 0

    def connection_made(self, transport):
        super().connection_made(transport)
        type(self).alive += 1

    def connection_lost(self, exc):
        type(self).alive -= 1


async def answers(loop, address):
    """Asserts that the server still serves."""
    transport, recorder = await loop.create_connection(Recorder, *address)
    payload = pattern(1, 100_000)
    transport.write(payload)
    assert await recorder.received(len(payload)) == payload
    transport.abort()
    await recorder.happened("connection_lost")
    await io_barrier(loop)  # the other end has noticed


@pytest.mark.slow
@pytest.mark.timeout(60)
async def test_ten_thousand_half_open_connections_harm_nobody(loop, connections, capsys):
    if connections < WANTED:
        with capsys.disabled():
            print(f"\nonly {connections} of {WANTED} connections fit the limit of descriptors")
    Counting.alive = 0
    server = await loop.create_server(Counting, "127.0.0.1", 0, backlog=4096)
    address = server.sockets[0].getsockname()
    await answers(loop, address)  # what is made on first use is made
    before_descriptors, before_bytes = len(open_descriptors()), rss_bytes()
    peers = subprocess.Popen(
        [sys.executable, "-c", PEERS, str(address[1]), str(connections)], stdin=subprocess.PIPE
    )
    while Counting.alive < connections:
        await asyncio.sleep(0.01)
    assert (rss_bytes() - before_bytes) / connections < MOST_BYTES_EACH
    await answers(loop, address)
    peers.stdin.close()
    while Counting.alive:
        await asyncio.sleep(0.01)
    assert peers.wait() == 0
    await turns(2)
    assert len(open_descriptors()) == before_descriptors
    await answers(loop, address)
    server.close()
    await server.wait_closed()
    await io_barrier(loop)


@pytest.mark.slow
@pytest.mark.timeout(60)
# Each costs OpenSSL's objects, of which asyncio frees those of failed handshakes late.
@pytest.mark.loops("antiphon")
async def test_hundreds_of_handshakes_that_stop_are_freed(loop, faults):
    server = await loop.create_server(Recorder, "127.0.0.1", 0, backlog=200, ssl=server_context())
    address = server.sockets[0].getsockname()
    before = len(open_descriptors())
    for words in (b"", HALF_A_HELLO):
        socks = await connect(loop, address, HANDSHAKES, words)
        await io_barrier(loop)
        for sock in socks:
            sock.close()
        while len(open_descriptors()) > before:
            await asyncio.sleep(0.001)
    assert faults == []
    server.close()
    await server.wait_closed()
