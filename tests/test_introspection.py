"""`python -m asyncio ps` and `pstree` look into a running program from outside, and see the tasks of both loops.

Source: "asyncio introspection capabilities" of Python 3.14's news; Lib/asyncio/tools.py.
"""

import subprocess
import sys

import pytest

from support.children import Child

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 14), reason="the tools came with Python 3.14"
)

PROGRAM = """
async def wait_for_the_end(done):
    await done.wait()

async def middle(done):
    await wait_for_the_end(done)

async def main():
    done = asyncio.Event()
    workers = [asyncio.create_task(middle(done), name=f"worker-{number}") for number in range(3)]
    parent = asyncio.create_task(wait_on(workers[0]), name="parent")
    await asyncio.sleep(0)
    report(pid=os.getpid())
    await parent

async def wait_on(task):
    await task

loop = new_event_loop()
loop.run_until_complete(main())
"""


def look(tool: str, pid: int) -> str:
    """Runs one of the tools on a process; skips where the system forbids to look into others."""
    command = [sys.executable, "-m", "asyncio", tool, str(pid)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=15)
    words = result.stdout + result.stderr
    if "ermission" in words and result.returncode:
        pytest.skip(f"no process may look into another here: {words.strip().splitlines()[-1]}")
    assert result.returncode == 0, words
    return result.stdout


def test_ps_lists_every_task_with_its_coroutines(loop_name):
    with Child(loop_name, PROGRAM) as child:
        table = look("ps", child.report()["pid"])
    rows = table.splitlines()
    for number in range(3):
        (row,) = (row for row in rows if f"worker-{number} " in row and "Event.wait" in row)
        assert "wait_for_the_end" in row and "middle" in row
    # Who is waited for by whom.
    (row,) = (row for row in rows if "Event.wait" in row and "worker-0 " in row)
    assert "parent" in row
    assert any("parent" in row and "wait_on" in row for row in rows)


def test_pstree_draws_who_waits_for_whom(loop_name):
    with Child(loop_name, PROGRAM) as child:
        tree = look("pstree", child.report()["pid"])
    lines = tree.splitlines()
    depth = {
        name: next(line.index(f"(T) {name}") for line in lines if f"(T) {name}" in line)
        for name in ("parent", "worker-0", "worker-1")
    }
    assert depth["parent"] < depth["worker-0"]
    # The coroutines of a task are drawn below it, down to what it waits in.
    assert tree.count("wait_for_the_end") == 3
    assert tree.count("Event.wait") == 3
