"""Builds the native programs of the echo rows: the load client (for TLS with OpenSSL), and the bare epoll server."""

import hashlib
import os
import shlex
import subprocess
from functools import cache
from pathlib import Path

from benches.contender import ROOT, MeasuredProcessError

SOURCES = Path(__file__).parent / "native"
BUILD = ROOT / "target" / "benches"
FLAGS = ("-std=c17", "-O2", "-Wall", "-Wextra")
COMPILE_TIMEOUT_S = 60
PROGRAMS = {
    "echoload": ("echoload.c", "connection.c", "histogram.c", "secure_none.c"),
    "echoload-tls": ("echoload.c", "connection.c", "histogram.c", "secure_openssl.c"),
    "epollserver": ("epollserver.c",),
}
LIBRARIES = {"echoload-tls": ("-lssl", "-lcrypto")}


@cache
def program(name: str) -> str:
    """Returns the path of one of :data:`PROGRAMS`, compiling it with ``$CC`` (cc) where it is new.

    Any change of a source, of the compiler or of its flags makes it new; the file name has their
    digest.

    Raises:
        MeasuredProcessError: there is no C compiler, or it failed.
    """
    compiler = [*shlex.split(os.environ.get("CC", "cc")), *FLAGS]
    digest = hashlib.sha256(" ".join(compiler).encode())
    for file in sorted(SOURCES.glob("*.[ch]")):
        digest.update(file.read_bytes())
    binary = BUILD / f"{name}-{digest.hexdigest()[:16]}"
    if not binary.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        unfinished = binary.with_suffix(f".{os.getpid()}")
        sources = [str(SOURCES / file) for file in PROGRAMS[name]]
        _compile([*compiler, "-o", str(unfinished), *sources, *LIBRARIES.get(name, ())])
        unfinished.rename(binary)
    return str(binary)


def _compile(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MeasuredProcessError(f"no C program can be compiled: {error}") from error
    if done.returncode:
        raise MeasuredProcessError(
            f"{command[0]} ended with status {done.returncode}: {done.stderr[-500:]}"
        )
