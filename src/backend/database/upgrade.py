"""Bring a database to the newest revision, by Alembic, from inside the program."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.runtime.environment import EnvironmentContext
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
    async with opened(database) as connection:
        return await connection.run_sync(revision_of)


async def upgrade(database: Database, target: str = "head") -> tuple[str | None, str]:
    """Upgrade in one transaction; return the revisions before and after.

    Raises:
        StorageError: the database cannot be opened or written.
    """
    async with opened(database, writing=True) as connection:
        return await connection.run_sync(upgrade_on, target)


async def downgrade(database: Database, target: str) -> tuple[str | None, str | None]:
    """Downgrade in one transaction; return the revisions before and after.

    What newer revisions keep in tables of their own goes with them.

    Raises:
        StorageError: the database cannot be opened or written.
    """

    def down(connection: Connection) -> tuple[str | None, str | None]:
        config = alembic_config()
        config.attributes["connection"] = connection
        before = revision_of(connection)
        command.downgrade(config, target)
        return before, revision_of(connection)

    async with opened(database, writing=True) as connection:
        return await connection.run_sync(down)


@asynccontextmanager
async def opened(database: Database, *, writing: bool = False) -> AsyncIterator[AsyncConnection]:
    """Open a connection, in a transaction to write; its failure is a `StorageError`."""
    try:
        ensure_sqlite_folder(database.url.render_as_string(hide_password=False))
        async with database.engine.connect() as connection:
            if not writing:
                yield connection
                return
            async with _foreign_keys_asleep(connection), connection.begin():
                yield connection
    except (DatabaseError, OSError) as exc:
        raise StorageError(
            f"the database {database.url.render_as_string()} cannot be used: {exc.__cause__ or exc}"
        ) from exc


@asynccontextmanager
async def _foreign_keys_asleep(connection: AsyncConnection) -> AsyncIterator[None]:
    """Keep SQLite from deleting what refers to a table while a revision copies that table.

    It can be said outside a transaction only, so it is said to the driver, which begins none.
    """
    if connection.dialect.name != "sqlite":
        yield
        return
    driver = (await connection.get_raw_connection()).driver_connection
    assert driver is not None  # noqa: S101 - it was just connected
    await driver.execute("PRAGMA foreign_keys = OFF")
    try:
        yield
    finally:
        await driver.execute("PRAGMA foreign_keys = ON")


def upgrade_on(connection: Connection, target: str) -> tuple[str | None, str]:
    """Upgrade inside a transaction that is open; return the revisions before and after."""
    config = alembic_config()
    config.attributes["connection"] = connection
    script = ScriptDirectory.from_config(config)
    before = revision_of(connection)
    if before is None and inspect(connection).has_table("personas"):
        MigrationContext.configure(connection).stamp(script, LEGACY_REVISION)
    # what `command.upgrade` does, with the revisions read once
    plan = script._upgrade_revs
    with EnvironmentContext(config, script, fn=lambda at, _: plan(target, at)):
        script.run_env()
    return before, str(revision_of(connection))


def revision_of(connection: Connection) -> str | None:
    """Return the revision that the database of a connection is at; `None` without a history."""
    return MigrationContext.configure(connection).get_current_revision()
