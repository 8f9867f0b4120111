"""The route of pictures that are kept for an hour, for whoever knows their name."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from backend.api.dependencies import OpenStudio
from backend.api.images import IMAGE_RESPONSES, image_response
from backend.api.problems import problems
from backend.errors import NotFound
from backend.models.base import now

router = APIRouter(tags=["content"])

PictureName = Annotated[
    str, Path(pattern="^[0-9a-f]{64}$", description="As the answer's `url` has it.")
]


@router.get(
    "/content/passing/{name}",
    summary="Read a picture that is not kept",
    response_class=Response,
    responses=IMAGE_RESPONSES | problems(NotFound),
)
async def get_passing_picture(name: PictureName, studio: OpenStudio, request: Request) -> Response:
    """Return the bytes of a picture that was asked for by address; it is there for an hour."""
    picture = await studio.passing.get(name)
    sha256 = hashlib.sha256(picture.data).hexdigest()
    response = image_response(request, data=picture.data, mime=picture.mime, sha256=sha256)
    left = max(0, int((picture.expires_at - now()).total_seconds()))
    response.headers["Cache-Control"] = f"private, max-age={left}, immutable"
    return response
