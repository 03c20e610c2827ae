"""A short run of the soak (`make soak` is the long one), and that it finds what is wrong."""

import os
import re
import subprocess
import sys

import pytest

SHORT = ("--minutes", "0.12", "--seed", "20251122")


def soak(*words):
    """Runs the soak; gives its exit status and what it printed."""
    here = os.path.dirname(__file__)
    paths = [here, os.environ.get("PYTHONPATH", "")]
    run = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-m", "soak", *words],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return run.returncode, run.stdout


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.whole_writes(
    "a write due in the turn in which a program replaces the file behind a number reaches the new file"
)
def test_no_byte_is_lost_or_mixed_up_and_nothing_is_left_behind():
    status, output = soak(*SHORT)
    assert status == 0, output
    assert "nothing left behind" in output


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "plant, found",
    [
        ("mix-up", "is wrong"),
        ("descriptor", "left behind descriptor"),
        ("loop", "the loop is still referred to"),
    ],
)
def test_planted_fault_is_found(plant, found):
    words = ("--minutes", "0.01", "--seed", "1", "--connections", "20", "--scenes", "connection")
    status, output = soak(*words, "--plant", plant)
    assert status == 1, output
    assert re.search(found, output), output
    assert "again with --seed 1" in output
