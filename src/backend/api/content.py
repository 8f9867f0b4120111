"""Routes of finished content."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from backend.api.dependencies import (
    Identifier,
    Limit,
    Offset,
    OpenStudio,
    PersonaFilter,
)
from backend.api.images import IMAGE_RESPONSES, image_response
from backend.api.problems import problems
from backend.api.schemas import Page
from backend.errors import NotFound
from backend.models.content import ContentResponse

router = APIRouter(tags=["content"])


@router.get("/content", summary="List content", responses=problems())
async def list_content(
    studio: OpenStudio, persona_id: PersonaFilter = None, limit: Limit = 50, offset: Offset = 0
) -> Page[ContentResponse]:
    """Return a page of pictures with their captions, newest first."""
    found, total = await studio.contents.page(persona_id=persona_id, limit=limit, offset=offset)
    items = [ContentResponse.model_validate(content) for content in found]
    return Page(items=items, total=total, limit=limit, offset=offset)


@router.get(
    "/content/{content_id}", summary="Read a piece of content", responses=problems(NotFound)
)
async def get_content(content_id: Identifier, studio: OpenStudio) -> ContentResponse:
    """Return a picture's caption and how both came about."""
    return ContentResponse.model_validate(await studio.contents.get(content_id))


@router.get(
    "/content/{content_id}/image",
    summary="Read a picture",
    response_class=Response,
    responses=IMAGE_RESPONSES | problems(NotFound),
)
async def get_content_image(
    content_id: Identifier, studio: OpenStudio, request: Request
) -> Response:
    """Return the bytes of a picture."""
    content, data = await studio.contents.image(content_id)
    return image_response(request, data=data, mime=content.mime, sha256=content.sha256)
