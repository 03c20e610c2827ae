"""A TLS client that can do what Python's `ssl` has no call for: renegotiate, and ask for new keys.

It speaks through the very OpenSSL that the interpreter's `_ssl` module is linked to, between two memory BIOs.

Source: SSL_renegotiate(3ssl), SSL_key_update(3ssl), BIO_s_mem(3ssl).
"""

import _ssl
import asyncio
import ctypes
import socket

_SSL_ERROR_WANT_READ = 2
_SSL_CTRL_SET_MIN_PROTO_VERSION = 123
_SSL_CTRL_SET_MAX_PROTO_VERSION = 124
_KEY_UPDATE_REQUESTED = 1
ALLOW_CLIENT_RENEGOTIATION = 1 << 8
"""An option of `SSLContext` that Python gives no name."""

TLS_1_2, TLS_1_3 = 0x0303, 0x0304

# Symbols of the libraries that a module is linked to are found through it; a built-in one is in the process itself.
_library = ctypes.CDLL(getattr(_ssl, "__file__", None))


def _function(name, result, *arguments):
    function = getattr(_library, name)
    function.restype = result
    function.argtypes = arguments
    return function


_P, _I, _B = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
_method = _function("TLS_client_method", _P)
_ctx_new = _function("SSL_CTX_new", _P, _P)
_ctx_free = _function("SSL_CTX_free", None, _P)
_ctx_ctrl = _function("SSL_CTX_ctrl", ctypes.c_long, _P, _I, ctypes.c_long, _P)
_new = _function("SSL_new", _P, _P)
_free = _function("SSL_free", None, _P)
_bio_new = _function("BIO_new", _P, _P)
_bio_mem = _function("BIO_s_mem", _P)
_bio_read = _function("BIO_read", _I, _P, _B, _I)
_bio_write = _function("BIO_write", _I, _P, _B, _I)
_set_bio = _function("SSL_set_bio", None, _P, _P, _P)
_set_connect_state = _function("SSL_set_connect_state", None, _P)
_do_handshake = _function("SSL_do_handshake", _I, _P)
_read = _function("SSL_read", _I, _P, _B, _I)
_write = _function("SSL_write", _I, _P, _B, _I)
_renegotiate = _function("SSL_renegotiate", _I, _P)
_key_update = _function("SSL_key_update", _I, _P, _I)
_get_error = _function("SSL_get_error", _I, _P, _I)
_clear_errors = _function("ERR_clear_error", None)


class OpenSSLError(Exception):
    """A call failed and does not merely want to read."""


class Client:
    """The raw client end of a TLS connection; it trusts whoever answers.

    Args:
        sock: connected and non-blocking; the caller closes it.
        version: `TLS_1_2` or `TLS_1_3`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, version: int) -> None:
        self.loop = loop
        self.sock = sock
        self._context = _ctx_new(_method())
        for limit in (_SSL_CTRL_SET_MIN_PROTO_VERSION, _SSL_CTRL_SET_MAX_PROTO_VERSION):
            _ctx_ctrl(self._context, limit, version, None)
        self._tls = _new(self._context)
        self._incoming = _bio_new(_bio_mem())
        self._outgoing = _bio_new(_bio_mem())
        _set_bio(self._tls, self._incoming, self._outgoing)  # which owns the BIOs from here on
        _set_connect_state(self._tls)

    def close(self) -> None:
        """Gives OpenSSL's objects back."""
        _free(self._tls)
        _ctx_free(self._context)

    def _tried(self, result: int) -> bool:
        """Tells whether a call has succeeded; False means that it wants to read."""
        if result > 0:
            return True
        reason = _get_error(self._tls, result)
        _clear_errors()
        if reason != _SSL_ERROR_WANT_READ:
            raise OpenSSLError(f"SSL_get_error says {reason}")
        return False

    def take_outgoing(self) -> bytes:
        """Gives what OpenSSL has to send."""
        taken = bytearray()
        buffer = ctypes.create_string_buffer(1 << 16)
        while (count := _bio_read(self._outgoing, buffer, len(buffer))) > 0:
            taken += buffer.raw[:count]
        return bytes(taken)

    async def flush(self) -> None:
        """Sends what OpenSSL has to send."""
        if data := self.take_outgoing():
            await self.loop.sock_sendall(self.sock, data)

    async def _receive(self) -> None:
        data = await self.loop.sock_recv(self.sock, 1 << 16)
        if not data:
            raise OpenSSLError("the stream has ended")
        _bio_write(self._incoming, data, len(data))

    async def handshake(self) -> None:
        """Agrees with the server, again after `renegotiate`."""
        while not self._tried(_do_handshake(self._tls)):
            await self.flush()
            await self._receive()
        await self.flush()

    def write(self, data: bytes) -> None:
        """Encrypts `data`; nothing is sent."""
        assert self._tried(_write(self._tls, data, len(data)))

    async def read(self, size: int) -> bytes:
        """Reads exactly `size` bytes of data."""
        got = bytearray()
        buffer = ctypes.create_string_buffer(size)
        while len(got) < size:
            count = _read(self._tls, buffer, size - len(got))
            if self._tried(count):
                got += buffer.raw[:count]
            else:
                await self.flush()
                await self._receive()
        return bytes(got)

    def renegotiate(self) -> None:
        """Begins a new handshake within the connection (TLS 1.2)."""
        assert _renegotiate(self._tls) == 1

    def ask_for_new_keys(self) -> None:
        """Changes the keys with the next record and asks the server to do so too (TLS 1.3)."""
        assert _key_update(self._tls, _KEY_UPDATE_REQUESTED) == 1
