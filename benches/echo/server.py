"""The measured process of an echo row: ``python -m benches.echo.server LOOP KIND``.

Prints ``READY address pid``, where the address is a port or the path of a Unix socket, and serves
until killed; LIFETIME_S ends one whose parent died.
"""

import asyncio
import os
import signal
import socket
import ssl
import sys
import tempfile
from collections.abc import Awaitable

from benches import loops
from benches.contender import ROOT
from benches.echo import handlers

LIFETIME_S = 900
CERTIFICATE = ROOT / "tests" / "support" / "localhost-cert.pem"
KEY = ROOT / "tests" / "support" / "localhost-key.pem"
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


def unix_listener() -> socket.socket:
    """Returns a non-blocking listening Unix socket in a new folder, which is left behind empty."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(os.path.join(tempfile.mkdtemp(prefix="antiphon-bench-"), "socket"))
    sock.listen(BACKLOG)
    sock.setblocking(False)
    return sock


def server_context() -> ssl.SSLContext:
    """Returns the TLS settings of a server: the interpreter's own, and the tests' certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, KEY)
    return context


async def serve(kind: str) -> None:
    """Serves for ever.

    Args:
        kind: one of :data:`benches.echo.cells.KINDS`.
    """
    loop = asyncio.get_running_loop()
    match kind:
        case "udp":
            sock = datagram_socket()
        case "unix_protocol":
            sock = unix_listener()
        case _:
            sock = listener()
    name = sock.getsockname()  # before a loop takes the descriptor, as rloop does
    address = name if isinstance(name, str) else name[1]
    server: object = None  # must live as long as this runs
    serving: Awaitable[None] = loop.create_future()
    match kind:
        case "tcp_protocol" | "tcp_pipelined" | "churn":
            server = await loop.create_server(handlers.Echo, sock=sock, backlog=BACKLOG)
        case "tcp_one_write":
            server = await loop.create_server(handlers.OneWrite, sock=sock, backlog=BACKLOG)
        case "tcp_two_writes":
            server = await loop.create_server(handlers.TwoWrites, sock=sock, backlog=BACKLOG)
        case "unix_protocol":
            server = await loop.create_unix_server(handlers.Echo, sock=sock, backlog=BACKLOG)
        case "tls_protocol":
            server = await loop.create_server(
                handlers.Echo, sock=sock, backlog=BACKLOG, ssl=server_context()
            )
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
    print("READY", address, os.getpid(), flush=True)
    await serving
    del server


if __name__ == "__main__":
    signal.alarm(LIFETIME_S)
    loops.factory(sys.argv[1])().run_until_complete(serve(sys.argv[2]))
