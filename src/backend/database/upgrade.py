"""Bring a database to the newest revision, by Alembic, from inside the program."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect
from sqlalchemy.exc import DatabaseError
from sqlalchemy.ext.asyncio import AsyncConnection

from backend.database.engine import Database, ensure_sqlite_folder
from backend.errors import StorageError

MIGRATIONS = Path(__file__).parent / "migrations"
STATUS_REVISION = "0002"

LEGACY_REVISION = "0001"
"""What a database is taken for that has personas but no Alembic history."""


def alembic_config() -> Config:
    """Return Alembic's configuration; there is no alembic.ini to keep in step."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def head_revision() -> str:
    """Return the newest revision there is."""
    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    return str(head)


async def current_revision(database: Database) -> str | None:
    """Return the revision a database is at; `None` where it has no history."""
    async with _opened(database) as connection:
        return await connection.run_sync(_revision)


async def upgrade(database: Database, target: str = "head") -> tuple[str | None, str]:
    """Upgrade in one transaction; return the revisions before and after.

    Raises:
        StorageError: the database cannot be opened or written.
    """
    async with _opened(database, writing=True) as connection:
        return await connection.run_sync(_upgrade, target)


@asynccontextmanager
async def _opened(database: Database, *, writing: bool = False) -> AsyncIterator[AsyncConnection]:
    """Open a connection, in a transaction to write; its failure is a `StorageError`."""
    engine = database.engine
    try:
        ensure_sqlite_folder(database.url.render_as_string(hide_password=False))
        async with engine.begin() if writing else engine.connect() as connection:
            yield connection
    except (DatabaseError, OSError) as exc:
        raise StorageError(
            f"the database {database.url.render_as_string()} cannot be used: {exc.__cause__ or exc}"
        ) from exc


def _upgrade(connection: Connection, target: str) -> tuple[str | None, str]:
    config = alembic_config()
    config.attributes["connection"] = connection
    before = _revision(connection)
    if before is None and inspect(connection).has_table("personas"):
        command.stamp(config, LEGACY_REVISION)
    command.upgrade(config, target)
    return before, str(_revision(connection))


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


async def add_base_image_status(database: Database) -> str:
    """Bring a database to revision 0002 at least; return what was done, in words.

    Raises:
        StorageError: the database cannot be opened or written.
    """
    revision = await current_revision(database)
    had_column, rows = await _look(database)
    if revision is not None and revision >= STATUS_REVISION:
        return f"nothing to do: the database is at revision {revision}; {rows} persona(s) kept."
    await upgrade(database, STATUS_REVISION)
    kept = (await _look(database))[1]
    column = "column was there already" if had_column else "added column base_image_status"
    return (
        f"{column}, index is there; {kept} of {rows} persona(s) kept; revision {STATUS_REVISION}."
    )


async def _look(database: Database) -> tuple[bool, int]:
    def look(connection: Connection) -> tuple[bool, int]:
        inspector = inspect(connection)
        if not inspector.has_table("personas"):
            return False, 0
        columns = {column["name"] for column in inspector.get_columns("personas")}
        rows = connection.exec_driver_sql("SELECT count(*) FROM personas").scalar_one()
        return "base_image_status" in columns, int(rows)

    async with _opened(database) as connection:
        return await connection.run_sync(look)
