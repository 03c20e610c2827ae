"""Builds the native load client, once per state of its sources."""

import hashlib
import os
import shlex
import subprocess
from functools import cache
from pathlib import Path

from benches.contender import ROOT, MeasuredProcessError

SOURCES = Path(__file__).parent / "client"
BUILD = ROOT / "target" / "benches"
FLAGS = ("-std=c17", "-O2", "-Wall", "-Wextra")
COMPILE_TIMEOUT_S = 60


@cache
def client() -> Path:
    """Returns the load client's path, compiling it with ``$CC`` (cc) where its sources or flags are
    new.

    Raises:
        MeasuredProcessError: there is no C compiler, or it failed.
    """
    compiler = shlex.split(os.environ.get("CC", "cc"))
    files = sorted(SOURCES.glob("*.[ch]"))
    digest = hashlib.sha256(" ".join([*compiler, *FLAGS]).encode())
    for file in files:
        digest.update(file.read_bytes())
    binary = BUILD / f"echoload-{digest.hexdigest()[:16]}"
    if not binary.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        unfinished = binary.with_suffix(f".{os.getpid()}")
        sources = [str(file) for file in files if file.suffix == ".c"]
        _compile([*compiler, *FLAGS, "-o", str(unfinished), *sources])
        unfinished.rename(binary)
    return binary


def _compile(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MeasuredProcessError(f"the load client cannot be compiled: {error}") from error
    if done.returncode:
        raise MeasuredProcessError(f"the load client cannot be compiled: {done.stderr[-500:]}")
