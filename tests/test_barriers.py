"""`Barrier`: rounds, reset and abort, cancelled waits."""

import asyncio

import pytest

from support.net import turns


async def cancelled(task):
    """Whether the task, awaited, turns out to be cancelled."""
    try:
        await task
    except asyncio.CancelledError:
        return True
    return False


async def test_everybody_passes_a_barrier_together(aio, loop):
    barrier = aio.Barrier(3)
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (3, 0, False)
    passed = []

    async def worker():
        number = await barrier.wait()
        passed.append(number)

    tasks = [loop.create_task(worker()) for _ in range(2)]
    await turns(2)
    assert (barrier.n_waiting, passed) == (2, [])
    tasks.append(loop.create_task(worker()))
    await asyncio.gather(*tasks)
    assert sorted(passed) == [0, 1, 2] and barrier.n_waiting == 0


async def test_rounds_of_a_barrier_do_not_mix(aio, loop):
    barrier = aio.Barrier(4)
    rounds = []

    async def worker():
        for number in range(5):
            await barrier.wait()
            rounds.append(number)

    await asyncio.gather(*(worker() for _ in range(4)))
    assert rounds == sorted(rounds)


async def test_reset_and_abort_send_away_who_waits(aio, loop):
    for change, words in (
        ("reset", "Abort or reset of barrier"),
        ("abort", "Abort or reset of barrier"),
    ):
        barrier = aio.Barrier(2)
        task = loop.create_task(barrier.wait())
        await turns(1)
        assert await getattr(barrier, change)() is None
        with pytest.raises(asyncio.BrokenBarrierError, match=f"^{words}$"):
            await task
        assert barrier.broken is (change == "abort")
    with pytest.raises(asyncio.BrokenBarrierError, match="^Barrier aborted$"):
        await barrier.wait()
    await barrier.reset()
    assert not barrier.broken


async def test_who_is_cancelled_does_not_count_at_the_barrier(aio, loop):
    barrier = aio.Barrier(2)
    first = loop.create_task(barrier.wait())
    await turns(1)
    first.cancel()
    assert await cancelled(first)
    assert barrier.n_waiting == 0
    numbers = await asyncio.gather(barrier.wait(), barrier.wait())
    assert sorted(numbers) == [0, 1]
