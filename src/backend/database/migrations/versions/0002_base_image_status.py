"""Give base images a state: personas.base_image_status and its index.

Rows that are there already read as `pending_upload`. A column or an index that somebody added by
hand is kept as it is.

Revision: 0002, after 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLE, COLUMN = "personas", "base_image_status"
INDEX = "ix_personas_base_image_status"


def upgrade() -> None:
    inspector = sa.inspect(op.get_bind())
    if COLUMN not in {column["name"] for column in inspector.get_columns(TABLE)}:
        op.add_column(
            TABLE,
            sa.Column(COLUMN, sa.String(20), nullable=False, server_default="pending_upload"),
        )
    if not any(index["column_names"] == [COLUMN] for index in inspector.get_indexes(TABLE)):
        op.create_index(INDEX, TABLE, [COLUMN])


def downgrade() -> None:
    op.drop_index(INDEX, TABLE)
    with op.batch_alter_table(TABLE) as table:
        table.drop_column(COLUMN)
