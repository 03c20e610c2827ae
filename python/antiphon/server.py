"""`Server`: the listening sockets of one `create_server` call and the connections they brought.

Life: made -> serving (`start_serving`) -> closed (`close`; no way back) -> all connections gone,
which is what `wait_closed` waits for. Invariant: a transport is in `_clients` from `_attach`, which
the accept loop calls when it makes the transport, until `_detach`, which the transport calls when
its connection is lost. Both run once per connection, so they are single operations of a dict; it
holds transports weakly, for one that everybody else forgot must be found by the collector.

    async with await loop.create_server(Echo, "127.0.0.1", 8080) as server:
        await server.serve_forever()

Source: Lib/asyncio/base_events.py, "Server objects" of the asyncio documentation.
"""

import asyncio
import contextvars
import socket
import sys
from asyncio.trsock import TransportSocket
from collections.abc import Callable
from typing import Any
from weakref import ref

from antiphon._antiphon import LoopBase
from antiphon.tls import WrapProtocol

__all__ = ["Server"]

# Before 3.12.1 wait_closed() of a closed server returned although connections were left.
_WAITS_FOR_CONNECTIONS = sys.version_info >= (3, 12, 1)
# From 3.15 on connections see the context variables of the code that made the server, before those
# of the code that started it.
_SERVES_IN_CONTEXT_OF_MAKING = sys.version_info >= (3, 15)


class Server(asyncio.AbstractServer):
    """Listening sockets with one protocol factory.

    Args:
        loop: the loop that accepts.
        sockets: bound, non-blocking, not yet listening; owned by the server.
        protocol_factory: called without arguments for each connection.
        backlog: length of the kernel's queue, and of the batch accepted at a time.
        wrap_protocol: gives the layer between a connection and its protocol; None for plain ones.
        on_socket_closed: called with each listening socket after it was closed.
    """

    #: Connections accepted at a time; None: as many as the kernel queues. Where several processes accept from one
    #: socket that would give all to who comes first, so workers set it.
    _accepted_at_once: int | None = None

    def __init__(
        self,
        loop: LoopBase,
        sockets: list[socket.socket],
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        backlog: int,
        wrap_protocol: WrapProtocol | None = None,
        on_socket_closed: Callable[[socket.socket], None] | None = None,
    ) -> None:
        self._loop = loop
        self._sockets: list[socket.socket] | None = sockets
        self._protocol_factory = protocol_factory
        self._backlog = backlog
        self._wrap_protocol = wrap_protocol
        self._on_socket_closed = on_socket_closed
        self._context = contextvars.copy_context()
        self._serving = False
        self._serving_forever: asyncio.Future[None] | None = None
        self._clients: dict[int, ref[asyncio.Transport]] = {}  # by id of the transport
        self._nameless_clients = 0
        # None once closed and without connections: then nobody has to wait any more.
        self._waiters: list[asyncio.Future[None]] | None = []

    def __repr__(self) -> str:
        return f"<{self.__class__.__name__} sockets={self.sockets!r}>"

    @property
    def sockets(self) -> tuple[TransportSocket, ...]:
        """The listening sockets, wrapped against closing; empty once the server is closed."""
        if self._sockets is None:
            return ()
        return tuple(TransportSocket(sock) for sock in self._sockets)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Returns the loop that accepts."""
        return self._loop

    def is_serving(self) -> bool:
        """Tells whether connections are accepted."""
        return self._serving

    def close(self) -> None:
        """Closes the listening sockets; connections that were accepted stay open.

        A second call does nothing. `serve_forever` ends as if it were cancelled.
        """
        sockets = self._sockets
        if sockets is None:
            return
        self._sockets = None
        for sock in sockets:
            self._loop._stop_serving(sock)
            sock.close()
            if self._on_socket_closed is not None:
                self._on_socket_closed(sock)
        self._serving = False
        serving_forever = self._serving_forever
        if serving_forever is not None and not serving_forever.done():
            serving_forever.cancel()
            self._serving_forever = None
        if not self._has_clients():
            self._wake_waiters()

    if sys.version_info >= (3, 13):

        def close_clients(self) -> None:
            """Closes all accepted connections after their written data is sent."""
            for transport in self._living_clients():
                transport.close()

        def abort_clients(self) -> None:
            """Closes all accepted connections at once; what is not yet sent is lost."""
            for transport in self._living_clients():
                transport.abort()

    async def start_serving(self) -> None:
        """Accepts connections from now on; harmless if it does so already."""
        self._start_serving()
        # What the loop was told about the sockets is in force when this returns.
        await asyncio.sleep(0)

    async def serve_forever(self) -> None:
        """Accepts connections until cancelled, then closes the server and waits for it.

        Raises:
            RuntimeError: the server is closed, or somebody else waits here already.
            asyncio.CancelledError: the only way out.
        """
        if self._serving_forever is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        if self._sockets is None:
            raise RuntimeError(f"server {self!r} is closed")
        self._start_serving()
        self._serving_forever = self._loop.create_future()
        try:
            await self._serving_forever
        except asyncio.CancelledError:
            try:
                self.close()
                # Its wait would hang on connections that nobody closes.
                if sys.version_info >= (3, 14):
                    self.close_clients()
                await self.wait_closed()
            finally:
                raise
        finally:
            self._serving_forever = None

    async def wait_closed(self) -> None:
        """Waits until the server is closed and its connections are gone, in either order.

        Python 3.11 does not wait for connections of a server that is closed already.
        """
        waiters = self._waiters
        if waiters is None or (self._sockets is None and not _WAITS_FOR_CONNECTIONS):
            return
        waiter: asyncio.Future[None] = self._loop.create_future()
        waiters.append(waiter)
        await waiter

    def _start_serving(self) -> None:
        """Lets the kernel queue connections and the loop accept them."""
        if self._serving or self._sockets is None:
            return
        self._serving = True
        if not _SERVES_IN_CONTEXT_OF_MAKING:
            self._context = contextvars.copy_context()
        for sock in self._sockets:
            sock.listen(self._backlog)
            # Each connection runs in a copy of the context that this call is made in.
            self._context.run(
                self._loop._start_serving,
                sock,
                self._protocol_factory,
                self,
                self._accepted_at_once or self._backlog,
                self._wrap_protocol,
            )

    def _attach(self, transport: Any = None) -> None:
        """Counts a connection in; called by the accept loop.

        Transports of other libraries did not tell who they are before Python 3.13: None stands for
        one of them.
        """
        if transport is None:
            self._nameless_clients += 1
        else:
            self._clients[id(transport)] = ref(transport)

    def _detach(self, transport: Any = None) -> None:
        """Counts a connection out; the last one of a closed server wakes who waits for that."""
        if transport is None:
            self._nameless_clients -= 1
        else:
            self._clients.pop(id(transport), None)
        if self._sockets is None and not self._has_clients():
            self._wake_waiters()

    def _has_clients(self) -> bool:
        """Tells whether a connection is left; looks no further than the first."""
        return self._nameless_clients > 0 or any(
            reference() is not None for reference in self._clients.values()
        )

    def _living_clients(self) -> list[asyncio.Transport]:
        """Returns the accepted connections that are still there."""
        clients = [reference() for reference in self._clients.values()]
        return [transport for transport in clients if transport is not None]

    def _wake_waiters(self) -> None:
        """Ends all `wait_closed` calls, those to come too."""
        waiters = self._waiters
        self._waiters = None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)
