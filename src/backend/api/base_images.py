"""Routes that move a base image: seed it, approve it, reject it, take it back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response

from backend.api.dependencies import (
    Actor,
    Identifier,
    OpenStudio,
    PersonaId,
    RequestId,
    count_devices,
)
from backend.api.idempotency import DoOnce, Once, answered
from backend.api.multipart import read_form
from backend.api.preconditions import ExpectedRevision, etag, tagged
from backend.api.problems import problems
from backend.api.schemas import Approve, Reason, SeedInCloud, SeedLocally, Upload
from backend.api.upload_form import consent_of, missing
from backend.bootstrap import Studio
from backend.errors import (
    Conflict,
    ContentRejected,
    DeviceLost,
    DeviceOutOfMemory,
    GenerationFailed,
    ModelLoadFailed,
    ModelNotAvailable,
    NotFound,
    PreconditionFailed,
    PreconditionRequired,
    ProviderError,
    ProviderNotConfigured,
    ProviderRateLimited,
    ProviderTimeout,
    SpendingCapReached,
    UnsupportedTask,
)
from backend.models.base_image import BaseImageResponse
from backend.services.base_image_view import BaseImageView
from backend.services.idempotency import Answer, Claim

router = APIRouter(prefix="/personas/{persona_id}/base-image", tags=["base image"])

UPLOADS_AT_ONCE = 4
"""How many uploads are held in memory; the others wait on disk."""

_uploading = asyncio.Semaphore(UPLOADS_AT_ONCE)
_SEEDED = "The state. `Location` leads to the new version's picture, `ETag` is the revision."
_DECIDED: tuple[Any, ...] = (NotFound, PreconditionRequired, PreconditionFailed, Conflict)
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"multipart/form-data": {"schema": Upload.model_json_schema()}},
    }
}

Seeds = Callable[[Claim | None], Coroutine[Any, Any, BaseImageView]]


@router.post(
    "/upload",
    status_code=201,
    summary="Seed a base image with a picture of your own",
    response_model=BaseImageResponse,
    response_description=_SEEDED,
    responses=problems(NotFound, Conflict, has_body=True),
    openapi_extra=_FORM,
)
async def upload_base_image(
    persona_id: PersonaId,
    studio: OpenStudio,
    actor: Actor,
    once: DoOnce,
    request: Request,
    request_id: RequestId,
) -> Response:
    """Make a new version of a picture; what is served is drawn anew, without its metadata."""
    async with read_form(request) as form:
        if form.file is None:
            raise missing("file", "is missing; send the picture in a part of that name")
        file = form.file
        consent = consent_of(form.fields)
        asked = {"file": form.digest(), "fields": dict(form.fields)}

        async def seeds(claim: Claim | None) -> BaseImageView:
            async with _uploading:
                return await studio.base_images.seed_upload(
                    persona_id,
                    file.read(),
                    actor=actor,
                    consent=consent,
                    request_id=request_id,
                    claim=claim,
                )

        return await _once_seeded(once, asked, request, studio, persona_id, seeds)


@router.post(
    "/generate-local",
    status_code=201,
    summary="Seed base images with a model of this machine",
    response_model=BaseImageResponse,
    response_description=_SEEDED,
    responses=problems(
        NotFound,
        Conflict,
        ModelNotAvailable,
        UnsupportedTask,
        ModelLoadFailed,
        GenerationFailed,
        DeviceLost,
        DeviceOutOfMemory,
        has_body=True,
    ),
)
async def generate_base_image_locally(
    persona_id: PersonaId,
    studio: OpenStudio,
    actor: Actor,
    once: DoOnce,
    request: Request,
    request_id: RequestId,
    wanted: SeedLocally | None = None,
) -> Response:
    """Make new versions; what fails leaves everything as it was, and is told of in `failures`."""
    options = (wanted or SeedLocally()).model_dump(exclude_none=True)

    async def seeds(claim: Claim | None) -> BaseImageView:
        await count_devices(studio)
        return await studio.base_images.seed_local(
            persona_id, actor=actor, request_id=request_id, claim=claim, **options
        )

    return await _once_seeded(once, options, request, studio, persona_id, seeds)


@router.post(
    "/generate-cloud",
    status_code=201,
    summary="Seed base images with the configured cloud",
    response_model=BaseImageResponse,
    response_description=_SEEDED,
    responses=problems(
        NotFound,
        Conflict,
        ModelNotAvailable,
        UnsupportedTask,
        ContentRejected,
        SpendingCapReached,
        ProviderNotConfigured,
        ProviderRateLimited,
        ProviderTimeout,
        ProviderError,
        has_body=True,
    ),
)
async def generate_base_image_in_cloud(
    persona_id: PersonaId,
    studio: OpenStudio,
    actor: Actor,
    once: DoOnce,
    request: Request,
    request_id: RequestId,
    wanted: SeedInCloud | None = None,
) -> Response:
    """Make new versions at a provider; what would pass the spending cap is refused beforehand.

    `GET /api/v1/cloud/spending?count=` says what they would cost.
    """
    options = (wanted or SeedInCloud()).model_dump(exclude_none=True)

    async def seeds(claim: Claim | None) -> BaseImageView:
        await studio.spending.check(options["count"])
        return await studio.base_images.seed_cloud(
            persona_id, actor=actor, request_id=request_id, claim=claim, **options
        )

    return await _once_seeded(once, options, request, studio, persona_id, seeds)


@router.post(
    "/approve",
    summary="Approve a candidate",
    responses=problems(*_DECIDED, has_body=True),
)
async def approve_base_image(
    persona_id: PersonaId,
    studio: OpenStudio,
    actor: Actor,
    expected: ExpectedRevision,
    request_id: RequestId,
    response: Response,
    chosen: Approve,
) -> BaseImageResponse:
    """Approve a candidate by its bytes, and lock the appearance.

    Checked in this order: `If-Match` is there, it is current, the state allows it, and an upload
    carries its attestation.
    """
    view = await studio.base_images.approve(
        persona_id,
        chosen.version,
        actor=actor,
        likeness_attestation=chosen.likeness_attestation,
        expected_revision=expected,
        request_id=request_id,
    )
    return _moved(response, view)


@router.post(
    "/reject",
    summary="Reject the draft",
    responses=problems(*_DECIDED, has_body=True),
)
async def reject_base_image(
    persona_id: PersonaId,
    studio: OpenStudio,
    actor: Actor,
    expected: ExpectedRevision,
    request_id: RequestId,
    response: Response,
    why: Reason,
) -> BaseImageResponse:
    """Reject the draft, with a reason; it waits for another seed, or to be reopened."""
    view = await studio.base_images.reject(
        persona_id, why.reason, actor=actor, expected_revision=expected, request_id=request_id
    )
    return _moved(response, view)


@router.post("/reopen", summary="Reopen what was rejected", responses=problems(*_DECIDED))
async def reopen_base_image(
    persona_id: PersonaId,
    studio: OpenStudio,
    actor: Actor,
    expected: ExpectedRevision,
    request_id: RequestId,
    response: Response,
) -> BaseImageResponse:
    """Make a rejected base image a draft again."""
    view = await studio.base_images.reopen(
        persona_id, actor=actor, expected_revision=expected, request_id=request_id
    )
    return _moved(response, view)


@router.post(
    "/unlock",
    summary="Take an approval back",
    responses=problems(*_DECIDED, has_body=True),
)
async def unlock_base_image(
    persona_id: PersonaId,
    studio: OpenStudio,
    actor: Actor,
    expected: ExpectedRevision,
    request_id: RequestId,
    response: Response,
    why: Reason,
) -> BaseImageResponse:
    """Let the lock fall, with a reason; the persona is a draft again."""
    view = await studio.base_images.unlock(
        persona_id, why.reason, actor=actor, expected_revision=expected, request_id=request_id
    )
    return _moved(response, view)


@router.post(
    "/purge",
    summary="Delete all versions",
    responses=problems(*_DECIDED, has_body=True),
)
async def purge_base_image(
    persona_id: PersonaId,
    studio: OpenStudio,
    actor: Actor,
    expected: ExpectedRevision,
    request_id: RequestId,
    response: Response,
    why: Reason,
) -> BaseImageResponse:
    """Delete pictures and what is known of them, with a reason; tombstones with the hashes stay."""
    view = await studio.base_images.purge(
        persona_id, why.reason, actor=actor, expected_revision=expected, request_id=request_id
    )
    return _moved(response, view)


@router.post(
    "/consents/{consent_id}/revoke",
    summary="Take back the leave to show a person",
    responses=problems(NotFound, Conflict, has_body=True),
)
async def revoke_consent(
    persona_id: PersonaId,
    consent_id: Identifier,
    studio: OpenStudio,
    actor: Actor,
    request_id: RequestId,
    response: Response,
    why: Reason,
) -> BaseImageResponse:
    """Revoke a consent; where the approved version came with it, the lock falls."""
    view = await studio.base_images.revoke_consent(
        persona_id, consent_id, why.reason, actor=actor, request_id=request_id
    )
    return _moved(response, view)


async def _once_seeded(
    once: Once, asked: Any, request: Request, studio: Studio, persona_id: str, seeds: Seeds
) -> Response:
    """Seed once; a seed whose answer was lost is answered by its version, as all stands now."""

    async def seeded(claim: Claim | None) -> Answer:
        view = await seeds(claim)
        return _answer(request, view, str(view.current.n) if view.current else None)

    async def again(made: str) -> Answer:
        return _answer(request, await studio.base_images.show(persona_id), made)

    return await once(asked, seeded, again)


def _answer(request: Request, view: BaseImageView, n: str | None) -> Answer:
    headers = {"ETag": etag(view.persona.revision)}
    if n is not None:
        headers["Location"] = request.app.url_path_for(
            "get_base_image_picture", persona_id=view.persona.id, n=n
        )
    return answered(view.response(), 201, **headers)


def _moved(response: Response, view: BaseImageView) -> BaseImageResponse:
    tagged(response, view.persona.revision)
    return view.response()
