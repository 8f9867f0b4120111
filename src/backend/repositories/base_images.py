"""Queries on base image versions."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from backend.errors import NotFound
from backend.models.base_image import BaseImageVersionModel


class BaseImageRepository:
    """Base image versions in one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, version: BaseImageVersionModel) -> BaseImageVersionModel:
        """Insert a version under the persona's next number."""
        last = await self._session.scalar(
            select(func.max(BaseImageVersionModel.n)).where(
                BaseImageVersionModel.persona_id == version.persona_id
            )
        )
        version.n = (last or 0) + 1
        self._session.add(version)
        await self._session.flush()
        return version

    async def get(self, persona_id: str, n: int) -> BaseImageVersionModel:
        """Return one version.

        Raises:
            NotFound: the persona has none of that number.
        """
        statement = select(BaseImageVersionModel).where(
            BaseImageVersionModel.persona_id == persona_id, BaseImageVersionModel.n == n
        )
        version = (await self._session.scalars(statement)).first()
        if version is None:
            raise NotFound(f"the persona has no base image version {n}.", {"version": n})
        return version

    async def of(self, persona_id: str) -> Sequence[BaseImageVersionModel]:
        """Return a persona's versions, oldest first."""
        statement = (
            select(BaseImageVersionModel)
            .where(BaseImageVersionModel.persona_id == persona_id)
            .order_by(BaseImageVersionModel.n)
        )
        return (await self._session.scalars(statement)).all()
