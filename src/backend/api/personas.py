"""Routes of personas."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from backend.api.dependencies import Actor, Limit, Offset, OpenStudio, PersonaId, RequestId
from backend.api.preconditions import IfMatch, expected_revision, tagged
from backend.api.problems import problems
from backend.api.schemas import Page
from backend.errors import Conflict, NotFound, PreconditionFailed, PreconditionRequired
from backend.models.persona import PersonaCreate, PersonaModel, PersonaResponse, PersonaUpdate
from backend.services.persona_service import refuse_status

router = APIRouter(prefix="/personas", tags=["personas"])

STATUS = {"base_image_status"}
_DECIDED = (NotFound, PreconditionRequired, PreconditionFailed, Conflict)


@router.post(
    "",
    status_code=201,
    summary="Create a persona",
    response_description="The persona; its base image is pending. `Location` leads to it.",
    responses=problems(has_body=True),
)
async def create_persona(
    new: PersonaCreate, studio: OpenStudio, request: Request, response: Response
) -> PersonaResponse:
    """Store a new persona. The state of its base image is moved by the workflow alone."""
    persona = await studio.personas.create(new)
    response.headers["Location"] = request.app.url_path_for("get_persona", persona_id=persona.id)
    return _tagged(response, persona)


@router.get("", summary="List personas", responses=problems())
async def list_personas(
    studio: OpenStudio, limit: Limit = 50, offset: Offset = 0
) -> Page[PersonaResponse]:
    """Return a page of personas, oldest first."""
    found, total = await studio.personas.page(limit=limit, offset=offset)
    items = [PersonaResponse.model_validate(persona) for persona in found]
    return Page(items=items, total=total, limit=limit, offset=offset)


@router.get(
    "/{persona_id}",
    summary="Read a persona",
    response_description="The persona. `ETag` is the revision, for `If-Match`.",
    responses=problems(NotFound),
)
async def get_persona(
    persona_id: PersonaId, studio: OpenStudio, response: Response
) -> PersonaResponse:
    """Return one persona."""
    return _tagged(response, await studio.personas.find(persona_id))


@router.patch(
    "/{persona_id}",
    summary="Change a persona",
    responses=problems(*_DECIDED, has_body=True),
)
async def update_persona(
    persona_id: PersonaId,
    changes: PersonaUpdate,
    studio: OpenStudio,
    given: IfMatch,
    response: Response,
) -> PersonaResponse:
    """Change the fields that are given.

    While the base image is approved its look is locked: a change to it is a conflict that names
    the field. `base_image_status` is refused.
    """
    refuse_status(changes)
    expected = await expected_revision(studio, persona_id, given)
    persona = await studio.personas.update(persona_id, changes, expected_revision=expected)
    return _tagged(response, persona)


@router.put(
    "/{persona_id}",
    summary="Write a persona anew",
    responses=problems(*_DECIDED, has_body=True),
)
async def replace_persona(
    persona_id: PersonaId,
    whole: PersonaCreate,
    studio: OpenStudio,
    given: IfMatch,
    response: Response,
) -> PersonaResponse:
    """Change all fields; those that are left out get their defaults. Otherwise as PATCH."""
    refuse_status(PersonaUpdate(**whole.model_dump(include=STATUS, exclude_unset=True)))
    changes = PersonaUpdate.model_validate(whole.model_dump(exclude=STATUS))
    expected = await expected_revision(studio, persona_id, given)
    persona = await studio.personas.update(persona_id, changes, expected_revision=expected)
    return _tagged(response, persona)


@router.delete(
    "/{persona_id}",
    status_code=204,
    summary="Delete a persona",
    responses=problems(NotFound, Conflict),
)
async def delete_persona(
    persona_id: PersonaId, studio: OpenStudio, actor: Actor, request_id: RequestId
) -> None:
    """Delete a persona with its base images, batches and content; the audit log keeps a note."""
    await studio.personas.delete(persona_id, actor=actor, request_id=request_id)


def _tagged(response: Response, persona: PersonaModel) -> PersonaResponse:
    tagged(response, persona.revision)
    return PersonaResponse.model_validate(persona)
