"""Content: a finished picture, its caption, and how both came about."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, false, text
from sqlalchemy.orm import Mapped, mapped_column

from backend.models.base import Base, UtcDateTime, new_id, now


class ContentModel(Base):
    """One picture of a persona; its bytes are the blob with this SHA-256.

    Attributes:
        caption_draft: whether the template engine wrote the caption because a language model did
            not, and nobody has changed it since.
    """

    __tablename__ = "contents"
    __table_args__ = (
        Index("ix_contents_persona_id_captioned_at", "persona_id", "captioned_at"),
        Index(
            "ix_contents_caption_draft",
            "captioned_at",
            sqlite_where=text("caption_draft"),
            postgresql_where=text("caption_draft"),
        ),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    persona_id: Mapped[str | None] = mapped_column(
        ForeignKey("personas.id", ondelete="CASCADE"), index=True
    )
    base_version: Mapped[int | None]
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    mime: Mapped[str] = mapped_column(String(50))
    width: Mapped[int]
    height: Mapped[int]
    size_bytes: Mapped[int]
    prompt: Mapped[str] = mapped_column(Text)
    seed: Mapped[int] = mapped_column(BigInteger)
    model: Mapped[str] = mapped_column(String(200))
    provider: Mapped[str] = mapped_column(String(100))
    kind: Mapped[str] = mapped_column(String(20))
    device: Mapped[str] = mapped_column(String(100))
    seconds: Mapped[float]
    receipt: Mapped[dict[str, Any]]
    prompt_report: Mapped[dict[str, Any]]
    caption: Mapped[str | None] = mapped_column(Text)
    caption_origin: Mapped[str | None] = mapped_column(String(20))
    caption_detail: Mapped[dict[str, Any] | None]
    caption_draft: Mapped[bool] = mapped_column(default=False, server_default=false())
    captioned_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now, index=True)


class ContentResponse(BaseModel):
    """A picture with its caption; the bytes are at `/content/{id}/image`."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    persona_id: str | None
    base_version: int | None
    sha256: str
    mime: str
    width: int
    height: int
    size_bytes: int
    prompt: str
    seed: int
    model: str
    provider: str
    kind: str
    device: str
    seconds: float
    receipt: dict[str, Any]
    prompt_report: dict[str, Any]
    caption: str | None
    caption_origin: str | None
    caption_detail: dict[str, Any] | None
    caption_draft: bool
    created_at: datetime
