"""Pools: calls, results, errors, cancellation, ways of calling many."""

import asyncio
import contextvars
import functools
import os
import socket
import threading
from typing import Any

import pytest

from antiphon.pool import Pool, PoolClosed, RemoteTraceback
from support import pool_calls as calls
from support.processes import has_children

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real_driver("workers are processes and threads of their own"),
    pytest.mark.timeout(100),  # a busy machine starts an interpreter in many seconds
]

KINDS = ("process", "thread")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


async def test_run_gives_what_the_function_returns(loop: Any, kind: str) -> None:
    async with Pool(1, kind) as pool:
        assert await pool.run(calls.add, 2, 3) == 5
        assert await pool.run(calls.plain, 2) == 3
        assert await pool.run(functools.partial(calls.add, other=10), 1) == 11
        assert (await pool.run(calls.loop_name)).startswith("antiphon")
    assert not has_children()


async def test_workers_are_other_processes_or_threads(loop: Any, kind: str) -> None:
    async with Pool(2, kind) as pool:
        places = await pool.broadcast(calls.where)
    assert len(set(places)) == 2
    processes = {process for process, _ in places}
    assert processes == {os.getpid()} if kind == "thread" else os.getpid() not in processes


async def test_many_calls_run_in_one_worker_at_once(loop: Any, kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        server.setblocking(False)
        async with Pool(1, kind) as pool:
            here = [pool.spawn(calls.meet, 100, server.getsockname()) for _ in range(100)]
            peers = [(await loop.sock_accept(server))[0] for _ in range(100)]
            assert not any(call.done() for call in here)
            for peer in peers:
                peer.close()
            await asyncio.gather(*here)


async def test_concurrency_limits_what_one_worker_runs(loop: Any, kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        async with Pool(1, kind, concurrency=3) as pool:
            here = [pool.spawn(calls.meet, 0, server.getsockname()) for _ in range(4)]
            peers = [(await loop.sock_accept(server))[0] for _ in range(3)]
            assert pool.stats().waiting == 1
            for peer in peers:
                peer.close()
            (await loop.sock_accept(server))[0].close()
            await asyncio.gather(*here)


async def test_exception_comes_with_its_remote_traceback(loop: Any) -> None:
    async with Pool(1, "process") as pool:
        with pytest.raises(ValueError, match="bad") as caught:
            await pool.run(calls.fail, "bad")
    cause = caught.value.__cause__
    assert isinstance(cause, RemoteTraceback)
    assert "in fail" in str(cause) and "raise ValueError(*args)" in str(cause)


async def test_exception_of_a_thread_is_the_object_itself(loop: Any) -> None:
    error = ValueError("x")
    async with Pool(1, "thread") as pool:
        with pytest.raises(ValueError) as caught:
            await pool.run(calls.fail, error)
    assert caught.value.args[0] is error


async def test_exception_group_arrives_as_a_group(loop: Any, kind: str) -> None:
    async with Pool(1, kind) as pool:
        with pytest.raises(ExceptionGroup) as caught:
            await pool.run(calls.fail_in_group)
    assert [str(error) for error in caught.value.exceptions] == ["one", "other"]


async def test_exceptions_that_end_loops_are_answers(loop: Any, kind: str) -> None:
    async with Pool(1, kind) as pool:
        call = pool.spawn(calls.leave, 3)
        await asyncio.wait([call])
        assert isinstance(call.exception(), SystemExit)
        with pytest.raises(RuntimeError, match="StopIteration"):
            await pool.run(calls.plain_stop_iteration)
        with pytest.raises(StopAsyncIteration):
            await pool.run(calls.stop_iteration)
        assert await pool.run(calls.plain, 1) == 2
        assert pool.stats().lost == 0


async def test_coroutine_instead_of_function_is_refused(loop: Any, kind: str) -> None:
    async with Pool(1, kind) as pool:
        with pytest.raises(
            TypeError, match=r"run\(same, \.\.\.\) instead of run\(same\(\.\.\.\)\)"
        ):
            await pool.run(calls.same(1))
        with pytest.raises(TypeError, match="takes a function"):
            await pool.run(None)
        with pytest.raises(TypeError, match="not a coroutine"):
            pool.map(calls.same(1), [1])


async def test_cancelling_reaches_the_function(loop: Any, kind: str, tmp_path: Any) -> None:
    path = tmp_path / "notes"
    async with Pool(1, kind) as pool:
        task = asyncio.create_task(pool.run(calls.wait_for_ever, str(path)))
        while not path.exists():
            await pool.run(calls.same, None)
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await task
        assert path.read_text() == "begun\ncancelled enough\n"


async def test_function_may_catch_the_cancellation(loop: Any, kind: str, tmp_path: Any) -> None:
    path = tmp_path / "notes"
    async with Pool(1, kind) as pool:
        call = pool.spawn(calls.refuse_cancellation, str(path))
        while not path.exists():
            await pool.run(calls.same, None)
        assert call.cancel()
        assert await call == "went on"
        assert not call.cancel()


async def test_call_that_waits_is_cancelled_at_once(loop: Any, kind: str) -> None:
    async with Pool(1, kind, concurrency=1) as pool:
        running = pool.spawn(calls.wait_for_ever)
        waiting = pool.spawn(calls.same, 1)
        await pool_has_sent(pool, 1)
        waiting.cancel()
        assert waiting.cancelled() and not running.done()
        running.cancel()
        await asyncio.wait([running])
        assert await pool.run(calls.same, 2) == 2


async def test_call_cancelled_between_its_beginning_and_its_first_step(loop: Any) -> None:
    """Which is possible before 3.12; the coroutine that was made is closed, or it would be warned of."""
    begun, release = threading.Event(), threading.Event()
    async with Pool(1, "thread") as pool:
        await pool.map(calls.same, range(100))  # from here on it is sent several at a time
        blocks = pool.spawn(calls.hold, begun, release)
        behind = pool.spawn(calls.sleep_and_give, 60, 1)
        while not begun.is_set():
            await asyncio.sleep(0)
        # Asked while the worker is about to begin it, and read right after it has.
        behind.cancel()
        release.set()
        await asyncio.wait([behind])
        assert behind.cancelled()
        await blocks


async def pool_has_sent(pool: Pool, count: int) -> None:
    """Lets the loop turn until workers have so many calls."""
    while sum(worker.calls for worker in pool.stats().workers) != count:
        await asyncio.sleep(0)


async def test_worker_that_does_not_answer_a_cancellation_is_not_waited_for(loop: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        async with Pool(1, "process", grace=0.05) as pool:
            call = pool.spawn(calls.block, server.getsockname())
            peer, _ = await loop.sock_accept(server)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            peer.close()
            assert await pool.run(calls.same, 1) == 1
    assert not has_children()


async def test_timeout_ends_the_call(loop: Any, kind: str, tmp_path: Any) -> None:
    path = tmp_path / "notes"
    async with Pool(1, kind) as pool:
        timeout = 0.05
        while not path.exists():  # it may be over before the worker begins the call
            with pytest.raises(TimeoutError, match="wait_for_ever"):
                await pool.run(calls.wait_for_ever, str(path), timeout=timeout)
            timeout *= 2
        assert path.read_text().startswith("begun\ncancelled")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await pool.run(calls.wait_for_ever)
        assert await pool.run(calls.same, 1, timeout=60) == 1


async def test_map_gives_results_in_order(loop: Any, kind: str) -> None:
    async with Pool(2, kind, concurrency=10) as pool:
        assert await pool.map(calls.same, range(1000)) == list(range(1000))
        assert [value async for value in pool.map(calls.add, range(5), range(100))] == [
            0,
            2,
            4,
            6,
            8,
        ]
        assert await pool.map(calls.same, []) == []


async def test_map_over_an_endless_iterable_stays_ahead_by_its_limit(loop: Any, kind: str) -> None:
    taken = 0

    def endless() -> Any:
        nonlocal taken
        while True:
            yield taken
            taken += 1

    async with Pool(1, kind) as pool:
        results = pool.map(calls.same, endless(), limit=4).__aiter__()
        for expected in range(20):
            assert await anext(results) == expected
            assert taken <= expected + 5
        await results.aclose()


async def test_map_ends_at_the_first_error_and_cancels_the_rest(loop: Any, kind: str) -> None:
    async with Pool(1, kind) as pool:
        with pytest.raises(TypeError):
            await pool.map(calls.length, [[1], 5, [2]])
        assert pool.stats().unfinished == 0 or await pool.run(calls.same, True)


async def test_as_completed_gives_calls_as_they_are_done(
    loop: Any, kind: str, tmp_path: Any
) -> None:
    paths = {name: str(tmp_path / name) for name in "abc"}
    async with Pool(1, kind) as pool:
        done = pool.as_completed(calls.give_when_there, paths.values(), paths).__aiter__()
        for name in "bca":
            calls.note(paths[name], "now")
            call = await anext(done)
            assert (await call, call.arguments) == (name, (paths[name], name))
        with pytest.raises(StopAsyncIteration):
            await anext(done)
        failed = [call.exception() async for call in pool.as_completed(calls.fail, [1])]
        assert isinstance(failed[0], ValueError)


async def test_stream_takes_inputs_as_results_are_taken(loop: Any, kind: str) -> None:
    taken = []

    async def inputs() -> Any:
        for number in range(50):
            taken.append(number)
            yield number

    async with Pool(1, kind) as pool:
        count = 0
        async for value in pool.stream(calls.same, inputs(), limit=3):
            assert value == count
            count += 1
            await pool.run(calls.same, None)
            assert len(taken) <= count + 4
        assert count == 50


async def test_stream_passes_on_errors_of_calls_and_of_inputs(loop: Any, kind: str) -> None:
    async def inputs() -> Any:
        yield 1
        raise LookupError("no more")

    async with Pool(1, kind) as pool:
        seen = []
        with pytest.raises(LookupError):
            async for value in pool.stream(calls.same, inputs()):
                seen.append(value)
        assert seen == [1]
        with pytest.raises(ValueError):
            async for _ in pool.stream(calls.fail, inputs()):
                pass


async def test_stream_left_early_cancels_its_calls(loop: Any, kind: str) -> None:
    async def inputs() -> Any:
        yield 0
        for _ in range(5):
            yield 60

    async with Pool(1, kind) as pool:
        results = pool.stream(functools.partial(calls.sleep_and_give, value=1), inputs(), limit=4)
        assert await anext(results) == 1
        await results.aclose()
    assert not has_children()


async def test_progress_is_told(loop: Any, kind: str) -> None:
    told: list[Any] = []
    async with Pool(1, kind) as pool:
        await pool.map(calls.same, range(3), progress=lambda *news: told.append(news))
        with pytest.raises(ValueError, match="progress must be"):
            pool.map(calls.same, [], progress="bells")
        await pool.map(calls.same, range(3), progress="rich")
    assert told == [(1, 3), (2, 3), (3, 3)]


async def test_broadcast_calls_every_worker_once(loop: Any, kind: str) -> None:
    async with Pool(3, kind) as pool:
        assert len(set(await pool.broadcast(calls.where))) == 3
        with pytest.raises(ValueError):
            await pool.broadcast(calls.fail)


async def test_initializer_runs_in_each_worker_first(loop: Any) -> None:
    async with Pool(2, "process", initializer=calls.STATE.update, initargs=({"a": 1},)) as pool:
        assert await pool.broadcast(calls.recall, "a") == [None, None]
    async with Pool(2, "process", initializer=initialize, initargs=("a", 1)) as pool:
        assert await pool.broadcast(calls.recall, "a") == [1, 1]


def initialize(key: str, value: Any) -> None:
    calls.STATE[key] = value


async def test_marked_context_variables_travel(loop: Any, kind: str) -> None:
    async with Pool(1, kind, carry=[calls.REQUEST]) as pool:
        assert await pool.run(calls.request) == "none"
        calls.REQUEST.set("mine")
        assert await pool.run(calls.request) == "mine"
        assert (
            await contextvars.Context().run(asyncio.create_task, pool.run(calls.request)) == "none"
        )
    async with Pool(1, "process") as pool:
        assert await pool.run(calls.request) == "none"


def test_context_variable_without_a_module_is_refused() -> None:
    with pytest.raises(ValueError, match="no global of a module"):
        Pool(1, "process", carry=[contextvars.ContextVar("local")])


async def test_idle_worker_takes_calls_that_wait_at_a_busy_one(loop: Any, kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        async with Pool(2, kind) as pool:
            # Both workers are known to begin calls quickly, so each is sent many.
            await pool.map(calls.same, range(4000))
            block = pool.spawn(calls.block, server.getsockname())
            rest = [pool.spawn(calls.same, number) for number in range(100)]
            peer, _ = await loop.sock_accept(server)
            # One worker is blocked, and all calls but that one come to their end.
            assert await asyncio.gather(*rest) == list(range(100))
            assert not block.done()
            peer.close()
            await block


async def test_cancelled_call_that_is_given_back_is_cancelled(loop: Any, kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        async with Pool(1, kind) as pool:
            await pool.map(calls.same, range(4000))
            block = pool.spawn(calls.block, server.getsockname())
            waiting = pool.spawn(calls.same, 1)
            peer, _ = await loop.sock_accept(server)
            assert waiting.cancel() and not waiting.done()
            waiting.link.steal()  # type: ignore[union-attr]  # as an idle worker would
            await asyncio.wait([waiting])
            assert waiting.cancelled() and not block.done()
            peer.close()
            await block
            assert await pool.run(calls.same, 2) == 2


async def test_leaving_the_block_waits_for_calls(loop: Any, kind: str) -> None:
    async with Pool(1, kind) as pool:
        call = pool.spawn(calls.sleep_and_give, 0.05, "done")
    assert call.result() == "done"


async def test_leaving_by_an_exception_cancels_calls(loop: Any, kind: str, tmp_path: Any) -> None:
    path = tmp_path / "notes"
    with pytest.raises(LookupError):
        async with Pool(1, kind) as pool:
            call = pool.spawn(calls.wait_for_ever, str(path))
            while not path.exists():
                await pool.run(calls.same, None)
            raise LookupError
    assert call.cancelled()
    assert path.read_text() == "begun\ncancelled\n"
    assert not has_children()


async def test_cancelled_while_it_waits_for_calls_it_cancels_them(loop: Any, kind: str) -> None:
    entered = asyncio.Event()

    async def main() -> None:
        async with Pool(1, kind) as pool:
            pool.spawn(calls.wait_for_ever)
            entered.set()

    task = asyncio.create_task(main())
    await entered.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not has_children()


async def test_pool_that_is_not_open_takes_no_calls(loop: Any, kind: str) -> None:
    pool = Pool(1, kind)
    with pytest.raises(PoolClosed, match="not entered"):
        await pool.run(calls.same, 1)
    async with pool:
        pass
    with pytest.raises(PoolClosed, match="left"):
        await pool.run(calls.same, 1)
    with pytest.raises(PoolClosed, match="entered once"):
        async with pool:
            pass
    assert pool.stats().workers == ()


@pytest.mark.parametrize(
    "arguments",
    [{"workers": 0}, {"concurrency": 0}, {"kind": "fibre"}],
)
def test_wrong_arguments_are_refused(arguments: Any) -> None:
    with pytest.raises(ValueError):
        Pool(**arguments)


async def test_statistics_count(loop: Any, kind: str) -> None:
    async with Pool(2, kind) as pool:
        await pool.map(calls.same, range(10))
        stats = pool.stats()
        assert stats.finished == 10 and stats.unfinished == stats.waiting == stats.lost == 0
        assert sum(worker.finished for worker in stats.workers) == 10
        assert all(worker.ready for worker in stats.workers)
