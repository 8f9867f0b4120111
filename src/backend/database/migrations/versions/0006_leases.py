"""Reservations for cloud images, each with a lease; and what a request with a key has made.

What is reserved when this runs belongs to processes that have ended.

Revision: 0006, after 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "cloud_reservations",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("month", sa.String(7), nullable=False, index=True),
        sa.Column("amount_microusd", sa.BigInteger(), nullable=False),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lapsed_at", sa.DateTime(timezone=True)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.add_column(
        "cloud_spending",
        sa.Column("lapsed_microusd", sa.BigInteger(), nullable=False, server_default="0"),
    )
    op.execute(
        "UPDATE cloud_spending SET lapsed_microusd = reserved_microusd, reserved_microusd = 0"
    )
    op.add_column("idempotency_keys", sa.Column("made", sa.String(36)))


def downgrade() -> None:
    op.drop_column("idempotency_keys", "made")
    op.drop_column("cloud_spending", "lapsed_microusd")
    op.drop_table("cloud_reservations")
