"""Queries on what a migration left to be looked at."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, delete, exists, inspect, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from backend.database.legacy import LEGACY_LOCK
from backend.models.base_image import (
    BaseImageEventModel,
    BaseImageVersionModel,
    MigrationNoteModel,
)
from backend.models.persona import PersonaModel

IMAGE_MISSING = "image_missing"
IMAGE_TOO_SMALL = "image_too_small"
IMAGES_WAIT = "images_wait"
"""Put by revision 0004, on nobody's persona: legacy images were not looked for yet."""


class LegacyRepository:
    """Migration notes, and personas whose image is a path from before there were versions."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def waiting(self, after: str, limit: int) -> Sequence[tuple[str, str, str]]:
        """Return id, name and path of personas with a path, but without a version or an event."""
        version, event = BaseImageVersionModel, BaseImageEventModel
        statement = (
            select(PersonaModel.id, PersonaModel.name, PersonaModel.base_image_path)
            .where(
                PersonaModel.id > after,
                PersonaModel.base_image_path.is_not(None),
                PersonaModel.base_image_path != "",
                ~exists().where(version.persona_id == PersonaModel.id),
                ~exists().where(event.persona_id == PersonaModel.id),
            )
            .order_by(PersonaModel.id)
            .limit(limit)
        )
        return [(i, name, str(path)) for i, name, path in await self._session.execute(statement)]

    async def fallen_locks(self) -> Sequence[str]:
        """Return the names of personas that were locked before anybody could approve."""
        connection = await self._session.connection()
        if not await connection.run_sync(_had_locks):
            return []
        statement = text(f"SELECT name FROM personas WHERE {LEGACY_LOCK} ORDER BY name, id")  # noqa: S608 - a name of our own
        return (await self._session.scalars(statement)).all()

    async def replace(self, kind: str, notes: Sequence[MigrationNoteModel]) -> None:
        """Put new notes of a kind in the place of all that there are."""
        await self._session.execute(
            delete(MigrationNoteModel).where(MigrationNoteModel.kind == kind)
        )
        self._session.add_all(notes)
        await self._session.flush()

    async def notes(self, kind: str) -> Sequence[MigrationNoteModel]:
        """Return the notes of a kind, in the order they were made."""
        statement = (
            select(MigrationNoteModel)
            .where(MigrationNoteModel.kind == kind)
            .order_by(MigrationNoteModel.id)
        )
        return (await self._session.scalars(statement)).all()


def _had_locks(connection: Connection) -> bool:
    return any(c["name"] == LEGACY_LOCK for c in inspect(connection).get_columns("personas"))
