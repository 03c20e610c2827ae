"""Shared memory for what is large: a copy into a segment here, the same pages mapped there.

A segment is a `memfd`: it has no name, so nothing of it can be left behind, whoever dies how. Its descriptor crosses
once (`SCM_RIGHTS`); from then on both sides have it mapped, and it is used again and again: fresh pages cost several
times the copy. Invariant M1: a segment is written only while nobody on the other side can see it; the other side says
when the last view of it has gone.

Source: memfd_create(2), unix(7), mmap(2).
"""

import ctypes
import mmap
import os
import weakref
from collections import deque
from collections.abc import Callable, Sequence

__all__ = ["Incoming", "Outgoing"]

_ALIGNMENT = 64
_ROUND_TO = 1 << 16
#: Free segments are kept up to this many bytes in all.
_KEPT_BYTES = 512 << 20


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


class _Segment:
    """Memory with a number, mapped here."""

    __slots__ = ("memory", "number", "size")

    def __init__(self, number: int, size: int, memory: mmap.mmap) -> None:
        self.number = number
        self.size = size
        self.memory = memory


class Outgoing:
    """The segments that this side writes.

    Args:
        send_descriptor: hands a descriptor to the other side; raises OSError where that cannot be done now.
        forget: tells the other side that a segment will not be used again.
    """

    def __init__(
        self, send_descriptor: Callable[[int], None], forget: Callable[[int], None]
    ) -> None:
        self._send_descriptor = send_descriptor
        self._forget = forget
        self._last = 0
        self._lent: dict[int, _Segment] = {}
        self._free: deque[_Segment] = deque()

    def store(self, buffers: Sequence[memoryview | bytes]) -> tuple[int, int] | None:
        """Copies buffers into one segment.

        Returns:
            The segment's number and its size; None where there is no memory or no descriptor to be had: then they
            have to cross in another way.
        """
        needed = sum(_aligned(memoryview(buffer).nbytes) for buffer in buffers)
        segment = self._take(needed)
        if segment is None:
            return None
        view = memoryview(segment.memory)
        offset = 0
        for buffer in buffers:
            flat = memoryview(buffer).cast("B")
            view[offset : offset + flat.nbytes] = flat
            offset += _aligned(flat.nbytes)
        view.release()
        self._lent[segment.number] = segment
        return segment.number, segment.size

    def take_back(self, number: int) -> None:
        """The other side has let go of a segment."""
        segment = self._lent.pop(number, None)
        if segment is None:
            return
        self._free.append(segment)
        while sum(kept.size for kept in self._free) > _KEPT_BYTES:
            dropped = self._free.popleft()
            self._forget(dropped.number)
            dropped.memory.close()

    def close(self) -> None:
        """Lets go of all memory; the other side keeps what it has mapped."""
        for segment in (*self._lent.values(), *self._free):
            segment.memory.close()
        self._lent.clear()
        self._free.clear()

    def _take(self, needed: int) -> _Segment | None:
        """A free segment that is large enough and not too large, or a new one."""
        fitting = [segment for segment in self._free if needed <= segment.size <= 4 * needed]
        if fitting:
            segment = min(fitting, key=lambda one: one.size)
            self._free.remove(segment)
            return segment
        size = -(-needed // _ROUND_TO) * _ROUND_TO
        try:
            descriptor = os.memfd_create("antiphon", os.MFD_CLOEXEC)
            try:
                # Reserves the pages: a machine without memory says so here, not by SIGBUS.
                os.posix_fallocate(descriptor, 0, size)
                memory = mmap.mmap(descriptor, size)
                try:
                    self._send_descriptor(descriptor)
                except OSError:
                    memory.close()
                    raise
            finally:
                os.close(descriptor)
        except (OSError, ValueError):
            return None
        self._last += 1
        return _Segment(self._last, size, memory)


class Incoming:
    """The segments that the other side writes, mapped as they come.

    Args:
        receive_descriptor: takes the next descriptor that the other side has sent.
        let_go: called, in whatever thread, when the last view of a segment has gone.
    """

    def __init__(
        self, receive_descriptor: Callable[[], int], let_go: Callable[[int], None]
    ) -> None:
        self._receive_descriptor = receive_descriptor
        self._let_go = let_go
        self._mapped: dict[int, mmap.mmap] = {}

    def views(self, number: int, size: int, lengths: Sequence[int]) -> list[memoryview]:
        """Gives the buffers that were stored in a segment; they are writable, and nobody else's as long as they live.

        Raises:
            OSError: the segment could not be mapped; nothing can be read from it.
        """
        memory = self._mapped.get(number)
        if memory is None:
            descriptor = self._receive_descriptor()
            try:
                memory = mmap.mmap(descriptor, size)
            finally:
                os.close(descriptor)
            self._mapped[number] = memory
        # An object between the mapping and its views, whose end is the end of the last view. (A view of a memoryview
        # does not keep that memoryview alive, only what it was made of.)
        lease = (ctypes.c_char * size).from_buffer(memory)
        weakref.finalize(lease, self._let_go, number).atexit = False
        whole = memoryview(lease).cast("B")
        views = []
        offset = 0
        for length in lengths:
            views.append(whole[offset : offset + length])
            offset += _aligned(length)
        return views

    def forget(self, number: int) -> None:
        """The other side will not use a segment again."""
        self._mapped.pop(number, None)

    def close(self) -> None:
        """Lets go of what nobody looks at; views that are left keep their memory."""
        self._mapped.clear()
