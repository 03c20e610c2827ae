"""The cells of the echo matrix: which server, how large a message, how many connections."""

from dataclasses import dataclass
from itertools import product

#: What each kind of server is, in the order of the reports.
KINDS = {
    "tcp_protocol": "TCP, Protocol",
    "sock_calls": "sock_recv and sock_sendall",
    "churn": "accept, one echo, close",
    "tcp_buffered": "TCP, BufferedProtocol",
    "tcp_streams": "TCP, streams",
    "tcp_pipelined": "TCP, Protocol, 16 messages in flight",
    "udp": "UDP, DatagramProtocol",
    "unix_protocol": "Unix socket, Protocol",
    "tls_protocol": "TLS, Protocol",
    "tcp_one_write": "TCP, head and body joined, one write()",
    "tcp_two_writes": "TCP, head and body, two write()s",
}


@dataclass(frozen=True)
class Cell:
    """``connections`` connections, each with ``depth`` messages of ``message_bytes`` in flight."""

    kind: str
    message_bytes: int
    connections: int
    depth: int = 1

    @property
    def name(self) -> str:
        """The row's name."""
        return f"{self.kind}_{self.message_bytes}B_{self.connections}c"

    @property
    def title(self) -> str:
        """The row's title in tables and in the picture."""
        size = (
            f"{self.message_bytes} B"
            if self.message_bytes < 1024
            else f"{self.message_bytes // 1024} KiB"
        )
        peers = "peer" if self.datagrams else "connection"
        plural = "" if self.connections == 1 else "s"
        return f"{KINDS[self.kind]}, {size}, {self.connections} {peers}{plural}"

    @property
    def churn(self) -> bool:
        """Whether every message has a connection of its own."""
        return self.kind == "churn"

    @property
    def datagrams(self) -> bool:
        """Whether messages are datagrams, and connections sockets that send to the same server."""
        return self.kind == "udp"

    @property
    def secure(self) -> bool:
        """Whether the load speaks TLS."""
        return self.kind == "tls_protocol"


CELLS = (
    *(Cell("tcp_protocol", *shape) for shape in product((64, 1024, 16384), (1, 10, 100, 1000))),
    *(Cell("tcp_protocol", 100 * 1024, connections) for connections in (1, 100, 1000)),
    *(Cell("sock_calls", *shape) for shape in ((64, 1), (64, 100), (1024, 100), (16384, 100))),
    Cell("churn", 64, 50),
    *(Cell("tcp_buffered", *shape) for shape in ((64, 100), (16384, 100))),
    *(
        Cell("tcp_streams", *shape)
        for shape in ((64, 1), (64, 100), (1024, 100), (16384, 100), (102_400, 10))
    ),
    Cell("tcp_pipelined", 64, 10, depth=16),
    *(Cell("udp", *shape) for shape in ((64, 1), (64, 100), (1024, 100), (16384, 10))),
    *(Cell("unix_protocol", *shape) for shape in ((64, 1), (64, 100), (1024, 100), (16384, 100))),
    *(Cell("tls_protocol", *shape) for shape in product((64, 1024, 16384), (10, 100))),
    *(Cell(kind, 1024, 100) for kind in ("tcp_one_write", "tcp_two_writes")),
)

BY_NAME = {cell.name: cell for cell in CELLS}

#: The cells of a quick run: each size and each number of connections once at least.
QUICK_CELLS = frozenset(
    {
        "tcp_protocol_64B_1c",
        "tcp_protocol_64B_100c",
        "tcp_protocol_1024B_10c",
        "tcp_protocol_1024B_1000c",
        "tcp_protocol_16384B_100c",
        "sock_calls_64B_1c",
        "sock_calls_1024B_100c",
        "churn_64B_50c",
        "tcp_streams_1024B_100c",
        "udp_1024B_100c",
        "unix_protocol_64B_100c",
        "tls_protocol_1024B_100c",
        "tcp_protocol_102400B_100c",
    }
)
