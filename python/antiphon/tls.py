"""TLS, as far as it is done once per connection: arguments, contexts, sessions, words.

What runs per record is native (`SSLTransport`); it drives the `ssl` objects that are made here, so
every setting of an `SSLContext` holds, a subclass's own `wrap_bio` included.

    StreamTransport  <->  SSLTransport (records, handshake, shutdown)  <->  protocol of the program

Source: Lib/asyncio/sslproto.py, Lib/asyncio/selector_events.py (`_make_ssl_transport`).
"""

import asyncio
import socket
from asyncio import constants
from asyncio.log import logger
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import BuiltinMethodType
from typing import TYPE_CHECKING, Any

from antiphon._antiphon import LoopBase, SSLTransport

try:
    import ssl
except ImportError:  # an interpreter built without OpenSSL
    ssl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    import ssl as ssl_module

__all__ = [
    "TlsOptions",
    "WrapProtocol",
    "make_tls_transport",
    "requested_tls",
    "requested_tls_of_server",
    "wrap",
    "wrapped_with",
]

# What the accept loop calls for the layer between a connection and its protocol: (loop, protocol).
WrapProtocol = Callable[[LoopBase, asyncio.BaseProtocol], SSLTransport]


@dataclass(slots=True)
class TlsOptions:
    """How to speak TLS on one connection or on all of one server.

    Attributes:
        context: None stands for the context that `ssl=True` asks for; clients only.
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
) -> asyncio.Transport:
    """Puts a protocol on a connected socket with TLS between them.

    Args:
        loop: the loop that will run the transport.
        sock: connected and non-blocking; the transport owns it from here on.
        protocol: gets `connection_made` once the handshake is done.
        waiter: gets its result then, or the exception that ended the handshake.
        options: how to speak TLS.

    Returns:
        The transport that the protocol writes to.

    Raises:
        ValueError: a timeout that is no positive number, or no context on the server's side.
    """
    transport = make_tls_transport(loop, protocol, waiter, options)
    loop._make_stream_transport(sock, transport)  # type: ignore[arg-type]  # towards it, a protocol
    return transport


def wrapped_with(options: TlsOptions | None) -> WrapProtocol | None:
    """Returns what a server calls to put TLS between a connection and its protocol.

    None stands for plain connections.

    A handshake that fails ends its connection and nothing else; debug mode reports it.
    """
    if options is None:
        return None

    def wrap_protocol(loop: LoopBase, protocol: asyncio.BaseProtocol) -> SSLTransport:
        handshake: asyncio.Future[None] = loop.create_future()
        transport = make_tls_transport(loop, protocol, handshake, options)
        handshake.add_done_callback(partial(_end_failed_handshake, loop, transport, protocol))
        return transport

    return wrap_protocol


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


def make_tls_transport(
    loop: LoopBase,
    protocol: asyncio.BaseProtocol,
    waiter: asyncio.Future[None],
    options: TlsOptions,
    upgrade: bool = False,
) -> SSLTransport:
    """Makes a TLS transport that waits for a transport below.

    Args:
        loop, protocol, waiter, options: see `wrap`.
        upgrade: the protocol had its `connection_made` before, and gets no other.
    """
    if ssl is None:
        raise RuntimeError("stdlib ssl module not available")
    handshake_timeout = _seconds(
        "ssl_handshake_timeout", options.handshake_timeout, constants.SSL_HANDSHAKE_TIMEOUT
    )
    shutdown_timeout = _seconds(
        "ssl_shutdown_timeout", options.shutdown_timeout, constants.SSL_SHUTDOWN_TIMEOUT
    )
    context = options.context or _default_context(options)
    return loop._make_tls_transport(
        protocol,
        _session(context, options),
        waiter,
        {"sslcontext": context},
        handshake_timeout,
        shutdown_timeout,
        upgrade,
    )


def _seconds(name: str, value: float | None, default: float) -> float:
    """Returns a timeout, the default one for None."""
    if value is None:
        return default
    if value <= 0:
        raise ValueError(f"{name} should be a positive number, got {value}")
    return value


def _default_context(options: TlsOptions) -> "ssl_module.SSLContext":
    """Returns the context that `ssl=True` stands for."""
    if options.server_side:
        raise ValueError("Server side SSL needs a valid SSLContext")
    context = ssl.create_default_context()
    if not options.server_hostname:
        context.check_hostname = False
    return context


# Session, as native code takes it: the SSLObject, its do_handshake, read, write, unwrap and pending,
# write of its incoming BIO, read of its outgoing one, and whether all these are C functions.
Session = tuple[Any, Any, Any, Any, Any, Any, Any, Any, bool]

# The methods of SSLObject that pass straight on to the C object behind it, under its own names.
_PASSED_ON = {
    "do_handshake": "do_handshake",
    "read": "read",
    "write": "write",
    "unwrap": "shutdown",
    "pending": "pending",
}
_ORIGINALS = {} if ssl is None else {name: getattr(ssl.SSLObject, name) for name in _PASSED_ON}


def _session(context: "ssl_module.SSLContext", options: TlsOptions) -> Session:
    """Makes the TLS objects of one connection."""
    incoming = ssl.MemoryBIO()
    outgoing = ssl.MemoryBIO()
    sslobject = context.wrap_bio(
        incoming,
        outgoing,
        server_side=options.server_side,
        server_hostname=None if options.server_side else options.server_hostname or None,
    )
    bios = (incoming.write, outgoing.read)
    methods = _native_methods(sslobject)
    if methods is not None and all(map(_is_of_ssl, (*methods, *bios))):
        return (sslobject, *methods, *bios, True)
    methods = tuple(getattr(sslobject, name) for name in _PASSED_ON)
    return (sslobject, *methods, *bios, False)


def _native_methods(sslobject: Any) -> tuple[Any, ...] | None:
    """Returns the methods of the C object behind an SSLObject, or None if they are not its own.

    `SSLContext.sslobject_class`, `wrap_bio` and the methods themselves may all be replaced; whoever
    does that wants to be called.
    """
    inner = getattr(sslobject, "_sslobj", None)
    kind = type(sslobject)
    for name, original in _ORIGINALS.items():
        if getattr(kind, name, None) is not original or name in getattr(sslobject, "__dict__", ()):
            return None
    return tuple(getattr(inner, name, None) for name in _PASSED_ON.values())


def _is_of_ssl(method: object) -> bool:
    """Tells whether a bound method is one of the interpreter's own `_ssl` module."""
    return isinstance(method, BuiltinMethodType) and type(method.__self__).__module__ == "_ssl"


# From here on: what native code calls by name.


def handshake_completed(
    loop: LoopBase,
    transport: SSLTransport,
    sslobject: "ssl_module.SSLObject",
    extra: dict[str, Any],
    started: float | None,
) -> None:
    """Adds to `extra` what is known only now.

    Args:
        started: when the handshake began, on the loop's clock; None outside of debug mode.

    Raises:
        Exception: the peer's certificate cannot be read; then the handshake has failed.
    """
    peercert = sslobject.getpeercert()
    if started is not None and loop.get_debug():
        took = loop.time() - started
        logger.debug("%r: SSL handshake took %.1f ms", transport, took * 1e3)
    extra.update(
        peercert=peercert,
        cipher=sslobject.cipher(),
        compression=sslobject.compression(),
        ssl_object=sslobject,
    )


def handshake_failure(error: BaseException) -> str:
    """Returns the words for a handshake that failed."""
    if isinstance(error, ssl.CertificateError):
        return "SSL handshake failed on verifying the certificate"
    return "SSL handshake failed"


def handshake_timed_out(seconds: float) -> ConnectionAbortedError:
    """Returns the exception for a handshake that took too long."""
    return ConnectionAbortedError(
        f"SSL handshake is taking longer than {seconds} seconds: aborting the connection"
    )


def shutdown_timed_out() -> TimeoutError:
    """Returns the exception for a goodbye that was not answered."""
    return TimeoutError("SSL shutdown timed out")
