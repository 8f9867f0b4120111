"""Captions of batches: in the order of the prompts, some at a time, beside the rendering.

An item's turn comes when every one before it has ended, so that what a caption must not repeat does
not depend on which device was faster. One process at a time writes a batch's captions; it holds
them like an item, for as long as it goes on.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from backend.captions.memory import HORIZON, Memory, Said
from backend.database.engine import Database
from backend.errors import GatorError
from backend.logs import get_logger
from backend.models.base import now
from backend.models.batch import ACTIVE, BatchModel
from backend.models.persona import PersonaModel
from backend.repositories.captions import BatchCaptionRepository, Uncaptioned
from backend.repositories.personas import PersonaRepository
from backend.repositories.queue import QueueRepository
from backend.services.batch_ledger import LEASE, close_finished
from backend.services.caption_memory import SessionMemory
from backend.services.caption_posts import caption_values
from backend.services.claimant import is_gone
from backend.services.content_generation_service import (
    ContentGenerationService,
    ContentType,
    GenerationRequest,
)

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
            said = await SessionMemory(session).recall(persona.id, HORIZON)
        written, through = await self._write(batch, persona, rows, Memory(said))
        return await self._keep(batch, written, frontier if through is None else through)

    async def _write(
        self,
        batch: BatchModel,
        persona: PersonaModel,
        rows: Sequence[Uncaptioned],
        memory: Memory,
    ) -> tuple[list[_Caption], int | None]:
        """Write captions; return them and the position up to which none is missing.

        That position is `None` where all rows were there are, so none is missing up to the
        frontier.
        """
        written: list[_Caption] = []
        ends = time.monotonic() + GROUP_S
        for row in rows:
            if time.monotonic() > ends:
                return written, row.position
            caption = await self._caption(batch, persona, row, memory)
            written.append(caption)
            if caption.said:
                memory.add(caption.said)
        return written, rows[-1].position + 1 if len(rows) == GROUP else None

    async def _caption(
        self, batch: BatchModel, persona: PersonaModel, row: Uncaptioned, memory: Memory
    ) -> _Caption:
        terms = batch.caption_terms or {}
        request = GenerationRequest(
            persona_id=persona.id,
            content_type=ContentType.IMAGE,
            prompt=row.prompt,
            seed=row.seed,
            **terms,
        )
        try:
            post = await self._captions.post(persona, request, memory=memory)
        except GatorError as exc:
            log.warning("caption.failed", content=row.content_id, reason=exc.message)
            error = {"code": exc.code, "message": exc.message}
            findings = exc.details.get("findings", [])
            return _Caption(row, None, {"caption_detail": {"error": error, "findings": findings}})
        return _Caption(row, post.said, caption_values(post, terms))

    async def _keep(self, before: BatchModel, written: Sequence[_Caption], through: int) -> bool:
        """Keep captions up to the first that another process has said meanwhile, if any.

        That one and those behind it are written anew, since they were to be unlike what was said.
        """
        async with self._database.write() as session:
            batch = (await QueueRepository(session).lock([before.id])).get(before.id)
            if batch is None or batch.caption_claimant != self._claimant:
                return False
            captions, memory = BatchCaptionRepository(session), SessionMemory(session)
            said = [one.said for one in written if one.said]
            unsaid = await memory.unsaid(str(batch.persona_id), said)
            if unsaid < len(said):
                late = next(one for one in written if one.said is said[unsaid])
                through = late.row.position
            kept = [one for one in written if one.row.position < through]
            await memory.remember(str(batch.persona_id), said[:unsaid])
            await captions.keep([one.as_row() for one in kept])
            if batch.caption_position == before.caption_position:  # else a retry has set it back
                batch.caption_position = through
            frontier = await captions.frontier(batch)
            captions.release(batch)
            close_finished(batch)
            return batch.state in ACTIVE and batch.caption_position < frontier


class _Caption(NamedTuple):
    """A caption of one picture, or why it has none."""

    row: Uncaptioned
    said: Said | None
    values: Mapping[str, Any]

    def as_row(self) -> dict[str, Any]:
        missing = {"caption": None, "caption_origin": None, "caption_draft": False}
        return {
            **missing,
            "captioned_at": now() if self.said else None,
            **self.values,
            "content_id": self.row.content_id,
        }
