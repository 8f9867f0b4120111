"""SQLite behind aiosqlite: one process's connections, which cancelled tasks leave in order.

Every writing transaction begins IMMEDIATE: a deferred one that reads and then writes can lose to
another writer in between, and did in half of all trials. The write-ahead log is used only outside
SQLite 3.7.0 to 3.51.2, whose WAL reset can lose a commit; else the rollback journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
import sqlite3
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import aiosqlite
from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL, Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import StaticPool

BUSY_TIMEOUT_MS = 10_000
READ_ONLY = "gator_read_only"
_ONE_MIGRATION = threading.Lock()  # Alembic keeps the one that runs in a global
_WAL_RESET_BUG = ((3, 7, 0), (3, 51, 2))


T = TypeVar("T")


class _Calls(queue.SimpleQueue[Any]):
    """Calls for a connection's thread, whose answers may come too late.

    Upstream, the thread dies of an answer to a loop that has ended, and leaves what else it was
    asked undone, such as to close the file.
    """

    def put_nowait(self, item: tuple[asyncio.Future[Any] | None, Callable[[], Any]]) -> None:
        answer, work = item
        super().put_nowait((None, functools.partial(_done, work, answer)))


def _done(work: Callable[[], Any], answer: asyncio.Future[Any] | None) -> Any:
    """Do work in the thread and answer, if anybody is there still."""
    try:
        result = work()
    except BaseException as exc:  # noqa: BLE001 - it is whoever waits for the answer who raises it
        _tell(answer, aiosqlite.core.set_exception, exc)
        return None
    _tell(answer, aiosqlite.core.set_result, result)
    return result


def _tell(answer: asyncio.Future[Any] | None, how: Callable[..., None], outcome: Any) -> None:
    if answer:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            answer.get_loop().call_soon_threadsafe(how, answer, outcome)


class _Connection(aiosqlite.Connection):
    """A connection that survives the cancellation of whoever uses it.

    Upstream, a task cancelled in the midst of a statement leaves the cursor to the garbage
    collector, and with it the file's lock. And whoever stops a connection that another has stopped
    waits for good, since the thread that would answer has ended; SQLAlchemy does both where a
    closing task is cancelled, and a command ended by Ctrl-C hung.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._tx = _Calls()
        self._thread = threading.Thread(
            target=aiosqlite.core._connection_worker_thread, args=(self._tx,), daemon=True
        )
        self._loop = asyncio.get_running_loop()
        self._stopping: asyncio.Future[Any] | None = None

    def __del__(self) -> None:
        if self._loop.is_closed():  # cut off, and not forgotten
            self.stop()
        else:
            super().__del__()  # type: ignore[no-untyped-call]

    def stop(self) -> asyncio.Future[Any] | None:
        if self._stopping is None:
            self._stopping = super().stop()
        return self._stopping

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run one call in the connection's thread, to its end also for a cancelled task."""
        if not self._running or not self._connection:
            raise ValueError("Connection closed")
        answer = asyncio.get_running_loop().create_future()
        self._tx.put_nowait((answer, functools.partial(fn, *args, **kwargs)))
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            await asyncio.wait([answer])
            if not answer.exception() and isinstance(answer.result(), sqlite3.Cursor):
                self._tx.put_nowait((None, answer.result().close))
            raise

    async def lend(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do work in the connection's own thread, to its end also for a cancelled task."""
        done: T = await self._execute(work, self._conn)
        return done


async def migrate_in_thread(connection: AsyncConnection, work: Callable[[Connection], T]) -> T:
    """Do many small statements in one transaction and one go.

    A statement handed over to the thread by itself waits longer than it runs. Foreign keys sleep
    meanwhile, which can be said outside a transaction only: else SQLite would delete what refers to
    a table that a revision copies.
    """
    driver = (await connection.get_raw_connection()).driver_connection
    assert isinstance(driver, _Connection)  # noqa: S101 - `sqlite_engine` makes no others
    return await driver.lend(functools.partial(_migrate, work))


def _migrate(work: Callable[[Connection], T], driver: sqlite3.Connection) -> T:
    engine = create_engine("sqlite://", creator=lambda: driver, poolclass=StaticPool)
    event.listen(engine, "begin", _begin)
    with _ONE_MIGRATION:
        driver.execute("PRAGMA foreign_keys = OFF")
        try:
            with engine.begin() as connection:
                return work(connection)
        finally:
            driver.execute("PRAGMA foreign_keys = ON")


def sqlite_engine(url: URL) -> AsyncEngine:
    """Return an engine whose transactions begin as the module's first lines say."""

    def connect(*args: Any, **kwargs: Any) -> _Connection:
        return _Connection(lambda: sqlite3.connect(*args, **kwargs), iter_chunk_size=64)

    engine = create_async_engine(url, connect_args={"async_creator_fn": connect})

    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the BEGIN below is ours
        cursor = connection.cursor()
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        cursor.execute(f"PRAGMA journal_mode = {journal_mode()}")
        cursor.close()

    event.listen(engine.sync_engine, "begin", _begin)
    return engine


def _begin(connection: Connection) -> None:
    reading = connection.get_execution_options().get(READ_ONLY)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def journal_mode() -> str:
    """Return the journal that is safe with the SQLite of this interpreter."""
    first, last = _WAL_RESET_BUG
    return "DELETE" if first <= sqlite3.sqlite_version_info <= last else "WAL"
