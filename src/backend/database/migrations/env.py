"""Alembic's entry: runs on the connection that `backend.database.upgrade` hands over."""

from __future__ import annotations

from alembic import context

import backend.models.base_image
import backend.models.batch
import backend.models.caption_memory
import backend.models.content
import backend.models.idempotency
import backend.models.persona
import backend.models.spending  # noqa: F401 - the tables register themselves
from backend.models.base import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    compare_server_default=False,
)
context.run_migrations()
