"""Patterns that tell connections apart: what is at an offset follows from the connection's name alone."""

import hashlib

_BLOCK_BYTES = 1 << 14


class Keystream:
    """An endless sequence of bytes, of which a piece of any length belongs to one name at one offset.

    Args:
        name: whose bytes they are; no two streams of a run have the same.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.offset = 0
        self._name = name.encode()
        self._cached: tuple[int, bytes] = (-1, b"")

    def at(self, offset: int, size: int) -> bytes:
        """Gives the `size` bytes that begin at `offset`."""
        pieces = []
        while size > 0:
            number, start = divmod(offset, _BLOCK_BYTES)
            piece = self._block(number)[start : start + size]
            pieces.append(piece)
            offset += len(piece)
            size -= len(piece)
        return b"".join(pieces)

    def take(self, size: int) -> bytes:
        """Gives the next `size` bytes."""
        data = self.at(self.offset, size)
        self.offset += size
        return data

    def follows(self, data: bytes | bytearray) -> bool:
        """Tells whether `data` are the next bytes, and goes past them if so."""
        if self.take(len(data)) == data:
            return True
        self.offset -= len(data)
        return False

    def _block(self, number: int) -> bytes:
        if self._cached[0] != number:
            block = hashlib.shake_128(b"%s/%d" % (self._name, number)).digest(_BLOCK_BYTES)
            self._cached = (number, block)
        return self._cached[1]
