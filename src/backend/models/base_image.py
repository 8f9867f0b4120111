"""Base image versions: every seed is one, and none is ever overwritten."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import BigInteger, ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from backend.models.base import Base, UtcDateTime, new_id, now
from backend.models.persona import BaseImageStatus


class BaseImageVersionModel(Base):
    """One seeded base image; `look` holds the traits its model settled, for later pictures."""

    __tablename__ = "base_image_versions"
    __table_args__ = (UniqueConstraint("persona_id", "n", name="uq_base_image_versions_n"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    persona_id: Mapped[str] = mapped_column(
        ForeignKey("personas.id", ondelete="CASCADE"), index=True
    )
    n: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64))
    mime: Mapped[str] = mapped_column(String(50))
    width: Mapped[int]
    height: Mapped[int]
    size_bytes: Mapped[int]
    method: Mapped[str] = mapped_column(String(20))
    provider: Mapped[str] = mapped_column(String(100))
    model: Mapped[str] = mapped_column(String(200))
    kind: Mapped[str] = mapped_column(String(20))
    device: Mapped[str] = mapped_column(String(100))
    seed: Mapped[int] = mapped_column(BigInteger)
    prompt: Mapped[str] = mapped_column(Text)
    look: Mapped[dict[str, Any]]
    receipt: Mapped[dict[str, Any]]
    prompt_report: Mapped[dict[str, Any]]
    seconds: Mapped[float]
    created_by: Mapped[str] = mapped_column(String(100))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class BaseImageVersionResponse(BaseModel):
    """One version of a base image."""

    model_config = ConfigDict(from_attributes=True)

    n: int
    sha256: str
    mime: str
    width: int
    height: int
    size_bytes: int
    method: str
    provider: str
    model: str
    kind: str
    device: str
    seed: int
    prompt: str
    prompt_report: dict[str, Any]
    created_by: str
    created_at: datetime


class BaseImageResponse(BaseModel):
    """Where a persona's base image stands, and what may be done now."""

    persona_id: str
    status: BaseImageStatus
    allowed_actions: list[str]
    current_version: int | None
    approved_version: int | None
    approved_sha256: str | None
    approved_by: str | None
    approved_at: datetime | None
    rejection_reason: str | None
    versions: list[BaseImageVersionResponse]
