"""Child processes of the soak: what goes in comes out, or the child dies of it."""

import asyncio
import random
import signal
from typing import TYPE_CHECKING

from soak.exchange import Flow
from soak.talks import STALL_SECONDS

if TYPE_CHECKING:
    from soak.life import Life

_PIPE = asyncio.subprocess.PIPE
_IGNORES_SIGNALS = "trap '' TERM INT HUP; cat"
#: The shell ends at once; what it started keeps the pipe for a while.
_LEAVES_THE_PIPE = "sleep 0.2 & exit 7"


async def child(life: "Life", rng: random.Random, number: int) -> None:
    """One child, in one of the ways below."""
    way = rng.choice(
        (_echoes, _echoes, _is_killed, _ignores_signals, _leaves_its_pipe, _is_dropped)
    )
    await way(life, rng, Flow(f"{life.seed}/{number}/child", rng.randrange(300_000)))
    life.book.done[f"child {way.__name__[1:].replace('_', ' ')}"] += 1


async def _start(life: "Life", *command: str) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(*command, stdin=_PIPE, stdout=_PIPE)
    life.children.add(process.pid)
    return process


async def _ended(life: "Life", process: asyncio.subprocess.Process, code: int) -> None:
    got = await process.wait()
    life.children.discard(process.pid)
    if got != code:
        life.book.fail(f"child {process.pid} ended with {got}, not {code}")


async def _talk(life: "Life", process: asyncio.subprocess.Process, flow: Flow) -> None:
    """Sends the flow through the child and checks what comes back."""
    assert process.stdin is not None and process.stdout is not None

    async def send() -> None:
        assert process.stdin is not None
        try:
            while not flow.is_sent:
                process.stdin.write(flow.next_chunk(20_000))
                await process.stdin.drain()
        except ConnectionError:
            return  # it was killed
        process.stdin.close()

    sending = asyncio.ensure_future(send())
    try:
        while data := await process.stdout.read(30_000):
            life.book.check(flow.incoming, data, f"child {flow.incoming.name}")
    finally:
        sending.cancel()
    await asyncio.wait([sending])


async def _echoes(life: "Life", rng: random.Random, flow: Flow) -> None:
    process = await _start(life, "cat")
    await _talk(life, process, flow)
    await _ended(life, process, 0)
    if not flow.has_arrived:
        life.book.fail(f"child {flow.incoming.name}: bytes were lost")


async def _is_killed(life: "Life", rng: random.Random, flow: Flow) -> None:
    process = await _start(life, "cat")
    life.loop.call_later(rng.random() / 100, process.send_signal, signal.SIGKILL)
    flow.total = 100_000_000  # it will not come to that
    await _talk(life, process, flow)
    await _ended(life, process, -signal.SIGKILL)


async def _ignores_signals(life: "Life", rng: random.Random, flow: Flow) -> None:
    process = await _start(life, "/bin/sh", "-c", _IGNORES_SIGNALS)
    assert process.stdin is not None and process.stdout is not None
    # Once it answers, the traps are set.
    flow.total = max(flow.total, 10)
    process.stdin.write(flow.next_chunk(10))
    life.book.check(flow.incoming, await process.stdout.readexactly(10), "child that ignores")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        process.send_signal(number)
    await _talk(life, process, flow)
    await _ended(life, process, 0)
    if not flow.has_arrived:
        life.book.fail(f"child {flow.incoming.name}: bytes were lost")


async def _leaves_its_pipe(life: "Life", rng: random.Random, flow: Flow) -> None:
    process = await _start(life, "/bin/sh", "-c", _LEAVES_THE_PIPE)
    assert process.stdout is not None
    if await process.stdout.read():
        life.book.fail("a child that writes nothing was heard")
    await _ended(life, process, 7)


async def _is_dropped(life: "Life", rng: random.Random, flow: Flow) -> None:
    process = await _start(life, "cat")
    await asyncio.sleep(rng.random() * STALL_SECONDS / 10)
    # What Process has no method for: the transport is closed under a child that runs.
    process._transport.close()
    await _ended(life, process, -signal.SIGKILL)
