"""What routes ask for: the studio, who acts, and the things that a path names."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import Depends, Path, Query, Request

from backend.bootstrap import LOCAL_OWNER, Studio
from backend.errors import NotFound
from backend.imaging.devices import Device
from backend.models import account

MAX_PAGE = 200
_ID = r"^[A-Za-z0-9_.-]{1,64}$"

Identifier = Annotated[str, Path(pattern=_ID, description="An id, as it was given out.")]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="How many at most.")]
Offset = Annotated[int, Query(ge=0, lt=2**31, description="How many to leave out first.")]
PersonaFilter = Annotated[str | None, Query(pattern=_ID, description="Only this persona's.")]


def studio(request: Request) -> Studio:
    """Return the open studio."""
    found: Studio = request.app.state.studio
    return found


def actor() -> account.Actor:
    """Return who acts: the local owner, until there are accounts."""
    return LOCAL_OWNER


def request_id(request: Request) -> str:
    """Return the request's id, as the answer and the log carry it."""
    return str(request.state.request_id)


OpenStudio = Annotated[Studio, Depends(studio)]
Actor = Annotated[account.Actor, Depends(actor)]
RequestId = Annotated[str, Depends(request_id)]


async def require_persona(opened: Studio, persona_id: str) -> str:
    """Return the id of a persona that is there; a name will not do, since two may share it.

    Raises:
        NotFound: no persona has that id.
    """
    persona = await opened.personas.find(persona_id)
    if persona.id != persona_id:
        raise NotFound(
            f"there is no persona with id {persona_id!r}; that is a name.", {"persona": persona_id}
        )
    return persona.id


async def _persona_of_path(persona_id: Identifier, opened: OpenStudio) -> str:
    return await require_persona(opened, persona_id)


PersonaId = Annotated[str, Depends(_persona_of_path)]


async def count_devices(opened: Studio) -> tuple[Device, ...]:
    """Return the devices, counted off the event loop: the first count may import torch."""
    return await asyncio.to_thread(opened.models.devices)
