"""Batches that several processes share: leases, attempts, priorities, pauses and events.

Batches that are there already keep their items. What was running when the process that ran it ended
is queued again, and each batch's counts are taken once from its items.

Revision: 0007, after 0006
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

STATES = ("queued", "running", "done", "failed", "cancelled")
PARTIAL = ("queued", "running", "failed")


def upgrade() -> None:
    for table, columns in (("batches", _batch_columns()), ("batch_items", _item_columns())):
        for column in columns:
            op.add_column(table, column)
    _settle_old_batches()
    op.drop_index("ix_batch_items_state", "batch_items")
    op.drop_index("ix_batch_items_batch_id", "batch_items")
    op.create_index("ix_batch_items_event_seq", "batch_items", ["batch_id", "event_seq"])
    for state in PARTIAL:
        _create_partial_index(
            f"ix_batch_items_{state}", "batch_items", ["batch_id", "position"], f"state = '{state}'"
        )
    _create_partial_index(
        "ix_batches_active", "batches", ["created_at"], "state IN ('queued', 'running')"
    )
    op.create_index(
        "ix_contents_persona_id_captioned_at", "contents", ["persona_id", "captioned_at"]
    )
    op.create_table(
        "batch_item_attempts",
        sa.Column(
            "item_id",
            sa.String(36),
            sa.ForeignKey("batch_items.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("n", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("device", sa.String(100)),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("error", sa.JSON()),
    )


def downgrade() -> None:
    op.execute("UPDATE batch_items SET state = 'failed' WHERE state = 'cancelled'")
    op.drop_table("batch_item_attempts")
    op.drop_index("ix_contents_persona_id_captioned_at", "contents")
    op.drop_index("ix_batches_active", "batches")
    for name in ("event_seq", *PARTIAL):
        op.drop_index(f"ix_batch_items_{name}", "batch_items")
    op.create_index("ix_batch_items_batch_id", "batch_items", ["batch_id"])
    op.create_index("ix_batch_items_state", "batch_items", ["state"])
    for table, columns in (("batch_items", _item_columns()), ("batches", _batch_columns())):
        for column in reversed(columns):
            op.drop_column(table, column.name)


def _batch_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("created_by", sa.String(100), nullable=False, server_default="owner"),
        _count("priority"),
        _count("weight", 1),
        sa.Column("state", sa.String(20), nullable=False, server_default="queued"),
        sa.Column("state_reason", sa.Text()),
        *(_count(f"items_{state}") for state in STATES),
        sa.Column("allow_cloud", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("cloud_cap_microusd", sa.BigInteger()),
        *(
            sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")
            for name in ("cost_microusd", "event_seq", "state_seq")
        ),
        _count("caption_position"),
        sa.Column("caption_claimant", sa.String(100)),
        sa.Column("caption_lease_until", sa.DateTime(timezone=True)),
        sa.Column("started_at", sa.DateTime(timezone=True)),
    ]


def _item_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("options", sa.JSON()),
        _count("failures"),
        sa.Column("claimant", sa.String(100)),
        sa.Column("lease_until", sa.DateTime(timezone=True)),
        sa.Column("device", sa.String(100)),
        sa.Column("event_seq", sa.BigInteger(), nullable=False, server_default="0"),
    ]


def _count(name: str, start: int = 0) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), nullable=False, server_default=str(start))


def _settle_old_batches() -> None:
    """Give old rows what new ones are born with; an ended item's event is its place."""
    op.execute("UPDATE batch_items SET state = 'queued' WHERE state = 'running'")
    op.execute("UPDATE batch_items SET event_seq = position + 1 WHERE state <> 'queued'")
    op.execute(
        "UPDATE batch_items SET device = "
        "(SELECT device FROM contents WHERE contents.id = batch_items.content_id) "
        "WHERE content_id IS NOT NULL"
    )
    for state in STATES:
        op.execute(
            f"UPDATE batches SET items_{state} = (SELECT count(*) FROM batch_items "  # noqa: S608
            f"WHERE batch_id = batches.id AND state = '{state}')"
        )
    op.execute(
        "UPDATE batches SET event_seq = items_queued + items_done + items_failed + 1, "
        "state_seq = items_queued + items_done + items_failed + 1, "
        "started_at = (SELECT min(started_at) FROM batch_items WHERE batch_id = batches.id)"
    )
    op.execute("UPDATE batches SET state = 'done' WHERE finished_at IS NOT NULL")


def _create_partial_index(name: str, table: str, columns: Sequence[str], where: str) -> None:
    op.create_index(
        name, table, list(columns), sqlite_where=sa.text(where), postgresql_where=sa.text(where)
    )
