"""Engine and sessions, the same for SQLite and PostgreSQL.

On SQLite every writing transaction begins IMMEDIATE: a deferred one that reads and then writes can
lose to another writer in between, and did in half of all trials. The write-ahead log is used only
outside SQLite 3.7.0 to 3.51.2, whose WAL reset can lose a commit; else the rollback journal.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)

from backend.errors import StorageError

BUSY_TIMEOUT_MS = 10_000
_WAL_RESET_BUG = ((3, 7, 0), (3, 51, 2))
_READ_ONLY = "gator_read_only"


class Database:
    """Sessions on one database; `close()` when done."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.engine: AsyncEngine = create_async_engine(self.url)
        if self.url.get_backend_name() == "sqlite":
            _configure_sqlite(self.engine)
        self._writing = async_sessionmaker(self.engine, expire_on_commit=False)
        self._reading = async_sessionmaker(
            self.engine.execution_options(**{_READ_ONLY: True}), expire_on_commit=False
        )

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """Open a transaction that commits at the end of the block, or rolls back.

        Raises:
            StorageError: the database is locked, full, read-only or gone; nothing was written.
        """
        with _storage_errors():
            async with self._writing.begin() as session:
                yield session

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """Open a session for reading; nothing it changes is kept.

        Raises:
            StorageError: the database does not answer.
        """
        with _storage_errors():
            async with self._reading() as session:
                yield session

    async def ping(self) -> None:
        """Ask the database for one row.

        Raises:
            StorageError: it does not answer.
        """
        async with self.read() as session:
            await session.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Give all connections back."""
        await self.engine.dispose()


@contextmanager
def _storage_errors() -> Iterator[None]:
    try:
        yield
    except OperationalError as exc:
        raise StorageError(f"the database cannot be used: {exc.orig or exc}") from exc


def ensure_sqlite_folder(url: str) -> None:
    """Make the folder of a SQLite file, where the URL names one."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:"):
        Path(str(parsed.database)).parent.mkdir(parents=True, exist_ok=True)


def _configure_sqlite(engine: AsyncEngine) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the BEGIN below is ours
        cursor = connection.cursor()
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        cursor.execute(f"PRAGMA journal_mode = {journal_mode()}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def on_begin(connection: Connection) -> None:
        reading = connection.get_execution_options().get(_READ_ONLY)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def journal_mode() -> str:
    """Return the journal that is safe with the SQLite of this interpreter."""
    first, last = _WAL_RESET_BUG
    return "DELETE" if first <= sqlite3.sqlite_version_info <= last else "WAL"
