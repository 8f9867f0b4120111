"""One move of a base image: checked, made and logged in one transaction.

The move takes the end of the event log first, so moves are made one after the other, and then
changes the persona's row on condition that revision and state are still those it was decided on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import CursorResult, update
from sqlalchemy.ext.asyncio import AsyncSession

from backend.database.engine import Database
from backend.errors import InvalidRequest, PreconditionFailed
from backend.models.account import Actor
from backend.models.base import now
from backend.models.base_image import (
    BaseImageEventModel,
    BaseImageTombstoneModel,
    BaseImageVersionModel,
)
from backend.models.persona import PersonaModel, Words
from backend.repositories.base_images import BaseImageRepository
from backend.repositories.events import EventRepository
from backend.repositories.personas import PersonaRepository
from backend.services.idempotency import Claim
from backend.services.transitions import require, require_role

NOT_APPROVED = {
    "appearance_locked": False,
    "approved_version": None,
    "approved_sha256": None,
    "approved_by": None,
    "approved_at": None,
}
"""What a persona's row says while no version is approved."""

_REASON = TypeAdapter(Words)
_REQUEST_ID_LENGTH = 100


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody wants done.

    Attributes:
        action: as the table of transitions names it.
        persona: by id or name.
        expected_revision: what the decision was made on; `None` where none was named.
        request_id: the request's, for the log.
        claim: the request's key, which is to name what a seed makes.
    """

    action: str
    persona: str
    actor: Actor
    expected_revision: int | None = None
    request_id: str | None = None
    claim: Claim | None = None


@dataclass(slots=True)
class Move:
    """A move that is allowed, inside its transaction; `make` it once.

    Attributes:
        versions: all of the persona's, oldest first; for a seed, those of the last one.
    """

    wanted: Wanted
    session: AsyncSession
    persona: PersonaModel
    versions: Sequence[BaseImageVersionModel]
    target: str

    @property
    def images(self) -> BaseImageRepository:
        """The base images of this transaction."""
        return BaseImageRepository(self.session)

    async def make(
        self,
        changes: dict[str, Any],
        *,
        version: int | None = None,
        reason: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        """Change the row, if it still is what was decided on, and log it.

        Raises:
            PreconditionFailed: somebody else changed it meanwhile.
        """
        persona = self.persona
        source = persona.base_image_status
        statement = (
            update(PersonaModel)
            .where(
                PersonaModel.id == persona.id,
                PersonaModel.revision == persona.revision,
                PersonaModel.base_image_status == source,
            )
            .values(
                **changes,
                base_image_status=self.target,
                revision=PersonaModel.revision + 1,
            )
            .execution_options(synchronize_session=False)
        )
        result = await self.session.execute(statement)
        if not isinstance(result, CursorResult) or result.rowcount != 1:
            raise PreconditionFailed(
                f"somebody else changed {persona.name} meanwhile; read it again and repeat."
            )
        await self._log(source, version, reason, details or {})

    async def _log(
        self, source: str, version: int | None, reason: str | None, details: dict[str, Any]
    ) -> None:
        event = _event(self.wanted, self.persona.id, source, self.target)
        event.version, event.reason, event.details = version, reason, details
        await EventRepository(self.session).append(event)


def _event(wanted: Wanted, persona_id: str, source: str, target: str) -> BaseImageEventModel:
    return BaseImageEventModel(
        persona_id=persona_id,
        action=wanted.action,
        actor=wanted.actor.name,
        role=wanted.actor.role.name.lower(),
        from_status=source,
        to_status=target,
        request_id=wanted.request_id and wanted.request_id[:_REQUEST_ID_LENGTH],
        details={},
        at=now(),
    )


@asynccontextmanager
async def moving(database: Database, wanted: Wanted) -> AsyncIterator[Move]:
    """Open the transaction of a move, once role, revision and state allow it.

    Raises:
        Forbidden: the actor's role is too low.
        NotFound: there is no such persona.
        PreconditionFailed: `expected_revision` is not the current one.
        Conflict: the state does not allow it.
    """
    require_role(wanted.action, wanted.actor)
    async with database.write() as session:
        await EventRepository(session).lock()
        persona = await PersonaRepository(session).find(wanted.persona)
        require_revision(persona, wanted.expected_revision)
        images = BaseImageRepository(session)
        few = wanted.action == "seed"  # the last seed's tell what is allowed, and are all it needs
        versions = await (images.last_seed(persona.id) if few else images.of(persona.id))
        target = require(wanted.action, persona, versions)
        yield Move(wanted, session, persona, versions, target.value)


async def log_deletion(
    session: AsyncSession, persona: PersonaModel, actor: Actor, request_id: str | None
) -> None:
    """Log that a persona is deleted, and leave tombstones of its versions."""
    versions = await BaseImageRepository(session).of(persona.id)
    session.add_all(tombstone(version, actor, "the persona was deleted") for version in versions)
    wanted = Wanted("delete", persona.id, actor, None, request_id)
    event = _event(wanted, persona.id, persona.base_image_status, "deleted")
    event.details = {"versions": named(versions)}
    await EventRepository(session).append(event)


def named(versions: Sequence[BaseImageVersionModel]) -> list[dict[str, Any]]:
    """Return versions as the audit log names them: by number and by what their bytes are."""
    return [{"n": version.n, "sha256": version.sha256} for version in versions]


def tombstone(version: BaseImageVersionModel, actor: Actor, reason: str) -> BaseImageTombstoneModel:
    """Return what stays of a version."""
    return BaseImageTombstoneModel(
        persona_id=version.persona_id,
        n=version.n,
        sha256=version.sha256,
        original_sha256=version.original_sha256,
        method=version.method,
        reason=reason,
        purged_by=actor.name,
    )


def require_revision(persona: PersonaModel, expected: int | None) -> None:
    """Refuse what was decided on another revision than the current one.

    Raises:
        PreconditionFailed: naming both.
    """
    if expected is not None and expected != persona.revision:
        raise PreconditionFailed(
            f"{persona.name} is at revision {persona.revision}, not {expected}: somebody changed "
            "it meanwhile. Read it again and decide anew.",
            {"revision": persona.revision, "expected": expected},
        )


def checked_reason(reason: str) -> str:
    """Return a reason as it is stored.

    Raises:
        InvalidRequest: it is empty, too long or not text.
    """
    try:
        return _REASON.validate_python(reason)
    except ValidationError as exc:
        message = (
            "is required; say why, for whoever comes after"
            if not reason.strip()
            else exc.errors()[0]["msg"]
        )
        raise InvalidRequest(
            f"reason: {message}", {"errors": [{"field": "reason", "message": message}]}
        ) from exc
