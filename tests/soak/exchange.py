"""One connection of the soak: what either end is to send, how it is to end, and how far it is."""

import asyncio
import random
import struct
from dataclasses import dataclass
from enum import Enum

from soak.book import Book
from soak.keystream import Keystream

_HEADER = struct.Struct("!4sIQ")
_MAGIC = b"soak"
HEADER_BYTES = _HEADER.size
MOST_BYTES_AT_ONCE = 48 * 1024

KINDS = ("tcp", "tls", "unix", "unix tls")
STYLES = ("protocol", "buffered", "streams")
CLIENTS = (*STYLES, "socket")


class Ending(Enum):
    """How a connection ends."""

    ORDER = "in order"
    #: The end that waits for the other sends end of file first and still gets everything.
    HALF_CLOSE = "after half-close"
    ABORT = "aborted"
    RESET = "reset"
    STALL = "after a stall"
    CANCEL = "cancelled"


@dataclass(frozen=True)
class Plan:
    """What is to happen on a connection; all of it drawn from the seed."""

    kind: str
    client: str
    server: str
    up_bytes: int
    down_bytes: int
    ending: Ending
    #: Whether the server is the one who ends it.
    by_server: bool
    #: After how many bytes, received and sent by that end, an ending out of order comes.
    fault_at: int

    @classmethod
    def draw(cls, rng: random.Random) -> "Plan":
        """Draws one."""
        kind = rng.choice(KINDS)
        clients = CLIENTS if "tls" not in kind else STYLES
        endings = [Ending.ORDER] * 5 + list(Ending)
        if "tls" in kind:
            endings.remove(Ending.HALF_CLOSE)
        up_bytes, down_bytes = (
            rng.choice(
                (0, rng.randrange(1, 2000), rng.randrange(200_000), rng.randrange(1_500_000))
            )
            for _ in range(2)
        )
        return cls(
            kind,
            rng.choice(clients),
            rng.choice(STYLES),
            up_bytes,
            down_bytes,
            rng.choice(endings),
            rng.random() < 0.5,
            rng.randrange(1 + up_bytes + down_bytes),
        )

    @property
    def is_complete(self) -> bool:
        """Whether every byte has to arrive."""
        return self.ending in (Ending.ORDER, Ending.HALF_CLOSE, Ending.STALL)


class Flow:
    """One direction of a connection.

    Args:
        name: the stream's.
        total: how many bytes are to go this way.
    """

    def __init__(self, name: str, total: int) -> None:
        self.total = total
        self.outgoing = Keystream(name)
        self.incoming = Keystream(name)

    @property
    def is_sent(self) -> bool:
        """Whether the sender has given everything away."""
        return self.outgoing.offset >= self.total

    @property
    def has_arrived(self) -> bool:
        """Whether the receiver has everything."""
        return self.incoming.offset >= self.total

    def next_chunk(self, size: int) -> bytes:
        """Gives the sender its next bytes, at most `size`."""
        return self.outgoing.take(min(size, self.total - self.outgoing.offset))


class Exchange:
    """A connection with its two flows; entered into the book while it lives."""

    def __init__(self, book: Book, number: int, seed: str, plan: Plan) -> None:
        self.book = book
        self.number = number
        self.plan = plan
        self.seed = f"{seed}/{number}"
        self.up = Flow(f"{self.seed}/up", plan.up_bytes)
        self.down = Flow(f"{self.seed}/down", plan.down_bytes)
        #: Whether a server has read the header.
        self.was_met = False
        #: Done when the server's end has lost the connection.
        self.server_ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        book.streams[self.up.incoming.name] = self.up.incoming
        book.streams[self.down.incoming.name] = self.down.incoming

    def close(self) -> None:
        """Takes it out of the book."""
        for flow in (self.up, self.down):
            self.book.streams.pop(flow.incoming.name, None)

    @property
    def header(self) -> bytes:
        """What the client says first."""
        return _HEADER.pack(_MAGIC, 0, self.number)

    def __str__(self) -> str:
        plan = self.plan
        done = ", ".join(
            f"{name} {flow.outgoing.offset}>{flow.incoming.offset}/{flow.total}"
            for name, flow in (("up", self.up), ("down", self.down))
        )
        who = "server" if plan.by_server else "client"
        return (
            f"connection {self.number} ({plan.kind}, {plan.client} to {plan.server}, "
            f"{plan.ending.value} by the {who}; {done})"
        )


def number_in(header: bytes) -> int | None:
    """Gives the number of the connection that a header is for; None: it is no header."""
    magic, zero, number = _HEADER.unpack(header)
    return number if (magic, zero) == (_MAGIC, 0) else None
