"""Requests that must not be done twice, by the key that the client gave them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import String, Text
from sqlalchemy.orm import Mapped, mapped_column

from backend.models.base import Base, UtcDateTime, now


class IdempotencyKeyModel(Base):
    """One request and, once it is done, its answer.

    `status` is null while it runs; `leased_until` is moved on meanwhile, so that a request whose
    process died can be made again. `made` is written in the transaction that makes what was asked
    for, so that a request whose process died after it is answered, and not made again.
    """

    __tablename__ = "idempotency_keys"

    actor: Mapped[str] = mapped_column(String(100), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    token: Mapped[str] = mapped_column(String(36))
    leased_until: Mapped[datetime] = mapped_column(UtcDateTime)
    made: Mapped[str | None] = mapped_column(String(36))
    status: Mapped[int | None]
    headers: Mapped[dict[str, Any]]
    body: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now, index=True)
