"""Routes of batches. They are written down and answered at once, and run in the background."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from backend.api.batch_body import NDJSON, BatchBody, read_batch
from backend.api.batch_schemas import (
    MAX_WHOLE,
    AttemptResponse,
    BatchCreate,
    BatchItemResponse,
    BatchProgress,
    BatchQuery,
    BatchResponse,
    BatchSummary,
    ItemPage,
)
from backend.api.dependencies import (
    Actor,
    Identifier,
    Limit,
    Offset,
    OpenStudio,
    require_persona,
)
from backend.api.idempotency import DoOnce, answered
from backend.api.problems import problems
from backend.api.schemas import Listing, Page
from backend.bootstrap import Studio
from backend.errors import Conflict, Forbidden, NotFound
from backend.imaging.checks import SEED_LIMIT
from backend.models import account
from backend.models.batch import ItemState
from backend.services.batch_service import MAX_ITEMS, BatchSummaryView
from backend.services.idempotency import Answer, Claim

router = APIRouter(prefix="/batches", tags=["batches"])

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/BatchCreate"}},
            NDJSON: {
                "schema": {
                    "type": "string",
                    "description": "One prompt a line, each a JSON text; options in the query.",
                    "examples": ['"in a sunlit workshop"\n"at a street market"\n'],
                }
            },
        },
    }
}
_OPTIONS = frozenset(
    {
        "model",
        "width",
        "height",
        "num_inference_steps",
        "guidance_scale",
        "negative_prompt",
        "scheduler",
        "format",
    }
)
ItemLimit = Annotated[int, Query(ge=1, le=MAX_WHOLE, description="How many at most.")]
After = Annotated[
    int | None, Query(ge=0, lt=MAX_ITEMS, description="Only those behind this position.")
]
OfState = Annotated[ItemState | None, Query(alias="state", description="Only those that stand so.")]
Position = Annotated[int, Path(ge=0, lt=MAX_ITEMS, description="The item's place in its batch.")]


@router.post(
    "",
    status_code=202,
    summary="Ask for a batch of pictures",
    response_model=BatchResponse,
    response_description="The batch as it was written down. `Location` leads to its progress.",
    responses=problems(NotFound, Conflict, has_body=True),
    openapi_extra=_BODY,
)
async def create_batch(
    query: Annotated[BatchQuery, Query()],
    studio: OpenStudio,
    actor: Actor,
    once: DoOnce,
    request: Request,
) -> Response:
    """Write a batch down: prompts × seeds × sizes, at most 100,000; it runs by itself.

    The options stand in the JSON body. Where the body is a prompt a line, they stand in the query.
    """
    async with read_batch(request, query) as body:

        async def written(claim: Claim | None) -> Answer:
            return await taken(await _written(studio, body, actor, claim))

        async def taken(batch: BatchSummaryView) -> Answer:
            place = request.app.url_path_for("get_batch", batch_id=batch.batch.id)
            return answered(await _whole(studio, batch, place), 202, Location=place)

        async def again(made: str) -> Answer:
            return await taken(await studio.batches.summary(made))

        return await once(body.asked, written, again)


@router.get("", summary="List batches", responses=problems())
async def list_batches(
    studio: OpenStudio, limit: Limit = 50, offset: Offset = 0
) -> Page[BatchSummary]:
    """Return a page of batches without their items, newest first."""
    found, total = await studio.batches.page(limit=limit, offset=offset)
    items = [BatchSummary.model_validate(batch) for batch in found]
    return Page(items=items, total=total, limit=limit, offset=offset)


@router.get("/{batch_id}", summary="Read a batch", responses=problems(NotFound))
async def get_batch(batch_id: Identifier, studio: OpenStudio, request: Request) -> BatchResponse:
    """Return a batch, how far it is, how long it will take, and its items where they are few."""
    return await _whole(studio, await studio.batches.summary(batch_id), request.url.path)


@router.get("/{batch_id}/items", summary="List a batch's items", responses=problems(NotFound))
async def list_items(
    batch_id: Identifier,
    studio: OpenStudio,
    limit: ItemLimit = 200,
    after: After = None,
    state: OfState = None,
) -> ItemPage:
    """Return a page of items in order; it stays right while the batch goes on."""
    found = await studio.batches.items(batch_id, limit=limit + 1, after=after, state=state)
    items = [BatchItemResponse.model_validate(item) for item in found[:limit]]
    return ItemPage(items=items, next_after=items[-1].position if len(found) > limit else None)


@router.get(
    "/{batch_id}/items/{position}/attempts",
    summary="List an item's attempts",
    responses=problems(NotFound),
)
async def list_attempts(
    batch_id: Identifier, position: Position, studio: OpenStudio
) -> Listing[AttemptResponse]:
    """Return every attempt at an item: on which device, from when to when, and what went wrong."""
    found = await studio.batches.attempts(batch_id, position)
    return Listing(items=[AttemptResponse.model_validate(attempt) for attempt in found])


@router.post(
    "/{batch_id}/cancel",
    summary="Cancel a batch",
    responses=problems(NotFound, Conflict, Forbidden),
)
async def cancel_batch(
    batch_id: Identifier, studio: OpenStudio, actor: Actor, request: Request
) -> BatchProgress:
    """End a batch: what waits is cancelled, what is being drawn stops within a step."""
    return _progress(await studio.batches.cancel(batch_id, actor=actor), _place(request))


@router.post(
    "/{batch_id}/pause",
    summary="Pause a batch",
    responses=problems(NotFound, Conflict, Forbidden),
)
async def pause_batch(
    batch_id: Identifier, studio: OpenStudio, actor: Actor, request: Request
) -> BatchProgress:
    """Begin no more items; those that are being drawn are finished."""
    return _progress(await studio.batches.pause(batch_id, actor=actor), _place(request))


@router.post(
    "/{batch_id}/resume",
    summary="Go on with a paused batch",
    responses=problems(NotFound, Conflict, Forbidden),
)
async def resume_batch(
    batch_id: Identifier, studio: OpenStudio, actor: Actor, request: Request
) -> BatchProgress:
    """Go on with a batch that was paused, or that paused itself."""
    view = await studio.batches.resume(batch_id, actor=actor)
    return _progress(view, _place(request))


@router.post(
    "/{batch_id}/retry-failed",
    summary="Try failed items again",
    responses=problems(NotFound, Conflict, Forbidden),
)
async def retry_failed(
    batch_id: Identifier, studio: OpenStudio, actor: Actor, request: Request
) -> BatchProgress:
    """Queue again the items that failed for a reason that may pass; refused prompts stay failed."""
    view = await studio.batches.retry_failed(batch_id, actor=actor)
    return _progress(view, _place(request))


async def _written(
    studio: Studio, body: BatchBody, actor: account.Actor, claim: Claim | None
) -> BatchSummaryView:
    wanted = body.options
    persona = wanted.persona_id and await require_persona(studio, wanted.persona_id)
    seed = secrets.randbelow(SEED_LIMIT) if wanted.seed is None else wanted.seed
    prompts: Iterable[str] = body.prompts or ()
    terms = None
    if isinstance(wanted, BatchCreate):
        prompts = wanted.prompts or ()
        terms = wanted.caption.checked_terms() if wanted.caption else None
        if wanted.template is not None:
            prompts = studio.prompts.expand(wanted.template, sample=wanted.sample, seed=seed)
    cap = wanted.cloud_cap_usd
    return await studio.batches.create(
        persona,
        prompts,
        actor=actor,
        seed=seed,
        seeds=wanted.seeds,
        sizes=wanted.sides(),
        captions=wanted.captions,
        caption_terms=terms,
        priority=wanted.priority,
        weight=wanted.weight,
        allow_cloud=wanted.allow_cloud,
        cloud_cap_usd=None if cap is None else Decimal(str(cap)),
        claim=claim,
        **wanted.model_dump(include=set(_OPTIONS), exclude_none=True),
    )


def _place(request: Request) -> str:
    """Return the batch's own path from that of something done to it."""
    return request.url.path.rpartition("/")[0]


def _progress(view: BatchSummaryView, place: str) -> BatchProgress:
    return BatchProgress(
        **BatchSummary.model_validate(view.batch).model_dump(),
        rate_per_s=view.rate_per_s,
        seconds_left=view.seconds_left,
        items_url=f"{place}/items",
    )


async def _whole(studio: Studio, view: BatchSummaryView, place: str) -> BatchResponse:
    progress = _progress(view, place)
    items = None
    if progress.total <= MAX_WHOLE:
        found = await studio.batches.items(view.batch.id, limit=MAX_WHOLE, after=None, state=None)
        items = [BatchItemResponse.model_validate(item) for item in found]
    return BatchResponse(**progress.model_dump(), items=items)
