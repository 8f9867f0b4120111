"""OpenAI's images routes, for the many tools that already speak them.

`model` is a model's card or `persona:<name>`, which brings the persona's locked look. What the
routes do is the studio's own: the same pool, the same checks, receipts in the answer. A persona's
pictures are kept as content. A bare model's are not, as with OpenAI: whoever asks for an address
gets one that is good for an hour.
"""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.responses import Response, StreamingResponse

from backend.api.dependencies import OpenStudio
from backend.api.hangup import while_connected
from backend.api.multipart import Form, Parts, read_form
from backend.api.openai_answers import images_answer
from backend.api.openai_schemas import (
    EFFORTS,
    ImageCreate,
    ImageEdit,
    ImagesAnswer,
    ImageWish,
)
from backend.api.openai_stream import Action, events
from backend.api.spoken_errors import DRAWING, openai_errors
from backend.bootstrap import Studio
from backend.errors import InvalidRequest
from backend.imaging.intake import accept_picture_in_turn
from backend.imaging.pictures.container import MIN_REFERENCE_SIDE
from backend.imaging.types import item_seed
from backend.logs import get_logger
from backend.services.interactive import PictureOrder, fresh_seed

router = APIRouter(prefix="/v1/images", tags=["openai"])

CLOSER = 0.6
"""How far `input_fidelity: high` goes from the picture, against the model's own strength."""

UPLOADS_AT_ONCE = 4
"""How many pictures are held in memory to be checked; the others wait on disk."""

_checking = asyncio.Semaphore(UPLOADS_AT_ONCE)
_PARTS = Parts(
    aliases={"image[]": "image", "mask[]": "mask"},
    refused=dict.fromkeys(("mask", "markup"), "is not taken: the whole picture is drawn anew"),
)
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"multipart/form-data": {"schema": ImageEdit.model_json_schema()}},
    }
}
_ANSWERS = openai_errors(*DRAWING) | {
    200: {
        "description": "The pictures; with `stream`, events whose `data` is JSON.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}

log = get_logger(__name__)


@router.post(
    "/generations",
    summary="Draw pictures from words, as OpenAI does",
    response_model=ImagesAnswer,
    response_model_exclude_none=True,
    responses=_ANSWERS,
)
async def create_image(wanted: ImageCreate, studio: OpenStudio, request: Request) -> Any:
    """Draw 1 to 10 pictures of a model or a persona; who hangs up stops it."""
    return await _drawn(request, studio, wanted, None, "image_generation")


@router.post(
    "/edits",
    summary="Draw pictures that start from another, as OpenAI does",
    response_model=ImagesAnswer,
    response_model_exclude_none=True,
    responses=_ANSWERS,
    openapi_extra=_FORM,
)
async def edit_image(studio: OpenStudio, request: Request) -> Any:
    """Draw 1 to 10 pictures that start from the one that is sent; it is not kept."""
    async with read_form(request, file_field="image", parts=_PARTS) as form:
        wanted = _edit_of(form)
        async with _checking:
            data = form.file.read() if form.file else b""
            accepted = await accept_picture_in_turn(data, MIN_REFERENCE_SIDE)
    return await _drawn(request, studio, wanted, accepted.data, "image_edit")


async def _drawn(
    request: Request, studio: Studio, wanted: ImageWish, reference: bytes | None, action: Action
) -> ImagesAnswer | Response:
    _check_stream(wanted)
    plan = await studio.interactive.plan(_order(wanted, reference))
    log.info("images.asked", end_user=wanted.end_user, model=plan.card.name, n=wanted.count)
    if wanted.stream:
        return StreamingResponse(
            events(studio.interactive, plan, wanted, action),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
    made = await while_connected(request, studio.interactive.make(plan))
    return await images_answer(request, studio, wanted, made)


def _order(wanted: ImageWish, reference: bytes | None) -> PictureOrder:
    seed = fresh_seed() if wanted.seed is None else wanted.seed
    options = {
        "size": None if wanted.size == "auto" else wanted.size,
        "format": wanted.output_format,
        "negative_prompt": wanted.negative_prompt,
        "num_inference_steps": wanted.num_inference_steps,
        "guidance_scale": wanted.guidance_scale,
        "reference": reference,
    }
    count = wanted.count
    is_close = isinstance(wanted, ImageEdit) and wanted.input_fidelity == "high"
    return PictureOrder(
        prompt=wanted.prompt,
        seeds=(seed,) if count == 1 else tuple(item_seed(seed, i) for i in range(count)),
        model=wanted.model,
        effort=EFFORTS[wanted.quality or "auto"],
        departure=CLOSER if is_close else 1.0,
        options={name: value for name, value in options.items() if value is not None},
    )


def _check_stream(wanted: ImageWish) -> None:
    """Refuse what cannot be told by a stream, or without one."""
    if not wanted.stream:
        if wanted.partial_images:
            raise _faulty("partial_images", "goes with stream")
    elif wanted.count > 1:
        raise _faulty("n", "is 1 with stream, whose events do not say which picture they are of")
    elif wanted.response_format == "url":
        raise _faulty("response_format", "is b64_json with stream")


def _edit_of(form: Form) -> ImageEdit:
    """Read the fields of a form; an empty one is one that was left out."""
    given = {name: value for name, value in form.fields.items() if value}
    if form.file is not None:
        given["image"] = ""
    try:
        return ImageEdit.model_validate_strings(given, strict=False)
    except ValidationError as exc:
        faults = exc.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError(
            [{**fault, "loc": ("body", *fault["loc"])} for fault in faults]
        ) from exc


def _faulty(field: str, message: str) -> InvalidRequest:
    fault = {"field": field, "message": message, "location": "body"}
    return InvalidRequest(f"{field}: {message}.", {"errors": [fault]})
