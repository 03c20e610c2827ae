"""Entry from other threads, and work handed to them."""

import threading

from benches.workload import Run, workload

GROUP = "threads"


@workload(
    "threadsafe_flood",
    group=GROUP,
    title="call_soon_threadsafe flood",
    unit="callback",
    size=200_000,
)
def threadsafe_flood(run: Run) -> None:
    """A plain thread posts callbacks as fast as it can. The CPU time is that of both threads."""
    left = run.size

    def callback() -> None:
        nonlocal left
        left -= 1
        if not left:
            run.loop.stop()

    def post() -> None:
        call_soon_threadsafe = run.loop.call_soon_threadsafe
        for _ in range(run.size):
            call_soon_threadsafe(callback)

    thread = threading.Thread(target=post)
    thread.start()
    run.loop.run_forever()
    thread.join()


@workload(
    "threadsafe_ping_pong",
    group=GROUP,
    title="two loops waking each other",
    unit="round trip",
    size=10_000,
)
def threadsafe_ping_pong(run: Run) -> None:
    """Two loops in two threads, each asleep until the other wakes it. The CPU time is that of both
    threads.
    """
    other = run.new_loop()
    left = run.size

    def pong() -> None:
        run.loop.call_soon_threadsafe(ping)

    def ping() -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            other.call_soon_threadsafe(pong)
        else:
            other.call_soon_threadsafe(other.stop)
            run.loop.stop()

    thread = threading.Thread(target=other.run_forever)
    thread.start()
    run.loop.call_soon(ping)
    run.loop.run_forever()
    thread.join()
    other.close()


@workload(
    "run_in_executor", group=GROUP, title="run_in_executor of a no-op", unit="call", size=10_000
)
def run_in_executor(run: Run) -> None:
    """A no-op on the default executor, one at a time."""

    def work() -> None:
        pass

    async def main() -> None:
        for _ in range(run.size):
            await run.loop.run_in_executor(None, work)

    run.complete(main())
