"""Queries on what personas have said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from backend.captions.memory import Said, fingerprint
from backend.errors import NotFound
from backend.models.base import now
from backend.models.caption_memory import CaptionMemoryModel
from backend.models.persona import PersonaModel

Row = CaptionMemoryModel

_AT_ONCE = 20
"""So few fingerprints at once that PostgreSQL looks each up, also before it has statistics."""

_LOCK = 0x6761_746F_7203
"""Salts PostgreSQL's advisory lock on one persona's memory; any number that nobody else uses."""


class CaptionMemoryRepository:
    """What personas have said, in one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def recall(self, persona_id: str, count: int) -> list[Said]:
        """Return a persona's latest posts, newest first."""
        last = await self._last(persona_id)
        statement = (
            select(Row.text, Row.origin, Row.fragments, Row.theme, Row.platform, Row.seed)
            .where(Row.persona_id == persona_id, Row.sequence > last - count)
            .order_by(Row.sequence.desc())
            .limit(count)
        )
        return [
            Said(said, origin, tuple(fragments), theme, platform, seed)
            for said, origin, fragments, theme, platform, seed in await self._session.execute(
                statement
            )
        ]

    async def known(self, persona_id: str, texts: Iterable[str]) -> set[str]:
        """Return the fingerprints of those texts that a persona has said."""
        wanted = sorted(set(map(fingerprint, texts)))
        found: set[str] = set()
        for start in range(0, len(wanted), _AT_ONCE):
            some = wanted[start : start + _AT_ONCE]
            statement = select(Row.fingerprint).where(
                Row.persona_id == persona_id, Row.fingerprint.in_(some)
            )
            found.update(await self._session.scalars(statement))
        return found

    async def remember(self, persona_id: str, said: Sequence[Said]) -> list[Said]:
        """Keep posts, oldest first; return those that were not said before, and are kept.

        Two processes that say the same at once cannot both keep it: one waits for the other here.

        Raises:
            NotFound: there is no such persona.
        """
        await self._hold(persona_id)
        texts = [form for one in said for form in (one.text, *one.forms)]
        known = await self.known(persona_id, texts)
        sequence, kept, rows = await self._last(persona_id), [], list[dict[str, Any]]()
        for one in said:
            if fingerprint(one.text) in known:
                continue
            sequence += 1
            kept.append(one)
            for form in (one.text, *one.forms):
                mark = fingerprint(form)
                if mark not in known:
                    known.add(mark)
                    number = sequence if form is one.text else None
                    rows.append(_row(persona_id, one, form, mark, number))
        if rows:
            await self._session.execute(insert(Row), rows)
        return kept

    async def _last(self, persona_id: str) -> int:
        """Return the number of a persona's latest post; there are no gaps before it."""
        statement = select(func.max(Row.sequence)).where(Row.persona_id == persona_id)
        return await self._session.scalar(statement) or 0

    async def _hold(self, persona_id: str) -> None:
        """Let nobody else add to a persona's memory, nor delete the persona, meanwhile.

        On SQLite the transaction has begun IMMEDIATE, which is more.
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


def _row(persona_id: str, said: Said, form: str, mark: str, sequence: int | None) -> dict[str, Any]:
    return {
        "persona_id": persona_id,
        "fingerprint": mark,
        "sequence": sequence,
        "text": form,
        "fragments": list(said.fragments),
        "theme": said.theme,
        "origin": said.origin,
        "platform": said.platform,
        "seed": said.seed,
        "created_at": now(),
    }
