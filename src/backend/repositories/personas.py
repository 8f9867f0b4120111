"""Queries on personas."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from backend.errors import Conflict, NotFound
from backend.models.persona import PersonaModel


class PersonaRepository:
    """Personas in one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, persona: PersonaModel) -> PersonaModel:
        """Insert a persona, so that its defaults are filled in."""
        self._session.add(persona)
        await self._session.flush()
        return persona

    async def get(self, persona_id: str) -> PersonaModel:
        """Return a persona by id.

        Raises:
            NotFound: there is none.
        """
        persona = await self._session.get(PersonaModel, persona_id)
        if persona is None:
            raise NotFound(f"there is no persona {persona_id!r}.", {"persona": persona_id})
        return persona

    async def find(self, name_or_id: str) -> PersonaModel:
        """Return a persona by id or by its name, without regard to case.

        Raises:
            NotFound: there is none.
            Conflict: several have that name; their ids are listed.
        """
        persona = await self._session.get(PersonaModel, name_or_id)
        if persona is not None:
            return persona
        found = await self.named(name_or_id)
        if not found:
            raise NotFound(
                f"there is no persona {name_or_id!r}; `gator persona list` shows them.",
                {"persona": name_or_id},
            )
        if len(found) > 1:
            ids = [persona.id for persona in found]
            raise Conflict(
                f"{len(found)} personas are called {name_or_id!r}; say which by its id: "
                f"{', '.join(ids)}.",
                {"ids": ids},
            )
        return found[0]

    async def named(self, name: str) -> Sequence[PersonaModel]:
        """Return the personas of a name, without regard to case, oldest first.

        SQLite knows the case of ASCII alone; beyond that a name is found as it is written.
        """
        alike = or_(PersonaModel.name == name, func.lower(PersonaModel.name) == name.lower())
        statement = (
            select(PersonaModel).where(alike).order_by(PersonaModel.created_at, PersonaModel.id)
        )
        return (await self._session.scalars(statement)).all()

    async def with_status(self, status: str) -> Sequence[PersonaModel]:
        """Return the personas whose base image stands so, oldest first."""
        statement = (
            select(PersonaModel)
            .where(PersonaModel.base_image_status == status)
            .order_by(PersonaModel.created_at, PersonaModel.id)
        )
        return (await self._session.scalars(statement)).all()

    async def names(self) -> Sequence[str]:
        """Return the names of all personas."""
        return (await self._session.scalars(select(PersonaModel.name))).all()

    async def page(self, *, limit: int, offset: int) -> tuple[Sequence[PersonaModel], int]:
        """Return a page of personas, oldest first, and how many there are."""
        total = await self._session.scalar(select(func.count()).select_from(PersonaModel))
        statement = (
            select(PersonaModel)
            .order_by(PersonaModel.created_at, PersonaModel.id)
            .limit(limit)
            .offset(offset)
        )
        return (await self._session.scalars(statement)).all(), int(total or 0)

    async def delete(self, persona: PersonaModel) -> None:
        """Delete a persona with its versions, batches and content."""
        await self._session.delete(persona)
