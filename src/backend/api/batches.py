"""Routes of batches. They are written down and answered at once, and run in the background."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from backend.api.dependencies import (
    Identifier,
    Limit,
    Offset,
    OpenStudio,
    Runner,
    require_persona,
)
from backend.api.idempotency import DoOnce, answered
from backend.api.problems import problems
from backend.api.schemas import BatchCreate, BatchSummary, Page
from backend.errors import Conflict, NotFound
from backend.models.batch import BatchItemResponse, BatchResponse
from backend.services.batch_service import BatchView
from backend.services.idempotency import Answer, Claim

router = APIRouter(prefix="/batches", tags=["batches"])


@router.post(
    "",
    status_code=202,
    summary="Ask for a batch of pictures",
    response_model=BatchResponse,
    response_description="The batch as it was written down. `Location` leads to its progress.",
    responses=problems(NotFound, Conflict, has_body=True),
)
async def create_batch(
    wanted: BatchCreate, studio: OpenStudio, runner: Runner, once: DoOnce, request: Request
) -> Response:
    """Write a batch down for a persona whose base image is approved; it runs by itself."""

    async def written(claim: Claim | None) -> Answer:
        options = wanted.model_dump(
            exclude={"persona_id", "prompts", "seed", "captions"}, exclude_none=True
        )
        view = await studio.batches.create(
            await require_persona(studio, wanted.persona_id),
            wanted.prompts,
            seed=wanted.seed,
            captions=wanted.captions,
            claim=claim,
            **options,
        )
        return taken(view)

    def taken(view: BatchView) -> Answer:
        if view.batch.finished_at is None:
            runner.submit(view.batch.id)
        place = request.app.url_path_for("get_batch", batch_id=view.batch.id)
        return answered(_response(view), 202, Location=place)

    async def again(made: str) -> Answer:
        return taken(await studio.batches.show(made))

    return await once(wanted.model_dump(), written, again)


@router.get("", summary="List batches", responses=problems())
async def list_batches(
    studio: OpenStudio, limit: Limit = 50, offset: Offset = 0
) -> Page[BatchSummary]:
    """Return a page of batches without their items, newest first."""
    found, total = await studio.batches.page(limit=limit, offset=offset)
    items = [BatchSummary.model_validate(batch) for batch in found]
    return Page(items=items, total=total, limit=limit, offset=offset)


@router.get("/{batch_id}", summary="Read a batch", responses=problems(NotFound))
async def get_batch(batch_id: Identifier, studio: OpenStudio) -> BatchResponse:
    """Return a batch, how many of its items stand where, and all of them in order."""
    return _response(await studio.batches.show(batch_id))


def _response(view: BatchView) -> BatchResponse:
    batch = view.batch
    return BatchResponse(
        id=batch.id,
        persona_id=batch.persona_id,
        base_version=batch.base_version,
        seed=batch.seed,
        options=batch.options,
        counts=dict(view.counts),
        created_at=batch.created_at,
        finished_at=batch.finished_at,
        items=[BatchItemResponse.model_validate(item) for item in view.items],
    )
