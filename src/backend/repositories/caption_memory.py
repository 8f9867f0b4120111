"""Queries on what personas have said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from backend.errors import NotFound
from backend.models.caption_memory import CaptionMemoryModel
from backend.models.persona import PersonaModel

Row = CaptionMemoryModel

_AT_ONCE = 20
"""So few fingerprints at once that PostgreSQL looks each up, also before it has statistics."""

_LOCK = 0x6761_746F_7203
"""Salts PostgreSQL's advisory lock on one persona's memory; any number that nobody else uses."""


class Remembered(NamedTuple):
    """One post, as it is kept."""

    text: str
    origin: str
    fragments: Sequence[str]
    theme: str
    platform: str
    seed: int | None


class CaptionMemoryRepository:
    """What personas have said, in one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def latest(self, persona_id: str, count: int) -> list[Remembered]:
        """Return a persona's latest posts, newest first."""
        last = await self.last(persona_id)
        statement = (
            select(Row.text, Row.origin, Row.fragments, Row.theme, Row.platform, Row.seed)
            .where(Row.persona_id == persona_id, Row.sequence > last - count)
            .order_by(Row.sequence.desc())
            .limit(count)
        )
        return [Remembered(*row) for row in await self._session.execute(statement)]

    async def last(self, persona_id: str) -> int:
        """Return the number of a persona's latest post; there are no gaps before it."""
        statement = select(func.max(Row.sequence)).where(Row.persona_id == persona_id)
        return await self._session.scalar(statement) or 0

    async def known(self, persona_id: str, fingerprints: Iterable[str]) -> set[str]:
        """Return those fingerprints whose texts a persona has said."""
        wanted = sorted(set(fingerprints))
        found: set[str] = set()
        for start in range(0, len(wanted), _AT_ONCE):
            some = wanted[start : start + _AT_ONCE]
            statement = select(Row.fingerprint).where(
                Row.persona_id == persona_id, Row.fingerprint.in_(some)
            )
            found.update(await self._session.scalars(statement))
        return found

    async def hold(self, persona_id: str) -> None:
        """Let nobody else add to a persona's memory until the transaction ends.

        So two processes that say the same at once cannot both keep it: one waits for the other. On
        SQLite the transaction has begun IMMEDIATE, which is more.

        Raises:
            NotFound: there is no such persona; else nobody can delete it meanwhile.
        """
        there = select(PersonaModel.id).where(PersonaModel.id == persona_id)
        held = there.with_for_update(read=True, key_share=True)
        if await self._session.scalar(held) is None:
            raise NotFound(f"there is no persona {persona_id!r}.", {"persona": persona_id})
        if self._session.get_bind().dialect.name == "postgresql":
            await self._session.execute(
                text("SELECT pg_advisory_xact_lock(hashtextextended(:persona, :salt))"),
                {"persona": persona_id, "salt": _LOCK},
            )

    async def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert texts; `hold` the persona's memory first."""
        if rows:
            await self._session.execute(insert(Row), [dict(row) for row in rows])
