"""The targets: what antiphon is to reach in each row, as gains in CPU time per operation.

A gain of 2 is half the CPU. Targets that are stated as a share of the peer's cost ("at most 0.8 of
the CPU") are kept in those words and judged as the inverse gain. Rows without a target are measured
for orientation only.
"""

from dataclasses import dataclass

from benches.echo.cells import CELLS

#: The loop whose rows are judged.
SUBJECT = "antiphon"
#: The loop that tables and the picture are normalised to.
REFERENCE = "uvloop"


@dataclass(frozen=True)
class Target:
    """``row`` is to cost at least ``gain`` times less CPU than ``peer``; ``stated`` is the target
    in its own words.
    """

    row: str
    peer: str
    gain: float
    stated: str


def times_cheaper(row: str, gain: float, peer: str = REFERENCE) -> Target:
    """A target stated as a factor."""
    return Target(row, peer, gain, f"≥ {gain:g}x")


def share_of_cpu(row: str, share: float, peer: str = REFERENCE) -> Target:
    """A target stated as the largest share of the peer's CPU time."""
    return Target(row, peer, 1 / share, f"≥ {1 / share:.2f}x (≤ {share:g} of the CPU)")


TO_REACH = (
    times_cheaper("call_soon_chained", 2.1),
    times_cheaper("call_soon_batch_200k", 3.3),
    times_cheaper("loop_iteration", 6),
    times_cheaper("timer_set_cancel", 4.5),
    times_cheaper("timers_1m", 8),
    times_cheaper("threadsafe_flood", 2),
    times_cheaper("loop_create_close", 1, peer="asyncio"),
    times_cheaper("run_until_complete", 1, peer="asyncio"),
    times_cheaper("getaddrinfo_literal", 20, peer="asyncio"),
    times_cheaper("task_switch_1000_tasks", 5),
    times_cheaper("create_task_await", 9),
    times_cheaper("future_wake_up", 6),
    times_cheaper("future_callback", 3.4),
    times_cheaper("gather_10k", 4),
    times_cheaper("task_group_10k", 4),
    times_cheaper("wait_10k", 4),
    times_cheaper("as_completed_10k", 4),
    times_cheaper("wait_for_blocking", 7),
    times_cheaper("timeout_block", 6),
    times_cheaper("cancel_task", 4),
    times_cheaper("park_100k", 6),
    times_cheaper("queue_ping_pong", 5),
    times_cheaper("lock_free", 4),
    times_cheaper("lock_contended", 6),
    times_cheaper("semaphore_contended", 6),
    times_cheaper("event_broadcast", 6),
    times_cheaper("condition_ping_pong", 6),
    times_cheaper("tcp_streams_64B_100c", 1.8),
    times_cheaper("tcp_streams_1024B_100c", 1.8),
    times_cheaper("tcp_streams_102400B_10c", 3.3),
    share_of_cpu("subprocess_spawn", 0.4),
    share_of_cpu("subprocess_communicate", 0.4),
    *(
        share_of_cpu(cell.name, 0.8)
        for cell in CELLS
        if cell.kind == "tcp_protocol" and cell.message_bytes <= 16384
    ),
    # No slower than the best of asyncio and rloop: the best at this size, where the kernel's share is nearly all.
    *(
        times_cheaper(cell.name, 1, peer="asyncio")
        for cell in CELLS
        if cell.kind == "tcp_protocol" and cell.message_bytes > 16384
    ),
    *(share_of_cpu(cell.name, 0.8) for cell in CELLS if cell.kind == "unix_protocol"),
    *(
        share_of_cpu(cell.name, 0.75 if cell.message_bytes <= 1024 else 0.9)
        for cell in CELLS
        if cell.kind == "tls_protocol"
    ),
    *(share_of_cpu(cell.name, 0.4) for cell in CELLS if cell.kind == "sock_calls"),
    *(share_of_cpu(cell.name, 0.95) for cell in CELLS if cell.kind == "churn"),
    # One peer at a time leaves nothing to batch: there the floor itself (epoll) costs more than that.
    *(share_of_cpu(cell.name, 0.6) for cell in CELLS if cell.datagrams and cell.connections > 1),
)

BY_ROW = {target.row: target for target in TO_REACH}
