"""Captions of batches: in the order of the prompts, some at a time, beside the rendering.

An item's turn comes when every one before it has ended, so that what a caption must not repeat does
not depend on which device was faster. One process at a time writes a batch's captions; it holds
them like an item, for as long as it goes on.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from backend.database.engine import Database
from backend.errors import GatorError
from backend.logs import get_logger
from backend.models.base import now
from backend.models.batch import ACTIVE, BatchModel
from backend.models.persona import PersonaModel
from backend.repositories.captions import BatchCaptionRepository, Uncaptioned
from backend.repositories.contents import ContentRepository
from backend.repositories.personas import PersonaRepository
from backend.repositories.queue import QueueRepository
from backend.services.batch_ledger import LEASE, close_finished
from backend.services.claimant import is_gone
from backend.services.content_generation_service import (
    ContentGenerationService,
    ContentType,
    GenerationRequest,
)
from backend.services.content_service import RECENT_CAPTIONS, caption_detail

GROUP = 20
"""How many captions share a commit, where they are written quickly."""

GROUP_S = 5.0
"""How long captions wait for a commit at most, where they are not; well within a lease."""

log = get_logger(__name__)


class BatchCaptions:
    """Writes the captions of batches for one process.

    Args:
        database: where batches and contents are.
        captions: writes them.
        claimant: the process's name.
    """

    def __init__(
        self, database: Database, captions: ContentGenerationService, claimant: str
    ) -> None:
        self._database = database
        self._captions = captions
        self._claimant = claimant

    async def advance(self, batch_id: str) -> bool:
        """Write a batch's next captions, and end the batch where nothing is left to do.

        Returns:
            Whether there is more to do at once.

        Raises:
            StorageError: the database does not answer.
        """
        async with self._database.write() as session:
            batch = (await QueueRepository(session).lock([batch_id])).get(batch_id)
            if batch is None or batch.state not in ACTIVE:
                return False
            captions = BatchCaptionRepository(session)
            frontier = await captions.frontier(batch)
            if not batch.captions or batch.caption_position >= frontier:
                close_finished(batch)
                return False
            if batch.caption_claimant and is_gone(batch.caption_claimant):
                captions.release(batch)
            if not captions.hold(batch, self._claimant, LEASE):
                return False
            rows = await captions.uncaptioned(batch, frontier, GROUP)
            persona = await PersonaRepository(session).get(str(batch.persona_id))
            recent = await ContentRepository(session).recent_captions(persona.id, RECENT_CAPTIONS)
        written, through = await self._write(persona, rows, recent)
        return await self._keep(batch, written, frontier if through is None else through)

    async def _write(
        self, persona: PersonaModel, rows: Sequence[Uncaptioned], recent: Sequence[str]
    ) -> tuple[list[dict[str, Any]], int | None]:
        """Write captions; return them and the position up to which none is missing.

        That position is `None` where all rows were there are, so none is missing up to the
        frontier.
        """
        written: list[dict[str, Any]] = []
        said, ends = list(recent), time.monotonic() + GROUP_S
        for row in rows:
            if time.monotonic() > ends:
                return written, row.position
            caption = await self._caption(persona, row, said)
            if caption:
                written.append(caption)
                said.insert(0, caption["caption"])
        return written, rows[-1].position + 1 if len(rows) == GROUP else None

    async def _caption(
        self, persona: PersonaModel, row: Uncaptioned, said: Sequence[str]
    ) -> dict[str, Any] | None:
        request = GenerationRequest(
            persona_id=persona.id, content_type=ContentType.IMAGE, prompt=row.prompt, seed=row.seed
        )
        try:
            result = await self._captions.generate_caption(
                persona, request, recent=said[:RECENT_CAPTIONS]
            )
        except GatorError as exc:
            log.warning("caption.failed", content=row.content_id, reason=exc.message)
            return None
        return {
            "content_id": row.content_id,
            "caption": result.text,
            "caption_origin": result.origin.value,
            "caption_detail": caption_detail(result),
            "captioned_at": now(),
        }

    async def _keep(
        self, before: BatchModel, written: Sequence[dict[str, Any]], through: int
    ) -> bool:
        async with self._database.write() as session:
            batch = (await QueueRepository(session).lock([before.id])).get(before.id)
            if batch is None or batch.caption_claimant != self._claimant:
                return False
            captions = BatchCaptionRepository(session)
            await captions.keep(written)
            if batch.caption_position == before.caption_position:  # else a retry has set it back
                batch.caption_position = through
            frontier = await captions.frontier(batch)
            captions.release(batch)
            close_finished(batch)
            return batch.state in ACTIVE and batch.caption_position < frontier
