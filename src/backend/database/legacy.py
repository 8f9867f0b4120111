"""Tables `personas` from before there was a migration history, made into what the models read.

Every row is kept. Where it can be, the table is changed in place; SQLite copies it only where its
ids are integers or where it demands a value in a column that nobody here fills.

Ids become text, since new ones are; so do the columns of other tables that refer to them.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

ID_LENGTH = 36
LEGACY_LOCK = "legacy_appearance_locked"
"""The column, in databases that had one, of locks that nobody had approved."""
_STATUSES = ("pending_upload", "draft", "approved", "rejected")
_STATUS_IS_NEW = "base_image_status_is_new"
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


def add_columns(op: Any, table: str, columns: Sequence[sa.Column[Any]], *more: str) -> None:
    """Add columns, on PostgreSQL with `more` changes in one statement; on SQLite one by one."""
    if op.get_bind().dialect.name == "sqlite":
        for column in columns:
            op.add_column(table, column)
        return
    dialect = op.get_bind().dialect
    added = [f"ADD COLUMN {sa.schema.CreateColumn(c).compile(dialect=dialect)}" for c in columns]
    op.get_bind().exec_driver_sql(f"ALTER TABLE {table} {', '.join([*added, *more])}")


def persona_id_type(columns: dict[str, Any]) -> sa.types.TypeEngine[Any]:
    """Return the type that a foreign key to `personas.id` has to have."""
    found = columns["id"]["type"]
    length = found.length if isinstance(found, sa.String) else ID_LENGTH
    return sa.String(length) if length else sa.Text()


def complete_legacy_personas(op: Any) -> None:
    """Give `personas` the types, columns and values that the models read, whoever made it.

    A table that the history itself made is left alone.
    """
    columns = persona_columns(op)
    if op.get_bind().dialect.name == "sqlite":
        _copy_on_sqlite(op, columns)
    else:
        _alter_on_postgresql(op, columns)
    if missing := _missing(columns):
        add_columns(op, "personas", missing)
    _fill_gaps(op, columns)
    _repair_statuses(op)


def set_legacy_locks_aside(op: Any, columns: dict[str, Any]) -> None:
    """Let locks fall that nobody's approval stands behind; what they were is kept beside."""
    locked = "SELECT 1 FROM personas WHERE appearance_locked LIMIT 1"
    if op.get_bind().exec_driver_sql(locked).first() is None:
        return
    lock = columns["appearance_locked"]
    if not lock["nullable"] and lock.get("default") is None:
        if op.get_bind().dialect.name == "sqlite":  # it would have to be filled for new personas
            op.add_column("personas", sa.Column(LEGACY_LOCK, sa.Boolean()))
            op.execute(
                f"UPDATE personas SET {LEGACY_LOCK} = true, appearance_locked = false "  # noqa: S608 - a name of our own
                "WHERE appearance_locked"
            )
            return
        op.alter_column("personas", "appearance_locked", nullable=True)
    op.execute(f"ALTER TABLE personas RENAME COLUMN appearance_locked TO {LEGACY_LOCK}")
    op.add_column("personas", next(c for c in _own() if c.name == "appearance_locked"))


def restore_legacy_locks(op: Any) -> None:
    """Put locks back that fell with the upgrade."""
    columns = persona_columns(op)
    if LEGACY_LOCK not in columns:
        return
    if columns["appearance_locked"].get("default") is None:
        op.execute(f"UPDATE personas SET appearance_locked = true WHERE {LEGACY_LOCK}")  # noqa: S608 - a name of our own
        op.drop_column("personas", LEGACY_LOCK)
        return
    op.drop_column("personas", "appearance_locked")
    op.execute(f"ALTER TABLE personas RENAME COLUMN {LEGACY_LOCK} TO appearance_locked")


def persona_columns(op: Any) -> dict[str, Any]:
    """Return what the table's columns are like, by name."""
    found = sa.inspect(op.get_bind()).get_columns("personas")
    return {column["name"]: column for column in found}


def _own() -> list[sa.Column[Any]]:
    """Return the columns that the models read, as a table that lacks them is given them."""
    json_list, json_dict = sa.text("'[]'"), sa.text("'{}'")
    began = sa.text(f"'{_BEGINNING:%Y-%m-%d %H:%M:%S}'")
    time = sa.DateTime(timezone=True)
    return [
        sa.Column("name", sa.String(100), nullable=False, server_default=""),
        sa.Column("appearance", sa.Text(), nullable=False, server_default=""),
        sa.Column("personality", sa.Text(), nullable=False, server_default=""),
        sa.Column("content_themes", sa.JSON(), nullable=False, server_default=json_list),
        sa.Column("style_preferences", sa.JSON(), nullable=False, server_default=json_dict),
        sa.Column("base_appearance_description", sa.Text()),
        sa.Column("base_image_path", sa.String(500)),
        sa.Column("appearance_locked", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("created_at", time, nullable=False, server_default=began),
        sa.Column("updated_at", time, nullable=False, server_default=began),
    ]


def _missing(columns: dict[str, Any]) -> list[sa.Column[Any]]:
    return [column for column in _own() if column.name not in columns]


def _foreign(columns: dict[str, Any]) -> list[str]:
    """Return the columns that demand a value and that nobody here fills."""
    known = {"id", "base_image_status"} | {column.name for column in _own()}
    return [
        name
        for name, column in columns.items()
        if name not in known and not column["nullable"] and column.get("default") is None
    ]


def _copy_on_sqlite(op: Any, columns: dict[str, Any]) -> None:
    """Copy the table where SQLite has no other way to change it."""
    integers = isinstance(columns["id"]["type"], sa.Integer)
    foreign = _foreign(columns)
    if not integers and not foreign:
        return
    found = sa.inspect(op.get_bind()).get_check_constraints("personas")
    nameless = [sa.CheckConstraint(check["sqltext"]) for check in found if not check["name"]]
    with (
        warnings.catch_warnings(),
        op.batch_alter_table("personas", recreate="always", table_args=nameless) as table,
    ):
        warnings.filterwarnings("ignore", "Unnamed CHECK constraint")  # it was handed on above
        if integers:
            table.alter_column(
                "id", type_=sa.String(ID_LENGTH), existing_nullable=False, autoincrement=False
            )
        for name in foreign:
            table.alter_column(name, nullable=True, existing_type=columns[name]["type"])


def _alter_on_postgresql(op: Any, columns: dict[str, Any]) -> None:
    _make_ids_text(op, columns["id"]["type"])
    for name in _foreign(columns):
        if not columns[name].get("identity"):
            op.alter_column("personas", name, nullable=True)
    # A zone is put to times without a rewrite of the table only while the session's own is UTC.
    times = [
        f"ALTER COLUMN {name} TYPE TIMESTAMPTZ"
        for name in ("created_at", "updated_at")
        if name in columns and not getattr(columns[name]["type"], "timezone", True)
    ]
    if times:
        op.execute("SET LOCAL TIME ZONE 'UTC'")
        op.execute(f"ALTER TABLE personas {', '.join(times)}")
    for name, empty in (("content_themes", "[]"), ("style_preferences", "{}")):
        if name in columns and not isinstance(columns[name]["type"], sa.JSON):
            _retype(op, name, "JSON", _as_json(name, columns[name]["type"]), f"'{empty}'")
    if not isinstance(columns.get("appearance_locked", {}).get("type", sa.Boolean()), sa.Boolean):
        _retype(op, "appearance_locked", "BOOLEAN", "appearance_locked::int <> 0", "false")
    if isinstance(columns["base_image_status"]["type"], sa.Enum):
        status = "lower(base_image_status::text)"
        _retype(op, "base_image_status", "VARCHAR(20)", status, "'pending_upload'")


def _as_json(name: str, found: Any) -> str:
    return f"to_json({name})" if isinstance(found, sa.ARRAY) else f"NULLIF({name}, '')::json"


def _retype(op: Any, name: str, wanted: str, using: str, default: str) -> None:
    op.execute(f"ALTER TABLE personas ALTER COLUMN {name} DROP DEFAULT")
    op.execute(f"ALTER TABLE personas ALTER COLUMN {name} TYPE {wanted} USING {using}")
    op.execute(f"ALTER TABLE personas ALTER COLUMN {name} SET DEFAULT {default}")


def _make_ids_text(op: Any, found: Any) -> None:
    if isinstance(found, sa.String):
        return
    keys = op.get_bind().exec_driver_sql(_REFERRING).all()
    for table, key, _, _ in keys:
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT {key}")
    op.execute("ALTER TABLE personas ALTER COLUMN id DROP IDENTITY IF EXISTS")
    op.execute("ALTER TABLE personas ALTER COLUMN id DROP DEFAULT")
    text = f"TYPE VARCHAR({ID_LENGTH}) USING"
    op.execute(f"ALTER TABLE personas ALTER COLUMN id {text} id::text")
    for table, key, definition, column in keys:
        op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} {text} {column}::text")
        op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {key} {definition}")


_REFERRING = """
    SELECT c.conrelid::regclass::text, quote_ident(c.conname), pg_get_constraintdef(c.oid),
           quote_ident(a.attname)
    FROM pg_constraint c
    JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
    WHERE c.contype = 'f' AND c.confrelid = 'personas'::regclass
      AND array_length(c.conkey, 1) = 1
    ORDER BY 1, 2
"""


def _fill_gaps(op: Any, columns: dict[str, Any]) -> None:
    """Put values where the models expect one and the table allowed none."""
    for column in _own():
        found = columns.get(column.name)
        if column.nullable or found is None or not found["nullable"]:
            continue
        default: Any = column.server_default
        value = _literal(default.arg)
        op.execute(f"UPDATE personas SET {column.name} = {value} WHERE {column.name} IS NULL")  # noqa: S608 - names and values of our own


def _literal(value: Any) -> str:
    return f"'{value}'" if isinstance(value, str) else str(value.compile())


def status_is_new(op: Any) -> None:
    """Say that this very run put the column there, so that no row has anything but the default."""
    op.get_context().opts[_STATUS_IS_NEW] = True


def _repair_statuses(op: Any) -> None:
    """Read statuses that somebody wrote by hand; what none of them is reads as pending."""
    if op.get_context().opts.get(_STATUS_IS_NEW):
        return
    known = ", ".join(f"'{status}'" for status in _STATUSES)
    strange = f"base_image_status IS NULL OR base_image_status NOT IN ({known})"
    query = f"SELECT 1 FROM personas WHERE {strange} LIMIT 1"  # noqa: S608 - values of our own
    if op.get_bind().exec_driver_sql(query).first() is not None:
        lowered = "lower(coalesce(base_image_status, ''))"
        op.execute(
            f"UPDATE personas SET base_image_status = CASE WHEN {lowered} IN ({known}) "  # noqa: S608 - values of our own
            f"THEN {lowered} ELSE 'pending_upload' END"
        )
    found = persona_columns(op)["base_image_status"]
    if op.get_bind().dialect.name != "sqlite" and (
        found["nullable"] or "pending_upload" not in str(found["default"])
    ):
        for change in ("SET DEFAULT 'pending_upload'", "SET NOT NULL"):
            op.execute(f"ALTER TABLE personas ALTER COLUMN base_image_status {change}")
