"""What cloud images cost, a row a calendar month, and what is set aside for calls under way."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from pydantic import BaseModel, Field
from sqlalchemy import BigInteger, CheckConstraint, String
from sqlalchemy.orm import Mapped, mapped_column

from backend.models.base import Base, UtcDateTime, new_id, now


class CloudSpendingModel(Base):
    """Money in millionths of a US dollar, so that sums are exact on every database.

    What is reserved is for calls that are under way, and counts as spent, since the provider may
    charge for it. What lapsed was reserved by processes that ended in the midst of a call: it
    counts no more, and is kept here to be compared with the provider's bill.
    """

    __tablename__ = "cloud_spending"
    __table_args__ = (
        CheckConstraint("reserved_microusd >= 0 AND spent_microusd >= 0", name="not_negative"),
    )

    month: Mapped[str] = mapped_column(String(7), primary_key=True)
    reserved_microusd: Mapped[int] = mapped_column(BigInteger, default=0)
    spent_microusd: Mapped[int] = mapped_column(BigInteger, default=0)
    lapsed_microusd: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    images: Mapped[int] = mapped_column(BigInteger, default=0)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now, onupdate=now)


class CloudReservationModel(Base):
    """The price of one call, set aside until the call ends or the lease runs out.

    A row whose lease ran out stays, with the time when that was noticed: its call may still end.
    """

    __tablename__ = "cloud_reservations"

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    month: Mapped[str] = mapped_column(String(7), index=True)
    amount_microusd: Mapped[int] = mapped_column(BigInteger)
    leased_until: Mapped[datetime] = mapped_column(UtcDateTime)
    lapsed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class CloudSpendingResponse(BaseModel):
    """What cloud images cost this month, and what more of them would."""

    month: str = Field(description="A calendar month, in UTC.", examples=["2026-11"])
    images: int = Field(description="Images that were paid for, or may have to be.")
    spent_usd: Decimal
    reserved_usd: Decimal = Field(description="For images that are being made.")
    lapsed_usd: Decimal = Field(
        description="Set aside by processes that ended in the midst of a call; it counts no more, "
        "though the provider may have charged for it."
    )
    price_usd: Decimal | None = Field(description="Of one image; null where it is not configured.")
    cap_usd: Decimal | None = Field(description="Of a month; null where there is none.")
    estimated_usd: Decimal | None = Field(description="What the images asked about would cost.")
    allowed: bool = Field(description="Whether they would stay within the cap.")
