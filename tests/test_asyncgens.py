"""Asynchronous generators: what the loop does for those that nobody finished."""

import asyncio
import gc
import sys

import pytest

from support.loops import run_ready
from support.net import turns


def counting(log, name="generator"):
    """Gives a generator that notes the end of its life in `log`."""

    async def generator():
        try:
            for number in range(10):
                yield number
        finally:
            await asyncio.sleep(0)
            log.append(f"{name} closed")

    return generator()


async def test_exhausted_generator_needs_nothing(loop):
    log = []
    assert [number async for number in counting(log)] == list(range(10))
    assert log == ["generator closed"]
    await loop.shutdown_asyncgens()
    assert log == ["generator closed"]


async def test_abandoned_generator_is_closed_by_the_loop(loop):
    log = []
    async for number in counting(log):
        if number == 3:
            break
    gc.collect()
    # The finalizer enters the loop like another thread would; its task then takes two steps.
    await turns(5)
    assert log == ["generator closed"]


async def test_shutdown_closes_what_still_runs(loop):
    log = []
    generators = [counting(log, f"generator {number}") for number in range(5)]
    for generator in generators:
        await anext(generator)
    await loop.shutdown_asyncgens()
    assert sorted(log) == [f"generator {number} closed" for number in range(5)]
    for generator in generators:
        with pytest.raises(StopAsyncIteration):
            await anext(generator)


async def test_shutdown_without_generators_is_harmless(loop):
    await loop.shutdown_asyncgens()
    await loop.shutdown_asyncgens()


async def test_shutdown_reports_a_generator_that_raises_and_closes_the_others(loop, faults):
    log = []

    async def raising():
        try:
            yield 1
        finally:
            raise LookupError("in the clean-up")

    bad, good = raising(), counting(log)
    await anext(bad)
    await anext(good)
    await loop.shutdown_asyncgens()
    assert log == ["generator closed"]
    (context,) = faults
    assert context["message"].startswith(
        "an error occurred during closing of asynchronous generator <async_generator object"
    )
    assert isinstance(context["exception"], LookupError)
    assert context["asyncgen"] is bad


async def test_generator_begun_after_the_shutdown_warns(loop, audit):
    log = []
    await loop.shutdown_asyncgens()
    generator = counting(log)
    await anext(generator)
    audit.take_warning(
        ResourceWarning, r"asynchronous generator <.*> was scheduled after loop\.shutdown_asyncgens"
    )
    await generator.aclose()


def test_hooks_are_the_loops_only_while_it_runs(loop):
    def own_firstiter(generator):
        pass

    def own_finalizer(generator):
        pass

    before = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(own_firstiter, own_finalizer)
    try:
        seen = []
        loop.call_soon(lambda: seen.append(sys.get_asyncgen_hooks()))
        run_ready(loop)
        assert seen[0].firstiter not in (None, own_firstiter)
        assert seen[0].finalizer not in (None, own_finalizer)
        assert sys.get_asyncgen_hooks() == (own_firstiter, own_finalizer)
    finally:
        sys.set_asyncgen_hooks(*before)


def test_hooks_are_restored_when_an_exception_leaves_the_run(loop):
    before = sys.get_asyncgen_hooks()

    def leave():
        raise KeyboardInterrupt

    loop.call_soon(leave)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert sys.get_asyncgen_hooks() == before


def test_generator_suspended_at_the_end_of_a_run_is_closed_by_the_next(loop):
    log = []

    async def begin():
        generator = counting(log)
        await anext(generator)
        return generator

    generator = loop.run_until_complete(begin())
    assert log == []
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert log == ["generator closed"]
    del generator


def test_runner_closes_generators(loop_factory):
    log = []
    kept = []

    async def main():
        kept.append(counting(log))
        await anext(kept[0])

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
        assert log == []
    assert log == ["generator closed"]


def test_generator_collected_after_the_loop_closed_does_no_harm(loop, loop_factory, audit):
    other = loop_factory()
    kept = []

    async def begin():
        kept.append(counting([]))
        await anext(kept[0])

    other.run_until_complete(begin())
    other.close()
    kept.clear()
    gc.collect()
    assert audit.unraisable == []
