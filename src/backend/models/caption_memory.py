"""What each persona has said: every text once, for ever."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from backend.models.base import Base, UtcDateTime, now


class CaptionMemoryModel(Base):
    """One text that a persona has said, whoever wrote it.

    Attributes:
        fingerprint: equal for texts that differ in case and spaces alone.
        sequence: the number of the persona's post, from 1; `None` for a text that is another form
            of the post before it, for another platform.
        fragments: the ids of what the template engine made it of, in order.
    """

    __tablename__ = "caption_memory"
    __table_args__ = (
        UniqueConstraint("persona_id", "sequence", name="uq_caption_memory_sequence"),
    )

    persona_id: Mapped[str] = mapped_column(
        ForeignKey("personas.id", ondelete="CASCADE"), primary_key=True
    )
    fingerprint: Mapped[str] = mapped_column(String(32), primary_key=True)
    sequence: Mapped[int | None]
    text: Mapped[str] = mapped_column(Text)
    fragments: Mapped[list[str]]
    theme: Mapped[str] = mapped_column(Text, default="")
    origin: Mapped[str] = mapped_column(String(20))
    platform: Mapped[str] = mapped_column(String(40), default="")
    seed: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
