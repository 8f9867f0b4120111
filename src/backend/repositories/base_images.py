"""Queries on base image versions, on the leave to show them, and on what is left of purged ones."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, func, select, union_all
from sqlalchemy.ext.asyncio import AsyncSession

from backend.errors import NotFound
from backend.models.base_image import (
    BaseImageTombstoneModel,
    BaseImageVersionModel,
    ConsentModel,
)


class BaseImageRepository:
    """Base image versions in one session."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, version: BaseImageVersionModel) -> BaseImageVersionModel:
        """Insert a version under the persona's next number; purged numbers are not used again."""
        return (await self.add_all([version]))[0]

    async def add_all(
        self, versions: Sequence[BaseImageVersionModel]
    ) -> Sequence[BaseImageVersionModel]:
        """Insert the versions of one persona under its next numbers, in their order."""
        last = await self._last(versions[0].persona_id)
        for n, version in enumerate(versions, last + 1):
            version.n = n
        self._session.add_all(versions)
        await self._session.flush()
        return versions

    async def get(self, persona_id: str, n: int) -> BaseImageVersionModel:
        """Return one version.

        Raises:
            NotFound: the persona has none of that number.
        """
        version = await self.find(persona_id, n)
        if version is None:
            raise NotFound(f"the persona has no base image version {n}.", {"version": n})
        return version

    async def find(self, persona_id: str, n: int | None) -> BaseImageVersionModel | None:
        """Return one version, or `None` where the persona has none of that number."""
        statement = select(BaseImageVersionModel).where(
            BaseImageVersionModel.persona_id == persona_id, BaseImageVersionModel.n == n
        )
        return (await self._session.scalars(statement)).first()

    async def of(self, persona_id: str) -> Sequence[BaseImageVersionModel]:
        """Return a persona's versions, oldest first."""
        statement = (
            select(BaseImageVersionModel)
            .where(BaseImageVersionModel.persona_id == persona_id)
            .order_by(BaseImageVersionModel.n)
        )
        return (await self._session.scalars(statement)).all()

    async def last_seed(self, persona_id: str) -> Sequence[BaseImageVersionModel]:
        """Return the versions that a persona's last seed made, which all else does not slow."""
        last = (
            select(BaseImageVersionModel.seed_group)
            .where(BaseImageVersionModel.persona_id == persona_id)
            .order_by(BaseImageVersionModel.n.desc())
            .limit(1)
            .scalar_subquery()
        )
        statement = (
            select(BaseImageVersionModel)
            .where(
                BaseImageVersionModel.persona_id == persona_id,
                BaseImageVersionModel.seed_group == last,
            )
            .order_by(BaseImageVersionModel.n)
        )
        return (await self._session.scalars(statement)).all()

    async def consents(self, persona_id: str) -> Sequence[ConsentModel]:
        """Return the records of leave that a persona's uploads came with, oldest first."""
        statement = (
            select(ConsentModel)
            .where(ConsentModel.persona_id == persona_id)
            .order_by(ConsentModel.created_at, ConsentModel.id)
        )
        return (await self._session.scalars(statement)).all()

    async def consent(self, persona_id: str, consent_id: str) -> ConsentModel:
        """Return one record of leave.

        Raises:
            NotFound: the persona has no such record.
        """
        consent = await self._session.get(ConsentModel, consent_id)
        if consent is None or consent.persona_id != persona_id:
            raise NotFound("the persona has no such consent.", {"consent": consent_id})
        return consent

    async def add_consent(self, consent: ConsentModel) -> ConsentModel:
        """Insert a record of leave, so that it has an id."""
        self._session.add(consent)
        await self._session.flush()
        return consent

    async def consent_of(self, version: BaseImageVersionModel) -> ConsentModel | None:
        """Return the leave that a version came with, if it came with any."""
        if version.consent_id is None:
            return None
        return await self._session.get(ConsentModel, version.consent_id)

    async def purge(self, tombstones: Sequence[BaseImageTombstoneModel], persona_id: str) -> None:
        """Delete a persona's versions and records of leave, and put tombstones in their place."""
        self._session.add_all(tombstones)
        await self._session.execute(
            delete(BaseImageVersionModel).where(BaseImageVersionModel.persona_id == persona_id)
        )
        await self._session.execute(
            delete(ConsentModel).where(ConsentModel.persona_id == persona_id)
        )
        await self._session.flush()

    async def tombstones(self, persona_id: str) -> Sequence[BaseImageTombstoneModel]:
        """Return what is left of a persona's purged versions, oldest first."""
        statement = (
            select(BaseImageTombstoneModel)
            .where(BaseImageTombstoneModel.persona_id == persona_id)
            .order_by(BaseImageTombstoneModel.n)
        )
        return (await self._session.scalars(statement)).all()

    async def _last(self, persona_id: str) -> int:
        numbers = union_all(
            select(func.max(BaseImageVersionModel.n)).where(
                BaseImageVersionModel.persona_id == persona_id
            ),
            select(func.max(BaseImageTombstoneModel.n)).where(
                BaseImageTombstoneModel.persona_id == persona_id
            ),
        )
        return max((n for n in await self._session.scalars(numbers) if n is not None), default=0)
