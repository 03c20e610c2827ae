"""`Pool.map`, whose calls have no futures and whose plain arguments and results travel many in one message."""

import asyncio
import enum
import math
import os
import pickle
import signal
import socket
from typing import Any

import pytest

from antiphon.pool import Pool, PoolClosed, RemoteTraceback, TransferError, WorkerLost, messages
from antiphon.pool.executor_worker import _BatchIntake
from antiphon.pool.plain import add_to_run, all_plain, is_plain
from support import pool_calls as calls
from support.processes import has_children

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real_driver("workers are processes and threads of their own"),
    pytest.mark.timeout(100),  # a busy machine starts an interpreter in many seconds
]


@pytest.fixture(params=("process", "thread"))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


class Colour(enum.IntEnum):
    RED = 1


class Word(str):
    pass


PLAIN = [
    None,
    True,
    False,
    0,
    -1,
    1 << 200,
    0.5,
    math.inf,
    1j,
    "",
    "é\udc80",
    "word" * 100,
    b"",
    b"\0",
]
#: These have code, parts or an identity of their own, or are long.
NOT_PLAIN = [
    [1],
    (1, 2),
    {"a": None},
    {1},
    Colour.RED,
    Word("x"),
    bytearray(b"x"),
    "x" * 5000,
    b"x" * 5000,
    int,
    len,
]


def test_values_of_exact_types_are_plain() -> None:
    assert [value for value in PLAIN if not is_plain(value)] == []
    assert [value for value in NOT_PLAIN if is_plain(value)] == []
    assert all_plain([(1, 2.0), (), ("word", None)]) and all_plain([])
    assert not all_plain([(1,), (Colour.RED,)]) and not all_plain([(1, "x" * 5000)])


def test_run_grows_by_the_next_number_of_the_same_function_alone() -> None:
    outbox: list[tuple[Any, ...]] = []
    assert not add_to_run(outbox, messages.CALLS, 5, 1, (0,))
    outbox.append((messages.CALLS, 5, 1, [(0,)]))
    assert add_to_run(outbox, messages.CALLS, 6, 1, (1,))
    for kind, number, key in (
        (messages.CALLS, 8, 1),
        (messages.CALLS, 7, 2),
        (messages.RESULTS, 7, 1),
    ):
        assert not add_to_run(outbox, kind, number, key, ())
    outbox.append((messages.CANCEL, 6, None))
    assert not add_to_run(outbox, messages.CALLS, 7, 1, ())
    assert outbox[0] == (messages.CALLS, 5, 1, [(0,), (1,)])


async def test_values_arrive_as_they_are_whatever_they_travel_in(loop: Any, kind: str) -> None:
    values = [*PLAIN, *NOT_PLAIN, *PLAIN]
    async with Pool(2, kind) as pool:
        results = await pool.map(calls.same, values)
        assert results == values
        assert list(map(type, results)) == list(map(type, values))
        assert [value async for value in pool.map(calls.same, PLAIN)] == PLAIN


async def test_calls_do_not_share_what_they_are_given(loop: Any) -> None:
    given: list[int] = []
    async with Pool(1, "process") as pool:
        # Each worker's call has a list of its own, as with `run`, although they are sent at once.
        assert await pool.map(calls.append_and_count, [given] * 50) == [1] * 50
    assert given == []


async def test_many_results_of_calls_that_wait_keep_their_order(loop: Any, kind: str) -> None:
    async with Pool(2, kind, concurrency=50) as pool:
        # Every third call ends in a later step than its neighbours, so runs of numbers have gaps.
        pairs = [(number, number % 3) for number in range(3000)]
        results = await pool.map(calls.give_after_turns, *zip(*pairs, strict=True))
        assert results == [number for number, _ in pairs]
        assert pool.stats().finished == 3000 and pool.stats().unfinished == 0


async def test_errors_come_out_at_their_place_with_the_remote_traceback(loop: Any) -> None:
    taken = []
    async with Pool(1, "process") as pool:
        with pytest.raises(ZeroDivisionError) as caught:
            async for value in pool.map(calls.divide, [1] * 5, [1, 2, 0, 4, 0]):
                taken.append(value)
        assert taken == [1, 0.5]
        assert isinstance(caught.value.__cause__, RemoteTraceback)
        with pytest.raises(RuntimeError, match="StopIteration"):
            await pool.map(calls.raise_stop_iteration, [1, 2])


async def test_argument_that_cannot_cross_is_named(loop: Any) -> None:
    async with Pool(1, "process") as pool:
        with pytest.raises(TransferError, match="argument 0 is a _thread.lock"):
            await pool.map(calls.same, [1, calls.threading.Lock()], timeout=0.01)
        assert pool.stats().unfinished == 0
        assert await pool.map(calls.same, [2]) == [2]


async def test_cancelling_who_awaits_a_map_cancels_its_calls(
    loop: Any, kind: str, tmp_path: Any
) -> None:
    paths = [str(tmp_path / name) for name in "ab"]

    async def collect(pool: Pool) -> Any:
        return await pool.map(calls.wait_for_ever, paths)

    async with Pool(1, kind) as pool:
        task = asyncio.create_task(collect(pool))
        while not all(map(os.path.exists, paths)):
            await pool.run(calls.same, None)
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await task
    for path in paths:
        with open(path) as file:
            assert file.read() == "begun\ncancelled\n"
    assert not has_children()


async def test_timeout_ends_a_mapped_call(loop: Any, kind: str) -> None:
    async with Pool(1, kind) as pool:
        with pytest.raises(TimeoutError, match="wait_for_ever took too long"):
            await pool.map(calls.wait_for_ever, [None, None], timeout=0.05)
        assert await pool.map(calls.same, [1, 2], timeout=60) == [1, 2]


async def test_context_variables_travel_with_mapped_calls(loop: Any, kind: str) -> None:
    async with Pool(1, kind, carry=[calls.REQUEST]) as pool:
        calls.REQUEST.set("mine")
        assert await pool.map(calls.request_for, range(2)) == [(0, "mine"), (1, "mine")]


async def test_lost_worker_ends_the_map_or_the_calls_are_run_again(
    loop: Any, tmp_path: Any
) -> None:
    path = str(tmp_path / "note")
    async with Pool(1, "process") as pool:
        await pool.map(calls.same, range(4000))  # it is sent many at a time from here on
        results = pool.map(calls.die_at, range(200), [path] * 200, [7] * 200)
        taken = []
        with pytest.raises(WorkerLost, match="SIGKILL, running die_at"):
            async for value in results:
                taken.append(value)
        # Answers that it had not sent yet are lost with it.
        assert len(taken) <= 7 and taken == list(range(len(taken)))
        os.unlink(path)
        # Marked as idempotent the same calls all come to their end, for the second worker is not killed.
        again = await pool.map(calls.die_at, range(200), [path] * 200, [7] * 200, idempotent=True)
        assert again == list(range(200))
        assert pool.stats().lost == 2


async def test_idle_worker_takes_part_of_a_run_from_a_busy_one(loop: Any, kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        async with Pool(2, kind) as pool:
            await pool.map(calls.same, range(4000))
            # The first call blocks its worker, with others behind it in the same message.
            addresses = [server.getsockname()] + [None] * 400
            mapped = pool.map(calls.block_if, addresses, range(401)).__aiter__()
            first = asyncio.ensure_future(anext(mapped))
            peer, _ = await loop.sock_accept(server)
            while pool.stats().unfinished > 1:
                await asyncio.sleep(0.01)
            assert not first.done()
            peer.close()
            assert [await first] + [value async for value in mapped] == list(range(401))


async def test_calls_that_a_blocked_worker_has_not_read_run_elsewhere(loop: Any, kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        async with Pool(2, kind) as pool:
            await pool.map(calls.same, range(4000))  # both are sent many from here on
            block = pool.spawn(calls.block, server.getsockname())
            peer, _ = await loop.sock_accept(server)
            rest = [pool.spawn(calls.same, number) for number in range(100)]
            assert await asyncio.gather(*rest) == list(range(100))
            assert not block.done()
            peer.close()
            await block


async def test_calls_of_a_broadcast_are_not_taken_by_idle_workers(loop: Any, kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        async with Pool(2, kind) as pool:
            block = pool.spawn(calls.block, server.getsockname())
            peer, _ = await loop.sock_accept(server)
            places = asyncio.ensure_future(pool.broadcast(calls.where))
            await asyncio.sleep(0)
            assert block.link is not None
            block.link.steal()
            # The other worker is idle between these, and long enough to ask for work.
            for _ in range(5):
                await pool.run(calls.same, None)
                await asyncio.sleep(0.02)
            peer.close()
            await block
            assert len(set(await places)) == 2


async def test_revoked_calls_are_not_run_when_they_are_read(loop: Any) -> None:
    intake = _BatchIntake(loop, [])
    intake.receive([(messages.FUNCTION, 1, pickle.dumps(calls.same))])
    intake.receive([(messages.CALLS, 1, 1, [(number,) for number in (1, 2, 3)])])
    assert intake.give_back(6) == [3, 2, 4, 5, 6]
    assert intake.give_back(6) == [1]
    parcel = pickle.dumps((5,))
    intake.receive([(messages.CALLS, 4, 1, [(4,)]), (messages.CALL, 5, 1, parcel, None)])
    intake.receive([(messages.CALLS, 6, 1, [(6,), (7,)]), (messages.CALLS, 8, 1, [(8,)])])
    results: list[int] = []
    while 8 not in results:  # calls are begun in the order of their numbers
        await asyncio.sleep(0)
        results = [
            value for kind, *rest in intake.answers if kind == messages.RESULTS for value in rest[2]
        ]
    assert results == [7, 8]


async def test_map_of_a_pool_that_was_left_is_refused(loop: Any, kind: str) -> None:
    async with Pool(1, kind) as pool:
        results = pool.map(calls.same, [1])
    with pytest.raises(PoolClosed, match="left"):
        await results


async def test_signalled_workers_lose_nothing_of_a_long_map(loop: Any) -> None:
    async with Pool(2, "process") as pool:
        pids = [worker.pid for worker in pool.stats().workers]
        results = pool.map(calls.give_after_turns, range(6000), [1] * 6000, idempotent=True)
        taken = []
        async for value in results:
            taken.append(value)
            if value in (1000, 4000):
                os.kill(pids.pop(), signal.SIGKILL)  # type: ignore[arg-type]
        assert taken == list(range(6000))
