"""Readiness callbacks and socket calls inside one process."""

import os
import socket

from benches.workload import Run, workload

GROUP = "readiness"


@workload("add_reader_pipe", group=GROUP, title="add_reader on a pipe", unit="event", size=50_000)
def add_reader_pipe(run: Run) -> None:
    """One byte written and read per turn; ``os.read`` and ``os.write`` are part of the figure."""
    reader, writer = os.pipe()
    left = run.size

    def on_readable() -> None:
        nonlocal left
        os.read(reader, 1)
        left -= 1
        if left:
            os.write(writer, b"x")
        else:
            run.loop.stop()

    run.loop.add_reader(reader, on_readable)
    os.write(writer, b"x")
    run.loop.run_forever()
    run.loop.remove_reader(reader)
    os.close(reader)
    os.close(writer)


@workload(
    "sock_pair_ping_pong",
    group=GROUP,
    title="sock_recv and sock_sendall over a socket pair",
    unit="round trip",
    size=10_000,
)
def sock_pair_ping_pong(run: Run) -> None:
    """Two tasks, one byte there and back."""

    async def main() -> None:
        loop = run.loop
        near, far = socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)

        async def echo() -> None:
            for _ in range(run.size):
                await loop.sock_sendall(far, await loop.sock_recv(far, 100))

        echoing = loop.create_task(echo())
        for _ in range(run.size):
            await loop.sock_sendall(near, b"x")
            await loop.sock_recv(near, 100)
        await echoing
        near.close()
        far.close()

    run.complete(main())
