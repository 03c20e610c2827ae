"""What crosses between a pool and its processes: pickles, large buffers in shared memory, what cannot cross."""

import asyncio
import gc
import importlib.util
import os
import pickle
import resource
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from antiphon.pool import Pool, RemoteError, RemoteTraceback, TransferError, pickling
from antiphon.pool.segments import Incoming, Outgoing
from support import pool_calls as calls

pytestmark = [
    pytest.mark.slow,
    # How things cross does not depend on the loop; test_pool.py has calls on both.
    pytest.mark.loops("antiphon"),
    pytest.mark.real_driver("workers are processes of their own"),
    pytest.mark.timeout(100),  # a busy machine starts an interpreter in many seconds
]

LARGE = 3_000_000


async def test_large_buffers_cross_and_belong_to_the_receiver(loop: Any) -> None:
    mine = bytearray(LARGE)
    async with Pool(1, "process") as pool:
        back = await pool.run(calls.invert_first, pickle.PickleBuffer(mine))
        assert back[0] == 0xFF and len(back) == LARGE
        assert mine[0] == 0
        # What came back can be written, and nobody else sees it.
        back[1] = 7
        again = await pool.run(calls.invert_first, pickle.PickleBuffer(back))
        assert bytes(again[:3]) == b"\0\x07\0" and back[0] == 0xFF
        del back, again
        gc.collect()


async def test_large_pickles_cross(loop: Any) -> None:
    async with Pool(1, "process") as pool:
        assert await pool.run(calls.length, bytes(LARGE)) == LARGE
        assert await pool.run(calls.text, LARGE) == "é" * LARGE


async def test_memory_is_used_again_once_nobody_looks_at_it(loop: Any) -> None:
    async with Pool(1, "process") as pool:
        for turn in range(50):
            buffer = await pool.run(calls.fill, 1 << 20, turn)
            assert bytes(buffer[:: 1 << 18]) == bytes([turn]) * 4
            kept = buffer if turn == 10 else None
            if turn == 10:
                first = kept
        assert bytes(first[:10]) == b"\x0a" * 10
        assert shared_memory_of(os.getpid()) <= 4 << 20
        del first, buffer, kept
        gc.collect()


def shared_memory_of(pid: int) -> int:
    """Bytes of pools' memory that a process has mapped."""
    total = 0
    with open(f"/proc/{pid}/maps") as maps:
        for line in maps:
            if "memfd:antiphon " in line:
                first, last = line.split()[0].split("-")
                total += int(last, 16) - int(first, 16)
    return total


@pytest.mark.parametrize("fault", ["no descriptor", "no memory"])
async def test_without_shared_memory_it_crosses_by_the_socket(
    loop: Any, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28 if fault == "no memory" else 24, "refused")

    async with Pool(1, "process") as pool:
        monkeypatch.setattr(
            os, "posix_fallocate" if fault == "no memory" else "memfd_create", refuse
        )
        back = await pool.run(calls.invert_first, pickle.PickleBuffer(bytearray(LARGE)))
        assert back[0] == 0xFF and len(back) == LARGE


async def test_results_larger_than_shared_memory_cross_by_the_socket(loop: Any) -> None:
    async with Pool(1, "process", initializer=limit_file_size, initargs=(1 << 20,)) as pool:
        assert await pool.run(calls.text, LARGE) == "é" * LARGE
        assert len(await pool.run(calls.fill, LARGE, 1)) == LARGE


def limit_file_size(size: int) -> None:
    """From now on this process makes no file, nor memory, larger than this."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


async def test_buffer_may_be_released_before_the_call_is_sent(loop: Any) -> None:
    async with Pool(1, "process") as pool:
        buffer = pickle.PickleBuffer(bytearray(LARGE))
        call = pool.spawn(calls.length, buffer)
        buffer.release()
        assert await pool.run(calls.same, 1) == 1
        assert await call == LARGE


@pytest.mark.parametrize(
    "function, arguments, words",
    [
        (calls.same, (threading.Lock(),), "call of same: argument 0 is a _thread.lock"),
        (calls.add, (1, {"a": [0, threading.Lock()]}), r"argument 1\['a'\]\[1\] is a _thread.lock"),
        (calls.same, (calls.Locked("x"),), r"argument 0\.lock is a _thread.lock"),
        (calls.same, ((n for n in ()),), "argument 0 is a generator.*give the function"),
        (calls.same, (memoryview(b"x"),), "argument 0 is a memoryview.*PickleBuffer"),
    ],
)
async def test_argument_that_cannot_be_pickled_is_named(
    loop: Any, function: Any, arguments: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)  # as if it were not installed
    async with Pool(1, "process") as pool:
        with pytest.raises(TransferError, match=words):
            await pool.run(function, *arguments)
        assert await pool.run(calls.same, 1) == 1


async def test_local_function_is_named_with_the_way_out(
    loop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def local() -> None: ...

    monkeypatch.setitem(sys.modules, "cloudpickle", None)  # as if it were not installed
    async with Pool(1, "process") as pool:
        with pytest.raises(TransferError, match=r"the function is .*<locals>\.local.*cloudpickle"):
            await pool.run(local)
        with pytest.raises(TransferError, match="top level of a module"):
            await pool.map(lambda value: value, [1])


async def test_closures_cross_with_cloudpickle(loop: Any) -> None:
    assert importlib.util.find_spec("cloudpickle"), "the test dependencies have it"
    offset = 5

    async def local(value: int) -> int:
        await asyncio.sleep(0)
        return value + offset

    async with Pool(1, "process") as pool:
        assert await pool.map(local, range(3)) == [5, 6, 7]
        offset = 6
        assert await pool.run(local, 0) == 6


async def test_result_that_cannot_be_pickled_is_named(loop: Any) -> None:
    async with Pool(1, "process") as pool:
        with pytest.raises(TransferError, match="the result is a _thread.lock"):
            await pool.run(calls.unpicklable)


async def test_result_that_cannot_be_read_fails_its_call(loop: Any) -> None:
    async with Pool(1, "process") as pool:
        with pytest.raises(TransferError, match="result of give_unreadable.*not to be read"):
            await pool.run(calls.give_unreadable)


async def test_argument_that_cannot_be_read_fails_its_call(loop: Any) -> None:
    async with Pool(1, "process") as pool:
        with pytest.raises(TransferError, match="could not read the call.*not to be read"):
            await pool.run(calls.same, calls.Unreadable())
        assert await pool.run(calls.same, 1) == 1


async def test_function_that_the_worker_lacks_fails_its_calls(
    loop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def late() -> None: ...

    late.__qualname__ = "late"
    async with Pool(1, "process") as pool:
        late.__module__ = calls.__name__
        monkeypatch.setattr(calls, "late", late, raising=False)
        with pytest.raises(TransferError, match="could not read the call.*late"):
            await pool.run(late)


@pytest.mark.parametrize(
    "function, words",
    [
        (calls.raise_stubborn, r"Stubborn: stubborn \(.*could not be read, TypeError.*__reduce__"),
        (
            calls.raise_locked,
            r"Locked: has a lock \(the exception\.lock is a _thread\.lock.*__reduce__",
        ),
    ],
    ids=["unreadable", "unpicklable"],
)
async def test_exception_that_cannot_cross_is_told_in_words(
    loop: Any, function: Any, words: str
) -> None:
    async with Pool(1, "process") as pool:
        with pytest.raises(RemoteError, match=words) as caught:
            await pool.run(function)
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert function.__name__ in str(caught.value.__cause__)


class Sides:
    """Both sides of shared memory in one process."""

    def __init__(self) -> None:
        self.descriptors: list[int] = []
        self.forgotten: list[int] = []
        self.free: list[int] = []
        self.out = Outgoing(
            lambda descriptor: self.descriptors.append(os.dup(descriptor)), self.forgotten.append
        )
        self.into = Incoming(lambda: self.descriptors.pop(0), self.free.append)

    def cross(self, *buffers: bytes) -> list[memoryview]:
        segment = self.out.store(buffers)
        assert segment is not None
        return self.into.views(*segment, [len(buffer) for buffer in buffers])


@pytest.fixture
def sides() -> Iterator[Sides]:
    sides = Sides()
    yield sides
    sides.out.close()
    sides.into.close()


def test_segment_is_not_written_while_somebody_looks(sides: Sides) -> None:
    one, other = sides.cross(b"one", b"other")
    assert (bytes(one), bytes(other)) == (b"one", b"other")
    part = other[1:3]
    del one, other
    gc.collect()
    assert not sides.free
    assert bytes(sides.cross(b"more")[0]) == b"more"
    assert bytes(part) == b"th"
    del part
    gc.collect()
    assert sides.free == [2, 1]


def test_free_segments_are_used_again_and_kept_up_to_a_limit(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("antiphon.pool.segments._KEPT_BYTES", 200_000)
    first, _ = sides.out.store([b"x" * 100_000])  # type: ignore[misc]
    sides.out.take_back(first)
    assert sides.out.store([b"y" * 90_000])[0] == first  # type: ignore[index]
    second, _ = sides.out.store([b"z" * 100_000])  # type: ignore[misc]
    assert second != first
    sides.out.take_back(first)
    sides.out.take_back(second)
    assert sides.forgotten == [first]
    for descriptor in sides.descriptors:
        os.close(descriptor)


def test_small_buffers_stay_in_the_pickle() -> None:
    small, large = bytearray(10), bytearray(pickling.OUT_OF_BAND_BYTES)
    _, buffers = pickling.dump(
        [pickle.PickleBuffer(small), pickle.PickleBuffer(large)], lambda: "it"
    )
    assert [buffer.nbytes for buffer in buffers] == [len(large)]
