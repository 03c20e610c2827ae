"""What strangers do to a server, and what a program does to its own loop."""

import asyncio
import os
import random
import socket
from dataclasses import replace
from typing import TYPE_CHECKING

from soak.ends import PlainEnd
from soak.exchange import KINDS, STYLES, Ending, Exchange, Plan
from soak.scenes import verify
from soak.talks import SocketTalk, finish
from support.net import stream_pair, tcp_pair

if TYPE_CHECKING:
    from soak.life import Life

#: The beginning of a TLS record with a ClientHello that never ends.
_HALF_A_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(20)


async def strangers(life: "Life", rng: random.Random, number: int) -> None:
    """Peers that connect and say nothing, or nonsense, or stop within the handshake, and vanish."""
    visitors = []
    for _ in range(rng.randrange(1, 30)):
        kind, style = rng.choice(KINDS), rng.choice(STYLES)
        family = socket.AF_UNIX if "unix" in kind else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        visitors.append(sock)
        sock.setblocking(False)
        try:
            await life.loop.sock_connect(sock, life.addresses[kind, style])
            words = rng.choice((b"", b"", b"so", rng.randbytes(1000), _HALF_A_HELLO))
            if words:
                await life.loop.sock_sendall(sock, words)
        except OSError:
            continue  # the server has thrown it out before it had finished
    await asyncio.sleep(rng.choice((0, 0.01)))
    for sock in visitors:
        if rng.random() < 0.5:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.close()
    life.book.done["strangers"] += len(visitors)


async def usurper(life: "Life", rng: random.Random, number: int) -> None:
    """A descriptor is closed under its transport, and the next connection gets its number.

    The first transport still believes that the number is its own, writes and closes late. Nothing of
    that may reach the second connection (uvloop's issue 645).
    """
    pair = rng.choice((tcp_pair, stream_pair))
    near, far = pair()
    fd = near.fileno()
    drawn = Plan.draw(rng)
    plan = replace(drawn, kind="usurped number", ending=Ending.ORDER, fault_at=0)
    exchange = Exchange(life.book, number, life.seed, plan)
    first_transport, _first = await life.loop.create_connection(asyncio.Protocol, sock=near)
    if rng.random() < 0.5:
        first_transport.write(b"stale" * rng.randrange(1, 1_000_000))
    if rng.random() < 0.3:
        first_transport.pause_reading()
    await asyncio.sleep(rng.choice((0, 0.001)))

    near_two, far_two = pair()
    os.dup2(near_two.fileno(), fd, inheritable=False)  # closes the number's former file
    near_two.close()
    second = socket.socket(fileno=fd)
    late = [first_transport.close, first_transport.abort, lambda: first_transport.write(b"late")]
    rng.shuffle(late)
    for delay, call in enumerate(late):
        life.loop.call_later(delay * rng.random() / 200, call)
    # In this very turn: what the first transport sends before the loop knows of the second is beyond help.
    _, end = await life.loop.create_connection(lambda: PlainEnd(exchange, False), sock=second)
    with far, far_two:
        left = len(exchange.header)
        while left:
            left -= len(await life.loop.sock_recv(far_two, left))
        await finish(exchange, SocketTalk(exchange, far_two, is_server=True).run())
        await end.lost
        verify(exchange)
        while not first_transport.is_closing():
            await asyncio.sleep(0.001)
    # Its number is the second connection's, and gone with it.
    near.detach()
    exchange.close()
