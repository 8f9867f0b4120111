"""One picture with its caption, made as a batch of one: nothing is lost on the way."""

from __future__ import annotations

from typing import Any

from backend.database.engine import Database
from backend.errors import Conflict, GatorError, from_wire
from backend.models.account import LOCAL_OWNER, Actor
from backend.models.batch import BatchModel
from backend.models.content import ContentModel
from backend.repositories.contents import ContentRepository
from backend.services.batch_runner import BatchRunner
from backend.services.batch_service import HIGHEST_PRIORITY, BatchService
from backend.services.content_generation_service import GenerationRequest
from backend.services.idempotency import Claim
from backend.services.template_service import new_seed


class BatchContentMaker:
    """Makes pieces of content through the queue.

    Args:
        database: where contents are.
        batches: writes the request down.
        runner: sees to it, also where no server runs.
    """

    def __init__(self, database: Database, batches: BatchService, runner: BatchRunner) -> None:
        self._database = database
        self._batches = batches
        self._runner = runner

    async def make(
        self,
        persona_id: str,
        request: GenerationRequest,
        *,
        actor: Actor = LOCAL_OWNER,
        claim: Claim | None = None,
        **options: Any,
    ) -> ContentModel:
        """Make a picture and its caption, before batches that wait; they are stored together.

        Raises:
            NotFound: there is no such persona.
            Conflict: its base image is not approved; or the work was paused or cancelled.
            InvalidRequest: the prompt, a platform or an option is wrong.
            GatorError: whatever kept the picture from being made.
        """
        request.named_platforms()
        seed = new_seed() if request.seed is None else request.seed
        view = await self._batches.create(
            persona_id,
            [request.prompt or ""],
            actor=actor,
            seed=seed,
            seeds=[seed],
            caption_terms=request.terms(),
            claim=claim,
            **{"priority": HIGHEST_PRIORITY, **options},
        )
        return await self.finished(view.batch.id)

    async def finished(self, batch_id: str) -> ContentModel:
        """Wait until a batch of one has ended, and return what it made.

        Raises:
            Conflict: it was paused or cancelled.
            GatorError: it failed, for this reason.
        """
        await self._runner.run_until_finished([batch_id])
        view = await self._batches.show(batch_id)
        (item,) = view.items
        if item.content_id is None:
            raise _failure(view.batch, item.error)
        async with self._database.read() as session:
            return await ContentRepository(session).get(item.content_id)


def _failure(batch: BatchModel, error: dict[str, Any] | None) -> GatorError:
    details = {"batch": batch.id}
    if error:
        return from_wire(error["code"], error["message"], details)
    reason = batch.state_reason or "its picture is gone"
    return Conflict(
        f"batch {batch.id} is {batch.state}: {reason}.", {**details, "state": batch.state}
    )
