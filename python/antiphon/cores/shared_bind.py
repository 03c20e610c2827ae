"""Listening sockets of a program that knows nothing of workers: bound once, by the supervisor, and shared by all.

A worker's `bind` of a TCP socket asks the supervisor, which binds on the first request and gives the same socket to
every worker; it takes the place of the worker's own, descriptor number and all. So there is one queue of connections:
a worker that ends leaves the connections in it to the others.
"""

import _socket
import os
import socket
from typing import Any

from antiphon.cores.member import Member

__all__ = ["share"]


def share(member: Member) -> None:
    """Makes this process's TCP sockets shared ones from now on, when they are bound; a `listen` says that it serves."""

    def bind(self: socket.socket, address: Any) -> None:
        if self.family not in (socket.AF_INET, socket.AF_INET6) or self.type != socket.SOCK_STREAM:
            return _socket.socket.bind(self, address)
        options = [
            (level, option, self.getsockopt(level, option))
            for level, option in _options_of(self.family)
        ]
        descriptor = member.ask_bound(int(self.family), self.proto, tuple(address), options)
        timeout = self.gettimeout()
        os.dup2(descriptor, self.fileno(), inheritable=False)
        os.close(descriptor)
        self.settimeout(timeout)
        return None

    def listen(self: socket.socket, *backlog: int) -> None:
        _socket.socket.listen(self, *backlog)
        member.say_ready()

    socket.socket.bind = bind  # type: ignore[method-assign, assignment]
    socket.socket.listen = listen  # type: ignore[method-assign, assignment]


def _options_of(family: int) -> list[tuple[int, int]]:
    """What decides about an address, and therefore has to be set before it is bound."""
    options = [(socket.SOL_SOCKET, socket.SO_REUSEADDR), (socket.SOL_SOCKET, socket.SO_REUSEPORT)]
    if family == socket.AF_INET6:
        options.append((socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
    return options
