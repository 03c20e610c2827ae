"""Measures an echo over TLS streams on each loop: the server's CPU time per message.

    python -m benches.tls_streams
    python -m benches.tls_streams --bytes 1024,102400 --loops uvloop,antiphon --rounds 7

The server is a fresh process for every figure; loops take turns in each round, in reverse order in every other one. The
client is a process of its own on asyncio, with all connections in one loop: its cost does not count. A ratio is the
peer's CPU time over the loop's own, above 1 where the loop is cheaper.
"""

import argparse
import asyncio
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from benches import loops
from benches.contender import ROOT, environment
from benches.echo import handlers
from benches.echo.server import LIFETIME_S, listener
from benches.http_servers import cpu_seconds

CONNECTIONS = 20
CERTIFICATE = Path(ROOT) / "tests" / "support" / "localhost-cert.pem"
KEY = CERTIFICATE.with_name("localhost-key.pem")


def run_server(loop: str) -> None:
    """Echoes over TLS on one loop until it is killed."""
    signal.alarm(LIFETIME_S)
    new_loop = loops.factory(loop)
    sock = listener()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, KEY)

    async def serve() -> None:
        limit = handlers.STREAM_LIMIT_BYTES
        server = await asyncio.start_server(
            handlers.echo_stream, sock=sock, ssl=context, limit=limit
        )
        await server.serve_forever()

    print(sock.getsockname()[1], flush=True)
    new_loop().run_until_complete(serve())


async def load(port: int, pid: int, size: int, seconds: float) -> tuple[float, int]:
    """Returns the CPU seconds that the server has used, and the messages that it has echoed."""
    context = ssl.create_default_context(cafile=str(CERTIFICATE))
    message = bytes(size)
    ended = False
    counts = [0] * CONNECTIONS

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname="localhost", limit=1 << 22
        )
        while not ended:
            writer.write(message)
            await reader.readexactly(size)
            counts[number] += 1
        writer.close()

    clients = [asyncio.create_task(client(number)) for number in range(CONNECTIONS)]
    while not all(counts):
        await asyncio.sleep(0.05)
    messages, used, began = sum(counts), cpu_seconds(pid), time.monotonic()
    await asyncio.sleep(seconds)
    used, messages = cpu_seconds(pid) - used, sum(counts) - messages
    assert time.monotonic() >= began + seconds
    ended = True
    await asyncio.gather(*clients)
    return used, messages


def measure(loop: str, size: int, seconds: float) -> float:
    """Returns the server's CPU time per message, in microseconds, in a fresh process."""
    command = [sys.executable, "-m", "benches.tls_streams", "--serve", loop]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            used, messages = asyncio.run(load(port, server.pid, size, seconds))
            return used / messages * 1e6
        finally:
            server.kill()


def main() -> None:
    """Measures in rounds and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loops", default="asyncio,uvloop,antiphon", help="with commas")
    parser.add_argument("--bytes", default="1024", help="sizes of messages, with commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="of load, each time")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        run_server(given.serve)
        return
    names = given.loops.split(",")
    reference = "uvloop" if "uvloop" in names else names[0]
    for size in map(int, given.bytes.split(",")):
        figures: dict[str, list[float]] = {name: [] for name in names}
        for number in range(given.rounds):
            for name in names if number % 2 == 0 else names[::-1]:
                figures[name].append(measure(name, size, given.seconds))
        print(f"{size} B: CPU per message in µs (median), gain over {reference} (median of rounds)")
        for name in names:
            gains = [
                peer / own for peer, own in zip(figures[reference], figures[name], strict=True)
            ]
            shown = f"{min(gains):.2f}-{max(gains):.2f}"
            print(
                f"  {name:10}{median(figures[name]):8.1f}{median(gains):8.2f}  ({shown})",
                flush=True,
            )


if __name__ == "__main__":
    main()
