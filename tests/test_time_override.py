"""A loop whose `time()` is overridden: the scheduler follows that clock and no other."""

import asyncio

import pytest

from support.loops import run_ready


@pytest.fixture(params=["subclass", "instance"])
def clocked(request, loop_class, loop_factory):
    """Gives a loop and a list whose one element is the time of its clock."""
    clock = [1000.0]
    if request.param == "subclass":

        class Clocked(loop_class):
            def time(self):
                return clock[0]

        loop = Clocked()
    else:
        loop = loop_factory()
        loop.time = lambda: clock[0]
    yield loop, clock
    loop.close()


def test_deadlines_are_on_the_overridden_clock(clocked):
    loop, _ = clocked
    assert loop.call_later(5, print).when() == 1005.0
    assert loop.call_at(7, print).when() == 7


def test_timer_fires_when_the_clock_gets_there_and_not_before(clocked):
    loop, clock = clocked
    ran = []
    loop.call_later(10, ran.append, "ten")
    loop.call_later(20, ran.append, "twenty")
    run_ready(loop)
    assert ran == []
    clock[0] += 10
    run_ready(loop)
    assert ran == ["ten"]
    clock[0] += 9
    run_ready(loop)
    assert ran == ["ten"]
    clock[0] += 1
    run_ready(loop)
    assert ran == ["ten", "twenty"]


def test_century_passes_in_a_moment(clocked):
    loop, clock = clocked

    async def main():
        await asyncio.sleep(100 * 365 * 86400)
        return "done"

    def jump():
        clock[0] += 365 * 86400
        # A loop that follows another clock would jump for ever.
        loop.call_soon(jump if clock[0] < 200 * 365 * 86400 else loop.stop)

    loop.call_soon(jump)
    assert loop.run_until_complete(main()) == "done"
    assert clock[0] >= 1000 + 100 * 365 * 86400


def test_clock_that_goes_back_only_delays(clocked):
    loop, clock = clocked
    ran = []
    loop.call_later(1, ran.append, 1)
    clock[0] -= 500
    run_ready(loop)
    assert ran == []
    clock[0] += 501
    run_ready(loop)
    assert ran == [1]


def test_negative_times_are_as_good_as_others(clocked):
    loop, clock = clocked
    clock[0] = -50.0
    ran = []
    handle = loop.call_later(20, ran.append, 1)
    assert handle.when() == -30.0
    run_ready(loop)
    assert ran == []
    clock[0] = -30.0
    run_ready(loop)
    assert ran == [1]


def test_timeouts_follow_the_clock(clocked):
    loop, clock = clocked

    async def main():
        async with asyncio.timeout(3600):
            loop.call_soon(lambda: clock.__setitem__(0, clock[0] + 3600))
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        loop.run_until_complete(main())


def test_raising_clock_leaves_the_run_and_the_loop_stays_usable(loop_class):
    broken = [False]

    class Clocked(loop_class):
        def time(self):
            if broken[0]:
                raise LookupError("no time")
            return 1.0

    loop = Clocked()
    loop.call_later(10, print)
    broken[0] = True
    with pytest.raises(LookupError, match="^no time$"):
        loop.call_later(1, print)
    loop.call_soon(loop.stop)
    with pytest.raises(LookupError, match="^no time$"):
        loop.run_forever()
    broken[0] = False
    assert not loop.is_running()
    run_ready(loop)
    loop.close()


def test_own_clock_may_be_a_property_of_a_running_simulation(loop_class):
    class Simulated(loop_class):
        """Jumps to the next deadline instead of sleeping: asked twice, an hour has passed."""

        now = 0.0

        def time(self):
            self.now += 1800
            return self.now

    loop = Simulated()
    order = []

    async def sleeper(hours):
        await asyncio.sleep(hours * 3600)
        order.append(hours)

    async def main():
        await asyncio.gather(*(sleeper(hours) for hours in (300, 100, 200)))

    def spin(turns_left):
        if turns_left and len(order) < 3:
            loop.call_soon(spin, turns_left - 1)
        elif len(order) < 3:
            loop.stop()

    loop.call_soon(spin, 10_000)
    loop.run_until_complete(main())
    assert order == [100, 200, 300]
    loop.close()
