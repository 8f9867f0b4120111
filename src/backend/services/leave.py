"""May a persona be shown now? Asked before a picture is begun, and again before it is kept."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from backend.errors import Conflict
from backend.models.base import now
from backend.models.persona import BaseImageStatus, PersonaModel
from backend.repositories.base_images import BaseImageRepository


async def require_leave(session: AsyncSession, persona: PersonaModel, n: int | None) -> None:
    """Refuse to show a persona whose base image is not approved, or may not be shown any more.

    Args:
        session: the transaction that relies on it.
        persona: who is to be shown.
        n: the version that the pictures are pinned to.

    Raises:
        Conflict: saying which of the two.
    """
    if persona.base_image_status != BaseImageStatus.APPROVED.value:
        raise Conflict(
            f"the base image of {persona.name} is {persona.base_image_status}, not approved; seed "
            "and approve one first, so that every picture shows an approved look.",
            {"state": persona.base_image_status},
        )
    images = BaseImageRepository(session)
    version = await images.get(persona.id, n or 0)
    consent = await images.consent_of(version)
    if consent is not None and (objection := consent.objection(now())):
        raise Conflict(
            f"{persona.name} is not shown any more: the consent for version {version.n} "
            f"{objection}.",
            {"state": persona.base_image_status, "consent": consent.id},
        )
