"""What `migrate_add_base_image_status.py` does: one column and its index, there and back.

A dry run only looks: it writes nothing, and makes no database where there is none.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, create_engine, inspect
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool

from backend.database.engine import Database
from backend.database.upgrade import (
    LEGACY_REVISION,
    STATUS_REVISION,
    downgrade,
    in_transaction,
    revision_of,
    upgrade_on,
)
from backend.errors import StorageError

_STUDIO_TABLES = ("base_image_versions", "base_image_events", "batches", "contents")
_COLUMN = "base_image_status"


@dataclass(frozen=True, slots=True)
class Found:
    """What a database holds.

    Attributes:
        revision: of the migration history; `None` where there is none.
        has_table: whether there are personas at all.
        locks: how many appearances are locked without anybody's approval.
        studio: how many rows each of the studio's own tables has.
    """

    revision: str | None = None
    has_table: bool = False
    has_column: bool = False
    has_index: bool = False
    rows: int = 0
    locks: int = 0
    studio: tuple[tuple[str, int], ...] = ()

    @property
    def done(self) -> bool:
        """Whether the column is there already, by the history."""
        return self.revision is not None and self.revision >= STATUS_REVISION


async def add_base_image_status(database: Database, *, dry_run: bool = False) -> str:
    """Bring a database to revision 0002 at least; return what was done, in words.

    Raises:
        StorageError: the database cannot be opened or written.
    """
    if dry_run:
        found = await look(database)
        return _nothing_to_do(found.revision, found.rows) if found.done else _plan_up(found)
    return await in_transaction(database, _add)


def _add(connection: Connection) -> str:
    """Do it, in the transaction of a connection."""
    tables = set(inspect(connection).get_table_names())
    revision = revision_of(connection)
    rows = _count(connection, "personas") if "personas" in tables else 0
    if revision is not None and revision >= STATUS_REVISION:
        return _nothing_to_do(revision, rows)
    had_column = "personas" in tables and _COLUMN in _columns(connection)
    upgrade_on(connection, STATUS_REVISION)
    kept = _count(connection, "personas")
    column = "column was there already" if had_column else f"added column {_COLUMN}"
    return (
        f"{column}, index is there; {kept} of {rows} persona(s) kept; revision {STATUS_REVISION}."
    )


def _columns(connection: Connection) -> list[str]:
    return list(connection.exec_driver_sql("SELECT * FROM personas LIMIT 0").keys())


def _nothing_to_do(revision: str | None, rows: int) -> str:
    return f"nothing to do: the database is at revision {revision}; {rows} persona(s) kept."


async def remove_base_image_status(database: Database, *, dry_run: bool = False) -> str:
    """Take a database back to the days before revision 0002; return what was done, in words.

    Raises:
        StorageError: the database cannot be opened or written.
    """
    found = await look(database)
    if not found.done:
        return f"nothing to do: the column is not of this history; {found.rows} persona(s) kept."
    lost = [f"{count} row(s) of {table}" for table, count in found.studio if count]
    along = f" With the studio's own tables go {', '.join(lost)}." if lost else ""
    if dry_run:
        return (
            f"dry run: would remove column {_COLUMN} and its index, from revision "
            f"{found.revision} to {LEGACY_REVISION}; {found.rows} persona(s) stay.{along} "
            "Nothing was changed."
        )
    await downgrade(database, LEGACY_REVISION)
    kept = await _rows(database)
    return (
        f"removed column {_COLUMN} and its index; {kept} of {found.rows} persona(s) kept; "
        f"revision {LEGACY_REVISION}.{along}"
    )


async def _rows(database: Database) -> int:
    async with database.engine.connect() as connection:
        return await connection.run_sync(_count, "personas")


async def look(database: Database) -> Found:
    """Return what a database holds; changes nothing.

    Raises:
        StorageError: the database cannot be opened.
    """
    try:
        if database.url.get_backend_name() == "sqlite":
            return await asyncio.to_thread(_look_at_file, database)
        async with database.engine.connect() as connection:
            return await connection.run_sync(_look)
    except (DatabaseError, OSError) as exc:
        raise StorageError(
            f"the database {database.url.render_as_string()} cannot be used: {exc.__cause__ or exc}"
        ) from exc


def _look_at_file(database: Database) -> Found:
    """Look at a SQLite file, opened so that not even its journal mode changes."""
    path = Path(str(database.url.database))
    if not path.exists():
        if not path.parent.is_dir() and path.parent.exists():
            raise NotADirectoryError(f"{path.parent} is not a folder")
        return Found()
    url = f"sqlite:///file:{path.absolute()}?mode=ro&uri=true"
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        return _look(connection)


def _look(connection: Connection) -> Found:
    inspector = inspect(connection)
    tables = set(inspector.get_table_names())
    revision = revision_of(connection) if "alembic_version" in tables else None
    if "personas" not in tables:
        return Found(revision)
    columns = {column["name"] for column in inspector.get_columns("personas")}
    has_column = _COLUMN in columns
    ungoverned = "appearance_locked" in columns and (revision or "") <= STATUS_REVISION
    return Found(
        revision=revision,
        has_table=True,
        has_column=has_column,
        has_index=has_column
        and [_COLUMN] in [index["column_names"] for index in inspector.get_indexes("personas")],
        rows=_count(connection, "personas"),
        locks=_locks(connection) if ungoverned else 0,
        studio=tuple(
            (table, _count(connection, table)) for table in _STUDIO_TABLES if table in tables
        ),
    )


def _count(connection: Connection, table: str) -> int:
    found = connection.exec_driver_sql(f"SELECT count(*) FROM {table}")  # noqa: S608 - of our own
    return int(found.scalar_one())


def _locks(connection: Connection) -> int:
    found = connection.exec_driver_sql("SELECT count(*) FROM personas WHERE appearance_locked")
    return int(found.scalar_one())


def _plan_up(found: Found) -> str:
    if not found.has_table:
        return (
            "dry run: there are no personas; would make an empty table of them at revision "
            f"{STATUS_REVISION}. Nothing was changed."
        )
    column = "column is there already" if found.has_column else f"would add column {_COLUMN}"
    index = "its index is there already" if found.has_index else "would add its index"
    return (
        f"dry run: {column}, {index}, to revision {STATUS_REVISION}; {found.rows} persona(s) "
        f"stay.{_about_locks(found)} Nothing was changed."
    )


def _about_locks(found: Found) -> str:
    if not found.locks:
        return ""
    return (
        f" {found.locks} lock(s) without an approval fall at the next revision; "
        "`gator db upgrade` lists them."
    )
