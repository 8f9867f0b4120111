"""The memory of captions in the database, behind the caption room's port."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from backend.captions.memory import Said, fingerprint
from backend.database.engine import Database
from backend.models.base import now
from backend.repositories.caption_memory import CaptionMemoryRepository


class SessionMemory:
    """What personas said, in one transaction with whatever else is written there."""

    def __init__(self, session: AsyncSession) -> None:
        self._rows = CaptionMemoryRepository(session)

    async def recall(self, persona_id: str, count: int) -> list[Said]:
        """Return what a persona said lately, newest first."""
        return [
            Said(one.text, one.origin, tuple(one.fragments), one.theme, one.platform, one.seed)
            for one in await self._rows.latest(persona_id, count)
        ]

    async def unsaid(self, persona_id: str, said: Sequence[Said]) -> int:
        """Return how many posts, from the first on, were not said before.

        Nobody else adds to the persona's memory until the transaction ends.

        Raises:
            NotFound: there is no such persona.
        """
        await self._rows.hold(persona_id)
        known = await self._rows.known(persona_id, [fingerprint(one.text) for one in said])
        for index, one in enumerate(said):
            mark = fingerprint(one.text)
            if mark in known:
                return index
            known.add(mark)
        return len(said)

    async def remember(self, persona_id: str, said: Sequence[Said]) -> list[Said]:
        """Keep posts, oldest first; return those that were not said before, and are kept.

        Raises:
            NotFound: there is no such persona.
        """
        await self._rows.hold(persona_id)
        marks = [fingerprint(text) for one in said for text in (one.text, *one.forms)]
        known = await self._rows.known(persona_id, marks)
        number, kept, rows = await self._rows.last(persona_id), [], list[dict[str, Any]]()
        for one in said:
            if fingerprint(one.text) in known:
                continue
            number += 1
            kept.append(one)
            for index, text in enumerate((one.text, *one.forms)):
                mark = fingerprint(text)
                if mark not in known:
                    known.add(mark)
                    rows.append(_row(persona_id, one, text, mark, None if index else number))
        await self._rows.add(rows)
        return kept


class StoredCaptionMemory:
    """What personas said, in the studio's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def recall(self, persona_id: str, count: int) -> Sequence[Said]:
        """Return what a persona said lately, newest first."""
        async with self._database.read() as session:
            return await SessionMemory(session).recall(persona_id, count)

    async def said(self, persona_id: str, text: str) -> bool:
        """Tell whether a persona ever said this, but for case and spaces."""
        mark = fingerprint(text)
        async with self._database.read() as session:
            return mark in await CaptionMemoryRepository(session).known(persona_id, [mark])

    async def remember(self, persona_id: str, said: Sequence[Said]) -> Sequence[Said]:
        """Keep posts, oldest first; return those that were not said before, and are kept.

        Raises:
            NotFound: there is no such persona.
        """
        async with self._database.write() as session:
            return await SessionMemory(session).remember(persona_id, said)


def _row(persona_id: str, said: Said, text: str, mark: str, number: int | None) -> dict[str, Any]:
    return {
        "persona_id": persona_id,
        "fingerprint": mark,
        "sequence": number,
        "text": text,
        "fragments": list(said.fragments),
        "theme": said.theme,
        "origin": said.origin,
        "platform": said.platform,
        "seed": said.seed,
        "created_at": now(),
    }
