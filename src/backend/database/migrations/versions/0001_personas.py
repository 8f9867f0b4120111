"""Personas, as they were before base images had a state.

Revision: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "personas",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("appearance", sa.Text(), nullable=False),
        sa.Column("personality", sa.Text(), nullable=False),
        sa.Column("content_themes", sa.JSON(), nullable=False, server_default=sa.text("'[]'")),
        sa.Column("style_preferences", sa.JSON(), nullable=False, server_default=sa.text("'{}'")),
        sa.Column("base_appearance_description", sa.Text()),
        sa.Column("base_image_path", sa.String(500)),
        sa.Column("appearance_locked", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.text("CURRENT_TIMESTAMP"),
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.text("CURRENT_TIMESTAMP"),
        ),
        sa.PrimaryKeyConstraint("id", name="pk_personas"),
    )


def downgrade() -> None:
    op.drop_table("personas")
