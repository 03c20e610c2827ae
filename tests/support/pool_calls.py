"""What the tests of pools call in workers: functions of a module, as workers have to find them by name."""

import asyncio
import contextvars
import os
import pickle
import signal
import socket
import threading
from typing import Any

REQUEST: contextvars.ContextVar[str] = contextvars.ContextVar("REQUEST", default="none")
STATE: dict[str, Any] = {}


async def same(value: Any) -> Any:
    return value


def plain(value: int) -> int:
    return value + 1


async def add(one: int, other: int) -> int:
    await asyncio.sleep(0)
    return one + other


async def where() -> tuple[int, int]:
    """The process and the thread."""
    return os.getpid(), threading.get_ident()


async def loop_name() -> str:
    return type(asyncio.get_running_loop()).__module__


async def fail(*args: Any) -> None:
    raise ValueError(*args)


async def fail_in_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(fail("one"))
        group.create_task(fail("other"))


async def stop_iteration() -> None:
    raise StopAsyncIteration


def plain_stop_iteration() -> None:
    raise StopIteration(3)


async def leave(status: int) -> None:
    raise SystemExit(status)


async def remember(key: str, value: Any) -> None:
    STATE[key] = value


async def recall(key: str) -> Any:
    return STATE.get(key)


async def wait_for_ever(path: str | None = None) -> None:
    """Waits; what becomes of it is written to `path`."""
    if path is not None:
        note(path, "begun")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError as error:
        if path is not None:
            note(path, f"cancelled {error.args[0] if error.args else ''}".strip())
        raise


async def refuse_cancellation(path: str) -> str:
    note(path, "begun")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        asyncio.current_task().uncancel()
    return "went on"


def note(path: str, words: str) -> None:
    """Appends a line to a file, at once."""
    with open(path, "a") as file:
        file.write(words + "\n")


async def meet(count: int, address: Any) -> None:
    """Says that it is here, and goes on when it is told to."""
    reader, writer = await asyncio.open_connection(*address)
    await reader.read(1)
    writer.close()
    await writer.wait_closed()


def block(address: Any) -> int:
    """Blocks its worker until the peer that it connects to closes."""
    with socket.create_connection(address) as peer:
        peer.recv(1)
    return os.getpid()


def hold(begun: threading.Event, release: threading.Event) -> None:
    """Blocks its worker, a thread, until it is released."""
    begun.set()
    release.wait()


async def die(signum: int = signal.SIGKILL) -> None:
    os.kill(os.getpid(), signum)
    await asyncio.Event().wait()


async def die_unless(path: str, words: str = "x") -> int:
    """Dies, but not where a line was left by an earlier attempt."""
    if not os.path.exists(path):
        note(path, words)
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


async def die_noting(path: str) -> None:
    note(path, "tried")
    os.kill(os.getpid(), signal.SIGKILL)


async def request() -> str:
    await asyncio.sleep(0)
    return REQUEST.get()


async def unpicklable() -> Any:
    return threading.Lock()


class Stubborn(Exception):
    """Pickles, and cannot be read again: its arguments are not what its class takes."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__("stubborn")


class Locked(Exception):
    def __init__(self, words: str) -> None:
        super().__init__(words)
        self.lock = threading.Lock()


async def raise_stubborn() -> None:
    raise Stubborn(1, 2)


async def raise_locked() -> None:
    raise Locked("has a lock")


class Unreadable:
    """Pickles, and raises when it is read."""

    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> None:
    raise LookupError("not to be read")


async def give_unreadable() -> Any:
    return Unreadable()


class Deadly:
    """Kills who reads it."""

    def __reduce__(self) -> Any:
        return os._exit, (42,)


async def length(value: Any) -> int:
    return len(value)


async def fill(size: int, byte: int) -> Any:
    return pickle.PickleBuffer(bytearray([byte]) * size)


async def invert_first(buffer: Any) -> Any:
    """Writes to the buffer that it was given, and gives it back."""
    buffer[0] ^= 0xFF
    return pickle.PickleBuffer(buffer)


async def text(size: int) -> str:
    return "é" * size


async def sleep_and_give(seconds: float, value: Any) -> Any:
    await asyncio.sleep(seconds)
    return value


async def give_when_there(path: str, value: Any) -> Any:
    """Gives the value as soon as there is such a file."""
    while not os.path.exists(path):
        await asyncio.sleep(0.001)
    return value


async def append_and_count(items: list[int]) -> int:
    items.append(0)
    return len(items)


async def give_after_turns(value: Any, turns: int) -> Any:
    for _ in range(turns):
        await asyncio.sleep(0)
    return value


async def divide(one: float, other: float) -> float:
    return one / other


def raise_stop_iteration(_: int) -> None:
    raise StopIteration


async def request_for(number: int) -> tuple[int, str]:
    return number, REQUEST.get()


async def die_at(number: int, path: str, fatal: int) -> int:
    """Dies at one number, but not where a line was left by an earlier attempt."""
    if number == fatal and not os.path.exists(path):
        note(path, "x")
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def block_if(address: Any, number: int) -> int:
    """Blocks its worker until the peer closes, if it has an address to connect to."""
    if address is not None:
        block(address)
    return number


def never_ready() -> None:
    threading.Event().wait()


def end_at_once() -> None:
    os._exit(7)


def start_once(path: str) -> None:
    """Starts in one worker; all later ones end."""
    if os.path.exists(path):
        os._exit(7)
    note(path, "started")


def plain_death() -> None:
    """Dies before anything that waits behind it can begin."""
    os.kill(os.getpid(), signal.SIGKILL)


def compute_for_ever() -> None:
    """Never comes back to the loop."""
    while True:
        pass


async def where_slowly(_: int) -> tuple[int, int]:
    await asyncio.sleep(0.02)
    return await where()
