"""Which blobs the tables refer to."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from backend.models.base_image import BaseImageVersionModel
from backend.models.content import ContentModel
from backend.models.persona import PersonaModel

REFERENCES: tuple[InstrumentedAttribute[str] | InstrumentedAttribute[str | None], ...] = (
    BaseImageVersionModel.sha256,
    BaseImageVersionModel.original_sha256,
    ContentModel.sha256,
    PersonaModel.approved_sha256,
)
"""Every column that keeps a blob alive. A tombstone's does not: its blob is gone on purpose."""


class BlobReferences:
    """Reads the references of one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

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
