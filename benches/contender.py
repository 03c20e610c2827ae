"""A contender: one loop on one interpreter, under the name that the report gives it.

One contender is no loop: :data:`FLOOR` is a bare epoll server in C, which shows in the echo rows
what the kernel alone costs, and so how much a loop could gain there at all.
"""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROBE_TIMEOUT_S = 30
FLOOR = "epoll"


class MeasuredProcessError(Exception):
    """A measured process failed; the text is the reason that the report prints."""


@dataclass(frozen=True)
class Contender:
    """``label`` is unique in a report; ``python`` is the interpreter with the measured packages."""

    label: str
    python: str
    loop: str

    @property
    def native(self) -> bool:
        """Whether this is the floor, which runs echo rows only."""
        return self.loop == FLOOR

    def command(self, module: str, *arguments: object) -> list[str]:
        """Returns the command that runs ``benches.<module>`` on this contender's interpreter."""
        return [self.python, "-m", f"benches.{module}", *map(str, arguments)]


def environment() -> dict[str, str]:
    """Returns the environment of measured processes: equal hashing everywhere, so that rounds can
    be compared.
    """
    return {**os.environ, "PYTHONHASHSEED": "0"}


def last_line(text: str) -> str:
    """Returns the last line of a process's complaint: of a traceback, the exception."""
    return (text.strip().splitlines() or ["no message"])[-1].strip()


def run_to_json(command: list[str], timeout_s: float) -> dict[str, float]:
    """Runs ``command`` in the project's root and returns the JSON object on its last line of
    output.

    Raises:
        MeasuredProcessError: it failed, took longer than ``timeout_s``, or printed no such line.
    """
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise MeasuredProcessError(f"no answer within {timeout_s:.0f} s") from error
    except OSError as error:
        raise MeasuredProcessError(f"cannot run {command[0]}: {error.strerror}") from error
    if done.returncode:
        raise MeasuredProcessError(f"exit status {done.returncode}: {last_line(done.stderr)}")
    try:
        return dict(json.loads(done.stdout.splitlines()[-1]))
    except (IndexError, ValueError) as error:
        raise MeasuredProcessError(f"unexpected output: {done.stdout[-200:]!r}") from error


def probe(contender: Contender) -> dict[str, object]:
    """Returns the versions behind a contender.

    Raises:
        MeasuredProcessError: its loop cannot be imported, opened or closed there.
    """
    return dict(run_to_json(contender.command("worker", "probe", contender.loop), PROBE_TIMEOUT_S))
