"""The measured process of an echo row: ``python -m benches.echo.server LOOP KIND``.

Prints ``READY port pid`` and serves until killed; LIFETIME_S ends one whose parent died.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Awaitable

from benches import loops
from benches.echo import handlers

LIFETIME_S = 900
BACKLOG = 4096
RECEIVE_ROOM_BYTES = 1 << 20


def listener() -> socket.socket:
    """Returns a non-blocking listening socket on a free loopback port.

    The protocol number is given because asyncio sets TCP_NODELAY only where it reads IPPROTO_TCP;
    with 0 it would be measured with Nagle's algorithm on, and the others without.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    sock.listen(BACKLOG)
    sock.setblocking(False)
    return sock


def datagram_socket() -> socket.socket:
    """Returns a UDP socket on a free loopback port, with room for a message of every peer.

    The load client does not send again what is dropped: with less room it would come to rest.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_ROOM_BYTES)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


async def serve(kind: str) -> None:
    """Serves for ever.

    Args:
        kind: one of :data:`benches.echo.cells.KINDS`.
    """
    loop = asyncio.get_running_loop()
    sock = datagram_socket() if kind == "udp" else listener()
    port = sock.getsockname()[1]  # before a loop takes the descriptor, as rloop does
    server: object = None  # must live as long as this runs
    serving: Awaitable[None] = loop.create_future()
    match kind:
        case "tcp_protocol" | "tcp_pipelined" | "churn":
            server = await loop.create_server(handlers.Echo, sock=sock, backlog=BACKLOG)
        case "tcp_buffered":
            server = await loop.create_server(handlers.BufferedEcho, sock=sock, backlog=BACKLOG)
        case "tcp_streams":
            server = await asyncio.start_server(
                handlers.echo_stream,
                sock=sock,
                limit=handlers.STREAM_LIMIT_BYTES,
                backlog=BACKLOG,
            )
        case "udp":
            server = await loop.create_datagram_endpoint(handlers.DatagramEcho, sock=sock)
        case "sock_calls":
            serving = handlers.accept_and_echo(sock)
        case _:
            raise ValueError(f"no server is called {kind!r}")
    print("READY", port, os.getpid(), flush=True)
    await serving
    del server


if __name__ == "__main__":
    signal.alarm(LIFETIME_S)
    loops.factory(sys.argv[1])().run_until_complete(serve(sys.argv[2]))
