"""The pytest plugin: `--antiphon-on-block=raise` fails tests whose code blocks the event loop."""

import os

import pytest

import antiphon

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.slow  # every one of them starts a process

# Blocks until it has been found, so that nothing depends on the machine's speed.
PRELUDE = """
import asyncio, threading
import antiphon

def block():
    found = threading.Event()
    unregister = antiphon.on_blocked(lambda event: found.set())
    try:
        found.wait()
    finally:
        unregister()

"""


@pytest.fixture
def run(pytester, monkeypatch):
    """Runs pytest with the plugin on a test file; gives its outcome."""
    package = os.path.dirname(os.path.dirname(antiphon.__file__))
    monkeypatch.setenv("PYTHONPATH", package)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def run(source, *options):
        pytester.makepyfile(PRELUDE + source)
        # The entry point may be there or not.
        entry = ["-p", "no:antiphon", "-p", "antiphon.pytest_plugin", "-p", "no:cacheprovider"]
        return pytester.runpytest_subprocess(*entry, *options)

    return run


RAISE = ("--antiphon-on-block=raise", "--antiphon-block-after=0.01")


def test_test_that_blocks_fails_and_the_others_pass(run):
    outcome = run(
        """
def test_blocks():
    async def main():
        block()
    asyncio.run(main())

def test_does_not():
    async def main():
        await asyncio.sleep(0)
    asyncio.run(main())
""",
        *RAISE,
    )
    outcome.assert_outcomes(passed=1, failed=1)
    outcome.stdout.fnmatch_lines(["*BlockingError: Task-* blocked the event loop for *"])
    outcome.stdout.fnmatch_lines(["*found.wait()*"])


def test_error_that_the_code_swallows_fails_the_test(run):
    outcome = run(
        """
def test_swallows():
    async def handler():
        block()

    async def main():
        await asyncio.gather(handler(), return_exceptions=True)

    asyncio.run(main())

def test_next_one_is_not_blamed():
    pass
""",
        *RAISE,
    )
    outcome.assert_outcomes(passed=1, failed=1)
    outcome.stdout.fnmatch_lines(["*BlockingError: Task-*"])


def test_fixtures_are_watched(run):
    outcome = run(
        """
import pytest

def blocking_run():
    async def main():
        await asyncio.gather(asyncio.create_task(blocker()), return_exceptions=True)

    async def blocker():
        block()

    asyncio.run(main())

@pytest.fixture
def sets_up():
    blocking_run()

@pytest.fixture
def tears_down():
    yield
    blocking_run()

def test_setup(sets_up):
    pass

def test_teardown(tears_down):
    pass
""",
        *RAISE,
    )
    outcome.assert_outcomes(passed=1, errors=2)


def test_callback_that_blocks_fails_the_test(run):
    outcome = run(
        """
def test_callback():
    async def main():
        asyncio.get_running_loop().call_soon(block)
        await asyncio.sleep(0)
    asyncio.run(main())
""",
        *RAISE,
    )
    outcome.assert_outcomes(failed=1)


def test_without_the_option_nothing_happens(run):
    outcome = run(
        """
import sys

def test_nothing():
    loop = asyncio.new_event_loop()
    assert not isinstance(loop, antiphon.Loop)
    loop.close()
    assert antiphon.new_event_loop.__module__ == "antiphon.runner"
    assert antiphon.blocking.resolve_options() == ("ignore", 0.05)
"""
    )
    outcome.assert_outcomes(passed=1)


def test_report_only_fails_no_test(run):
    outcome = run(
        """
def test_blocks(caplog):
    async def main():
        block()
    asyncio.run(main())
    assert "blocks the event loop" in caplog.text
""",
        "--antiphon-on-block=report",
        "--antiphon-block-after=0.01",
    )
    outcome.assert_outcomes(passed=1)


def test_configuration_file_has_both(run, pytester):
    pytester.makeini("[pytest]\nantiphon_on_block = raise\nantiphon_block_after = 0.01\n")
    outcome = run(
        """
def test_blocks():
    async def main():
        block()
    asyncio.run(main())
"""
    )
    outcome.assert_outcomes(failed=1)


def test_value_that_there_is_not_is_refused(run):
    outcome = run("", "--antiphon-on-block=shout")
    assert outcome.ret == pytest.ExitCode.USAGE_ERROR
    outcome.stderr.fnmatch_lines(["*on_block must be one of ignore, report, raise*'shout'*"])
