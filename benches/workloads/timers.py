"""Timers: set and cancelled at once, a million alive and cancelled, and fired."""

from benches.workload import Run, workload

GROUP = "timers"
PAIRS_PER_TURN = 1_000
#: A stride that is coprime to the sizes used: visits deadlines in an order that is neither sorted
#: nor random.
STRIDE = 7_919


@workload(
    "timer_set_cancel", group=GROUP, title="timer set and cancelled", unit="timer", size=200_000
)
def timer_set_cancel(run: Run) -> None:
    """``call_later`` then ``cancel`` at once, 1000 a turn: the timeout that never fires."""
    left = run.size

    def callback() -> None:
        pass

    call_later = run.loop.call_later

    def step() -> None:
        nonlocal left
        for _ in range(PAIRS_PER_TURN):
            call_later(60, callback).cancel()
        left -= PAIRS_PER_TURN
        if left > 0:
            run.loop.call_soon(step)
        else:
            run.loop.stop()

    run.loop.call_soon(step)
    run.loop.run_forever()


@workload(
    "timers_1m",
    group=GROUP,
    title="1,000,000 timers set, then cancelled",
    unit="timer",
    size=1_000_000,
    repeats_at_most=1,
    counted_sizes=(20_000, 100_000),
)
def timers_alive_then_cancelled(run: Run) -> None:
    """All timers are alive at once, far off and in mixed order; then all are cancelled and one turn
    clears up.
    """

    def callback() -> None:
        pass

    call_later = run.loop.call_later
    handles = [call_later(1000 + (i * STRIDE) % 1000, callback) for i in range(run.size)]
    for handle in handles:
        handle.cancel()
    run.until_stopped()


@workload(
    "timers_fired",
    group=GROUP,
    title="timers fired",
    unit="timer",
    size=200_000,
    counted_sizes=(20_000, 100_000),
)
def timers_fired(run: Run) -> None:
    """Timers due within one millisecond, set in mixed order, all fired."""
    left = run.size

    def callback() -> None:
        nonlocal left
        left -= 1
        if not left:
            run.loop.stop()

    now = run.loop.time()
    call_at = run.loop.call_at
    for i in range(run.size):
        call_at(now + ((i * STRIDE) % run.size) / run.size * 1e-3, callback)
    run.loop.run_forever()
