"""What personas have said, kept for ever; captions that wait for a language model; their terms.

The memory fills itself from the captions that are there, in the order in which they were written.

Revision: 0008, after 0007
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

ROWS = 500
SEED_LIMIT = 2**63


def upgrade() -> None:
    op.add_column("batches", sa.Column("caption_terms", sa.JSON()))
    op.add_column(
        "contents",
        sa.Column("caption_draft", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    memory = op.create_table(
        "caption_memory",
        sa.Column(
            "persona_id",
            sa.String(36),
            sa.ForeignKey("personas.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("fingerprint", sa.String(32), primary_key=True),
        sa.Column("sequence", sa.Integer()),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("fragments", sa.JSON(), nullable=False),
        sa.Column("theme", sa.Text(), nullable=False),
        sa.Column("origin", sa.String(20), nullable=False),
        sa.Column("platform", sa.String(40), nullable=False),
        sa.Column("seed", sa.BigInteger()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.UniqueConstraint("persona_id", "sequence", name="uq_caption_memory_sequence"),
    )
    rows: list[dict[str, Any]] = []
    for row in _said():
        rows.append(row)
        if len(rows) == ROWS:
            op.bulk_insert(memory, rows)
            rows = []
    op.bulk_insert(memory, rows)
    _mark_drafts()
    where = sa.text("caption_draft")
    op.create_index(
        "ix_contents_caption_draft",
        "contents",
        ["captioned_at"],
        sqlite_where=where,
        postgresql_where=where,
    )


def downgrade() -> None:
    op.drop_index("ix_contents_caption_draft", "contents")
    op.drop_table("caption_memory")
    op.drop_column("contents", "caption_draft")
    op.drop_column("batches", "caption_terms")


CONTENTS = sa.table(
    "contents",
    sa.column("id", sa.String()),
    sa.column("persona_id", sa.String()),
    sa.column("caption", sa.Text()),
    sa.column("caption_origin", sa.String()),
    sa.column("caption_detail", sa.JSON()),
    sa.column("caption_draft", sa.Boolean()),
    sa.column("captioned_at", sa.DateTime(timezone=True)),
    sa.column("created_at", sa.DateTime(timezone=True)),
)


def _said() -> Iterator[dict[str, Any]]:
    """Yield a row for each different caption of each persona, the first one first."""
    of = CONTENTS.c
    at = sa.func.coalesce(of.captioned_at, of.created_at, type_=sa.DateTime(timezone=True))
    statement = (
        sa.select(of.persona_id, of.caption, of.caption_origin, of.caption_detail, at)
        .where(of.persona_id.is_not(None), of.caption.is_not(None), of.caption != "")
        .order_by(of.persona_id, at, of.id)
    )
    persona, known = None, set[str]()
    for persona_id, text, origin, detail, written_at in op.get_bind().execute(statement).all():
        if persona_id != persona:
            persona, known = persona_id, set()
        fingerprint = _fingerprint(text)
        if fingerprint in known:
            continue
        known.add(fingerprint)
        seed = detail.get("seed") if isinstance(detail, dict) else None
        yield {
            "persona_id": persona_id,
            "fingerprint": fingerprint,
            "sequence": len(known),
            "text": text,
            "fragments": [],
            "theme": "",
            "origin": origin or "template",
            "platform": "",
            "seed": seed if isinstance(seed, int) and 0 <= seed < SEED_LIMIT else None,
            "created_at": written_at,
        }


def _fingerprint(text: str) -> str:
    squeezed = " ".join(text.casefold().split())
    return hashlib.blake2b(squeezed.encode("utf-8", "replace"), digest_size=16).hexdigest()


def _mark_drafts() -> None:
    """Mark the captions that the template wrote because a language model did not."""
    of = CONTENTS.c
    reason = of.caption_detail["degraded_reason"].as_string()
    op.execute(
        sa.update(CONTENTS)
        .where(of.caption_origin == "template", reason.is_not(None))
        .values(caption_draft=True)
    )
