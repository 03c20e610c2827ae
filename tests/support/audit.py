"""The audit around every test: what was open before must be all that is open after.

Invariant A1: when a test ends, no descriptor, no thread, no unfinished task and no open loop of its making is left.
Invariant A2: nothing went wrong in silence: no record of level ERROR on asyncio's logger, no `ResourceWarning` or
`RuntimeWarning`, no exception that could only be printed ("unraisable").

A test that provokes such a thing on purpose takes it out again (`take_log`, `take_warning`, `take_unraisable`), and
by that also asserts that it happened.
"""

import asyncio
import gc
import logging
import os
import re
import sys
import threading
import time
import warnings
import weakref

SETTLE_SECONDS = 10.0
"""How long threads that were told to end may take before they count as leaked."""

WATCHED_WARNINGS = (ResourceWarning, RuntimeWarning)


def open_descriptors() -> dict[int, str]:
    """Lists the process's descriptors.

    Returns:
        What each number refers to, as the kernel names it; without the one that the listing itself opens.

    Source: proc(5), /proc/pid/fd.
    """
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
    return found


def native_thread_count() -> int:
    """Counts the threads of the process, those unknown to Python included.

    The kernel's own count: a list of /proc/self/task ends early where the thread that it stands at ends meanwhile.

    Source: proc(5), /proc/pid/status; fs/proc/base.c (`next_tid`).
    """
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Threads:"))


class LogTap(logging.Handler):
    """Keeps the records of asyncio's logger from WARNING up."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


class Audit:
    """Compares the process before and after one test."""

    def __init__(self) -> None:
        self.descriptors = open_descriptors()
        self.threads = set(threading.enumerate())
        self.native_threads = native_thread_count()
        self.loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
        self.log = LogTap()
        self.warnings: list[warnings.WarningMessage] = []
        self.unraisable: list[str] = []
        self._catch = warnings.catch_warnings(record=True)
        self._previous_hook = sys.unraisablehook

    def __enter__(self) -> "Audit":
        logging.getLogger("asyncio").addHandler(self.log)
        self.warnings = self._catch.__enter__()
        for category in WATCHED_WARNINGS:
            warnings.simplefilter("always", category)
        sys.unraisablehook = self._note_unraisable
        return self

    def __exit__(self, *exc_info: object) -> None:
        sys.unraisablehook = self._previous_hook
        self._catch.__exit__(*exc_info)
        logging.getLogger("asyncio").removeHandler(self.log)

    def _note_unraisable(self, unraisable: "sys.UnraisableHookArgs") -> None:
        # Text only: keeping the exception would keep its frames, and with them what the test has to see collected.
        self.unraisable.append(
            f"{unraisable.err_msg or 'Exception ignored in'}: {unraisable.exc_value!r}"
        )

    def take_log(self, pattern: str, level: int | None = None) -> logging.LogRecord:
        """Takes out the one record of asyncio's logger whose text matches.

        Args:
            pattern: a regular expression, searched in the message.
            level: the level it must have; `None` takes any.

        Returns:
            The record.

        Raises:
            AssertionError: there is none, or more than one.
        """
        found = [
            record
            for record in self.log.records
            if re.search(pattern, record.getMessage()) and level in (None, record.levelno)
        ]
        texts = [record.getMessage() for record in self.log.records]
        assert len(found) == 1, f"{len(found)} log records match {pattern!r} in {texts}"
        self.log.records.remove(found[0])
        return found[0]

    def take_warning(self, category: type[Warning], pattern: str) -> warnings.WarningMessage:
        """Takes out the one warning of `category` whose text matches `pattern`; fails if it is not exactly one."""
        found = [
            warning
            for warning in self.warnings
            if issubclass(warning.category, category) and re.search(pattern, str(warning.message))
        ]
        texts = [str(warning.message) for warning in self.warnings]
        assert len(found) == 1, f"{len(found)} warnings match {pattern!r} in {texts}"
        self.warnings.remove(found[0])
        return found[0]

    def drop_warnings(self, category: type[Warning], pattern: str) -> None:
        """Forgets every matching warning, for the version of asyncio that is known to give it."""
        self.warnings[:] = [
            warning
            for warning in self.warnings
            if not (
                issubclass(warning.category, category) and re.search(pattern, str(warning.message))
            )
        ]

    def take_unraisable(self, pattern: str) -> str:
        """Takes out the one unraisable exception whose text matches `pattern`; fails if it is not exactly one."""
        found = [text for text in self.unraisable if re.search(pattern, text)]
        assert len(found) == 1, (
            f"{len(found)} unraisable exceptions match {pattern!r} in {self.unraisable}"
        )
        self.unraisable.remove(found[0])
        return found[0]

    def findings(self) -> list[str]:
        """Says what the test left behind, one line a finding; an empty list is a clean test."""
        found = [
            f"event loop left open: {loop!r}" for loop in list(self.loops) if not loop.is_closed()
        ]
        gc.collect()
        found += self._thread_findings()
        now = open_descriptors()
        found += [
            f"descriptor {fd} left open: {name}"
            for fd, name in now.items()
            if fd not in self.descriptors
        ]
        found += [
            f"descriptor {fd} closed: {name}"
            for fd, name in self.descriptors.items()
            if fd not in now
        ]
        found += [
            f"unexpected log record: {record.levelname} {record.getMessage()}"
            for record in self.log.records
            if record.levelno >= logging.ERROR
        ]
        found += [
            f"unexpected warning: {warning.category.__name__}: {warning.message}"
            for warning in self.warnings
            if issubclass(warning.category, WATCHED_WARNINGS)
        ]
        found += [f"unexpected unraisable exception: {text}" for text in self.unraisable]
        return found

    def _thread_findings(self) -> list[str]:
        deadline = time.monotonic() + SETTLE_SECONDS
        fresh = [thread for thread in threading.enumerate() if thread not in self.threads]
        for thread in fresh:
            thread.join(max(0.0, deadline - time.monotonic()))
        found = [f"thread left running: {thread.name}" for thread in fresh if thread.is_alive()]
        # A joined thread has left Python but not yet the kernel's list.
        while (
            native_thread_count() > self.native_threads
            and time.monotonic() < deadline
            and not found
        ):
            time.sleep(0.001)
        if not found and native_thread_count() > self.native_threads:
            found.append(
                f"{native_thread_count() - self.native_threads} native threads left running"
            )
        return found
