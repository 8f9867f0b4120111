"""Queries on the cards that personas came from."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from backend.models.persona_card import PersonaCardModel


class PersonaCardRepository:
    """Cards in one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    def add(self, card: PersonaCardModel) -> None:
        """Insert a card; its persona is there already."""
        self._session.add(card)

    async def of(self, persona_id: str) -> PersonaCardModel | None:
        """Return the card that a persona came from, if it came from one."""
        return await self._session.get(PersonaCardModel, persona_id)
