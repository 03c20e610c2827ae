"""Pools of coroutine workers: all cores, and other machines through executors. `docs/pools.md` tells how."""

from antiphon.pool.call import Call
from antiphon.pool.errors import (
    PoolClosed,
    PoolError,
    RemoteError,
    RemoteTraceback,
    TransferError,
    WorkerLost,
)
from antiphon.pool.multiprocessing_pools import executor_of
from antiphon.pool.pool import Pool
from antiphon.pool.stats import PoolStats, WorkerStats

__all__ = [
    "Call",
    "Pool",
    "PoolClosed",
    "PoolError",
    "PoolStats",
    "RemoteError",
    "RemoteTraceback",
    "TransferError",
    "WorkerLost",
    "WorkerStats",
    "executor_of",
]
