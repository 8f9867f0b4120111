"""Batches and their items: written before the first pixel, so that nothing asked for is lost."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import BigInteger, ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from backend.models.base import Base, UtcDateTime, new_id, now


class ItemState(StrEnum):
    """Where one item of a batch stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class BatchModel(Base):
    """One request for pictures: its prompts are items, its options hold for all of them.

    `request_key` makes a repeated request find the batch that it made before.
    """

    __tablename__ = "batches"

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    persona_id: Mapped[str | None] = mapped_column(
        ForeignKey("personas.id", ondelete="CASCADE"), index=True
    )
    base_version: Mapped[int | None]
    request_key: Mapped[str | None] = mapped_column(String(100), unique=True)
    seed: Mapped[int] = mapped_column(BigInteger)
    options: Mapped[dict[str, Any]]
    captions: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class BatchItemModel(Base):
    """One prompt of a batch; ends as a picture or as an error, never as a gap."""

    __tablename__ = "batch_items"
    __table_args__ = (UniqueConstraint("batch_id", "position", name="uq_batch_items_position"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    batch_id: Mapped[str] = mapped_column(ForeignKey("batches.id", ondelete="CASCADE"), index=True)
    position: Mapped[int]
    prompt: Mapped[str] = mapped_column(Text)
    seed: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(String(20), index=True, default=ItemState.QUEUED.value)
    attempts: Mapped[int] = mapped_column(default=0)
    error: Mapped[dict[str, Any] | None]
    content_id: Mapped[str | None] = mapped_column(
        ForeignKey("contents.id", ondelete="SET NULL"), index=True
    )
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class BatchItemResponse(BaseModel):
    """One item of a batch."""

    model_config = ConfigDict(from_attributes=True)

    position: int
    prompt: str
    seed: int
    state: ItemState
    attempts: int
    error: dict[str, Any] | None
    content_id: str | None


class BatchResponse(BaseModel):
    """A batch, how far it is, and its items."""

    id: str
    persona_id: str | None
    base_version: int | None
    seed: int
    options: dict[str, Any]
    counts: dict[ItemState, int]
    created_at: datetime
    finished_at: datetime | None
    items: list[BatchItemResponse]
