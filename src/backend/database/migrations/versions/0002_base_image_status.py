"""Give base images a state: personas.base_image_status and its index.

Rows that are there already read as `pending_upload`. A column or an index that somebody added by
hand is kept as it is.

Revision: 0002, after 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from backend.database.legacy import status_is_new

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLE, COLUMN = "personas", "base_image_status"
INDEX = "ix_personas_base_image_status"


def upgrade() -> None:
    there = op.get_bind().exec_driver_sql(f"SELECT * FROM {TABLE} LIMIT 0").keys()  # noqa: S608 - of our own
    if COLUMN not in there:
        op.add_column(
            TABLE,
            sa.Column(COLUMN, sa.String(20), nullable=False, server_default="pending_upload"),
        )
        op.create_index(INDEX, TABLE, [COLUMN])
        status_is_new(op)
        return
    indexes = sa.inspect(op.get_bind()).get_indexes(TABLE)
    if not any(index["column_names"] == [COLUMN] for index in indexes):
        op.create_index(INDEX, TABLE, [COLUMN])


def downgrade() -> None:
    op.drop_index(INDEX, TABLE)
    op.drop_column(TABLE, COLUMN)
