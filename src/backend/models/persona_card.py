"""The card that a persona came from, kept so that an export gives back what has no home here."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from backend.models.base import Base, UtcDateTime, now


class PersonaCardModel(Base):
    """One persona's card.

    `document` is its JSON, without secrets; it is a text, since a database's own JSON does not give
    back every text. `assets_sha256` is a blob, a zip of what was packed with the card; neither it
    nor anything in it is ever served by itself.
    """

    __tablename__ = "persona_cards"

    persona_id: Mapped[str] = mapped_column(
        ForeignKey("personas.id", ondelete="CASCADE"), primary_key=True
    )
    format: Mapped[str] = mapped_column(String(10))
    document: Mapped[str] = mapped_column(Text)
    assets_sha256: Mapped[str | None] = mapped_column(String(64), index=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
