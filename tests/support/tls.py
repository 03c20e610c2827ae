"""TLS peers that tests steer by hand: one end is a transport, the other an `SSLObject` over a raw socket.

The raw end does nothing by itself: it sends what a test tells it to, whole records or pieces of them, and reads when
it is asked to.

The certificate is for localhost and 127.0.0.1 and signs itself; either side may show it. Its key is no secret, it
stands beside this file. Both were made by `openssl req -x509 -newkey rsa:2048 -nodes -days 36500 -subj /CN=localhost`
with the alternative names DNS:localhost and IP:127.0.0.1.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from support.net import Recorder, reset, tcp_pair

HERE = Path(__file__).parent
CERTIFICATE = HERE / "localhost-cert.pem"
KEY = HERE / "localhost-key.pem"

TLS_1_2 = ssl.TLSVersion.TLSv1_2
TLS_1_3 = ssl.TLSVersion.TLSv1_3


def server_context(version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """Gives a context that shows the certificate; `version` is the only one it speaks."""
    return _limited(_with_certificate(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)), version)


def client_context(version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """Gives a context that trusts the certificate and nothing else."""
    return _limited(ssl.create_default_context(cafile=CERTIFICATE), version)


def tls_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Gives a server's context and a client's."""
    return server_context(), client_context()


def _with_certificate(context: ssl.SSLContext) -> ssl.SSLContext:
    context.load_cert_chain(CERTIFICATE, KEY)
    return context


def _limited(context: ssl.SSLContext, version: ssl.TLSVersion | None) -> ssl.SSLContext:
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


class Peer:
    """The raw end of a TLS connection.

    Args:
        loop: whose `sock_*` calls it uses.
        sock: connected and non-blocking; the caller closes it.
        context: what to speak.
        server_side: which end of the handshake this is.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        context: ssl.SSLContext,
        server_side: bool,
    ) -> None:
        self.loop = loop
        self.sock = sock
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        name = None if server_side else "localhost"
        self.tls = context.wrap_bio(
            self.incoming, self.outgoing, server_side=server_side, server_hostname=name
        )

    async def send_raw(self, data: bytes) -> None:
        """Sends bytes as they are."""
        await self.loop.sock_sendall(self.sock, data)

    async def flush(self) -> None:
        """Sends what TLS has to say."""
        if self.outgoing.pending:
            await self.send_raw(self.outgoing.read())

    async def receive_more(self) -> None:
        """Takes what has come, at least a byte; end of file ends the incoming bytes."""
        data = await self.loop.sock_recv(self.sock, 1 << 16)
        if data:
            self.incoming.write(data)
        else:
            self.incoming.write_eof()

    async def _until_done(self, step: Callable[[], Any]) -> Any:
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                await self.flush()
                await self.receive_more()
            except ssl.SSLError:
                with contextlib.suppress(ConnectionError):
                    await self.flush()  # the alert, where there is still somebody
                raise
            else:
                await self.flush()
                return result

    async def handshake(self) -> None:
        """Agrees with the other end."""
        await self._until_done(self.tls.do_handshake)

    def records(self, data: bytes) -> bytes:
        """Gives `data` encrypted, not sent."""
        self.tls.write(data)
        return self.outgoing.read()

    async def send(self, data: bytes) -> None:
        """Sends `data` encrypted."""
        await self.send_raw(self.records(data))

    async def read(self, size: int) -> bytes:
        """Reads exactly `size` bytes of data."""
        got = bytearray()
        while len(got) < size:
            chunk = await self._until_done(partial(self.tls.read, size - len(got)))
            assert chunk, f"goodbye after {len(got)} of {size} bytes"
            got += chunk
        return bytes(got)

    async def read_to_goodbye(self) -> bytes:
        """Reads until the other end says goodbye; a stream that just ends raises `ssl.SSLEOFError`."""
        got = bytearray()
        # OpenSSL words the end by an exception if this end has said goodbye before.
        with contextlib.suppress(ssl.SSLZeroReturnError):
            while chunk := await self._until_done(lambda: self.tls.read(1 << 16)):
                got += chunk
        return bytes(got)

    async def read_any_end(self) -> bytes:
        """Reads until goodbye or the end of the stream."""
        got = bytearray()
        with contextlib.suppress(ssl.SSLEOFError, ssl.SSLZeroReturnError):
            while chunk := await self._until_done(lambda: self.tls.read(1 << 16)):
                got += chunk
        return bytes(got)

    async def say_goodbye(self) -> None:
        """Sends close_notify and does not wait for the answer."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        await self.flush()

    async def goodbye(self) -> None:
        """Says goodbye and waits for the answer."""
        await self._until_done(self.tls.unwrap)

    def reset(self) -> None:
        """Closes the socket so that the other end gets a reset."""
        reset(self.sock)


class TlsLink:
    """A TLS transport with its recording protocol, and the raw peer at its other end."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        protocol: Any,
        peer: Peer,
    ) -> None:
        self.loop = loop
        self.transport = transport
        self.protocol = protocol
        self.peer = peer

    async def end(self) -> None:
        """Ends the connection, however far it is."""
        self.peer.sock.close()
        self.transport.abort()
        await self.protocol.happened("connection_lost")
        assert self.protocol.events.count("connection_lost") == 1
        assert self.protocol.events[-1] == "connection_lost"


def begin(
    loop: asyncio.AbstractEventLoop,
    sock: socket.socket,
    factory: Callable[[], Any] = Recorder,
    server_side: bool = False,
    context: ssl.SSLContext | None = None,
    **options: Any,
) -> Awaitable[tuple[asyncio.Transport, Any]]:
    """Gives the call that puts TLS on a connected socket and waits for the handshake.

    Args:
        sock: connected and non-blocking; the transport owns it.
        server_side: which end of the handshake the transport is.
        context: the default one of that side, if None.
        options: further arguments of the call (the timeouts).
    """
    if server_side:
        tls = context or server_context()
        return loop.connect_accepted_socket(factory, sock, ssl=tls, **options)
    tls = context or client_context()
    return loop.create_connection(
        factory, sock=sock, ssl=tls, server_hostname="localhost", **options
    )


async def tls_link(
    loop: asyncio.AbstractEventLoop,
    factory: Callable[[], Any] = Recorder,
    server_side: bool = True,
    version: ssl.TLSVersion | None = None,
    **options: Any,
) -> TlsLink:
    """Gives a connection after its handshake.

    Args:
        factory: makes the protocol, a `support.net.Recording`.
        server_side: which end the transport is.
        version: the version both speak; the newest if None.
        options: see `begin`.
    """
    near, far = tcp_pair()
    context = (client_context if server_side else server_context)(version)
    peer = Peer(loop, far, context, not server_side)
    if version is not None and "context" not in options:
        options["context"] = (server_context if server_side else client_context)(version)
    try:
        (transport, protocol), _ = await asyncio.gather(
            begin(loop, near, factory, server_side, **options), peer.handshake()
        )
    except BaseException:
        far.close()
        raise
    return TlsLink(loop, transport, protocol, peer)
