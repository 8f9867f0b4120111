"""Routes that take personas in as character cards, and give them out."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import IO, Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.requests import ClientDisconnect

from backend.api.card_schemas import CARD_BODY, CardImportResponse, CardUpload
from backend.api.dependencies import Actor, OpenStudio, PersonaId, RequestId
from backend.api.multipart import read_form
from backend.api.preconditions import tagged
from backend.api.problems import problems
from backend.api.upload_form import consent_of, missing
from backend.cards.faults import refuse, refuse_size
from backend.cards.limits import MAX_DOCUMENT_BYTES, MAX_FILE_BYTES
from backend.errors import Conflict, NotFound
from backend.models.base_image import ConsentCreate
from backend.services.card_service import CardKind

router = APIRouter(prefix="/personas", tags=["personas"])

IMPORTS_AT_ONCE = 2
"""How many cards are held in memory; the others wait on disk."""

_importing = asyncio.Semaphore(IMPORTS_AT_ONCE)
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": CardUpload.model_json_schema()},
            "application/json": {"schema": CARD_BODY},
        },
    }
}
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cache-Control": "private, no-cache",
}
_FILES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The card; the strong `ETag` is the SHA-256 of its bytes.",
        "content": {
            "application/json": {"schema": {"type": "object", "additionalProperties": True}},
            "image/png": {"schema": {"type": "string", "contentMediaType": "image/png"}},
            "application/zip": {
                "schema": {"type": "string", "contentMediaType": "application/zip"}
            },
        },
    }
}


@router.post(
    "/import",
    status_code=201,
    summary="Import a character card",
    response_description="The persona and what was made of the card. `Location` leads to it.",
    responses=problems(has_body=True),
    openapi_extra=_BODY,
)
async def import_card(
    studio: OpenStudio,
    actor: Actor,
    request: Request,
    request_id: RequestId,
    response: Response,
    base_image: Annotated[
        bool,
        Query(description="Make the card's picture a candidate; it is approved like any other."),
    ] = False,
) -> CardImportResponse:
    """Make a persona of a Character Card V1, V2 or V3, or of an elizaOS character.

    Fields without a home in a persona are kept for an export. Nothing is fetched from any URL.
    """
    async with _read(request) as (file, consent), _importing:
        imported = await studio.cards.import_card(
            file.read(), actor=actor, base_image=base_image, consent=consent, request_id=request_id
        )
    tagged(response, imported.persona.revision)
    path = request.app.url_path_for("get_persona", persona_id=imported.persona.id)
    response.headers["Location"] = path
    return CardImportResponse.of(imported)


@router.get(
    "/{persona_id}/card",
    summary="Export a persona as a character card",
    response_class=Response,
    responses=_FILES | problems(NotFound, Conflict),
)
async def export_card(
    persona_id: PersonaId,
    studio: OpenStudio,
    kind: Annotated[
        CardKind,
        Query(
            alias="format",
            description="`v2`, `v3` or `eliza` for JSON; `png` for a V3 card in the approved "
            "picture, with a V2 card beside it; `charx` for a V3 card with all that belongs to it.",
        ),
    ] = CardKind.V3,
) -> Response:
    """Write a persona as a card. The card it came from is given back, with what was changed."""
    exported = await studio.cards.export(persona_id, kind)
    etag = f'"{hashlib.sha256(exported.data).hexdigest()}"'
    headers = {
        **_HEADERS,
        "ETag": etag,
        "Content-Disposition": f'attachment; filename="{exported.file_name}"',
    }
    return Response(exported.data, media_type=exported.media_type, headers=headers)


@asynccontextmanager
async def _read(request: Request) -> AsyncIterator[tuple[IO[bytes], ConsentCreate | None]]:
    """Read the card, out of a form or as the body itself."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        yield io.BytesIO(await _whole(request)), None
        return
    if kind != "multipart/form-data":
        refuse("must be application/json, or multipart/form-data with a field `file`", "body")
    async with read_form(request, limit_bytes=MAX_FILE_BYTES) as form:
        if form.file is None:
            raise missing("file", "is missing; send the card in a part of that name")
        yield form.file, consent_of(form.fields)


async def _whole(request: Request) -> bytes:
    body = bytearray()
    try:
        async for piece in request.stream():
            body += piece
            if len(body) > MAX_DOCUMENT_BYTES:
                refuse_size(f"has more than {MAX_DOCUMENT_BYTES // 1024**2} MiB", "body")
    except ClientDisconnect:
        refuse("was cut off", "body")
    return bytes(body)
