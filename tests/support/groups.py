"""What waits for several things, of asyncio and of antiphon, under the same names."""

import asyncio
import types
from typing import Any

__all__ = ["NAMES", "functions"]

NAMES = (
    "TaskGroup",
    "Timeout",
    "as_completed",
    "ensure_future",
    "gather",
    "shield",
    "sleep",
    "timeout",
    "timeout_at",
    "wait",
    "wait_for",
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "LifoQueue",
    "Lock",
    "PriorityQueue",
    "Queue",
    "Semaphore",
)


def functions(loop_name: str) -> types.SimpleNamespace:
    """Gives asyncio's own or antiphon's, whatever is installed at present."""
    source: Any = asyncio
    if loop_name == "antiphon":
        from antiphon import _antiphon

        source = _antiphon
    return types.SimpleNamespace(**{name: getattr(source, name) for name in NAMES})
