"""The race of connection attempts: order of starts, the winner, and that nothing is left behind."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

module = pytest.importorskip(
    "antiphon.happy_eyeballs", reason="the package is not built", exc_type=ImportError
)
staggered_race, interleave_families = module.staggered_race, module.interleave_families

NEVER = 1e6  # seconds until the next attempt may start: it starts because the last one failed, or not at all


class Attempts:
    """Attempts that end when the test says so, and what became of them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, count: int) -> None:
        self.ends: list[asyncio.Future[Any]] = [loop.create_future() for _ in range(count)]
        self.began = [asyncio.Event() for _ in range(count)]
        self.ended: list[int] = []
        self.discarded: list[Any] = []

    def functions(self) -> list[Callable[[], Coroutine[Any, Any, Any]]]:
        return [lambda number=number: self._run(number) for number in range(len(self.ends))]

    async def _run(self, number: int) -> Any:
        self.began[number].set()
        try:
            return await self.ends[number]
        finally:
            self.ended.append(number)

    def race(self, loop: asyncio.AbstractEventLoop, delay: float) -> "asyncio.Task[Any]":
        return loop.create_task(
            staggered_race(self.functions(), delay, loop=loop, discard=self.discarded.append)
        )


async def test_first_success_wins_and_the_others_never_start(loop) -> None:
    attempts = Attempts(loop, 2)
    attempts.ends[0].set_result("won")
    assert await attempts.race(loop, NEVER) == "won"
    assert not attempts.began[1].is_set()
    assert attempts.discarded == []


async def test_failure_starts_the_next_at_once(loop) -> None:
    attempts = Attempts(loop, 2)
    attempts.ends[0].set_exception(OSError("refused"))
    attempts.ends[1].set_result("second")
    assert await attempts.race(loop, NEVER) == "second"


async def test_delay_starts_the_next_beside_the_last(loop) -> None:
    attempts = Attempts(loop, 2)
    race = attempts.race(loop, 0)
    await attempts.began[1].wait()
    assert attempts.began[0].is_set()
    attempts.ends[1].set_result("second")
    assert await race == "second"
    assert sorted(attempts.ended) == [0, 1]


async def test_older_attempt_may_still_win(loop) -> None:
    attempts = Attempts(loop, 2)
    race = attempts.race(loop, 0)
    await attempts.began[1].wait()
    attempts.ends[0].set_result("first")
    assert await race == "first"
    assert attempts.ends[1].cancelled()


class ScriptedClock:
    """A loop for the race whose clock shows what the test wrote down; tasks are the real loop's."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *times: float) -> None:
        self.create_task = loop.create_task
        self._times = list(times)

    def time(self) -> float:
        return self._times.pop(0) if len(self._times) > 1 else self._times[0]


async def test_failure_of_an_older_attempt_starts_nothing(loop) -> None:
    attempts = Attempts(loop, 3)
    # The first attempt gets its deadline at 0 and has it over at once; the second one's never comes.
    clock = ScriptedClock(loop, 0.0, NEVER)
    race = loop.create_task(
        staggered_race(attempts.functions(), NEVER, loop=clock, discard=attempts.discarded.append)
    )
    await attempts.began[1].wait()
    attempts.ends[0].set_exception(OSError("refused"))
    while attempts.ended != [0]:
        await asyncio.sleep(0)
    for _ in range(5):  # turns enough for the race to hear of it, and for an attempt to begin
        await asyncio.sleep(0)
    assert not attempts.began[2].is_set()
    attempts.ends[1].set_exception(OSError("refused"))
    await attempts.began[2].wait()
    attempts.ends[2].set_result("third")
    assert await race == "third"


async def test_all_fail_gives_none(loop) -> None:
    attempts = Attempts(loop, 3)
    for end in attempts.ends:
        end.set_exception(OSError("refused"))
    assert await attempts.race(loop, NEVER) is None
    assert attempts.ended == [0, 1, 2]


async def test_no_attempts_give_none(loop) -> None:
    assert await Attempts(loop, 0).race(loop, NEVER) is None


async def test_two_successes_in_one_turn_keep_the_earlier_and_discard_the_other(loop) -> None:
    attempts = Attempts(loop, 2)
    race = attempts.race(loop, 0)
    await attempts.began[1].wait()
    attempts.ends[1].set_result("second")
    attempts.ends[0].set_result("first")
    assert await race == "first"
    assert attempts.discarded == ["second"]


async def test_error_that_is_no_oserror_ends_the_race(loop) -> None:
    attempts = Attempts(loop, 2)
    race = attempts.race(loop, 0)
    await attempts.began[1].wait()
    attempts.ends[1].set_exception(OverflowError("port"))
    with pytest.raises(OverflowError):
        await race
    assert sorted(attempts.ended) == [0, 1]


async def test_cancellation_ends_all_attempts_before_it_goes_on(loop) -> None:
    attempts = Attempts(loop, 2)
    race = attempts.race(loop, 0)
    await attempts.began[1].wait()
    race.cancel()
    with pytest.raises(asyncio.CancelledError):
        await race
    assert sorted(attempts.ended) == [0, 1]


async def test_success_that_comes_while_cancelled_is_discarded(loop) -> None:
    attempts = Attempts(loop, 1)
    race = attempts.race(loop, NEVER)
    await attempts.began[0].wait()
    attempts.ends[0].set_result("late")
    await asyncio.sleep(0)  # the attempt has ended, the race was not yet told
    race.cancel()
    with pytest.raises(asyncio.CancelledError):
        await race
    assert attempts.discarded == ["late"]


@pytest.mark.parametrize(
    ("count", "order"),
    [(1, "a1 b1 a2 b2 a3"), (2, "a1 a2 b1 a3 b2"), (3, "a1 a2 a3 b1 b2"), (9, "a1 a2 a3 b1 b2")],
)
def test_families_take_turns_after_the_first_few(count: int, order: str) -> None:
    infos = [("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1"), ("b", "b2")]
    assert " ".join(name for _, name in interleave_families(infos, count)) == order


def test_interleaving_nothing_gives_nothing() -> None:
    assert interleave_families([], 1) == []
