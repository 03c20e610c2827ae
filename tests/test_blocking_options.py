"""`on_block` and `block_after`: where they are given, which of them wins, what is refused."""

import contextlib
import re
import subprocess
import sys
import threading

import pytest

import antiphon
from antiphon import blocking
from support.children import run_child


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.delenv("ANTIPHON_ON_BLOCK", raising=False)
    monkeypatch.delenv("ANTIPHON_BLOCK_AFTER", raising=False)
    yield monkeypatch
    blocking.set_defaults()


def test_nothing_is_looked_for_unless_somebody_asks():
    assert blocking.resolve_options() == ("ignore", 0.05)


def test_argument_wins_over_command_line_and_that_over_the_environment(environment):
    environment.setenv("ANTIPHON_ON_BLOCK", "raise")
    environment.setenv("ANTIPHON_BLOCK_AFTER", "0.5")
    assert blocking.resolve_options() == ("raise", 0.5)
    blocking.set_defaults("report", 0.25)
    assert blocking.resolve_options() == ("report", 0.25)
    assert blocking.resolve_options("ignore") == ("ignore", 0.25)
    assert blocking.resolve_options(block_after=2) == ("report", 2.0)


def test_empty_environment_variable_counts_as_none(environment):
    environment.setenv("ANTIPHON_ON_BLOCK", "")
    environment.setenv("ANTIPHON_BLOCK_AFTER", "")
    assert blocking.resolve_options() == ("ignore", 0.05)


@pytest.mark.parametrize("value", ["", "Report", "rep", 1, True])
def test_unknown_way_is_refused_with_the_known_ones(value):
    with pytest.raises(ValueError, match="^on_block must be one of ignore, report, raise, handoff"):
        antiphon.new_event_loop(on_block=value)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "soon", object()])
def test_time_that_is_none_is_refused(value):
    with pytest.raises(ValueError, match="^block_after must be a positive number of seconds"):
        antiphon.new_event_loop(on_block="report", block_after=value)


def test_message_names_the_environment_variable(environment):
    environment.setenv("ANTIPHON_ON_BLOCK", "shout")
    with pytest.raises(ValueError, match="^ANTIPHON_ON_BLOCK must be one of .*'shout'"):
        antiphon.new_event_loop()
    environment.setenv("ANTIPHON_ON_BLOCK", "report")
    environment.setenv("ANTIPHON_BLOCK_AFTER", "later")
    with pytest.raises(ValueError, match="^ANTIPHON_BLOCK_AFTER must be a positive number"):
        antiphon.new_event_loop()


def test_loops_of_asyncios_own_runner_hear_the_environment(environment):
    environment.setenv("ANTIPHON_ON_BLOCK", "report")
    with contextlib.closing(antiphon.new_event_loop()) as loop:
        assert loop._step_number() > 0


def watches():
    async def main():
        return antiphon.loop.asyncio.get_running_loop()._step_number() > 0

    return main()


def test_run_and_runner_take_both():
    assert antiphon.run(watches(), on_block="report", block_after=1)
    assert not antiphon.run(watches(), on_block="ignore")
    with antiphon.Runner(on_block="raise", block_after=1) as runner:
        assert runner.run(watches())


def test_options_for_somebody_elses_loop_are_refused():
    with pytest.raises(ValueError, match="loop_factory"):
        antiphon.Runner(loop_factory=antiphon.new_event_loop, on_block="report")


def test_run_refuses_before_anything_is_made():
    coro = watches()
    with pytest.raises(ValueError, match="on_block"):
        antiphon.run(coro, on_block="shout")
    coro.close()


def test_loop_class_takes_both_and_a_second_watch_is_refused():
    loop = antiphon.Loop(on_block="report", block_after=1)
    with contextlib.closing(loop), pytest.raises(RuntimeError, match="already"):
        loop._begin_watch("report", 1)
    assert "antiphon-watchdog" not in str(threading.enumerate())


def command(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "antiphon", *arguments],
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
        env={**run_child.__globals__["_environment"](), **environment},
    )


PROGRAM = """
import antiphon, asyncio, threading
found = threading.Event()
antiphon.on_blocked(lambda event: found.set())
async def main():
    found.wait()
asyncio.run(main())
print("ran to its end")
"""


@pytest.mark.slow
def test_command_line_has_both():
    done = command("--on-block=report", "--block-after", "0.01", "-c", PROGRAM)
    assert done.returncode == 0
    assert "ran to its end" in done.stdout
    assert re.search(r"Task-\d+ \(main at .*\) blocks the event loop", done.stderr)


@pytest.mark.slow
def test_environment_works_for_the_command():
    environment = {"ANTIPHON_ON_BLOCK": "raise", "ANTIPHON_BLOCK_AFTER": "0.01"}
    done = command("-c", PROGRAM, **environment)
    assert done.returncode == 1
    assert "antiphon.blocking.BlockingError: " in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("--on-block=shout",), ("--block-after=never",)])
def test_command_line_refuses_what_there_is_not(arguments):
    done = command(*arguments, "-c", "pass")
    assert done.returncode == 2
    assert " must be " in done.stderr
