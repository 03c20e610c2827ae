"""What belongs to a thread, in a loop that another thread runs while a step blocks: sqlite3, greenlets, signals."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
import sqlalchemy.dialects.sqlite.aiosqlite
import sqlalchemy.ext.asyncio  # all of it here: it takes a second to import

import antiphon
from antiphon.on_import import when_imported
from support.hand_off import LIMIT_SECONDS, wait_for

pytestmark = [
    pytest.mark.loops("antiphon"),  # asyncio has nothing of the kind
    pytest.mark.skipif(sys.version_info < (3, 12), reason="the fence needs sys.monitoring"),
]

serialized = pytest.mark.skipif(
    sqlite3.threadsafety != 3, reason="this SQLite is not to be used by several threads"
)
Loop = Any


@pytest.fixture
def loop(audit: Any, loop_name: str) -> Iterator[Loop]:
    """A loop that hands off after a few milliseconds."""
    loop = antiphon.new_event_loop(on_block="handoff", block_after=0.005)
    audit.loops.add(loop)
    yield loop
    assert loop._blocked_steps() == 0
    loop.close()


def is_main() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextlib.asynccontextmanager
async def main_thread_blocked(loop: Loop) -> AsyncIterator[None]:
    """While it lasts the main thread is inside a blocked step; begins and ends on another one."""
    released = threading.Event()
    blocked_on_main: list[asyncio.Future[None]] = []

    async def blocks() -> None:
        if is_main():
            wait_for(released)

    while is_main():
        blocked_on_main.append(asyncio.ensure_future(blocks()))
        await asyncio.sleep(0.001)
    try:
        yield
    finally:
        released.set()
        await asyncio.gather(*blocked_on_main)


async def on_main() -> None:
    """Comes back on the main thread."""
    while not is_main():
        await asyncio.sleep(0)


@serialized
async def test_sqlite_connection_is_usable_from_every_thread_of_the_loop(loop: Loop) -> None:
    await on_main()
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("create table t (x)")
        async with main_thread_blocked(loop):
            connection.execute("insert into t values (1)")
        await on_main()
        assert connection.execute("select x from t").fetchall() == [(1,)]


async def test_check_same_thread_is_heard(loop: Loop) -> None:
    await on_main()
    with contextlib.closing(sqlite3.connect(":memory:", check_same_thread=True)) as connection:
        async with main_thread_blocked(loop):
            with pytest.raises(sqlite3.ProgrammingError, match="created in a thread"):
                connection.execute("select 1")
        await on_main()


@serialized
async def test_sqlite_is_as_ever_outside_of_such_a_loop(loop: Loop) -> None:
    def elsewhere() -> BaseException | None:
        # No loop runs in this thread.
        with (
            contextlib.closing(sqlite3.connect(":memory:")) as connection,
            ThreadPoolExecutor(1) as pool,
        ):
            return pool.submit(connection.execute, "select 1").exception()

    error = await asyncio.to_thread(elsewhere)
    assert isinstance(error, sqlite3.ProgrammingError)
    await asyncio.get_running_loop().shutdown_default_executor()


def test_libraries_are_as_before_once_the_loop_is_closed(audit: Any, loop_name: str) -> None:
    before, finders = sqlite3.connect, list(sys.meta_path)

    async def during() -> object:
        return sqlite3.connect

    adapted = antiphon.run(during(), on_block="handoff")
    assert (adapted is before) == (sqlite3.threadsafety != 3)
    assert sqlite3.connect is sqlite3.dbapi2.connect is before
    assert sys.meta_path == finders
    assert antiphon.run(during(), on_block="ignore") is before


def test_module_is_adapted_as_it_is_imported(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "adapted_later.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    seen = []
    finders = list(sys.meta_path)
    forget = when_imported("adapted_later", seen.append)
    assert seen == []
    import adapted_later  # type: ignore[import-not-found]

    assert seen == [adapted_later]
    assert type(adapted_later.__spec__.loader) is type(adapted_later.__loader__)
    assert type(adapted_later.__loader__).__name__ == "SourceFileLoader"
    forget()
    forget()
    assert sys.meta_path == finders
    again = when_imported("adapted_later", seen.append)
    assert seen == [adapted_later] * 2
    again()
    del sys.modules["adapted_later"]


async def test_pinned_block_that_is_there_already_begins_at_once(loop: Loop) -> None:
    await on_main()
    ran: list[int] = []
    loop.call_soon(ran.append, 1)
    async with antiphon.pinned():
        assert ran == []
        assert is_main()


async def test_greenlets_of_sqlalchemy_stay_on_the_main_thread(loop: Loop, tmp_path: Path) -> None:
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'file.db'}")
    async with engine.begin() as connection:
        await connection.execute(sqlalchemy.text("create table t (x)"))

    async def inserts(number: int) -> None:
        async with engine.begin() as connection:
            await connection.execute(sqlalchemy.text("insert into t values (:x)"), {"x": number})

    async def blocks() -> None:
        threading.Event().wait(0.02)

    # Some of them begin, and all go on, while the main thread is blocked time and again.
    for round in range(4):
        await asyncio.gather(
            *(work for number in range(4) for work in (inserts(round * 4 + number), blocks()))
        )
    async with main_thread_blocked(loop):
        # Begun where no greenlet may begin: it waits for the main thread, and nobody else does.
        last = asyncio.ensure_future(inserts(16))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not last.done()
    await last
    async with engine.connect() as connection:
        rows = await connection.execute(sqlalchemy.text("select x from t order by x"))
        assert [x for (x,) in rows] == list(range(17))
    await engine.dispose()


async def until(condition: Callable[[], bool]) -> None:
    """Lets others run until it holds."""
    async with asyncio.timeout(LIMIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.001)


async def test_signal_handler_can_be_added_while_the_main_thread_is_blocked(loop: Loop) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    ran: list[int] = []
    await on_main()
    async with main_thread_blocked(loop):
        loop.add_signal_handler(signal.SIGUSR1, ran.append, 1)
        os.kill(os.getpid(), signal.SIGUSR1)
        await until(lambda: ran == [1])
        assert not is_main()
        loop.add_signal_handler(signal.SIGUSR1, ran.append, 2)
        os.kill(os.getpid(), signal.SIGUSR1)
        await until(lambda: ran == [1, 2])
    await on_main()
    os.kill(os.getpid(), signal.SIGUSR1)
    await until(lambda: ran == [1, 2, 2])
    assert loop.remove_signal_handler(signal.SIGUSR1)
    assert not loop.remove_signal_handler(signal.SIGUSR1)
    assert signal.getsignal(signal.SIGUSR1) is before
    assert signal.set_wakeup_fd(-1) == -1


async def test_handler_of_the_main_thread_answers_while_that_is_blocked(loop: Loop) -> None:
    ran: list[int] = []
    await on_main()
    loop.add_signal_handler(signal.SIGUSR1, ran.append, 1)
    async with main_thread_blocked(loop):
        os.kill(os.getpid(), signal.SIGUSR1)
        await until(lambda: ran == [1])
        with pytest.raises(RuntimeError, match="in the main thread only, whose step is blocked"):
            loop.remove_signal_handler(signal.SIGUSR1)
        loop.add_signal_handler(signal.SIGUSR1, ran.append, 2)
        os.kill(os.getpid(), signal.SIGUSR1)
        await until(lambda: ran == [1, 2])
    await on_main()
    assert loop.remove_signal_handler(signal.SIGUSR1)


async def test_signal_that_cannot_be_caught_is_refused_on_a_spare_too(loop: Loop) -> None:
    await on_main()
    async with main_thread_blocked(loop):
        with pytest.raises(RuntimeError, match="cannot be caught"):
            loop.add_signal_handler(signal.SIGKILL, print)


def test_native_handlers_end_with_the_loop(audit: Any, loop_name: str) -> None:
    got: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda *_: got.append(1))

    async def main() -> None:
        loop: Loop = asyncio.get_running_loop()
        await on_main()
        async with main_thread_blocked(loop):
            loop.add_signal_handler(signal.SIGUSR1, print)

    try:
        antiphon.run(main(), on_block="handoff", block_after=0.005)
        signal.raise_signal(signal.SIGUSR1)
        assert got == [1]
    finally:
        signal.signal(signal.SIGUSR1, before)
