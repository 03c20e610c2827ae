"""`start_tls`: a plain connection goes on as a TLS one.

Over transports of this loop the new one is fed natively; over those of others (a proxy's, a test's)
by way of `_Below`, a protocol that passes every call on.

Source: Lib/asyncio/base_events.py (`start_tls`).
"""

import asyncio
from typing import TYPE_CHECKING, Any

from antiphon._antiphon import LoopBase, SSLTransport, StreamTransport
from antiphon.tls import TlsOptions, make_tls_transport

try:
    import ssl
except ImportError:  # an interpreter built without OpenSSL
    ssl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    import ssl as ssl_module

__all__ = ["StartTls"]


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

        Cancellation:
            The connection is closed.
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
        tls = make_tls_transport(self, protocol, waiter, options, upgrade=True)
        # Nothing may arrive before the handshake has begun.
        transport.pause_reading()
        if server_side:
            _hand_over_early_bytes(protocol, tls)
        _put_above(transport, tls)
        begun = self.call_soon(tls._begin)
        resumed = self.call_soon(transport.resume_reading)
        try:
            await waiter
        except BaseException:
            transport.close()
            begun.cancel()
            resumed.cancel()
            raise
        finally:
            del waiter  # holds the exception whose traceback holds this frame: no cycle
        return tls


def _hand_over_early_bytes(protocol: asyncio.BaseProtocol, tls: SSLTransport) -> None:
    """Moves what a stream reader holds already into the TLS transport.

    A client that does not wait for an answer sends its first record right behind its wish to
    upgrade, so a server may have read it as plain bytes (python/cpython issue 142352).
    """
    reader = getattr(protocol, "_stream_reader", None)
    early = getattr(reader, "_buffer", None)
    if isinstance(protocol, asyncio.StreamReaderProtocol) and early:
        tls._feed(bytes(early))
        early.clear()


def _put_above(transport: Any, tls: SSLTransport) -> None:
    """Makes `tls` what `transport` talks to."""
    if type(transport) in (StreamTransport, SSLTransport):
        transport.set_protocol(tls)
    else:
        tls._attach(transport)
        transport.set_protocol(_Below(tls))


class _Below(asyncio.Protocol):
    """The protocol of a foreign transport with TLS above it."""

    def __init__(self, tls: SSLTransport) -> None:
        self._tls = tls

    def data_received(self, data: bytes) -> None:
        self._tls._feed(bytes(data))
        self._tls._received()

    def eof_received(self) -> bool:
        return self._tls._lower_ended()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._tls._lower_lost(exc)

    def pause_writing(self) -> None:
        self._tls._pause_lower()

    def resume_writing(self) -> None:
        self._tls._resume_lower()
