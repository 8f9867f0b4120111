"""Routes that look at a base image: where it stands, its versions, pictures and events."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from backend.api.dependencies import Limit, Offset, OpenStudio, PersonaId
from backend.api.images import IMAGE_RESPONSES, RangeNotSatisfiable, image_response
from backend.api.preconditions import tagged
from backend.api.problems import problems
from backend.api.schemas import Listing, Page
from backend.errors import NotFound
from backend.models.base_image import (
    BaseImageEventResponse,
    BaseImageResponse,
    BaseImageVersionResponse,
)

router = APIRouter(prefix="/personas/{persona_id}/base-image", tags=["base image"])

Version = Annotated[int, Path(ge=1, lt=2**31, description="A version's number, from 1.")]


@router.get(
    "",
    summary="Read where the base image stands",
    response_description="The state. `ETag` is the revision, for `If-Match`.",
    responses=problems(NotFound),
)
async def get_base_image(
    persona_id: PersonaId, studio: OpenStudio, response: Response
) -> BaseImageResponse:
    """Return the state, what may be done in it, and all versions."""
    view = await studio.base_images.show(persona_id)
    tagged(response, view.persona.revision)
    return view.response()


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
    responses=IMAGE_RESPONSES | problems(NotFound, RangeNotSatisfiable),
)
async def get_base_image_picture(
    persona_id: PersonaId,
    n: Version,
    studio: OpenStudio,
    request: Request,
    width: Annotated[
        int | None, Query(description="256 or 768 for a thumbnail, in WebP and made once.")
    ] = None,
) -> Response:
    """Return the bytes of one version, a part of them, or a thumbnail."""
    if width is None:
        version, data = await studio.base_images.image(persona_id, n)
        return image_response(request, data=data, mime=version.mime, sha256=version.sha256)
    version = await studio.base_images.version(persona_id, n)
    data = await studio.pictures.ensure_thumbnail(version.sha256, width)
    sha256 = hashlib.sha256(data).hexdigest()
    return image_response(request, data=data, mime="image/webp", sha256=sha256)


@router.get("/events", summary="List what was done to a base image", responses=problems(NotFound))
async def list_base_image_events(
    persona_id: PersonaId, studio: OpenStudio, limit: Limit = 50, offset: Offset = 0
) -> Page[BaseImageEventResponse]:
    """Return a page of the audit log, oldest first: who did what, when and why."""
    found, total = await studio.base_images.events(persona_id, limit=limit, offset=offset)
    items = [BaseImageEventResponse.model_validate(event) for event in found]
    return Page(items=items, total=total, limit=limit, offset=offset)
