"""Shows what sending much through TLS costs: a loop's transport against a blocking socket of the same ``ssl`` module.

    python -m benches.tls_upload
    python -m benches.tls_upload --loops uvloop,antiphon --mebibytes 256 --rounds 3

A thread-free child receives and throws away; only the sender's CPU time counts. Blocking is the best
that the interpreter's ``ssl`` can do: one call of OpenSSL for each chunk, nothing else. Rounds take
turns, and each sender is a process of its own.
"""

import argparse
import asyncio
import json
import socket
import ssl
import subprocess
import sys
import time
from statistics import median

from benches import loops
from benches.echo.server import server_context

CHUNK = bytes(64 * 1024)
LIFETIME_S = 120
MIB = 1 << 20


def receive(listener_fd: int, expected: int) -> bool:
    """Takes one TLS connection and reads it to its end; returns whether all bytes came."""
    context = server_context()
    context.num_tickets = 0  # nobody reads them, and a socket closed upon unread data resets
    received = 0
    with socket.socket(fileno=listener_fd) as listener:
        connection, _ = listener.accept()
    buffer = bytearray(256 * 1024)
    with context.wrap_socket(connection, server_side=True) as secure:
        while count := secure.recv_into(buffer):
            received += count
    return received == expected


def client_context() -> ssl.SSLContext:
    """Returns the TLS settings of the senders, which trust anybody."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def send_blocking(port: int, context: ssl.SSLContext, chunks: int) -> None:
    """Sends by a blocking socket."""
    with socket.create_connection(("127.0.0.1", port)) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(plain) as secure:
            for _ in range(chunks):
                secure.sendall(CHUNK)


async def send(port: int, context: ssl.SSLContext, chunks: int) -> None:
    """Sends by a stream of the running loop, waiting where it says so."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    for _ in range(chunks):
        writer.write(CHUNK)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


def measure(name: str, chunks: int) -> dict[str, float]:
    """Returns the CPU and wall time of one sender, in seconds."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        command = [sys.executable, "-m", "benches.tls_upload", "--receive", str(listener.fileno())]
        command += ["--mebibytes", str(chunks * len(CHUNK) // MIB)]
        child = subprocess.Popen(command, pass_fds=[listener.fileno()])
    # What is done once in a process is no part of an upload.
    context = client_context()
    new_loop = None if name == "blocking" else loops.factory(name)
    wall, cpu = time.perf_counter(), time.process_time()
    if new_loop is None:
        send_blocking(port, context, chunks)
    else:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(send(port, context, chunks))
    cpu = time.process_time() - cpu
    if child.wait(LIFETIME_S):
        raise RuntimeError(f"not every byte of {name}'s arrived")
    return {"cpu_s": cpu, "wall_s": time.perf_counter() - wall}


def main() -> None:
    """Measures each sender in rounds and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loops", default="asyncio,uvloop,antiphon", help="which, with commas")
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--receive", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.receive is not None:
        sys.exit(not receive(given.receive, given.mebibytes * MIB))
    if given.measure:
        print(json.dumps(measure(given.measure, given.mebibytes * MIB // len(CHUNK))))
        return
    names = ["blocking", *given.loops.split(",")]
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for number in range(given.rounds):
        for name in names if number % 2 == 0 else names[::-1]:
            command = [sys.executable, "-m", "benches.tls_upload", "--measure", name]
            command += ["--mebibytes", str(given.mebibytes)]
            done = subprocess.run(command, stdout=subprocess.PIPE, timeout=LIFETIME_S, check=True)
            taken[name].append(json.loads(done.stdout))
    print(f"{given.mebibytes} MiB up through TLS, the sender's CPU time; {given.rounds} rounds")
    print(
        f"{'':10}{'best s':>10}{'median s':>10}{'wall s':>10}{'of blocking: best':>20}{'median':>10}"
    )
    for name in names:
        cpu, base = ([one["cpu_s"] for one in taken[which]] for which in (name, "blocking"))
        wall = min(one["wall_s"] for one in taken[name])
        shares = min(cpu) / min(base), median(a / b for a, b in zip(cpu, base, strict=True))
        print(
            f"{name:10}{min(cpu):10.2f}{median(cpu):10.2f}{wall:10.2f}{shares[0]:20.2f}{shares[1]:10.2f}"
        )


if __name__ == "__main__":
    main()
