"""aiosqlite: a thread per connection that resolves the loop's futures from outside."""

import asyncio
import sqlite3

import aiosqlite
import pytest


async def test_rows_go_in_and_come_back(loop):
    async with aiosqlite.connect(":memory:") as database:
        await database.execute("CREATE TABLE words (number INTEGER, word TEXT)")
        await database.executemany(
            "INSERT INTO words VALUES (?, ?)", [(number, f"word {number}") for number in range(500)]
        )
        await database.commit()
        async with database.execute("SELECT word FROM words ORDER BY number") as cursor:
            rows = [row[0] async for row in cursor]
    assert rows == [f"word {number}" for number in range(500)]


async def test_tasks_and_connections_at_once(loop, tmp_path):
    path = tmp_path / "counters.sqlite"
    async with aiosqlite.connect(path) as database:
        await database.execute("CREATE TABLE counters (value INTEGER)")
        await database.execute("INSERT INTO counters VALUES (0)")
        await database.commit()

    async def count():
        async with aiosqlite.connect(path, timeout=20, isolation_level=None) as database:
            for _ in range(5):
                await database.execute("UPDATE counters SET value = value + 1")

    await asyncio.gather(*(count() for _ in range(4)))
    async with (
        aiosqlite.connect(path) as database,
        database.execute("SELECT value FROM counters") as cursor,
    ):
        assert await cursor.fetchone() == (20,)


async def test_errors_of_the_thread_are_the_callers(loop):
    async with aiosqlite.connect(":memory:") as database:
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            await database.execute("SELECT * FROM absent")
        async with database.execute("SELECT 1") as cursor:
            assert await cursor.fetchall() == [(1,)]


async def test_a_cancelled_call_leaves_the_connection_usable(loop):
    async with aiosqlite.connect(":memory:") as database:
        waiting = asyncio.create_task(database.execute_fetchall("SELECT 1"))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await database.execute_fetchall("SELECT 2") == [(2,)]
