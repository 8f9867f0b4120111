"""Queries on the log of base image events, which is one chain over all personas.

An event's `hash` is the SHA-256 of its canonical JSON: the UTF-8 bytes of an object with exactly
the keys of `canonical`, sorted, without spaces, every character beyond ASCII escaped, times in UTC
with microseconds. `previous_hash` is among them, so no event can be changed, left out or put in
without breaking every one that follows. The first event follows 64 zeros.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from backend.models.base_image import BaseImageEventModel

GENESIS = "0" * 64
_CHAIN_LOCK = 0x6761_746F_7201
"""PostgreSQL's advisory lock on the end of the chain; any number that nobody else uses."""


class EventRepository:
    """The event log in one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def lock(self) -> None:
        """Wait until no other transaction can append; held until this one ends.

        On SQLite the transaction has begun IMMEDIATE, which is the same.
        """
        if self._session.get_bind().dialect.name == "postgresql":
            await self._session.execute(
                text("SELECT pg_advisory_xact_lock(:key)"), {"key": _CHAIN_LOCK}
            )

    async def append(self, event: BaseImageEventModel) -> BaseImageEventModel:
        """Chain an event to the last one and insert it; takes the lock."""
        await self.lock()
        last = (
            await self._session.execute(
                select(BaseImageEventModel.sequence, BaseImageEventModel.hash)
                .order_by(BaseImageEventModel.sequence.desc())
                .limit(1)
            )
        ).first()
        event.sequence, event.previous_hash = (last[0] + 1, last[1]) if last else (1, GENESIS)
        event.hash = digest(event)
        self._session.add(event)
        await self._session.flush()
        return event

    async def after(self, sequence: int, limit: int) -> Sequence[BaseImageEventModel]:
        """Return the events that follow one, in the order of the chain."""
        statement = (
            select(BaseImageEventModel)
            .where(BaseImageEventModel.sequence > sequence)
            .order_by(BaseImageEventModel.sequence)
            .limit(limit)
        )
        return (await self._session.scalars(statement)).all()

    async def page(
        self, persona_id: str, *, limit: int, offset: int
    ) -> tuple[Sequence[BaseImageEventModel], int]:
        """Return a page of a persona's events, oldest first, and how many there are."""
        own = BaseImageEventModel.persona_id == persona_id
        total = await self._session.scalar(
            select(func.count()).select_from(BaseImageEventModel).where(own)
        )
        statement = (
            select(BaseImageEventModel)
            .where(own)
            .order_by(BaseImageEventModel.sequence)
            .limit(limit)
            .offset(offset)
        )
        return (await self._session.scalars(statement)).all(), int(total or 0)


def canonical(event: BaseImageEventModel) -> dict[str, Any]:
    """Return what an event's hash is taken of, as plain JSON values."""
    return {
        "sequence": event.sequence,
        "persona_id": event.persona_id,
        "action": event.action,
        "actor": event.actor,
        "role": event.role,
        "from": event.from_status,
        "to": event.to_status,
        "version": event.version,
        "reason": event.reason,
        "request_id": event.request_id,
        "details": event.details,
        "at": event.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "previous_hash": event.previous_hash,
    }


def digest(event: BaseImageEventModel) -> str:
    """Return the hash that an event has to have."""
    plain = json.dumps(canonical(event), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(plain.encode("ascii")).hexdigest()
