"""The database under tasks that are cancelled in the midst of their work, on a real file."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import text

from backend.database.engine import Database
from backend.services.together import together


async def _work(database: Database) -> None:
    while True:
        async with database.write() as session:
            await session.execute(text("SELECT count(*) FROM kept"))
            await session.execute(text("INSERT INTO kept VALUES (1)"))
        async with database.read() as session:
            await session.execute(text("SELECT * FROM kept"))


async def _opened(path: Path) -> Database:
    database = Database(f"sqlite+aiosqlite:///{path}")
    async with database.write() as session:
        await session.execute(text("CREATE TABLE kept (one INTEGER)"))
        await session.execute(text("INSERT INTO kept VALUES (1), (2), (3)"))
    return database


async def test_a_task_cancelled_anywhere_leaves_no_lock_behind(tmp_path: Path) -> None:
    database = await _opened(tmp_path / "a.sqlite3")
    other = sqlite3.connect(tmp_path / "a.sqlite3", timeout=0, isolation_level=None)
    for pause in range(150):
        task = asyncio.create_task(_work(database))
        await asyncio.sleep(pause / 10_000)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        other.execute("BEGIN EXCLUSIVE")
        other.execute("ROLLBACK")
    other.close()
    await database.close()


async def test_a_closing_connection_that_is_stopped_too_still_closes(tmp_path: Path) -> None:
    database = await _opened(tmp_path / "a.sqlite3")
    async with database.engine.connect() as connection:
        raw = (await connection.get_raw_connection()).driver_connection
        assert raw is not None
        closing = asyncio.create_task(raw.close())
        await asyncio.sleep(0)
        raw.stop()
        async with asyncio.timeout(5):
            await asyncio.gather(closing, return_exceptions=True)
            await raw.close()
    await database.close()


def test_a_program_that_is_cancelled_amid_many_writers_ends(tmp_path: Path) -> None:
    async def program(path: Path, seconds: float) -> None:
        database = await _opened(path)
        main = asyncio.current_task()
        assert main
        asyncio.get_running_loop().call_later(seconds, main.cancel)
        try:
            # gather leaves its other tasks to the loop's end, which cancels them a second time
            await asyncio.gather(*(together(_work(database), _work(database)) for _ in range(8)))
        finally:
            await database.close()

    def run() -> None:
        for trial in range(10):
            with pytest.raises(asyncio.CancelledError):
                asyncio.run(program(tmp_path / f"{trial}.sqlite3", 0.05 + trial / 50))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()


async def test_together_ends_no_sooner_than_its_slowest(tmp_path: Path) -> None:
    ended = []

    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            ended.append("slow")

    async def failing() -> None:
        await asyncio.sleep(0)
        raise ValueError("the first failure")

    with pytest.raises(ValueError, match="the first failure"):
        await together(slow(), failing())
    assert ended == ["slow"]
