"""Which blobs the tables refer to."""

from __future__ import annotations

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from backend.models.base_image import BaseImageVersionModel
from backend.models.content import ContentModel
from backend.models.persona import PersonaModel
from backend.models.persona_card import PersonaCardModel

REFERENCES: tuple[InstrumentedAttribute[str] | InstrumentedAttribute[str | None], ...] = (
    BaseImageVersionModel.sha256,
    BaseImageVersionModel.original_sha256,
    ContentModel.sha256,
    PersonaModel.approved_sha256,
    PersonaCardModel.assets_sha256,
)
"""Every column that keeps a blob alive. A tombstone's does not: its blob is gone on purpose."""


_LOCK = 0x6761_746F_7202
"""PostgreSQL's advisory lock on what is referred to; any number that nobody else uses."""


class BlobReferences:
    """Reads the references of one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def hold(self) -> None:
        """Keep every blob from being dropped until this transaction ends.

        Whoever adds a reference takes this, then puts the blob, then adds the row. On SQLite the
        transaction has begun IMMEDIATE, which is more.
        """
        await self._take("pg_advisory_xact_lock_shared")

    async def lock(self) -> None:
        """Wait until nobody holds blobs; held until this transaction ends, to drop some."""
        await self._take("pg_advisory_xact_lock")

    async def of_persona(self, persona_id: str) -> set[str]:
        """Return the blobs of a persona's versions, contents and card."""
        version, content, card = BaseImageVersionModel, ContentModel, PersonaCardModel
        found: set[str] = set()
        for column, owner in (
            (version.sha256, version.persona_id),
            (version.original_sha256, version.persona_id),
            (content.sha256, content.persona_id),
            (card.assets_sha256, card.persona_id),
        ):
            statement = select(column).where(owner == persona_id, column.is_not(None))
            found.update(sha256 for sha256 in await self._session.scalars(statement) if sha256)
        return found

    async def _take(self, function: str) -> None:
        if self._session.get_bind().dialect.name == "postgresql":
            statement = text(f"SELECT {function}(:key)")
            await self._session.execute(statement, {"key": _LOCK})

    async def all(self) -> set[str]:
        """Return every blob that something refers to."""
        found: set[str] = set()
        for column in REFERENCES:
            rows = await self._session.stream_scalars(select(column).where(column.is_not(None)))
            found.update([sha256 async for sha256 in rows if sha256])
        return found

    async def has(self, sha256: str) -> bool:
        """Tell whether something refers to a blob."""
        for column in REFERENCES:
            if await self._session.scalar(select(column).where(column == sha256).limit(1)):
                return True
        return False
