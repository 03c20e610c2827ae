"""Checks of arguments that several methods of the loop share.

Every check raises asyncio's own exception with asyncio's own words; none of them touches the network.

Source: Lib/asyncio/base_events.py (`_check_ssl_socket`, `_set_reuseport`).
"""

import socket
import sys
from typing import Any

from antiphon.seams import base_events

try:
    import ssl
except ImportError:  # an interpreter built without OpenSSL
    ssl = None  # type: ignore[assignment]

__all__ = [
    "check_not_ssl",
    "check_stream",
    "refuse_before",
    "set_reuse_port",
]


def refuse_before(version: tuple[int, int], name: str, value: object) -> None:
    """Refuses a keyword that asyncio did not know before a version of Python, if it is given.

    A program that probes for the keyword must learn the same on either loop.

    Args:
        version: the first one that knows the keyword.
        name: the keyword.
        value: what it was given; None and False mean that it was not.

    Raises:
        TypeError: the running Python is older.
    """
    if value and sys.version_info < version:
        raise TypeError(f"got an unexpected keyword argument {name!r}")


def check_not_ssl(sock: Any) -> None:
    """Refuses a socket of the `ssl` module, whose reads and writes do not follow readiness.

    Args:
        sock: any object; only `ssl.SSLSocket` is refused.

    Raises:
        TypeError: `sock` is an `ssl.SSLSocket`.
    """
    if ssl is not None and isinstance(sock, ssl.SSLSocket):
        raise TypeError("Socket cannot be of type SSLSocket")


def check_stream(sock: socket.socket) -> None:
    """Refuses a socket that is not of type SOCK_STREAM; the family does not matter.

    Raises:
        ValueError: `sock` is a datagram, raw or other socket.
    """
    if sock.type != socket.SOCK_STREAM:
        raise ValueError(f"A Stream Socket was expected, got {sock!r}")


def set_reuse_port(sock: socket.socket) -> None:
    """Sets SO_REUSEPORT, so that several sockets may listen on one address.

    Raises:
        ValueError: the platform does not know the option, or knows it only by name.
    """
    option = getattr(base_events.socket, "SO_REUSEPORT", None)
    if option is None:
        raise ValueError("reuse_port not supported by socket module")
    try:
        sock.setsockopt(socket.SOL_SOCKET, option, 1)
    except OSError:
        raise ValueError(
            "reuse_port not supported by socket module, SO_REUSEPORT defined but not implemented."
        ) from None
