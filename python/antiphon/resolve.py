"""Name resolution: names go to a thread, numeric addresses are answered on the spot.

`getaddrinfo(3)` blocks on files and the network for a name, but for a literal it only parses. So a
literal host with a numeric port is answered here, without a thread. Invariant: the list is the one
that `socket.getaddrinfo` gives for the same arguments. Which (family, type, protocol) rows a libc
puts in that list is not guessed: it is asked once, about the loopback address, and remembered, for
only address and port differ between two literals of one family. Whatever is not certain (scope
zones, legacy forms such as `127.1`, canonical names, flags that look at the machine's interfaces)
goes to the thread.

Source: getaddrinfo(3), RFC 3493 section 6.1, Modules/socketmodule.c.
"""

import functools
import socket
from asyncio.log import logger
from typing import Any

from antiphon.executor import Executor
from antiphon.seams import base_events

__all__ = ["AddressInfo", "Resolve", "literal_addrinfo", "literal_endpoint"]

AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]
_Row = tuple[int, int, int]

_INET = int(socket.AF_INET)
_INET6 = int(socket.AF_INET6)
_PROBES = {_INET: "127.0.0.1", _INET6: "::1"}
# Flags that change nothing for a literal host with a numeric port.
_IDLE_FLAGS = int(socket.AI_PASSIVE | socket.AI_NUMERICHOST | socket.AI_NUMERICSERV)
_ALL_OTHER_FLAGS = ~_IDLE_FLAGS
_NUMERIC_ONLY = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
_TRANSPORTS = {socket.SOCK_STREAM: socket.IPPROTO_TCP, socket.SOCK_DGRAM: socket.IPPROTO_UDP}


@functools.lru_cache(maxsize=64)
def _rows(literal_family: int, family: int, kind: int, proto: int) -> tuple[_Row, ...] | None:
    """Returns what this libc lists for any literal of `literal_family`, or None if it refuses."""
    try:
        infos = socket.getaddrinfo(
            _PROBES[literal_family], 1, family, kind, proto, _IDLE_FLAGS & ~socket.AI_PASSIVE
        )
    except OSError:
        return None
    return tuple(info[:3] for info in infos)


def literal_addrinfo(
    host: Any, port: Any, family: int, kind: int, proto: int, flags: int
) -> list[AddressInfo] | None:
    """Answers `socket.getaddrinfo(host, port, family, kind, proto, flags)` without asking anybody.

    Args:
        host: answered for a string that is an IPv4 or IPv6 address in its standard form.
        port: answered for an int from 0 to 65535, a string of ASCII digits, and None (0).

    Returns:
        A new list, equal to that of `socket.getaddrinfo`; None when only that function can tell.

    >>> literal_addrinfo("127.0.0.1", 80, 0, socket.SOCK_STREAM, 0, 0)[0][4]
    ('127.0.0.1', 80)
    """
    if host.__class__ is not str or flags & _ALL_OTHER_FLAGS:
        return None
    if port.__class__ is not int:
        if port is None:
            port = 0
        elif port.__class__ is str and port.isascii() and port.isdigit() and len(port) <= 5:
            port = int(port)
        else:
            return None
    if not 0 <= port <= 65535:
        return None
    literal_family = _INET6 if ":" in host else _INET
    try:
        text = socket.inet_ntop(literal_family, socket.inet_pton(literal_family, host))
    except (OSError, ValueError):  # a name, or a string that no C function takes
        return None
    rows = _rows(literal_family, family, kind, proto)
    if rows is None:
        return None
    address = (text, port) if literal_family == _INET else (text, port, 0, 0)
    return [
        (row_family, row_kind, row_proto, "", address) for row_family, row_kind, row_proto in rows
    ]


def literal_endpoint(
    address: tuple[Any, ...], family: int, kind: int, proto: int
) -> AddressInfo | None:
    """Returns the one address to connect or bind to when `address` is numeric already.

    Unlike `literal_addrinfo` the host keeps its spelling, and flow label and scope are kept.

    Args:
        address: `(host, port)` or `(host, port, flowinfo, scope_id)`; the host may be bytes.
        family: AF_INET, AF_INET6 or AF_UNSPEC.
        kind: SOCK_STREAM or SOCK_DGRAM; nothing else is answered.
        proto: 0, IPPROTO_TCP or IPPROTO_UDP; the answer has the one that belongs to `kind`.

    Source: Lib/asyncio/base_events.py (`_ipaddr_info`), whose answers programs rely on.
    """
    host, port = address[:2]
    transport = _TRANSPORTS.get(kind)  # type: ignore[call-overload]
    if transport is None or host is None or proto not in (0, *_TRANSPORTS.values()):
        return None
    if port is None or port in ("", b""):
        port = 0
    else:
        try:
            port = int(port)
        except (TypeError, ValueError):
            return None  # a service name
    if isinstance(host, bytes):
        host = host.decode("idna")
    if "%" in host:
        return None
    families = (socket.AF_INET, socket.AF_INET6) if family == socket.AF_UNSPEC else (family,)
    for candidate in families:
        try:
            socket.inet_pton(candidate, host)
        except OSError:
            continue
        if candidate == _INET6:
            flowinfo, scope_id = (*address[2:4], 0, 0)[:2]
            return candidate, kind, transport, "", (host, port, flowinfo, scope_id)
        return candidate, kind, transport, "", (host, port)
    return None


class Resolve(Executor):
    """The part of the loop that resolves names."""

    __slots__ = ()

    async def getaddrinfo(  # type: ignore[override]
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[AddressInfo]:
        """Resolves a host and a port; the arguments and the list are `socket.getaddrinfo`'s.

        Numeric addresses are answered at once, names in a thread of the default executor. In debug
        mode every call takes the thread and is timed and logged.

        Raises:
            socket.gaierror: the name cannot be resolved.
        """
        if self.get_debug():
            return await self.run_in_executor(
                None, self._getaddrinfo_debug, host, port, family, type, proto, flags
            )
        literal = literal_addrinfo(host, port, family, type, proto, flags)
        if literal is not None:
            return literal
        return await self.run_in_executor(
            None,
            base_events.socket.getaddrinfo,
            host,
            port,
            family,
            type,
            proto,
            flags,
        )

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> tuple[str, str]:
        """Finds host and service of a socket address, as `socket.getnameinfo` does.

        With both NI_NUMERICHOST and NI_NUMERICSERV nothing is looked up, so no thread is used.

        Raises:
            socket.gaierror: no name was found and the flags require one.
        """
        if flags.__class__ is int and flags & _NUMERIC_ONLY == _NUMERIC_ONLY:
            name: tuple[str, str] = base_events.socket.getnameinfo(sockaddr, flags)
            return name
        return await self.run_in_executor(None, base_events.socket.getnameinfo, sockaddr, flags)

    async def _resolve_endpoint(
        self,
        address: tuple[Any, ...],
        *,
        family: int = 0,
        kind: int = socket.SOCK_STREAM,
        proto: int = 0,
        flags: int = 0,
    ) -> list[AddressInfo]:
        """Returns the addresses to connect or bind to; a numeric one stands for itself.

        Names go through `self.getaddrinfo`, so that a program that replaces it is heard.
        """
        endpoint = literal_endpoint(address, family, kind, proto)
        if endpoint is not None:
            return [endpoint]
        host, port = address[:2]
        return await self.getaddrinfo(
            host, port, family=family, type=kind, proto=proto, flags=flags
        )

    def _getaddrinfo_debug(
        self, host: Any, port: Any, family: int, kind: int, proto: int, flags: int
    ) -> list[AddressInfo]:
        """Calls `socket.getaddrinfo` in a thread and logs how long it took."""
        query = f"{host}:{port!r}"
        for name, value in (("family", family), ("type", kind), ("proto", proto), ("flags", flags)):
            if value:
                query += f", {name}={value!r}"
        logger.debug("Get address info %s", query)
        began = self.time()
        infos: list[AddressInfo] = base_events.socket.getaddrinfo(
            host, port, family, kind, proto, flags
        )
        seconds = self.time() - began
        logger.log(
            20 if seconds >= self.slow_callback_duration else 10,
            f"Getting address info {query} took {seconds * 1e3:.3f}ms: {infos!r}",
        )
        return infos
