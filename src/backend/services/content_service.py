"""Finished content: looked up, read back, and captions on request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from backend.database.engine import Database
from backend.models.content import ContentModel
from backend.repositories.contents import ContentRepository
from backend.repositories.personas import PersonaRepository
from backend.services.content_generation_service import (
    CaptionResult,
    ContentGenerationService,
    ContentType,
    GenerationRequest,
)
from backend.storage.blobs import BlobStore

RECENT_CAPTIONS = 30
"""How many of a persona's latest captions the next one must not repeat."""


class ContentService:
    """What has been made, and what can still be said."""

    def __init__(
        self, database: Database, blobs: BlobStore, captions: ContentGenerationService
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._captions = captions

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

    async def captions_for(
        self, name_or_id: str, prompt: str, *, seed: int | None = None, count: int = 1
    ) -> list[CaptionResult]:
        """Write captions for a persona; none repeats another or a recent one.

        With a seed the n-th caption's own seed is `seed + n`, so a longer run begins alike.

        Raises:
            NotFound: there is no such persona.
            InvalidRequest: the prompt is not usable text.
        """
        async with self._database.read() as session:
            persona = await PersonaRepository(session).find(name_or_id)
            recent = await ContentRepository(session).recent_captions(persona.id, RECENT_CAPTIONS)
        written: list[CaptionResult] = []
        for index in range(count):
            request = GenerationRequest(
                persona_id=persona.id,
                content_type=ContentType.TEXT,
                prompt=prompt,
                seed=None if seed is None else seed + index,
            )
            said = [*(caption.text for caption in reversed(written)), *recent]
            written.append(await self._captions.generate_caption(persona, request, recent=said))
        return written


def caption_detail(result: CaptionResult) -> dict[str, Any]:
    """Return who wrote a caption and why, as plain JSON values."""
    return {
        "origin": result.origin.value,
        "model": result.model,
        "seed": result.seed,
        "style": result.style,
        "degraded_reason": result.degraded_reason,
        "findings": [asdict(finding) for finding in result.findings],
    }
