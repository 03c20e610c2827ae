"""What the process has: descriptors, threads, children, and objects by their types."""

import gc
import os
import re
import threading
import time
from collections import Counter

from support.audit import native_thread_count, open_descriptors
from support.processes import has_children

#: Objects of these modules are counted.
_COUNTED = (
    "antiphon",
    "asyncio",
    "_asyncio",
    "soak",
    "socket",
    "_socket",
    "ssl",
    "_ssl",
    "subprocess",
)
#: How long threads and children that were told to end may take.
_SETTLE_SECONDS = 20.0

Census = Counter[str]


def take_census() -> Census:
    """Counts everything, after a collection."""
    for _ in range(3):
        gc.collect()
    found: Census = Counter()
    for name in open_descriptors().values():
        found[f"descriptor {re.sub('[0-9]+', '', name)}"] += 1
    found["threads"] = threading.active_count()
    found["native threads"] = native_thread_count()
    found["children"] = int(has_children())
    for thing in gc.get_objects():
        kind = type(thing)
        if kind.__module__.partition(".")[0] in _COUNTED:
            found[f"object {kind.__module__}.{kind.__qualname__}"] += 1
    return found


def differences(before: Census, after: Census) -> list[str]:
    """Says what there is more of."""
    return [
        f"{name}: {before[name]} before, {after[name]} after"
        for name in sorted(after)
        if after[name] > before[name]
    ]


def settled_differences(before: Census) -> list[str]:
    """Says what there is more of than before, when all that is about to go has gone (Q2)."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    while True:
        found = differences(before, take_census())
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def rss_kib() -> int:
    """Gives the memory that the process has now, in KiB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
