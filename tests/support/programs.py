"""What the tests of foreign programs share."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import uvicorn

from support.net import io_barrier, listening_socket, others_done


@contextlib.asynccontextmanager
async def uvicorn_serving(app: object, **options: object) -> AsyncIterator[str]:
    """Serves an ASGI application with uvicorn in the running loop.

    Args:
        app: the application.
        options: options for `uvicorn.Config`.

    Yields:
        The base URL, such as "http://127.0.0.1:1234".
    """
    sock = listening_socket()
    config = uvicorn.Config(app, log_config=None, **options)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    host, port = sock.getsockname()
    # The listener queues whoever comes before the server accepts: there is nothing to wait for.
    try:
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        await serving
        with contextlib.suppress(OSError):
            sock.close()
        await settle()


async def settle() -> None:
    """Lets what a program leaves to the loop at its end (closing transports, last tasks) happen."""
    await io_barrier(asyncio.get_running_loop())
    await others_done()


def free_address() -> tuple[str, int]:
    """Gives an address that was free a moment ago, for programs that must be told one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()
