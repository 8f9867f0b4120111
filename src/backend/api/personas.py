"""Routes of personas."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from backend.api.dependencies import Limit, Offset, OpenStudio, PersonaId
from backend.api.problems import problems
from backend.api.schemas import Page
from backend.errors import Conflict, NotFound
from backend.models.persona import PersonaCreate, PersonaResponse, PersonaUpdate

router = APIRouter(prefix="/personas", tags=["personas"])


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
    return PersonaResponse.model_validate(persona)


@router.get("", summary="List personas", responses=problems())
async def list_personas(
    studio: OpenStudio, limit: Limit = 50, offset: Offset = 0
) -> Page[PersonaResponse]:
    """Return a page of personas, oldest first."""
    found, total = await studio.personas.page(limit=limit, offset=offset)
    items = [PersonaResponse.model_validate(persona) for persona in found]
    return Page(items=items, total=total, limit=limit, offset=offset)


@router.get("/{persona_id}", summary="Read a persona", responses=problems(NotFound))
async def get_persona(persona_id: PersonaId, studio: OpenStudio) -> PersonaResponse:
    """Return one persona."""
    return PersonaResponse.model_validate(await studio.personas.find(persona_id))


@router.patch(
    "/{persona_id}",
    summary="Change a persona",
    responses=problems(NotFound, Conflict, has_body=True),
)
async def update_persona(
    persona_id: PersonaId, changes: PersonaUpdate, studio: OpenStudio
) -> PersonaResponse:
    """Change the fields that are given.

    While the base image is approved the appearance is locked: a change to it is a conflict that
    names the field. `base_image_status` is refused.
    """
    return PersonaResponse.model_validate(await studio.personas.update(persona_id, changes))


@router.delete(
    "/{persona_id}", status_code=204, summary="Delete a persona", responses=problems(NotFound)
)
async def delete_persona(persona_id: PersonaId, studio: OpenStudio) -> None:
    """Delete a persona with its base images, batches and content."""
    await studio.personas.delete(persona_id)
