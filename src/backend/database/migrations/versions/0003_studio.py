"""The studio: base image versions, batches, content, and the rule that ties lock to approval.

Locks from before the approval workflow fall, since nobody approved those bytes. What they were
stays in `legacy_appearance_locked`, and comes back with a downgrade. No row is touched for it: the
column is renamed and a new one put in its place.

The CHECK that ties lock and approval is not held against rows that are there already, since this
revision has just seen to them and reading them all would take longer than all the rest. PostgreSQL
calls that NOT VALID. SQLite knows no such thing and, where there are rows, gets a pair of triggers
that say the same; an empty table gets the CHECK, with the column `revision`.

Revision: 0003, after 0002
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from backend.database.legacy import (
    add_columns,
    complete_legacy_personas,
    persona_columns,
    persona_id_type,
    restore_legacy_locks,
    set_legacy_locks_aside,
)

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

PERSONA_ID = "personas.id"
CHECK_NAME = "ck_personas_locked_iff_approved"
CHECK = "appearance_locked = (base_image_status = 'approved')"
NEW_CHECK = "NEW.appearance_locked = (NEW.base_image_status = 'approved')"


def upgrade() -> None:
    complete_legacy_personas(op)
    columns = persona_columns(op)
    key = persona_id_type(columns)
    _let_locks_fall(columns)
    _complete_personas(columns)
    _create_contents(key)
    _create_base_image_versions(key)
    _create_batches(key)


def downgrade() -> None:
    for table in ("batch_items", "batches", "base_image_versions", "contents"):
        op.drop_table(table)
    if op.get_bind().dialect.name == "sqlite":
        for when in ("insert", "update"):
            op.execute(f"DROP TRIGGER IF EXISTS {CHECK_NAME}_{when}")
    else:
        op.drop_constraint(op.f(CHECK_NAME), "personas", type_="check")
    for column in reversed(_new_persona_columns()):  # the first to go takes SQLite's CHECK along
        op.drop_column("personas", column.name)
    restore_legacy_locks(op)


def _new_persona_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("approved_version", sa.Integer()),
        sa.Column("approved_sha256", sa.String(64)),
        sa.Column("approved_by", sa.String(100)),
        sa.Column("approved_at", sa.DateTime(timezone=True)),
        sa.Column("rejection_reason", sa.Text()),
        sa.Column("image_style", sa.Text()),
        sa.Column("negative_prompt", sa.Text()),
        sa.Column("model_adapters", sa.JSON()),
        # last, since SQLite reads the whole table for every column that follows a CHECK
        sa.Column("revision", sa.Integer(), nullable=False, server_default=sa.text("1")),
    ]


def _let_locks_fall(columns: dict[str, Any]) -> None:
    set_legacy_locks_aside(op, columns)
    op.execute(
        "UPDATE personas SET base_image_status = 'draft' WHERE base_image_status = 'approved'"
    )


def _complete_personas(there: dict[str, Any]) -> None:
    columns = [column for column in _new_persona_columns() if column.name not in there]
    if op.get_bind().dialect.name != "sqlite":
        check = f"ADD CONSTRAINT {CHECK_NAME} CHECK ({CHECK}) {_unread()}"
        add_columns(op, "personas", columns, check)
    elif _unread() or "revision" in there:
        add_columns(op, "personas", columns)
        for when in ("INSERT", "UPDATE"):
            op.execute(
                f"CREATE TRIGGER {CHECK_NAME}_{when.lower()} BEFORE {when} ON personas "
                f"WHEN NOT ({NEW_CHECK}) "
                f"BEGIN SELECT RAISE(ABORT, 'CHECK constraint failed: {CHECK_NAME}'); END"
            )
    else:
        add_columns(op, "personas", columns[:-1])
        op.execute(
            "ALTER TABLE personas ADD COLUMN revision INTEGER DEFAULT 1 NOT NULL "
            f"CONSTRAINT {CHECK_NAME} CHECK ({CHECK})"
        )


def _unread() -> str:
    """Return what a CHECK ends with where there are rows that need not be read for it."""
    there = op.get_bind().exec_driver_sql("SELECT 1 FROM personas LIMIT 1").first()
    return "NOT VALID" if there else ""


def _picture_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("mime", sa.String(50), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("provider", sa.String(100), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("device", sa.String(100), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("receipt", sa.JSON(), nullable=False),
        sa.Column("prompt_report", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    ]


def _persona_id(key: sa.types.TypeEngine[Any], *, nullable: bool) -> sa.Column[str]:
    return sa.Column(
        "persona_id",
        key,
        sa.ForeignKey(PERSONA_ID, ondelete="CASCADE"),
        nullable=nullable,
        index=True,
    )


def _create_contents(key: sa.types.TypeEngine[Any]) -> None:
    op.create_table(
        "contents",
        *_picture_columns(),
        _persona_id(key, nullable=True),
        sa.Column("base_version", sa.Integer()),
        sa.Column("caption", sa.Text()),
        sa.Column("caption_origin", sa.String(20)),
        sa.Column("caption_detail", sa.JSON()),
        sa.Column("captioned_at", sa.DateTime(timezone=True)),
    )
    op.create_index("ix_contents_sha256", "contents", ["sha256"])
    op.create_index("ix_contents_created_at", "contents", ["created_at"])


def _create_base_image_versions(key: sa.types.TypeEngine[Any]) -> None:
    op.create_table(
        "base_image_versions",
        *_picture_columns(),
        _persona_id(key, nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("method", sa.String(20), nullable=False),
        sa.Column("look", sa.JSON(), nullable=False),
        sa.Column("created_by", sa.String(100), nullable=False),
        sa.UniqueConstraint("persona_id", "n", name="uq_base_image_versions_n"),
    )


def _create_batches(key: sa.types.TypeEngine[Any]) -> None:
    op.create_table(
        "batches",
        sa.Column("id", sa.String(36), primary_key=True),
        _persona_id(key, nullable=True),
        sa.Column("base_version", sa.Integer()),
        sa.Column("request_key", sa.String(100), unique=True),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("captions", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
    )
    op.create_table(
        "batch_items",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column(
            "batch_id",
            sa.String(36),
            sa.ForeignKey("batches.id", ondelete="CASCADE"),
            nullable=False,
            index=True,
        ),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(20), nullable=False, index=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.JSON()),
        sa.Column(
            "content_id",
            sa.String(36),
            sa.ForeignKey("contents.id", ondelete="SET NULL"),
            index=True,
        ),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.UniqueConstraint("batch_id", "position", name="uq_batch_items_position"),
    )
