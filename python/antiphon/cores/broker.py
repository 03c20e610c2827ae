"""The supervisor's half of shared sockets: binds each address once.

The n-th socket that one worker binds to an address is the n-th of every other worker: so port 0 stands for the same
port in all of them.
"""

import socket
from typing import Any

__all__ = ["Broker"]


class Broker:
    """Sockets by address and turn."""

    def __init__(self) -> None:
        self._sockets: dict[tuple[Any, ...], socket.socket] = {}

    def bound(
        self, turn: int, family: int, proto: int, address: tuple[Any, ...], options: list[Any]
    ) -> socket.socket:
        """Gives the socket for an address.

        Args:
            turn: how many sockets of this address the worker has bound before.
            family, proto: the socket's.
            address: where to bind it.
            options: triples for `setsockopt`.

        Raises:
            OSError: it cannot be bound.
        """
        key = (turn, family, proto, address)
        found = self._sockets.get(key)
        if found is not None:
            return found
        made = socket.socket(family, socket.SOCK_STREAM, proto)
        try:
            for level, option, value in options:
                made.setsockopt(level, option, value)
            made.bind(address)
        except BaseException:
            made.close()
            raise
        made.setblocking(False)
        self._sockets[key] = made
        return made

    def close(self) -> None:
        """Closes them; workers have their own descriptors of them."""
        for made in self._sockets.values():
            made.close()
        self._sockets.clear()
