"""The memory of captions in the database, behind the caption room's port."""

from __future__ import annotations

from collections.abc import Sequence

from backend.captions.memory import Said, fingerprint
from backend.database.engine import Database
from backend.repositories.caption_memory import CaptionMemoryRepository


class StoredCaptionMemory:
    """What personas said, in the studio's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def recall(self, persona_id: str, count: int) -> Sequence[Said]:
        """Return what a persona said lately, newest first."""
        async with self._database.read() as session:
            return await CaptionMemoryRepository(session).recall(persona_id, count)

    async def said(self, persona_id: str, text: str) -> bool:
        """Tell whether a persona ever said this, but for case and spaces."""
        async with self._database.read() as session:
            known = await CaptionMemoryRepository(session).known(persona_id, [text])
        return fingerprint(text) in known

    async def remember(self, persona_id: str, said: Sequence[Said]) -> Sequence[Said]:
        """Keep posts, oldest first; return those that were not said before, and are kept.

        Raises:
            NotFound: there is no such persona.
        """
        async with self._database.write() as session:
            return await CaptionMemoryRepository(session).remember(persona_id, said)
