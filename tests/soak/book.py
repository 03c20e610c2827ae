"""The run's book: what was done, and what went wrong."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from soak.keystream import Keystream

#: How far around a stream's place its bytes are looked for when they turn up elsewhere.
_SEARCH_BYTES = 1 << 18
#: So many bytes in a row are nobody else's by chance.
_TELLING_BYTES = 12
_MOST_FAILURES = 50


class Mixed(Exception):
    """Bytes arrived that are not the ones that were sent; the book has it."""


@dataclass
class Book:
    """Counts by what they count; failures as sentences."""

    done: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    #: The streams that are under way, by name.
    streams: dict[str, Keystream] = field(default_factory=dict)

    def fail(self, sentence: str) -> None:
        """Notes a failure."""
        self.done["failures"] += 1
        if len(self.failures) < _MOST_FAILURES:
            self.failures.append(sentence)

    def check(self, stream: Keystream, data: bytes | bytearray, where: str) -> None:
        """Holds what arrived against the pattern (Q1).

        Args:
            stream: whose bytes have to come next.
            data: what came.
            where: the receiver, for the report.

        Raises:
            Mixed: something else came.
        """
        if stream.follows(data):
            self.done["bytes checked"] += len(data)
            return
        expected = stream.at(stream.offset, len(data))
        wrong = next(place for place in range(len(data)) if data[place] != expected[place])
        self.fail(
            f"{where}: byte {stream.offset + wrong} of stream {stream.name} is wrong "
            f"({len(data)} bytes from {stream.offset} on); {self._owner(bytes(data[wrong:]))}"
        )
        raise Mixed(where)

    def _owner(self, data: bytes) -> str:
        """Says which stream the bytes belong to."""
        if len(data) < _TELLING_BYTES:
            return f"{len(data)} bytes are too few to tell whose they are"
        needle = data[:_TELLING_BYTES]
        for name, offset in self._places(needle):
            return f"they are stream {name}'s from {offset} on"
        return f"they are nobody's: {needle.hex()}"

    def _places(self, needle: bytes) -> Iterator[tuple[str, int]]:
        for name, stream in self.streams.items():
            start = max(0, stream.offset - _SEARCH_BYTES)
            place = stream.at(start, 2 * _SEARCH_BYTES).find(needle)
            if place >= 0:
                yield name, start + place
