"""Python code without an await stays one piece, however many steps block at once: nothing of it is torn or lost."""

import asyncio
import os
import queue
import random
import sys
import threading
import time
from collections import Counter
from typing import Any

import pytest

from support.hand_off import Revoker, new_loop, quick_switches

WORKERS = 8
ROUNDS = int(os.environ.get("ANTIPHON_HAND_OFF_ROUNDS", "150"))
"""How often each worker goes through a section, blocks (four times of five), and goes through another."""

pytestmark = [
    pytest.mark.loops("antiphon"),  # asyncio has nothing of the kind
    pytest.mark.skipif(sys.version_info < (3, 12), reason="the fence needs sys.monitoring"),
]


class Sections:
    """Critical sections without an await; counts those that found somebody else inside."""

    def __init__(self) -> None:
        self.inside = self.torn = self.passed = 0

    def go_through(self) -> None:
        self.inside += 1
        found = self.inside
        total = 0
        for number in range(30):
            total += number
        self.torn += not found == self.inside == 1
        self.inside -= 1
        self.passed += 1


class Failure(Exception):
    """What a step raises on purpose."""


class Workload:
    """Tasks that block in several ways between critical sections, some of them cancelled or failing at times."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.sections = Sections()
        self.lock = threading.Lock()
        self.queue: queue.Queue[int] = queue.Queue(3)
        self.counts: Counter[str] = Counter()
        self.begun: list[asyncio.Task[Any]] = []

    def block(self, dice: random.Random) -> None:
        kind = dice.randrange(5)
        if kind == 0:
            time.sleep(0.001)
        elif kind == 1:
            with self.lock:
                time.sleep(0.001)
        elif kind == 2:
            try:
                self.queue.put_nowait(1)
            except queue.Full:
                self.queue.get_nowait()
        elif kind == 3:
            threading.Event().wait(0.001)
        else:
            time.sleep(0.0005)
            raise Failure

    async def work(self, number: int) -> None:
        dice, me = random.Random(number), asyncio.current_task()
        assert me is not None
        self.begun.append(me)
        for _ in range(ROUNDS):
            self.sections.go_through()
            try:
                self.block(dice)
            except Failure:
                self.counts["failed"] += 1
            self.sections.go_through()
            assert asyncio.current_task() is me
            assert asyncio.get_running_loop() is self.loop
            try:
                await asyncio.sleep(0 if dice.random() < 0.5 else 0.0002)
            except asyncio.CancelledError:
                me.uncancel()
                self.counts["cancelled"] += 1
            self.counts["rounds"] += 1

    async def run(self) -> None:
        dice = random.Random(4)
        workers = [self.loop.create_task(self.work(number)) for number in range(WORKERS)]
        while not all(worker.done() for worker in workers):
            await asyncio.sleep(0.01)
            dice.choice(self.begun).cancel()
        for worker in workers:
            worker.result()


@pytest.mark.parametrize("installed", [False, True])
def test_sections_are_whole_and_no_task_is_lost(
    audit: Any, loop_name: str, installed: bool
) -> None:
    import antiphon

    if installed:
        antiphon.install()
    loop = new_loop()
    audit.loops.add(loop)
    workload = Workload(loop)
    with quick_switches(), Revoker(loop) as revoker:
        loop.run_until_complete(workload.run())
    assert loop._blocked_steps() == 0  # type: ignore[attr-defined]
    loop.close()
    assert workload.sections.torn == 0
    assert workload.sections.passed == 2 * WORKERS * ROUNDS
    assert workload.counts["rounds"] == WORKERS * ROUNDS
    assert revoker.summoned > 0
