"""Finished content: looked up and read back."""

from __future__ import annotations

from collections.abc import Sequence

from backend.database.engine import Database
from backend.models.content import ContentModel
from backend.repositories.contents import ContentRepository
from backend.storage.blobs import BlobStore


class ContentService:
    """What has been made."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs

    async def get(self, content_id: str) -> ContentModel:
        """Return one piece of content.

        Raises:
            NotFound: there is none.
        """
        async with self._database.read() as session:
            return await ContentRepository(session).get(content_id)

    async def image(self, content_id: str) -> tuple[ContentModel, bytes]:
        """Return one piece of content and its bytes.

        Raises:
            NotFound: there is none.
            StorageError: the bytes are damaged.
        """
        content = await self.get(content_id)
        return content, await self._blobs.get(content.sha256)

    async def page(
        self, *, persona_id: str | None = None, limit: int, offset: int = 0
    ) -> tuple[Sequence[ContentModel], int]:
        """Return a page of content, newest first, and how much there is."""
        async with self._database.read() as session:
            return await ContentRepository(session).page(
                persona_id=persona_id, limit=limit, offset=offset
            )
