"""Bring a database to the newest revision, by Alembic, from inside the program."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import DatabaseError

from backend.database.engine import Database, ensure_sqlite_folder
from backend.database.sqlite import migrate_in_thread
from backend.errors import StorageError
from backend.models.base import Base

T = TypeVar("T")
MIGRATIONS = Path(__file__).parent / "migrations"
VERSION_TABLE = "alembic_version"
STATUS_REVISION = "0002"

LEGACY_REVISION = "0001"
"""What a database is taken for that has personas but no Alembic history."""


def alembic_config() -> Config:
    """Return Alembic's configuration; there is no alembic.ini to keep in step."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


@functools.cache
def _revisions() -> ScriptDirectory:
    """Return the revisions, which are code: read once a process, as other modules are."""
    return ScriptDirectory.from_config(alembic_config())


def head_revision() -> str:
    """Return the newest revision there is."""
    return str(_revisions().get_current_head())


async def current_revision(database: Database) -> str | None:
    """Return the revision a database is at; `None` where it has no history."""
    with _storage_errors(database):
        ensure_sqlite_folder(database.url.render_as_string(hide_password=False))
        async with database.engine.connect() as connection:
            return await connection.run_sync(revision_of)


async def upgrade(database: Database, target: str = "head") -> tuple[str | None, str]:
    """Upgrade in one transaction; return the revisions before and after.

    Raises:
        StorageError: the database cannot be opened or written.
    """
    return await in_transaction(database, functools.partial(upgrade_on, target=target))


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

    return await in_transaction(database, down)


async def in_transaction(database: Database, work: Callable[[Connection], T]) -> T:
    """Do work that changes the schema, in one transaction.

    Raises:
        StorageError: the database cannot be opened or written.
    """
    with _storage_errors(database):
        ensure_sqlite_folder(database.url.render_as_string(hide_password=False))
        async with database.engine.connect() as connection:
            if connection.dialect.name == "sqlite":
                return await migrate_in_thread(connection, work)
            async with connection.begin():
                return await connection.run_sync(work)


@contextmanager
def _storage_errors(database: Database) -> Iterator[None]:
    try:
        yield
    except (DatabaseError, OSError) as exc:
        raise StorageError(
            f"the database {database.url.render_as_string()} cannot be used: {exc.__cause__ or exc}"
        ) from exc


def upgrade_on(connection: Connection, target: str) -> tuple[str | None, str]:
    """Upgrade inside a transaction that is open; return the revisions before and after.

    It does as `alembic stamp` and `alembic upgrade` would, and asks the database once for what
    these would ask for again and again.
    """
    tables = _tables(connection)
    before = _recorded(connection) if VERSION_TABLE in tables else None
    revisions = _revisions()
    context = _Context(
        connection.dialect,
        connection,
        {
            "fn": lambda at, _: revisions._upgrade_revs(target, at),
            "script": revisions,
            "target_metadata": Base.metadata,  # whose convention names the constraints
        },
    )
    if before is None and "personas" in tables:
        context.begin(LEGACY_REVISION, make_table=VERSION_TABLE not in tables)
    elif before is not None:
        context.known = (before,)
    with Operations.context(context):
        context.run_migrations()
    return before, str(_recorded(connection))


class _Context(MigrationContext):
    """Alembic's context, which is told at what revision the database is."""

    known: tuple[str, ...] = ()

    def get_current_heads(self) -> tuple[str, ...]:
        return self.known

    def begin(self, revision: str, *, make_table: bool) -> None:
        """Begin the history of a database that was made without one."""
        if make_table:
            self.impl.execute(sa.schema.CreateTable(self._version))
        self.impl.execute(sa.insert(self._version).values(version_num=revision))
        self.known = (revision,)


def revision_of(connection: Connection) -> str | None:
    """Return the revision that the database of a connection is at; `None` without a history."""
    return _recorded(connection) if VERSION_TABLE in _tables(connection) else None


def _tables(connection: Connection) -> set[str]:
    """Return which of the two tables there are that tell what a database is."""
    names = f"('personas', '{VERSION_TABLE}')"
    if connection.dialect.name == "sqlite":
        query = f"SELECT name FROM sqlite_master WHERE type = 'table' AND name IN {names}"  # noqa: S608 - of our own
    else:
        query = (
            "SELECT relname FROM pg_class WHERE pg_table_is_visible(oid) AND relkind IN ('r', 'p') "  # noqa: S608 - of our own
            f"AND relname IN {names}"
        )
    return set(connection.exec_driver_sql(query).scalars())


def _recorded(connection: Connection) -> str | None:
    """Return the revision that is written in a database that has a history."""
    found = connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608 - of our own
    return found.scalar_one_or_none()
