"""The approval workflow: events, consents, tombstones, candidates, and the rules in the database.

Triggers forbid a base image's state to move otherwise than the table of transitions says, and
forbid to change or delete an event. Whoever copies the table `personas` on SQLite in a later
revision has to make its triggers again: `create_triggers`.

Revision: 0004, after 0003
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from backend.database.legacy import add_columns, persona_columns, persona_id_type

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_MOVES = (
    ("pending_upload", "draft"),
    ("draft", "approved"),
    ("draft", "rejected"),
    ("rejected", "draft"),
    ("approved", "draft"),
)
_ALLOWED = " OR ".join(
    [
        "NEW.base_image_status = OLD.base_image_status",
        "NEW.base_image_status = 'pending_upload'",
        *(
            f"(OLD.base_image_status = '{source}' AND NEW.base_image_status = '{target}')"
            for source, target in _MOVES
        ),
    ]
)
# what the CHECK refuses is left to the CHECK, so that its name is what is reported
_BORN_OTHERWISE = (
    "NEW.base_image_status <> 'pending_upload' "
    "AND NEW.appearance_locked = (NEW.base_image_status = 'approved')"
)
_NO_MOVE = "base_image_status: the approval workflow has no such transition"
_APPEND_ONLY = "base_image_events is append-only"


def upgrade() -> None:
    _extend_versions()
    _create_consents()
    _create_tombstones()
    _create_events()
    _create_notes()
    create_triggers(op)
    op.execute(
        "INSERT INTO migration_notes (persona_id, persona_name, kind) "
        "VALUES ('', '', 'images_wait')"
    )


def downgrade() -> None:
    drop_triggers(op)
    for table in ("migration_notes", "base_image_events", "base_image_tombstones", "consents"):
        op.drop_table(table)
    for name in ("consent_id", "original_sha256", "parent", "seed_group"):
        op.drop_column("base_image_versions", name)


def create_triggers(op: Any) -> None:
    """Make the rules that only a trigger can hold."""
    statements = _SQLITE if op.get_bind().dialect.name == "sqlite" else _POSTGRESQL
    for statement in statements:
        op.get_bind().exec_driver_sql(statement)


def drop_triggers(op: Any) -> None:
    """Remove what `create_triggers` made."""
    if op.get_bind().dialect.name == "sqlite":
        for name in (
            "personas_base_image_moves",
            "personas_base_image_born",
            "base_image_events_no_update",
            "base_image_events_no_delete",
        ):
            op.execute(f"DROP TRIGGER IF EXISTS {name}")
        return
    op.execute("DROP TRIGGER IF EXISTS base_image_moves ON personas")
    op.execute("DROP TRIGGER IF EXISTS base_image_born ON personas")
    op.execute("DROP TRIGGER IF EXISTS append_only ON base_image_events")
    op.execute("DROP TRIGGER IF EXISTS never_emptied ON base_image_events")
    op.execute("DROP FUNCTION IF EXISTS gator_no_such_transition()")
    op.execute("DROP FUNCTION IF EXISTS gator_append_only()")


_SQLITE = (
    f"""CREATE TRIGGER personas_base_image_moves BEFORE UPDATE OF base_image_status ON personas
    WHEN NOT ({_ALLOWED}) BEGIN SELECT RAISE(ABORT, '{_NO_MOVE}'); END""",
    f"""CREATE TRIGGER personas_base_image_born BEFORE INSERT ON personas
    WHEN {_BORN_OTHERWISE} BEGIN SELECT RAISE(ABORT, '{_NO_MOVE}'); END""",
    f"""CREATE TRIGGER base_image_events_no_update BEFORE UPDATE ON base_image_events
    BEGIN SELECT RAISE(ABORT, '{_APPEND_ONLY}'); END""",
    f"""CREATE TRIGGER base_image_events_no_delete BEFORE DELETE ON base_image_events
    BEGIN SELECT RAISE(ABORT, '{_APPEND_ONLY}'); END""",
)

_POSTGRESQL = (
    f"""CREATE FUNCTION gator_no_such_transition() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION '{_NO_MOVE}' USING ERRCODE = 'check_violation'; END $$""",
    f"""CREATE FUNCTION gator_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION '{_APPEND_ONLY}' USING ERRCODE = 'restrict_violation'; END $$""",
    f"""CREATE TRIGGER base_image_moves BEFORE UPDATE OF base_image_status ON personas
    FOR EACH ROW WHEN (NOT ({_ALLOWED})) EXECUTE FUNCTION gator_no_such_transition()""",
    f"""CREATE TRIGGER base_image_born BEFORE INSERT ON personas
    FOR EACH ROW WHEN ({_BORN_OTHERWISE}) EXECUTE FUNCTION gator_no_such_transition()""",
    """CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON base_image_events
    FOR EACH ROW EXECUTE FUNCTION gator_append_only()""",
    """CREATE TRIGGER never_emptied BEFORE TRUNCATE ON base_image_events
    FOR EACH STATEMENT EXECUTE FUNCTION gator_append_only()""",
)


def _extend_versions() -> None:
    columns: list[sa.Column[Any]] = [
        sa.Column("seed_group", sa.String(36), nullable=False, server_default=""),
        sa.Column("parent", sa.Integer()),
        sa.Column("original_sha256", sa.String(64)),
        sa.Column("consent_id", sa.String(36)),
    ]
    add_columns(op, "base_image_versions", columns)
    op.execute("UPDATE base_image_versions SET seed_group = id")


def _create_consents() -> None:
    op.create_table(
        "consents",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column(
            "persona_id",
            persona_id_type(persona_columns(op)),
            sa.ForeignKey("personas.id", ondelete="CASCADE"),
            nullable=False,
            index=True,
        ),
        sa.Column("real_person", sa.Boolean(), nullable=False),
        sa.Column("person", sa.String(200)),
        sa.Column("granted_by", sa.String(200)),
        sa.Column("note", sa.Text()),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        sa.Column("revoked_by", sa.String(100)),
        sa.Column("revocation_reason", sa.Text()),
        sa.Column("created_by", sa.String(100), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )


def _create_tombstones() -> None:
    op.create_table(
        "base_image_tombstones",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("persona_id", sa.String(36), nullable=False, index=True),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False, index=True),
        sa.Column("original_sha256", sa.String(64)),
        sa.Column("method", sa.String(20), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("purged_by", sa.String(100), nullable=False),
        sa.Column("purged_at", sa.DateTime(timezone=True), nullable=False),
    )


def _create_notes() -> None:
    op.create_table(
        "migration_notes",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("persona_id", sa.String(36), nullable=False),
        sa.Column("persona_name", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False, index=True),
        sa.Column("detail", sa.Text()),
    )


def _create_events() -> None:
    op.create_table(
        "base_image_events",
        sa.Column(
            "sequence",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("persona_id", sa.String(36), nullable=False),
        sa.Column("action", sa.String(20), nullable=False),
        sa.Column("actor", sa.String(100), nullable=False),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("from_status", sa.String(20), nullable=False),
        sa.Column("to_status", sa.String(20), nullable=False),
        sa.Column("version", sa.Integer()),
        sa.Column("reason", sa.Text()),
        sa.Column("request_id", sa.String(100)),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("previous_hash", sa.String(64), nullable=False, unique=True),
        sa.Column("hash", sa.String(64), nullable=False, unique=True),
    )
    op.create_index(
        "ix_base_image_events_persona_id", "base_image_events", ["persona_id", "sequence"]
    )
