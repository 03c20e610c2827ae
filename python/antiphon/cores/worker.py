"""A worker of `antiphon.serve`, from within: a process, or a thread of one."""

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from multiprocessing import spawn
from typing import Any

import antiphon
from antiphon.cores.adapters import serving_of
from antiphon.cores.member import Member, stop_event
from antiphon.pool import pickling

__all__ = ["run", "serve_until"]


def run(descriptors: Sequence[int]) -> None:
    """Is a worker process until SIGTERM.

    Args:
        descriptors: the listening sockets', inherited.
    """
    member = Member.of_this_process()
    assert member is not None  # the supervisor sets it
    try:
        program, setup = member.first_message()
    except EOFError:
        os._exit(1)
    spawn.prepare(pickling.load(program))
    factory, drain = pickling.load(setup)
    sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    for sock in sockets:
        sock.set_inheritable(False)
    member.begin()

    async def main() -> None:
        stop = stop_event(asyncio.get_running_loop())
        await serve_until(stop, factory, sockets, drain, member.say_ready)

    antiphon.install()
    antiphon.run(main())


async def serve_until(
    stop: asyncio.Event,
    factory: Callable[..., Any],
    sockets: Sequence[socket.socket],
    drain: float,
    say_ready: Callable[[], object],
) -> None:
    """Serves until the event is set, and then until the requests that are there are answered, or the time is over.

    Args:
        stop: says when.
        factory: as for `serving_of`.
        sockets: where to listen.
        drain: seconds.
        say_ready: called when it serves.
    """
    serving = await serving_of(factory, sockets, drain)
    await serving.start()
    say_ready()
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait(
        [stopped, serving.task] if serving.task is not None else [stopped],
        return_when=asyncio.FIRST_COMPLETED,
    )
    if not stop.is_set():
        stopped.cancel()
        assert serving.task is not None
        await serving.task  # it has ended by itself, by an exception perhaps
        return
    try:
        async with asyncio.timeout(drain):
            await serving.stop()
    except TimeoutError:
        pass  # what is left ends with the loop
