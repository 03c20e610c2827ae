"""Python programs in processes of their own, for what cannot be tried on the tests' own process."""

import json
import subprocess
import sys
import textwrap
from typing import Any

from support.switches import refuse_process

TIMEOUT_SECONDS = 45
"""How long a program may take; a busy machine starts one in ten seconds."""

PRELUDE = """\
import asyncio, faulthandler, json, os, signal, sys, threading
faulthandler.dump_traceback_later({timeout}, exit=True)
if {name!r} == "asyncio":
    new_event_loop = asyncio.SelectorEventLoop
else:
    import antiphon
    new_event_loop = antiphon.new_event_loop

def report(**facts):
    "Hands facts to the test: one line of JSON on the standard output."
    print(json.dumps(facts), flush=True)

"""


class Child:
    """A running child program.

    Its standard output is read line by line (`report`), which is also how a test waits for it: no
    test sleeps until a child "should be ready".
    """

    def __init__(self, loop_name: str, source: str, *options: str, **environment: str) -> None:
        refuse_process()
        program = PRELUDE.format(name=loop_name, timeout=TIMEOUT_SECONDS) + textwrap.dedent(source)
        self.process = subprocess.Popen(
            [sys.executable, *options, "-c", program],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**_environment(), **environment},
        )

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.process.kill()
        self.process.communicate()

    def report(self) -> dict[str, Any]:
        """Waits for the next report; fails with the child's standard error if none comes."""
        assert self.process.stdout is not None and self.process.stderr is not None
        line = self.process.stdout.readline()
        assert line, f"the child reported nothing:\n{self.process.stderr.read()}"
        return json.loads(line)

    def finish(self) -> "subprocess.CompletedProcess[str]":
        """Waits for the end; gives the exit status and what was left to read."""
        out, err = self.process.communicate(timeout=TIMEOUT_SECONDS)
        return subprocess.CompletedProcess(self.process.args, self.process.returncode, out, err)


def run_child(loop_name: str, source: str, *options: str, **environment: str) -> dict[str, Any]:
    """Runs a program to its end and gives the one report it made; it must exit with status 0.

    Args:
        loop_name: the loop that `new_event_loop` makes in the program.
        source: the program; it finds `new_event_loop`, `report` and the modules of `PRELUDE`.
        options: options for the interpreter.
        environment: additional environment variables.
    """
    with Child(loop_name, source, *options, **environment) as child:
        result = child.finish()
    assert result.returncode == 0, f"exit status {result.returncode}:\n{result.stderr}"
    lines = result.stdout.splitlines()
    assert len(lines) == 1, f"one report expected:\n{result.stdout}\n{result.stderr}"
    facts = json.loads(lines[0])
    return {**facts, "stderr": result.stderr}


def _environment() -> dict[str, str]:
    import os

    # What steers asyncio is the test's to set, never the caller's shell's.
    return {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONASYNCIODEBUG", "PYTHONDEVMODE", "PYTHONWARNINGS")
    }
