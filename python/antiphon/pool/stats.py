"""What `Pool.stats()` gives: a picture of the pool at one moment."""

from dataclasses import dataclass

__all__ = ["PoolStats", "WorkerStats"]


@dataclass(frozen=True)
class WorkerStats:
    """One worker.

    Attributes:
        name: what messages call it.
        pid: its process, if it is one of the pool's own.
        ready: whether it takes calls.
        calls: how many it has, running or waiting there.
        finished: how many it has ended.
    """

    name: str
    pid: int | None
    ready: bool
    calls: int
    finished: int


@dataclass(frozen=True)
class PoolStats:
    """A pool.

    Attributes:
        workers: its workers at present.
        waiting: calls that no worker has.
        unfinished: calls that are not done, those included.
        finished: calls that workers have ended, also those that are gone.
        lost: how many workers were lost and replaced.
    """

    workers: tuple[WorkerStats, ...]
    waiting: int
    unfinished: int
    finished: int
    lost: int
