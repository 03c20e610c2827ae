"""System calls that fail with an errno of a test's choosing, by order of the kernel itself.

A filter holds for the thread that asked for it and cannot be taken back; so what is to fail runs in a
thread of its own, and what is to work again runs in another one.

Source: seccomp(2), the kernel's Documentation/userspace-api/seccomp_filter.rst, linux/filter.h.
"""

import ctypes
import platform
import struct
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: The numbers of system calls by machine.
_NUMBERS = {
    "x86_64": {
        "accept": 43,
        "accept4": 288,
        "sendto": 44,
        "sendmsg": 46,
        "sendmmsg": 307,
        "write": 1,
        "writev": 20,
    },
    "aarch64": {
        "accept": 202,
        "accept4": 242,
        "sendto": 206,
        "sendmsg": 211,
        "sendmmsg": 269,
        "write": 64,
        "writev": 66,
    },
}

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_OFFSET_OF_NUMBER, _OFFSET_OF_FIRST_ARGUMENT = 0, 16

_libc = ctypes.CDLL(None, use_errno=True)


def _statement(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _program(calls: tuple[str, ...], error: int, fd: int) -> bytes:
    """Fails `calls` on descriptor `fd` with `error`, allows everything else."""
    numbers = [_NUMBERS[platform.machine()][call] for call in calls]
    statements = [_statement(_LOAD_WORD, _OFFSET_OF_NUMBER)]
    for place, number in enumerate(numbers):
        # Any match goes to the look at the descriptor, behind the other calls and one "allow".
        statements.append(_statement(_JUMP_IF_EQUAL, number, if_true=len(numbers) - place))
    statements += [
        _statement(_RETURN, _ALLOW),
        _statement(_LOAD_WORD, _OFFSET_OF_FIRST_ARGUMENT),
        _statement(_JUMP_IF_EQUAL, fd, if_false=1),
        _statement(_RETURN, _ERRNO | error),
        _statement(_RETURN, _ALLOW),
    ]
    return b"".join(statements)


def why_unavailable() -> str | None:
    """Says why filters cannot be used here; None: they can."""
    if platform.machine() not in _NUMBERS:
        return f"the numbers of {platform.machine()}'s system calls are not listed"
    answers: list[int] = []
    # On a descriptor that there is none of: the filter changes nothing.
    thread = threading.Thread(
        target=lambda: answers.append(_install(_program(("write",), 1, 1 << 30)))
    )
    thread.start()
    thread.join()
    return None if answers == [0] else "the kernel or a sandbox refuses seccomp filters"


def _install(program: bytes) -> int:
    instructions = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(instructions))
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return -1
    return _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.c_char_p(header), 0, 0)


def run_with_failing_calls(run: Callable[[], T], calls: tuple[str, ...], error: int, fd: int) -> T:
    """Runs `run` in a thread in which `calls` on descriptor `fd` fail.

    Args:
        run: what to run; nothing that it starts may outlive the test's interest in a working system.
        calls: names of system calls whose first argument is a descriptor.
        error: the errno that they fail with.
        fd: whose calls fail; those on other descriptors do what they always do.

    Returns:
        What `run` returned.

    Raises:
        BaseException: what `run` raised.
    """
    results: list[T] = []
    failures: list[BaseException] = []

    def body() -> None:
        try:
            assert _install(_program(calls, error, fd)) == 0
            results.append(run())
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]
