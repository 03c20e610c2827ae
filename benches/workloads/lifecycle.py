"""A loop's life: made and closed, and run for one coroutine."""

from benches.workload import Run, workload

GROUP = "lifecycle"


@workload(
    "loop_create_close",
    group=GROUP,
    title="loop made and closed",
    unit="loop",
    size=500,
    counted_sizes=(50, 250),
)
def loop_create_close(run: Run) -> None:
    """A new loop, closed without having run."""
    for _ in range(run.size):
        run.new_loop().close()


@workload(
    "run_until_complete",
    group=GROUP,
    title="run_until_complete of a no-op",
    unit="run",
    size=20_000,
)
def run_until_complete(run: Run) -> None:
    """One coroutine that returns at once, a run of the loop each."""

    async def main() -> None:
        pass

    for _ in range(run.size):
        run.complete(main())
