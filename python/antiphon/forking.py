"""Loops and `fork`: a child must not touch the loop of its parent.

Parent and child would share one epoll instance, so that the child's changes of interest would reach
the parent. Invariant: in the child every loop that lived at the fork refuses to work, with a clear
error; the child makes a loop of its own.

Source: fork(2), epoll(7) "Questions and answers" 6.
"""

import os
from weakref import WeakSet

from antiphon import _antiphon
from antiphon._antiphon import LoopBase

__all__ = ["living", "register"]

_live: WeakSet[LoopBase] = WeakSet()


def register(loop: LoopBase) -> None:
    """Remembers a loop, weakly, as one that must not be used after a fork."""
    _live.add(loop)


def living() -> list[LoopBase]:
    """Gives the loops of this process that still exist; callable in any thread."""
    return list(_live)


def _mark_all_forked() -> None:
    """Marks the loops of the parent; runs in the child, which has a single thread."""
    _antiphon._hand_off_after_fork()
    for loop in list(_live):
        loop._mark_forked()
    _live.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_mark_all_forked)
