"""Pools when things go wrong: workers that die, hang or never start, and pools whose own process dies."""

import asyncio
import os
import random
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from antiphon.pool import Pool, PoolClosed, WorkerLost
from support import pool_calls as calls
from support.processes import has_children, is_zombie_or_gone
from support.switches import refuse_process

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real_driver("workers are processes of their own"),
    pytest.mark.timeout(100),  # a busy machine starts an interpreter in many seconds
]


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No child, and nothing with a name: neither in /dev/shm nor as a socket's file."""
    before = set(os.listdir("/dev/shm"))
    yield
    assert not has_children()
    left = set(os.listdir("/dev/shm")) - before
    # Other programs may have something there for a moment; what is left behind stays.
    deadline = time.monotonic() + 15
    while left and time.monotonic() < deadline:
        time.sleep(0.01)
        left &= set(os.listdir("/dev/shm"))
    assert not left


async def test_worker_that_dies_fails_what_it_ran_and_is_replaced(loop: Any) -> None:
    async with Pool(1, "process") as pool:
        pid, _ = await pool.run(calls.where)
        running = pool.spawn(calls.wait_for_ever)
        dying = pool.spawn(calls.die)
        for call in (running, dying):
            with pytest.raises(
                WorkerLost, match=rf"worker 1 \(pid {pid}\) was ended by SIGKILL, running"
            ):
                await call
        assert (await pool.run(calls.where))[0] != pid
        assert pool.stats().lost == 1


@pytest.mark.parametrize("signum", [signal.SIGSEGV, signal.SIGTERM])
async def test_the_error_says_how_the_worker_ended(loop: Any, signum: signal.Signals) -> None:
    async with Pool(1, "process") as pool:
        with pytest.raises(WorkerLost, match=signum.name):
            await pool.run(calls.die, signum)
        with pytest.raises(WorkerLost, match="ended with status 42, running same"):
            await pool.run(calls.same, calls.Deadly())
        assert await pool.run(calls.same, 1) == 1


async def test_calls_that_had_not_begun_run_elsewhere(loop: Any) -> None:
    async with Pool(1, "process") as pool:
        await pool.map(calls.same, range(4000))  # the worker is sent many at a time from here on
        dying = pool.spawn(calls.plain_death)
        rest = [pool.spawn(calls.same, number) for number in range(200)]
        with pytest.raises(WorkerLost):
            await dying
        assert await asyncio.gather(*rest) == list(range(200))
        assert pool.stats().lost == 1


async def test_idempotent_calls_are_run_again(loop: Any, tmp_path: Any) -> None:
    path = str(tmp_path / "notes")
    async with Pool(2, "process") as pool:
        assert await pool.run(calls.die_unless, path, idempotent=True) > 0
        assert pool.stats().lost == 1


async def test_call_that_kills_its_workers_is_stopped(loop: Any, tmp_path: Any) -> None:
    path = tmp_path / "notes"
    async with Pool(1, "process", most_losses=2) as pool:
        with pytest.raises(WorkerLost, match="2 workers were lost running it"):
            await pool.run(calls.die_noting, str(path), idempotent=True)
        assert path.read_text() == "tried\n" * 2
        assert await pool.run(calls.same, 1) == 1


async def test_worker_that_never_starts_is_an_error_at_the_start(loop: Any) -> None:
    with pytest.raises(WorkerLost, match=r"worker 1 was not ready within 0\.3 s"):
        async with Pool(1, "process", initializer=calls.never_ready, start_timeout=0.3):
            pytest.fail("entered")
    with pytest.raises(WorkerLost, match="ended with status 7 before it was ready"):
        async with Pool(2, "process", initializer=calls.end_at_once):
            pytest.fail("entered")


async def test_interpreter_that_is_not_there_is_an_error_at_the_start(
    loop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/no/python/here")
    with pytest.raises(WorkerLost, match="could not be started.*No such file"):
        async with Pool(1, "process"):
            pytest.fail("entered")


async def test_pool_whose_workers_cannot_start_again_is_closed(loop: Any, tmp_path: Any) -> None:
    path = str(tmp_path / "mark")
    async with Pool(1, "process", initializer=calls.start_once, initargs=(path,)) as pool:
        with pytest.raises(WorkerLost):
            await pool.run(calls.die)
        with pytest.raises(PoolClosed, match="3 in a row ended before their first call"):
            await pool.run(calls.same, 1)
        with pytest.raises(PoolClosed):
            await pool.map(calls.same, range(3))


async def test_broadcast_to_a_worker_that_dies_fails(loop: Any) -> None:
    async with Pool(2, "process") as pool:
        with pytest.raises(WorkerLost):
            await pool.broadcast(calls.die)


@pytest.mark.loops(
    "antiphon"
)  # seconds of work, and which loop notices the deaths the other tests ask
@pytest.mark.timeout(120)
@pytest.mark.parametrize("kills, count", [(20, 1000)])
async def test_every_call_ends_once_under_random_kills(loop: Any, kills: int, count: int) -> None:
    kills = int(os.environ.get("ANTIPHON_POOL_KILLS", kills))
    count = int(os.environ.get("ANTIPHON_POOL_CALLS", count))
    await calls_under_kills(kills, count)


async def calls_under_kills(kills: int, count: int) -> None:
    """Makes calls while workers are killed, and counts how each call ends."""
    randomness = random.Random(20251122)
    ends: Counter[int] = Counter()
    lost = 0

    async with Pool(2, "process", concurrency=20) as pool:
        made = [pool.spawn(calls.sleep_and_give, 0.002, number) for number in range(count)]
        for number, call in enumerate(made):
            call.add_done_callback(lambda _, number=number: ends.update([number]))

        async def kill() -> None:
            for number in range(1, kills + 1):
                # Kills are spread over the calls, so that all of them fall among running ones.
                while len(ends) < number * count // (kills + 1):
                    await asyncio.sleep(0.001)
                alive = [worker.pid for worker in pool.stats().workers if worker.ready]
                while not alive:
                    await asyncio.sleep(0.001)
                    alive = [worker.pid for worker in pool.stats().workers if worker.ready]
                os.kill(randomness.choice(alive), signal.SIGKILL)

        killer = asyncio.create_task(kill())
        results = await asyncio.gather(*made, return_exceptions=True)
        await killer
        # What the last kills hit is noticed when the process's end is.
        assert await pool.run(calls.same, True)
    for number, result in enumerate(results):
        if isinstance(result, WorkerLost):
            lost += 1
        else:
            assert result == number
    assert ends == Counter(range(count))
    # A worker that dies takes no more than what it ran.
    assert lost <= kills * 20
    assert lost > 0


PROGRAM = """
    import asyncio, os, sys
    sys.path.insert(0, {tests!r})
    import antiphon
    from antiphon.pool import Pool
    from support import pool_calls as calls

    async def main():
        async with Pool(2, "process", grace={grace}) as pool:
            pids = [worker.pid for worker in pool.stats().workers]
            pool.spawn(calls.wait_for_ever)
            block = [pool.spawn(calls.compute_for_ever) for _ in range({blocked})]
            for call in block:
                while call.link is None:
                    await asyncio.sleep(0)
            print(*pids, flush=True)
            await asyncio.Event().wait()

    if __name__ == "__main__":
        antiphon.run(main())
"""


def started(tmp_path: Any, blocked: int) -> tuple[subprocess.Popen[str], list[int]]:
    """Starts a program with a pool in a process group of its own; gives it and its workers' numbers."""
    refuse_process()
    path = tmp_path / "program.py"
    tests = os.path.dirname(__file__)
    path.write_text(textwrap.dedent(PROGRAM).format(tests=tests, blocked=blocked, grace=0.5))
    program = subprocess.Popen(
        [sys.executable, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    assert program.stdout is not None
    line = program.stdout.readline()
    if not line:
        pytest.fail(program.communicate()[1])
    return program, [int(pid) for pid in line.split()]


@pytest.mark.parametrize("blocked", [0, 2])
def test_no_worker_outlives_a_killed_pool(tmp_path: Any, blocked: int) -> None:
    program, pids = started(tmp_path, blocked)
    ends = [os.pidfd_open(pid) for pid in pids]
    program.kill()
    program.communicate()
    for end in ends:
        select.select([end], [], [])  # readable when the process has ended
        os.close(end)


@pytest.mark.parametrize("blocked", [0, 2])
def test_interrupt_ends_the_program_and_its_workers(tmp_path: Any, blocked: int) -> None:
    program, pids = started(tmp_path, blocked)
    os.killpg(program.pid, signal.SIGINT)  # as a terminal does
    _, errors = program.communicate()
    assert program.returncode == -signal.SIGINT
    # The pool has waited for them, so they are gone by now.
    assert all(is_zombie_or_gone(pid) for pid in pids)
    assert errors.strip().endswith("KeyboardInterrupt") and errors.count("Traceback") <= 2


def test_program_that_makes_a_pool_when_imported_is_told(tmp_path: Any) -> None:
    refuse_process()
    path = tmp_path / "program.py"
    path.write_text(
        textwrap.dedent(
            """
            import antiphon

            async def main():
                async with antiphon.Pool(1, "process"):
                    pass

            antiphon.run(main())
            """
        )
    )
    run = subprocess.run([sys.executable, str(path)], capture_output=True, text=True)
    assert run.returncode == 1
    assert "if __name__ == '__main__':" in run.stderr and "WorkerLost" in run.stderr
