"""Child processes under transports: a recording protocol, and what a test asks the system about them."""

import asyncio
import contextlib
import os
import signal
from typing import Any

from support.net import Recording

SHELL = "/bin/sh"


class ProcessRecorder(Recording, asyncio.SubprocessProtocol):
    """A `Recording` of what a subprocess transport tells; `output` has the bytes by descriptor."""

    def __init__(self) -> None:
        super().__init__()
        self.output = {1: bytearray(), 2: bytearray()}

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.note("connection_made")

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.output[fd] += data
        self.note(f"data {fd}")

    def pipe_connection_lost(self, fd: int, exc: BaseException | None) -> None:
        self.note(f"lost {fd}")

    def process_exited(self) -> None:
        self.note("exited")


async def start_shell(
    loop: asyncio.AbstractEventLoop, script: str, **options: Any
) -> tuple[asyncio.SubprocessTransport, ProcessRecorder]:
    """Starts a shell with a script under a recorder."""
    return await loop.subprocess_exec(ProcessRecorder, SHELL, "-c", script, **options)


async def output_of(*args: Any, **options: Any) -> bytes:
    """Runs a program; gives its output, with its errors where the program sent them."""
    process = await asyncio.create_subprocess_exec(*args, stdout=asyncio.subprocess.PIPE, **options)
    output, _ = await process.communicate()
    assert process.returncode == 0, output
    return output


async def output_of_shell(script: str, **options: Any) -> bytes:
    """Runs a script of the shell; gives its output."""
    return await output_of(SHELL, "-c", script, **options)


def has_children() -> bool:
    """Tells whether this process has a child, running or not yet reaped; reaps none."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    except ChildProcessError:
        return False
    return True


def child_numbers() -> set[int]:
    """Gives the numbers of the children of this process (proc(5), /proc/pid/task/tid/children)."""
    numbers: set[int] = set()
    for thread in os.listdir("/proc/self/task"):
        # A thread may end between the list and the look; its children are another's then.
        with (
            contextlib.suppress(FileNotFoundError, ProcessLookupError),
            open(f"/proc/self/task/{thread}/children") as file,
        ):
            numbers.update(map(int, file.read().split()))
    return numbers


def end_children(but: set[int]) -> None:
    """Kills and reaps the children of this process, whoever wanted to do so.

    Args:
        but: those that stay.
    """
    for pid in child_numbers() - but:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def is_zombie_or_gone(pid: int) -> bool:
    """Tells whether a process runs no more."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True
