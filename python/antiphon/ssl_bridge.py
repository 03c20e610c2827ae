"""TLS over the loop's own transports, spoken by asyncio's `SSLProtocol`.

The protocol of the program sits on an `SSLProtocol`, which is itself the protocol of a native
transport: bytes of the network go up through OpenSSL's memory buffers, bytes of the program down.
This is the only file that knows how TLS is done; native TLS replaces what is behind `wrap`.

    native transport  <->  SSLProtocol (records, handshake, shutdown)  <->  protocol of the program

Source: Lib/asyncio/sslproto.py, Lib/asyncio/selector_events.py.
"""

import asyncio
import socket
from asyncio import sslproto
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from antiphon._antiphon import LoopBase

try:
    import ssl
except ImportError:  # an interpreter built without OpenSSL
    ssl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    import ssl as ssl_module

    from antiphon.server import Server

__all__ = [
    "MakeTransport",
    "StartTls",
    "TlsOptions",
    "accepted_with",
    "requested_tls",
    "requested_tls_of_server",
    "wrap",
]

# What the accept loop calls in place of its own transport: (loop, sock, protocol, extra, server).
MakeTransport = Callable[
    [LoopBase, socket.socket, asyncio.BaseProtocol, dict[str, Any] | None, "Server | None"],
    asyncio.Transport,
]


@dataclass(slots=True)
class TlsOptions:
    """How to speak TLS on one connection or on all of one server.

    Attributes:
        context: None lets asyncio make the context that `ssl=True` stands for.
        server_side: which end of the handshake this is.
        server_hostname: the name that the peer's certificate must have; clients only.
        handshake_timeout: seconds until an unfinished handshake aborts; None takes asyncio's 60.
        shutdown_timeout: seconds until an unanswered shutdown aborts; None takes asyncio's 30.
    """

    context: "ssl_module.SSLContext | None"
    server_side: bool = False
    server_hostname: str | None = None
    handshake_timeout: float | None = None
    shutdown_timeout: float | None = None


def requested_tls(
    ssl: "ssl_module.SSLContext | bool | None",
    server_side: bool,
    server_hostname: str | None,
    handshake_timeout: float | None,
    shutdown_timeout: float | None,
) -> TlsOptions | None:
    """Reads the TLS arguments of a call.

    Args:
        ssl: a context, or True for asyncio's default one; None and False ask for no TLS.
        server_side, server_hostname, handshake_timeout, shutdown_timeout: see `TlsOptions`.

    Returns:
        How to speak TLS, or None for plain bytes.

    Raises:
        ValueError: a timeout is given without TLS.
    """
    if not ssl:
        if handshake_timeout is not None:
            raise ValueError("ssl_handshake_timeout is only meaningful with ssl")
        if shutdown_timeout is not None:
            raise ValueError("ssl_shutdown_timeout is only meaningful with ssl")
        return None
    context = None if isinstance(ssl, bool) else ssl
    return TlsOptions(context, server_side, server_hostname, handshake_timeout, shutdown_timeout)


def requested_tls_of_server(
    ssl: "ssl_module.SSLContext | None",
    handshake_timeout: float | None,
    shutdown_timeout: float | None,
) -> TlsOptions | None:
    """Reads the TLS arguments of a server, like `requested_tls`.

    Raises:
        TypeError: `ssl` is True or False, which says nothing about the certificate to show.
        ValueError: a timeout is given without a context.
    """
    if isinstance(ssl, bool):
        raise TypeError("ssl argument must be an SSLContext or None")
    return requested_tls(ssl, True, None, handshake_timeout, shutdown_timeout)


def wrap(
    loop: LoopBase,
    sock: socket.socket,
    protocol: asyncio.BaseProtocol,
    waiter: asyncio.Future[None],
    options: TlsOptions,
    extra: dict[str, Any] | None = None,
    server: "Server | None" = None,
) -> asyncio.Transport:
    """Puts a protocol on a connected socket with TLS between them.

    Args:
        loop: the loop that will run the transport.
        sock: connected and non-blocking; the transport owns it from here on.
        protocol: gets `connection_made` once the handshake is done.
        waiter: gets its result then, or the exception that ended the handshake.
        options: how to speak TLS.
        extra: more answers for `get_extra_info`.
        server: the server that accepted the connection, told when it comes and goes.

    Returns:
        The transport that the protocol writes to.
    """
    tls = _protocol(loop, protocol, waiter, options)
    loop._make_stream_transport(sock, tls, None, extra, server)
    return tls._app_transport  # type: ignore[no-any-return]


def accepted_with(options: TlsOptions | None) -> MakeTransport | None:
    """Returns what a server calls for each accepted connection instead of making a plain transport.

    None stands for the plain transport.

    A handshake that fails ends its connection and nothing else; debug mode reports it.
    """
    if options is None:
        return None

    def make(
        loop: LoopBase,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        extra: dict[str, Any] | None,
        server: "Server | None",
    ) -> asyncio.Transport:
        handshake: asyncio.Future[None] = loop.create_future()
        transport = wrap(loop, sock, protocol, handshake, options, extra, server)
        handshake.add_done_callback(partial(_end_failed_handshake, loop, transport, protocol))
        return transport

    return make


def _end_failed_handshake(
    loop: LoopBase,
    transport: asyncio.Transport,
    protocol: asyncio.BaseProtocol,
    handshake: asyncio.Future[None],
) -> None:
    """Closes an accepted connection whose handshake failed."""
    error = None if handshake.cancelled() else handshake.exception()
    if error is None:
        return
    transport.close()
    if loop.get_debug():
        loop.call_exception_handler(
            {
                "message": "Error on transport creation for incoming connection",
                "exception": error,
                "protocol": protocol,
                "transport": transport,
            }
        )


def _protocol(
    loop: LoopBase,
    protocol: asyncio.BaseProtocol,
    waiter: asyncio.Future[None],
    options: TlsOptions,
    call_connection_made: bool = True,
) -> Any:
    """Returns the `SSLProtocol` between a native transport and the protocol of the program."""
    return sslproto.SSLProtocol(
        loop,
        protocol,
        options.context,  # type: ignore[arg-type]  # None is asyncio's default context
        waiter,
        options.server_side,
        options.server_hostname,
        call_connection_made=call_connection_made,
        ssl_handshake_timeout=options.handshake_timeout,  # type: ignore[arg-type]
        ssl_shutdown_timeout=options.shutdown_timeout,
    )


class StartTls(LoopBase):
    """The part of the loop that upgrades a plain connection to TLS."""

    __slots__ = ()

    async def start_tls(
        self,
        transport: Any,
        protocol: asyncio.BaseProtocol,
        sslcontext: "ssl_module.SSLContext",
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> asyncio.Transport:
        """Speaks TLS on a connection from now on.

        Args:
            transport: of this loop; it must not be used directly any more.
            protocol: goes on receiving, now decrypted; `connection_made` is not called again.
            sslcontext: the context to take certificates and rules from.
            server_side: whether this end answers the handshake.
            server_hostname: the name that the peer's certificate must have; clients only.
            ssl_handshake_timeout: seconds; None takes 60.
            ssl_shutdown_timeout: seconds; None takes 30.

        Returns:
            The transport that the protocol writes to from now on.

        Raises:
            TypeError: `sslcontext` is no `SSLContext`, or `transport` cannot be upgraded.
            ssl.SSLError: the handshake failed; the connection is closed.
        """
        if ssl is None:
            raise RuntimeError("Python ssl module is not available")
        if not isinstance(sslcontext, ssl.SSLContext):
            raise TypeError(
                f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}"
            )
        if not getattr(transport, "_start_tls_compatible", False):
            raise TypeError(f"transport {transport!r} is not supported by start_tls()")

        waiter: asyncio.Future[None] = self.create_future()
        options = TlsOptions(
            sslcontext, server_side, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout
        )
        tls = _protocol(self, protocol, waiter, options, call_connection_made=False)
        # Nothing may arrive before connection_made has told the TLS protocol its transport.
        transport.pause_reading()
        if server_side:
            _hand_over_early_bytes(protocol, tls)
        transport.set_protocol(tls)
        made = self.call_soon(tls.connection_made, transport)
        resumed = self.call_soon(transport.resume_reading)
        try:
            await waiter
        except BaseException:
            transport.close()
            made.cancel()
            resumed.cancel()
            raise
        finally:
            del waiter  # holds the exception whose traceback holds this frame: no cycle
        return tls._app_transport  # type: ignore[no-any-return]


def _hand_over_early_bytes(protocol: asyncio.BaseProtocol, tls: Any) -> None:
    """Moves what a stream reader holds already into the TLS protocol.

    A client that does not wait for an answer sends its first record right behind its wish to
    upgrade, so a server may have read it as plain bytes (python/cpython issue 142352).
    """
    reader = getattr(protocol, "_stream_reader", None)
    early = getattr(reader, "_buffer", None)
    if isinstance(protocol, asyncio.StreamReaderProtocol) and early:
        tls._incoming.write(early)
        early.clear()
