"""Routes of base images: seed, approve, reject, look."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from backend.api.dependencies import Actor, OpenStudio, PersonaId, count_devices
from backend.api.images import IMAGE_RESPONSES, image_response
from backend.api.problems import problems
from backend.api.schemas import Approve, Listing, Reject, SeedLocally
from backend.errors import (
    Conflict,
    DeviceLost,
    DeviceOutOfMemory,
    GenerationFailed,
    ModelLoadFailed,
    ModelNotAvailable,
    NotFound,
    UnsupportedTask,
)
from backend.models.base_image import BaseImageResponse, BaseImageVersionResponse

router = APIRouter(prefix="/personas/{persona_id}/base-image", tags=["base image"])

Version = Annotated[int, Path(ge=1, lt=2**31, description="A version's number, from 1.")]


@router.get("", summary="Read where the base image stands", responses=problems(NotFound))
async def get_base_image(persona_id: PersonaId, studio: OpenStudio) -> BaseImageResponse:
    """Return the state, what may be done in it, and all versions."""
    return (await studio.base_images.show(persona_id)).response()


@router.post(
    "/generate-local",
    status_code=201,
    summary="Seed a base image with a model of this machine",
    response_description="The state, a draft now. `Location` leads to the new version's picture.",
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
    request: Request,
    response: Response,
    wanted: SeedLocally | None = None,
) -> BaseImageResponse:
    """Make a new version; one that fails leaves everything as it was."""
    await count_devices(studio)
    options = wanted.model_dump(exclude_none=True) if wanted else {}
    view = await studio.base_images.seed_local(persona_id, actor=actor, **options)
    if view.current:
        response.headers["Location"] = request.app.url_path_for(
            "get_base_image_picture", persona_id=persona_id, n=str(view.current.n)
        )
    return view.response()


@router.post(
    "/approve",
    summary="Approve the base image",
    responses=problems(NotFound, Conflict, has_body=True),
)
async def approve_base_image(
    persona_id: PersonaId, studio: OpenStudio, actor: Actor, chosen: Approve
) -> BaseImageResponse:
    """Approve the current version by its bytes, and lock the appearance."""
    return (await studio.base_images.approve(persona_id, chosen.version, actor=actor)).response()


@router.post(
    "/reject",
    summary="Reject the base image",
    responses=problems(NotFound, Conflict, has_body=True),
)
async def reject_base_image(
    persona_id: PersonaId, studio: OpenStudio, why: Reject
) -> BaseImageResponse:
    """Reject the current version, with a reason; the persona waits for another seed."""
    return (await studio.base_images.reject(persona_id, why.reason)).response()


@router.get("/versions", summary="List base image versions", responses=problems(NotFound))
async def list_base_image_versions(
    persona_id: PersonaId, studio: OpenStudio
) -> Listing[BaseImageVersionResponse]:
    """Return all versions, oldest first; none is ever overwritten."""
    return Listing(items=(await studio.base_images.show(persona_id)).response().versions)


@router.get(
    "/versions/{n}/image",
    summary="Read a base image's picture",
    response_class=Response,
    responses=IMAGE_RESPONSES | problems(NotFound),
)
async def get_base_image_picture(
    persona_id: PersonaId, n: Version, studio: OpenStudio, request: Request
) -> Response:
    """Return the bytes of one version."""
    version, data = await studio.base_images.image(persona_id, n)
    return image_response(request, data=data, mime=version.mime, sha256=version.sha256)
