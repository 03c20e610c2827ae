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
