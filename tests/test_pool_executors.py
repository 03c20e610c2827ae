"""Pools whose workers an executor has: those of concurrent.futures, and Dask's and Ray's where they are installed."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context, resource_tracker
from typing import Any

import pytest

from antiphon.pool import Pool, TransferError, WorkerLost
from support import pool_calls as calls
from support.switches import refuse_process

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real_driver("workers are threads and processes of their own"),
    pytest.mark.timeout(100),  # a busy machine starts an interpreter in many seconds
]


@pytest.fixture(params=["threads", "processes"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    if request.param == "threads":
        with ThreadPoolExecutor(2) as executor:
            yield executor
    else:
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
            yield executor
        resource_tracker._resource_tracker._stop()  # multiprocessing's own helper would outlive the test


async def test_calls_of_all_kinds(loop: Any, executor: Executor) -> None:
    async with Pool(executor=executor) as pool:
        assert await pool.run(calls.add, 1, 2) == 3
        assert await pool.run(calls.plain, 2) == 3
        assert await pool.map(calls.same, range(2000)) == list(range(2000))
        assert (await pool.run(calls.loop_name)).startswith("antiphon")
        with pytest.raises(ValueError, match="bad"):
            await pool.run(calls.fail, "bad")
        with pytest.raises(ExceptionGroup):
            await pool.run(calls.fail_in_group)
        with pytest.raises(TransferError, match="the result is a _thread.lock"):
            await pool.run(calls.unpicklable)
        big = await pool.run(calls.fill, 1 << 20, 3)
        assert len(big) == 1 << 20 and big[5] == 3
        with pytest.raises(ValueError, match="chooses its workers itself"):
            await pool.broadcast(calls.same, 1)
    with pytest.raises(ValueError, match="exclude each other"):
        Pool(executor=executor, kind="process")
    with pytest.raises(ValueError, match="initializer"):
        Pool(executor=executor, initializer=print)


async def test_calls_of_one_turn_wait_together(loop: Any) -> None:
    with ThreadPoolExecutor(1) as executor:
        async with Pool(executor=executor) as pool:
            await pool.map(calls.same, range(200))
            # One worker, and each waits for longer than the test may take if it were alone.
            await pool.map(calls.sleep_and_give, [0.3] * 100, range(100))


async def test_context_variables_travel(loop: Any, executor: Executor) -> None:
    async with Pool(executor=executor, carry=[calls.REQUEST]) as pool:
        calls.REQUEST.set("mine")
        assert await pool.run(calls.request) == "mine"


async def test_lost_worker_fails_its_calls(loop: Any) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        async with Pool(executor=executor) as pool:
            with pytest.raises(WorkerLost, match="BrokenProcessPool"):
                await pool.run(calls.die)
            # The executor is broken by that, and says so.
            with pytest.raises(WorkerLost):
                await pool.run(calls.same, 1)
    resource_tracker._resource_tracker._stop()


class Slow(Executor):
    """Runs a batch when it is told to."""

    def __init__(self) -> None:
        self.batches: list[Any] = []

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.batches.append((future, function, args))
        return future

    def run(self) -> None:
        for future, function, args in self.batches:
            if future.set_running_or_notify_cancel():
                with ThreadPoolExecutor(1) as thread:  # a loop runs in this one
                    future.set_result(thread.submit(function, *args).result())
        self.batches.clear()


async def test_call_that_is_cancelled_is_given_up(loop: Any) -> None:
    executor = Slow()
    async with Pool(1, executor=executor) as pool:
        call = pool.spawn(calls.same, 1)
        while not executor.batches:
            await asyncio.sleep(0)
        call.cancel()
        assert call.cancelled()
        assert executor.batches[0][0].cancelled()
        executor.run()
        again = pool.spawn(calls.same, 2)
        while not executor.batches:
            await asyncio.sleep(0)
        executor.run()
        assert await again == 2


# Clusters leave threads and descriptors in the process that starts them, so each has a process of its own; one test for
# each, for they take seconds to start.

DASK = """
import os, signal
import antiphon, dask
from antiphon.pool import Pool
from distributed import Client, LocalCluster
from support import pool_calls as calls

async def main(client):
    async with Pool(2, executor=client.get_executor()) as pool:
        assert await pool.map(calls.same, range(500)) == list(range(500))
        pids = {pid for pid, _ in await pool.map(calls.where_slowly, range(40))}
        assert len(pids) == 2 and os.getpid() not in pids, pids
        try:
            await pool.run(calls.fail, "far away")
        except ValueError as error:
            assert str(error) == "far away" and "in fail" in str(error.__cause__)
        else:
            raise AssertionError("no exception")
        # A worker is lost in the middle of a map: Dask runs again what it was running, on the one that it starts.
        done = 0
        async for call in pool.as_completed(calls.where_slowly, range(400)):
            await call
            done += 1
            if done == 100:
                os.kill(min(pids), signal.SIGKILL)
        assert done == 400

if __name__ == "__main__":
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 5}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        antiphon.run(main(client))
    print("passed")
"""

RAY = """
import os
import antiphon, ray
from antiphon.pool import Pool, executor_of
from ray.util.multiprocessing import Pool as RayPool
from support import pool_calls as calls

async def main(workers):
    async with Pool(2, executor=executor_of(workers)) as pool:
        assert await pool.map(calls.same, range(500)) == list(range(500))
        try:
            await pool.run(calls.fail, "far away")
        except ValueError as error:
            assert str(error) == "far away" and "in fail" in str(error.__cause__)
        else:
            raise AssertionError("no exception")
        assert (await pool.run(calls.where))[0] != os.getpid()

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
workers = RayPool(2)
antiphon.run(main(workers))
workers.terminate()
ray.shutdown()
print("passed")
"""


def run_program(program: str, folder: Any) -> None:
    refuse_process()
    path = folder / "program.py"
    path.write_text(program)
    paths = [os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "RAY_AUTH_MODE": "disabled",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_USAGE_STATS_ENABLED": "0",  # loopback alone
    }
    run = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, env=environment
    )
    assert run.returncode == 0 and run.stdout.endswith("passed\n"), run.stdout + run.stderr


@pytest.mark.timeout(90)
@pytest.mark.skipif(find_spec("distributed") is None, reason="Dask is tested on CPython 3.13")
def test_dask_cluster_of_two_processes(tmp_path: Any) -> None:
    run_program(DASK, tmp_path)


@pytest.mark.timeout(90)
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is tested on CPython 3.13")
def test_ray_cluster(tmp_path: Any) -> None:
    run_program(RAY, tmp_path)
