"""Whom a picture shows, by the one name that other tools can send: that of a model.

`persona:<name or id>` is a persona, and everything else a model's card. A persona goes before a
card of that very name, as the card of another Gator's persona has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from backend.database.engine import Database
from backend.errors import ModelNotAvailable, NotFound
from backend.imaging.types import ModelCard
from backend.models.base_image import BaseImageVersionModel
from backend.models.persona import BaseImageStatus, PersonaModel
from backend.repositories.base_images import BaseImageRepository
from backend.repositories.personas import PersonaRepository
from backend.services.ai_models import AIModelManager
from backend.services.leave import require_leave

PERSONA = "persona:"


@dataclass(frozen=True, slots=True)
class Subject:
    """What a name stands for: a persona with its approved version, or a model, or neither."""

    model: str | None = None
    persona: PersonaModel | None = None
    version: BaseImageVersionModel | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """One name that can be asked for.

    Attributes:
        card: the model, where it is one.
        persona: whom it shows, where it is a persona.
    """

    name: str
    card: ModelCard | None = None
    persona: PersonaModel | None = None

    @property
    def created(self) -> datetime | None:
        """When it came to be, where that is known."""
        return self.persona.approved_at if self.persona else None


class Subjects:
    """Finds and lists what can be asked for by name."""

    def __init__(self, database: Database, models: AIModelManager) -> None:
        self._database = database
        self._models = models

    async def find(self, name: str | None) -> Subject:
        """Return what a name stands for; `None` is the model that is used where none is named.

        Raises:
            ModelNotAvailable: there is no such persona.
            Conflict: several have that name, or it may not be shown now.
        """
        if name is None or not name.startswith(PERSONA):
            return Subject(model=name)
        try:
            async with self._database.read() as session:
                return await _persona(session, name.removeprefix(PERSONA))
        except NotFound as exc:
            if any(card.name == name for card in self._models.cards()):
                return Subject(model=name)
            raise ModelNotAvailable(exc.message, {"model": name}) from exc

    async def all(self) -> Sequence[Listed]:
        """Return every model that is usable now, and every persona whose look is approved."""
        cards = [Listed(card.name, card=card) for card in self._models.cards() if card.loaded]
        async with self._database.read() as session:
            approved = BaseImageStatus.APPROVED.value
            repository = PersonaRepository(session)
            personas = await repository.with_status(approved)
            names = await repository.names()
        return [*cards, *_named(personas, names)]

    async def get(self, name: str) -> Listed:
        """Return one that can be asked for.

        Raises:
            ModelNotAvailable: there is no such model or persona, or it cannot be used now.
            Conflict: several personas have that name.
        """
        subject = await self.find(name)
        if subject.persona is not None:
            return Listed(name, persona=subject.persona)
        usable = {card.name: card for card in self._models.cards() if card.loaded}
        if name not in usable:
            raise ModelNotAvailable(
                f"image model {name!r} is not available; usable here: "
                f"{', '.join(usable) or 'none'}.",
                {"model": name, "available": list(usable)},
            )
        return Listed(name, card=usable[name])


async def _persona(session: AsyncSession, name_or_id: str) -> Subject:
    persona = await PersonaRepository(session).find(name_or_id)
    await require_leave(session, persona, persona.approved_version)
    images = BaseImageRepository(session)
    version = await images.find(persona.id, persona.approved_version)
    return Subject(persona=persona, version=version)


def _named(personas: Sequence[PersonaModel], names: Sequence[str]) -> Iterator[Listed]:
    """Call personas by their names, and those that share one by their ids."""
    count = Counter(name.lower() for name in names)
    for persona in personas:
        own = persona.name if count[persona.name.lower()] == 1 else persona.id
        yield Listed(f"{PERSONA}{own}", persona=persona)
