"""Base images from before there were versions: a path in the row, and with luck a file there.

What is found becomes version 1 of method `legacy`, a draft that somebody has to approve; the file
stays where it is. What is not, or is too small to be a base image, is listed, and looked for again
at every `gator db upgrade`. A studio that opens looks once after the migration.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from backend.database.engine import Database
from backend.errors import GatorError, InvalidRequest, NotFound, TooLarge
from backend.imaging.intake import MAX_UPLOAD_BYTES, accept_picture
from backend.imaging.pictures.container import MIN_SIDE
from backend.models.account import Actor, Role
from backend.models.base_image import MigrationNoteModel
from backend.repositories.legacy import (
    IMAGE_MISSING,
    IMAGE_TOO_SMALL,
    IMAGES_WAIT,
    LegacyRepository,
)
from backend.services import seeding
from backend.services.base_image_moves import Wanted
from backend.services.seeding import Picture, Seeded
from backend.services.version_store import VersionStore

MIGRATION = Actor("migration", Role.OWNER)
"""Who acts where legacy images become versions."""

PAGE = 500


@dataclass(frozen=True, slots=True)
class Missing:
    """A persona whose legacy image is not there, or is none that can be served."""

    persona_id: str
    persona: str
    path: str
    problem: str


@dataclass(frozen=True, slots=True)
class LegacyReport:
    """What became of what was there before the workflow.

    Attributes:
        adopted: the names of personas whose image was found now.
        missing: those whose image was not, or is none that can be served.
        too_small: those whose image is there, but smaller than a base image may be.
        locks: the names of personas whose lock fell, since nobody had approved anything.
    """

    adopted: tuple[str, ...]
    missing: tuple[Missing, ...]
    too_small: tuple[Missing, ...]
    locks: tuple[str, ...]


class _Fault(NamedTuple):
    """Why an image was not adopted: the kind of note, and the words."""

    kind: str
    problem: str


class LegacyImages:
    """Adopts legacy images; may be run again at any time."""

    def __init__(self, database: Database, versions: VersionStore, home: Path) -> None:
        self._database = database
        self._versions = versions
        self._home = home.absolute()

    async def adopt_once(self) -> LegacyReport | None:
        """Adopt after a migration; `None` where that was done before."""
        async with self._database.read() as session:
            waiting = await LegacyRepository(session).notes(IMAGES_WAIT)
        return await self.adopt() if waiting else None

    async def adopt(self) -> LegacyReport:
        """Look for every legacy image that is no version yet.

        Raises:
            StorageError: the database or the blobs cannot be written; what was adopted stays.
        """
        adopted: list[str] = []
        left: list[tuple[str, Missing]] = []
        after = ""
        while page := await self._page(after):
            for persona_id, name, path in page:
                fault = await self._adopt(persona_id, path)
                if fault is None:
                    adopted.append(name)
                else:
                    left.append((fault.kind, Missing(persona_id, name, path, fault.problem)))
            after = page[-1][0]
        listed = {
            kind: [one for its, one in left if its == kind]
            for kind in (IMAGE_MISSING, IMAGE_TOO_SMALL)
        }
        async with self._database.write() as session:
            repository = LegacyRepository(session)
            for kind, some in listed.items():
                await repository.replace(kind, [_note(kind, one) for one in some])
            await repository.replace(IMAGES_WAIT, [])
            locks = await repository.fallen_locks()
        return LegacyReport(
            tuple(adopted),
            missing=tuple(listed[IMAGE_MISSING]),
            too_small=tuple(listed[IMAGE_TOO_SMALL]),
            locks=tuple(locks),
        )

    async def _page(self, after: str) -> list[tuple[str, str, str]]:
        async with self._database.read() as session:
            return list(await LegacyRepository(session).waiting(after, PAGE))

    async def _adopt(self, persona_id: str, path: str) -> _Fault | None:
        """Make a version of one image; return what is wrong with it, if anything is."""
        try:
            picture = await asyncio.to_thread(self._read, persona_id, path)
            wanted = Wanted("seed", persona_id, MIGRATION)
            await self._versions.add(wanted, Seeded([picture], []), None, keep_path=True)
        except (InvalidRequest, TooLarge, NotFound) as exc:
            return _fault(exc)
        return None

    def _read(self, persona_id: str, path: str) -> Picture:
        original = read_legacy_file(self._home, path)
        accepted = accept_picture(original)
        return seeding.brought(
            persona_id,
            accepted.data,
            original,
            MIGRATION.name,
            method="legacy",
            mime=accepted.mime,
            width=accepted.width,
            height=accepted.height,
            receipt={"original_mime": accepted.original_mime, "legacy_path": path},
        )


def read_legacy_file(home: Path, path: str) -> bytes:
    """Read a legacy image: at its absolute path, or below the home folder.

    Raises:
        NotFound: there is no such file.
        TooLarge: it is larger than an upload may be.
    """
    try:
        file = (home / path).resolve()
        inside = file.is_relative_to(home.resolve())
        if not file.is_file() or not (inside or Path(path).is_absolute()):
            raise NotFound("there is no such file.", {"path": path})
        if file.stat().st_size > MAX_UPLOAD_BYTES:
            raise TooLarge("the file is larger than an upload may be.", {"path": path})
        return file.read_bytes()
    except (OSError, ValueError) as exc:
        raise NotFound(f"the file cannot be read: {exc}.", {"path": path}) from exc


def _fault(error: GatorError) -> _Fault:
    width, height = error.details.get("width", MIN_SIDE), error.details.get("height", MIN_SIDE)
    if min(width, height) >= MIN_SIDE:
        return _Fault(IMAGE_MISSING, error.message)
    words = f"too small: {width}x{height}, at least {MIN_SIDE} are needed"
    return _Fault(IMAGE_TOO_SMALL, words)


def _note(kind: str, missing: Missing) -> MigrationNoteModel:
    return MigrationNoteModel(
        persona_id=missing.persona_id,
        persona_name=missing.persona,
        kind=kind,
        detail=f"{missing.path}: {missing.problem}",
    )
