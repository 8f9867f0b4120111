"""Batches and their items: written before the first pixel, so that nothing asked for is lost.

Every change of an item takes the next number of its batch's `event_seq`, in the transaction that
makes the change and under the batch's row lock: numbers become visible in their order, and whoever
has read up to one has missed nothing. The batch counts its items by state in the same breath.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from backend.models.base import Base, UtcDateTime, new_id, now

MICRO = 1_000_000


class ItemState(StrEnum):
    """Where one item of a batch stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class BatchState(StrEnum):
    """Where a batch stands; `DONE` and `CANCELLED` are its ends."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    DONE = "done"


ACTIVE = (BatchState.QUEUED.value, BatchState.RUNNING.value)
"""States in which a batch's items are taken."""

ENDED = (BatchState.CANCELLED.value, BatchState.DONE.value)


class BatchModel(Base):
    """One request for pictures: its prompts are items, its options hold for all of them.

    Attributes:
        request_key: makes a repeated request find the batch that it made before.
        created_by: the actor's name; batches of one actor share that actor's turn.
        priority: 0 to 9; a higher one goes strictly first.
        weight: this batch's part of its actor's turn.
        state_reason: why it is paused or was cancelled, in words.
        cloud_cap_microusd: what its pictures may cost, in millionths of a US dollar.
        cost_microusd: what they did cost, or is set aside for those being made.
        event_seq: the number of its latest change.
        state_seq: the number of the latest change of its own state.
        caption_terms: what its captions are asked for beside the prompt, such as the platforms.
        caption_position: items before it have their caption, or need none.
        caption_claimant: who writes its captions, until `caption_lease_until`.
    """

    __tablename__ = "batches"
    __table_args__ = (
        Index(
            "ix_batches_active",
            "created_at",
            sqlite_where=text("state IN ('queued', 'running')"),
            postgresql_where=text("state IN ('queued', 'running')"),
        ),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    persona_id: Mapped[str | None] = mapped_column(
        ForeignKey("personas.id", ondelete="CASCADE"), index=True
    )
    base_version: Mapped[int | None]
    request_key: Mapped[str | None] = mapped_column(String(100), unique=True)
    seed: Mapped[int] = mapped_column(BigInteger)
    options: Mapped[dict[str, Any]]
    captions: Mapped[bool] = mapped_column(default=True)
    caption_terms: Mapped[dict[str, Any] | None]
    created_by: Mapped[str] = mapped_column(String(100))
    priority: Mapped[int] = mapped_column(default=0)
    weight: Mapped[int] = mapped_column(default=1)
    state: Mapped[str] = mapped_column(String(20), default=BatchState.QUEUED.value)
    state_reason: Mapped[str | None] = mapped_column(Text)
    items_queued: Mapped[int] = mapped_column(default=0)
    items_running: Mapped[int] = mapped_column(default=0)
    items_done: Mapped[int] = mapped_column(default=0)
    items_failed: Mapped[int] = mapped_column(default=0)
    items_cancelled: Mapped[int] = mapped_column(default=0)
    allow_cloud: Mapped[bool] = mapped_column(default=False)
    cloud_cap_microusd: Mapped[int | None] = mapped_column(BigInteger)
    cost_microusd: Mapped[int] = mapped_column(BigInteger, default=0)
    event_seq: Mapped[int] = mapped_column(BigInteger, default=0)
    state_seq: Mapped[int] = mapped_column(BigInteger, default=0)
    caption_position: Mapped[int] = mapped_column(default=0)
    caption_claimant: Mapped[str | None] = mapped_column(String(100))
    caption_lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    @property
    def counts(self) -> dict[ItemState, int]:
        """How many items stand where; every state is there."""
        return {state: getattr(self, f"items_{state.value}") for state in ItemState}

    @property
    def total(self) -> int:
        """How many items there are."""
        return sum(self.counts.values())

    @property
    def cost_usd(self) -> Decimal:
        """What its pictures did cost, or is set aside for those being made, in US dollars."""
        return Decimal(self.cost_microusd) / MICRO

    @property
    def cloud_cap_usd(self) -> Decimal | None:
        """What its pictures may cost in US dollars; `None` for no cap of its own."""
        cap = self.cloud_cap_microusd
        return None if cap is None else Decimal(cap) / MICRO


class BatchItemModel(Base):
    """One prompt of a batch; ends as a picture or as an error, never as a gap.

    Attributes:
        id: the batch's with the position in its last group, so that a batch's rows lie together.
        options: what differs from the batch's own, such as the size.
        attempts: the number of the latest attempt; only its holder may end the item.
        failures: how many attempts ended by a fault that may pass.
        claimant: the process that holds it, until `lease_until`.
        device: which drew it.
    """

    __tablename__ = "batch_items"
    __table_args__ = (
        UniqueConstraint("batch_id", "position", name="uq_batch_items_position"),
        Index("ix_batch_items_event_seq", "batch_id", "event_seq"),
        *(
            Index(
                f"ix_batch_items_{state}",
                "batch_id",
                "position",
                sqlite_where=text(f"state = '{state}'"),
                postgresql_where=text(f"state = '{state}'"),
            )
            for state in ("queued", "running", "failed")
        ),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    batch_id: Mapped[str] = mapped_column(ForeignKey("batches.id", ondelete="CASCADE"))
    position: Mapped[int]
    prompt: Mapped[str] = mapped_column(Text)
    seed: Mapped[int] = mapped_column(BigInteger)
    options: Mapped[dict[str, Any] | None]
    state: Mapped[str] = mapped_column(String(20), default=ItemState.QUEUED.value)
    attempts: Mapped[int] = mapped_column(default=0)
    failures: Mapped[int] = mapped_column(default=0)
    error: Mapped[dict[str, Any] | None]
    claimant: Mapped[str | None] = mapped_column(String(100))
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    device: Mapped[str | None] = mapped_column(String(100))
    event_seq: Mapped[int] = mapped_column(BigInteger, default=0)
    content_id: Mapped[str | None] = mapped_column(
        ForeignKey("contents.id", ondelete="SET NULL"), index=True
    )
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class BatchItemAttemptModel(Base):
    """One attempt at an item that has ended; `error` is null where it made the picture."""

    __tablename__ = "batch_item_attempts"

    item_id: Mapped[str] = mapped_column(
        ForeignKey("batch_items.id", ondelete="CASCADE"), primary_key=True
    )
    n: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    device: Mapped[str | None] = mapped_column(String(100))
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime] = mapped_column(UtcDateTime)
    error: Mapped[dict[str, Any] | None]


def item_id(batch_id: str, position: int) -> str:
    """Return the id of an item: the batch's, with the position in its last group."""
    return f"{batch_id[:24]}{position:012x}"
