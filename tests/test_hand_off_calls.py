"""The blocking calls that programs make, all at once and then once more at places that are known by then.

Each ends only when another step of the same loop lets it, and that one waits until all of them are blocked: without a
hand-off for each nobody would.
"""

import asyncio
import contextlib
import http.server
import os
import queue
import select
import sqlite3
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import antiphon
from support.hand_off import LIMIT_SECONDS, wait_for

pytestmark = [
    pytest.mark.loops("antiphon"),  # asyncio has nothing of the kind
    pytest.mark.skipif(sys.version_info < (3, 12), reason="the fence needs sys.monitoring"),
]

Loop = Any


@pytest.fixture
def loop(audit: Any, loop_name: str) -> Iterator[Loop]:
    """A loop that hands off after a few milliseconds, and learns."""
    loop = antiphon.new_event_loop(on_block="handoff", block_after=0.005)
    audit.loops.add(loop)
    yield loop
    assert loop._blocked_steps() == 0
    loop.close()


class Calls:
    """One call of each kind, which end after `release`."""

    def __init__(self, folder: Path) -> None:
        self._stack = contextlib.ExitStack()
        self._released = threading.Event()
        self._queue: queue.Queue[int] = queue.Queue()
        self._thread = threading.Thread(target=self._released.wait, args=(LIMIT_SECONDS,))
        self._thread.start()
        self._stack.callback(self._thread.join)
        self._child_input, self._child_end = os.pipe()
        self._selected, self._select_end = os.pipe()
        for number in (self._child_input, self._selected):
            self._stack.callback(os.close, number)
        self._fifo, self._database = folder / "fifo", folder / "file.db"
        os.mkfifo(self._fifo)
        self._owner = sqlite3.connect(self._database, isolation_level=None, timeout=0)
        self._stack.callback(self._owner.close)
        self._owner.execute("create table t (x)")
        self._owner.execute("begin exclusive")
        self._address = self._serve()

    def _serve(self) -> str:
        released = self._released

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wait_for(released)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"answer")

            def log_message(self, *_: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        self._stack.callback(server.server_close)
        self._stack.callback(thread.join)
        self._stack.callback(server.shutdown)
        return f"http://127.0.0.1:{server.server_port}/"

    def request(self) -> bool:
        with urllib.request.urlopen(self._address, timeout=LIMIT_SECONDS) as response:
            return response.read() == b"answer"

    def query(self) -> bool:
        with contextlib.closing(sqlite3.connect(self._database, timeout=LIMIT_SECONDS)) as other:
            other.execute("insert into t values (1)")
        return True

    def run_child(self) -> bool:
        child = subprocess.run(["cat"], stdin=self._child_input, stdout=subprocess.PIPE, check=True)
        return child.stdout == b"input"

    def read_fifo(self) -> bool:
        return self._fifo.read_bytes() == b"line"

    def get(self) -> bool:
        return self._queue.get(timeout=LIMIT_SECONDS) == 1

    def join(self) -> bool:
        self._thread.join(LIMIT_SECONDS)
        return not self._thread.is_alive()

    def select(self) -> bool:
        return select.select([self._selected], [], [], LIMIT_SECONDS)[0] == [self._selected]

    def all(self) -> list[Callable[[], bool]]:
        return [
            self.request,
            self.query,
            self.run_child,
            self.read_fifo,
            self.get,
            self.join,
            self.select,
        ]

    def release(self) -> None:
        """Lets all of them return."""
        self._released.set()
        self._queue.put(1)
        self._owner.execute("rollback")
        os.write(self._child_end, b"input")
        os.close(self._child_end)
        os.write(self._select_end, b"x")
        os.close(self._select_end)

    def write_fifo(self) -> None:
        """Blocks until the FIFO is being read."""
        self._fifo.write_bytes(b"line")

    def close(self) -> None:
        self._stack.close()


async def test_calls_of_all_kinds_go_on_beside_each_other(loop: Loop, tmp_path: Path) -> None:
    async def blocks(call: Callable[[], bool]) -> bool:
        me = asyncio.current_task()
        answer = call()
        return answer and asyncio.current_task() is me and asyncio.get_running_loop() is loop

    for round in range(2):
        folder = tmp_path / str(round)
        folder.mkdir()
        calls = Calls(folder)
        tasks = [asyncio.ensure_future(blocks(call)) for call in calls.all()]
        async with asyncio.timeout(LIMIT_SECONDS):
            while loop._blocked_steps() < len(tasks):
                await asyncio.sleep(0.001)
            calls.release()
            calls.write_fifo()
            assert await asyncio.gather(*tasks) == [True] * len(tasks)
        calls.close()
    assert loop.blocking_stats().rescued > 0
    functions = {site.function for site in antiphon.learned_call_sites()}
    assert "Calls.select" in functions
