"""Queries on finished content."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from backend.errors import NotFound
from backend.models.content import ContentModel


class ContentRepository:
    """Content in one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, content: ContentModel) -> ContentModel:
        """Insert a piece of content."""
        self._session.add(content)
        await self._session.flush()
        return content

    async def get(self, content_id: str) -> ContentModel:
        """Return one piece.

        Raises:
            NotFound: there is none.
        """
        content = await self._session.get(ContentModel, content_id)
        if content is None:
            raise NotFound(f"there is no content {content_id!r}.", {"content": content_id})
        return content

    async def page(
        self, *, persona_id: str | None, limit: int, offset: int
    ) -> tuple[Sequence[ContentModel], int]:
        """Return a page of content, newest first, and how much there is."""
        chosen = select(ContentModel)
        if persona_id is not None:
            chosen = chosen.where(ContentModel.persona_id == persona_id)
        total = await self._session.scalar(select(func.count()).select_from(chosen.subquery()))
        statement = (
            chosen.order_by(ContentModel.created_at.desc(), ContentModel.id)
            .limit(limit)
            .offset(offset)
        )
        return (await self._session.scalars(statement)).all(), int(total or 0)
