"""The ready queue: what a callback costs from ``call_soon`` to its call."""

from benches.workload import Run, workload

GROUP = "scheduling"
CHAINS = 100


@workload(
    "call_soon_chained", group=GROUP, title="call_soon, chained", unit="callback", size=300_000
)
def call_soon_chained(run: Run) -> None:
    """100 chains, each callback queueing its successor: 100 callbacks a turn, so that the turn
    itself weighs little.
    """
    left = run.size
    call_soon = run.loop.call_soon

    def link() -> None:
        nonlocal left
        left -= 1
        if left > 0:
            call_soon(link)
        elif left == 0:
            run.loop.stop()

    for _ in range(CHAINS):
        call_soon(link)
    run.loop.run_forever()


@workload(
    "call_soon_batch_200k",
    group=GROUP,
    title="call_soon, batch of 200,000",
    unit="callback",
    size=200_000,
    counted_sizes=(20_000, 100_000),
)
def call_soon_batch(run: Run) -> None:
    """All callbacks queued, then called in one turn: every handle is alive at once, so the
    collector's share shows.
    """

    def callback() -> None:
        pass

    call_soon = run.loop.call_soon
    for _ in range(run.size):
        call_soon(callback)
    run.until_stopped()


@workload(
    "call_soon_arguments",
    group=GROUP,
    title="call_soon, bound method, 2 arguments",
    unit="callback",
    size=200_000,
    counted_sizes=(20_000, 100_000),
)
def call_soon_arguments(run: Run) -> None:
    """As the batch, with a bound method and two arguments."""

    class Receiver:
        def method(self, first: int, second: int) -> None:
            pass

    method = Receiver().method
    call_soon = run.loop.call_soon
    for _ in range(run.size):
        call_soon(method, 1, 2)
    run.until_stopped()


@workload("loop_iteration", group=GROUP, title="loop iteration", unit="turn", size=100_000)
def loop_iteration(run: Run) -> None:
    """One chain: one callback a turn, so the cost of a turn, with its look for readiness."""
    left = run.size
    call_soon = run.loop.call_soon

    def link() -> None:
        nonlocal left
        left -= 1
        if left > 0:
            call_soon(link)
        else:
            run.loop.stop()

    call_soon(link)
    run.loop.run_forever()
