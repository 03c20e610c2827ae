"""The interpreter's end with things left open: nothing crashes, and no finalizer complains of missing modules."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.real_driver("the loop is that of a process of its own")

# What is left open is kept by `sys.modules`, which the interpreter clears last: its finalizers run without modules.
PROGRAM = """
import asyncio, socket, sys
from support.loops import loop_factory_named

opened = []
sys.modules["kept"] = opened

async def open_{what}(loop):
    {body}

loop = loop_factory_named({loop!r})()
loop.run_until_complete(open_{what}(loop))
print("left")
"""

BODIES = {
    "stream": """opened.append(await loop.create_connection(asyncio.Protocol, sock=socket.socketpair()[0]))""",
    "datagram": """opened.append(await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)))""",
    "pipe": """
    import os
    opened.append(await loop.connect_write_pipe(asyncio.BaseProtocol, open(os.pipe()[1], "wb", 0)))""",
    "writer": """
    reader, writer = await asyncio.open_connection(sock=socket.socketpair()[0])
    opened.append(writer)""",
    "tls": """
    from support.tls import client_context, server_context
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=server_context())
    host, port = server.sockets[0].getsockname()
    opened.append(await loop.create_connection(
        asyncio.Protocol, host, port, ssl=client_context(), server_hostname="localhost"))""",
}


@pytest.mark.parametrize("what", BODIES)
def test_left_open(loop_name, what):
    program = PROGRAM.format(what=what, body=BODIES[what], loop=loop_name)
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=__file__.rpartition("/")[0],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "left\n", "")


DAEMON = """
import asyncio, random, sys, threading, time
from support.loops import loop_factory_named

loop = loop_factory_named({loop!r})({arguments})
turning = threading.Event()

async def work():
    while True:
        {step}
        await asyncio.sleep(0)
        turning.set()

def run():
    for _ in range(4):
        loop.create_task(work())
    loop.run_forever()

threading.Thread(target=run, daemon=True).start()
turning.wait()
print("left")
"""


def end_with_a_loop_in_a_daemon_thread(loop_name, step, arguments=""):
    """The exit status and what was printed, of a program whose main thread ends while the loop runs in another."""
    program = DAEMON.format(loop=loop_name, step=step, arguments=arguments)
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=__file__.rpartition("/")[0],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ended.returncode, ended.stdout


def test_running_in_a_daemon_thread(loop_name):
    # Before 3.14 the interpreter ends such a thread in the midst of its Python code, and our frames are under that.
    ended = end_with_a_loop_in_a_daemon_thread(
        loop_name, "sum(number * number for number in range(3000))"
    )
    assert ended == (0, "left\n")


@pytest.mark.loops("antiphon")  # asyncio hands nothing off
@pytest.mark.skipif(sys.version_info < (3, 12), reason="the fence needs sys.monitoring")
def test_steps_blocked_and_handed_off_in_daemon_threads(loop_name):
    ended = end_with_a_loop_in_a_daemon_thread(
        loop_name,
        "time.sleep(random.uniform(0.01, 0.03))",
        "on_block='handoff', block_after=0.005",
    )
    assert ended == (0, "left\n")
