"""Sessions, the same for SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from backend.database.sqlite import READ_ONLY, sqlite_engine
from backend.errors import StorageError


class Database:
    """Sessions on one database; `close()` when done."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self._turn: AbstractAsyncContextManager[None] = nullcontext()
        if self.url.get_backend_name() == "sqlite":
            self.engine = sqlite_engine(self.url)
            self._turn = asyncio.Lock()  # a queue here is fair and quick; SQLite's own polls
        else:
            self.engine = create_async_engine(self.url)
        self._writing = async_sessionmaker(self.engine, expire_on_commit=False)
        self._reading = async_sessionmaker(
            self.engine.execution_options(**{READ_ONLY: True}), expire_on_commit=False
        )

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """Open a transaction that commits at the end of the block, or rolls back.

        Raises:
            StorageError: the database is locked, full, read-only or gone; nothing was written.
        """
        async with self._turn:
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
