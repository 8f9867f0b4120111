"""Personas: written, read, changed, and carried in and out as TOML files."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
from pydantic import BaseModel, ValidationError
from sqlalchemy.orm.exc import StaleDataError

from backend.database.engine import Database
from backend.errors import Conflict, GatorError, InvalidRequest, StorageError
from backend.logs import get_logger
from backend.models.account import LOCAL_OWNER, Actor
from backend.models.persona import PersonaCreate, PersonaModel, PersonaUpdate
from backend.repositories.blob_references import BlobReferences
from backend.repositories.events import EventRepository
from backend.repositories.personas import PersonaRepository
from backend.services.base_image_moves import log_deletion, require_revision
from backend.services.blob_drop import drop_unreferenced
from backend.storage.blobs import BlobStore

log = get_logger(__name__)

Schema = TypeVar("Schema", bound=BaseModel)
Item = TypeVar("Item")

LOCKED_FIELDS = (
    "appearance",
    "base_appearance_description",
    "image_style",
    "negative_prompt",
    "model_adapters",
)
"""What approval of the base image locks, beside the base image itself."""

CLEARABLE_FIELDS = frozenset(LOCKED_FIELDS) - {"appearance"}
"""What may be set to nothing."""

FILE_LIMIT_BYTES = 256 * 1024


class PersonaService:
    """What can be done with personas."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs

    async def create(self, new: PersonaCreate) -> PersonaModel:
        """Store a new persona; its base image is pending."""
        return (await self.create_all([new]))[0]

    async def create_all(self, new: Sequence[PersonaCreate]) -> list[PersonaModel]:
        """Store several new personas, all or none."""
        async with self._database.write() as session:
            repository = PersonaRepository(session)
            return [
                await repository.add(PersonaModel(**one.model_dump(mode="json"))) for one in new
            ]

    async def find(self, name_or_id: str) -> PersonaModel:
        """Return a persona by id or name.

        Raises:
            NotFound: there is none.
        """
        async with self._database.read() as session:
            return await PersonaRepository(session).find(name_or_id)

    async def page(self, *, limit: int, offset: int = 0) -> tuple[Sequence[PersonaModel], int]:
        """Return a page of personas, oldest first, and how many there are."""
        async with self._database.read() as session:
            return await PersonaRepository(session).page(limit=limit, offset=offset)

    async def update(
        self, name_or_id: str, changes: PersonaUpdate, *, expected_revision: int | None = None
    ) -> PersonaModel:
        """Change the fields that are set; `None` clears those that may be empty.

        Raises:
            NotFound: there is no such persona.
            InvalidRequest: the status was given, which only the approval workflow moves.
            PreconditionFailed: `expected_revision` is not the current one.
            Conflict: the field is locked by approval, or somebody else changed it meanwhile.
        """
        given = changes.model_dump(mode="json", exclude_unset=True)
        _refuse_status(given)
        try:
            async with self._database.write() as session:
                persona = await PersonaRepository(session).find(name_or_id)
                require_revision(persona, expected_revision)
                for field, value in given.items():
                    if value is not None or field in CLEARABLE_FIELDS:
                        _refuse_locked(persona, field, value)
                        setattr(persona, field, value)
                await session.flush()
                return persona
        except StaleDataError as exc:
            raise _changed_meanwhile() from exc

    async def delete(
        self, name_or_id: str, *, actor: Actor = LOCAL_OWNER, request_id: str | None = None
    ) -> None:
        """Delete a persona with its versions, batches and content; tombstones and events stay.

        Its pictures go too, where nothing else refers to them. Those that cannot be deleted are
        left to `gator blobs check`.

        Raises:
            NotFound: there is no such persona.
            Conflict: somebody else changed it meanwhile.
        """
        try:
            async with self._database.write() as session:
                await EventRepository(session).lock()
                repository = PersonaRepository(session)
                persona = await repository.find(name_or_id)
                hashes = await BlobReferences(session).of_persona(persona.id)
                await log_deletion(session, persona, actor, request_id)
                await repository.delete(persona)
                await session.flush()
        except StaleDataError as exc:
            raise _changed_meanwhile() from exc
        try:
            await drop_unreferenced(self._database, self._blobs, hashes)
        except StorageError as exc:
            log.warning("persona.blobs_left", persona=persona.id, reason=exc.message)

    async def named(self, name: str) -> Sequence[PersonaModel]:
        """Return the personas of a name, oldest first."""
        async with self._database.read() as session:
            return await PersonaRepository(session).named(name)


def _changed_meanwhile() -> Conflict:
    return Conflict("somebody else changed this persona meanwhile; read it again and repeat.")


def read_persona_file(path: Path) -> PersonaCreate:
    """Read a persona from a TOML file.

    Raises:
        InvalidRequest: it is no such file; every fault is listed with its field.
    """
    try:
        if path.stat().st_size > FILE_LIMIT_BYTES:
            raise InvalidRequest(f"{path}: is larger than {FILE_LIMIT_BYTES // 1024} KiB.")
        values = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise InvalidRequest(f"{path}: is not a readable TOML file: {exc}") from exc
    return parse_persona(values, str(path))


def read_persona_files(paths: Sequence[Path]) -> list[PersonaCreate]:
    """Read several persona files.

    Raises:
        InvalidRequest: one is faulty; all faults of all files are listed.
    """
    return read_each(paths, read_persona_file)


def read_each(paths: Sequence[Path], read: Callable[[Path], Item]) -> list[Item]:
    """Read several files, each in the same way.

    Raises:
        InvalidRequest: one is faulty; all faults of all files are listed.
    """
    found: list[Item] = []
    faults: list[dict[str, Any]] = []
    messages: list[str] = []
    for path in paths:
        try:
            found.append(read(path))
        except GatorError as exc:
            messages.append(exc.message)
            faults += exc.details.get("errors", [])
    if messages:
        raise InvalidRequest("\n".join(messages), {"errors": faults})
    return found


def parse_persona(values: Mapping[str, Any], source: str) -> PersonaCreate:
    """Check plain values and make a persona of them.

    Raises:
        InvalidRequest: every fault is listed with its field; nothing was created.
    """
    return _parsed(PersonaCreate, values, source)


def parse_changes(values: Mapping[str, Any], source: str) -> PersonaUpdate:
    """Check plain values and make changes of them.

    Raises:
        InvalidRequest: every fault is listed with its field; nothing was changed.
    """
    return _parsed(PersonaUpdate, values, source)


def persona_as_toml(persona: PersonaModel) -> str:
    """Write a persona as the text of a file that `read_persona_file` reads."""
    values: dict[str, Any] = {
        "name": persona.name,
        "appearance": persona.appearance,
        "personality": persona.personality,
        "content_themes": list(persona.content_themes),
    }
    if persona.base_appearance_description:
        values["base_appearance_description"] = persona.base_appearance_description
    for field in ("image_style", "negative_prompt", "model_adapters"):
        if value := getattr(persona, field):
            values[field] = value
    return tomli_w.dumps({**values, "style_preferences": dict(persona.style_preferences)})


def _parsed(schema: type[Schema], values: Mapping[str, Any], source: str) -> Schema:
    try:
        return schema.model_validate(values)
    except ValidationError as exc:
        faults = [
            {"field": ".".join(map(str, fault["loc"])), "message": fault["msg"]}
            for fault in exc.errors()
        ]
        lines = "".join(f"\n  {fault['field']}: {fault['message']}" for fault in faults)
        raise InvalidRequest(
            f"{source}: {len(faults)} fault(s):{lines}", {"errors": faults}
        ) from exc


def refuse_status(changes: PersonaUpdate) -> None:
    """Refuse a state of the base image, which only its workflow moves.

    Raises:
        InvalidRequest: naming the field.
    """
    _refuse_status(changes.model_dump(include={"base_image_status"}, exclude_unset=True))


def _refuse_status(given: Mapping[str, Any]) -> None:
    if "base_image_status" in given:
        message = "is moved by the base image's workflow alone: seed, approve, reject"
        raise InvalidRequest(
            f"base_image_status: {message}",
            {"errors": [{"field": "base_image_status", "message": message}]},
        )


def _refuse_locked(persona: PersonaModel, field: str, value: object) -> None:
    if persona.appearance_locked and field in LOCKED_FIELDS and value != getattr(persona, field):
        raise Conflict(
            f"{field} is locked, since base image version {persona.approved_version} of "
            f"{persona.name} is approved.",
            {"field": field, "state": persona.base_image_status},
        )
