"""The audit log: is the chain of events whole, and what does it say?"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from backend.database.engine import Database
from backend.models.base_image import BaseImageEventModel
from backend.models.persona import BaseImageStatus, PersonaModel
from backend.repositories.events import GENESIS, EventRepository, canonical, digest

PAGE = 1_000
APPROVED = BaseImageStatus.APPROVED.value


@dataclass(frozen=True, slots=True)
class BrokenLink:
    """The first event that is not what was written.

    Attributes:
        sequence: its place in the chain, from 1.
        persona_id: whose base image it is about.
        problem: what is wrong with it, in words.
    """

    sequence: int
    persona_id: str
    problem: str


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What a walk along the chain found.

    Attributes:
        ok: whether every link holds.
        events: how many there are up to the break, or at all.
        broken: the first broken link, or `None`.
        head: the hash of the last event; noted elsewhere, it proves later that none was cut off.
    """

    ok: bool
    events: int
    broken: BrokenLink | None
    head: str


class AuditService:
    """Walks and exports the event log."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def verify(self) -> AuditReport:
        """Walk the chain from its beginning and stop at the first broken link.

        The last event of each persona is also held against the persona's row: a state that no
        event led to, or an approval of other bytes, is a broken link too.
        """
        previous, count = GENESIS, 0
        last: dict[str, _Left] = {}
        async with self._database.read() as session:
            await _see_one_moment(session)
            async for event in _walk(session):
                count += 1
                if problem := _problem(event, count, previous):
                    broken = BrokenLink(event.sequence, event.persona_id, problem)
                    return AuditReport(False, count - 1, broken, previous)
                previous = event.hash
                last.setdefault(event.persona_id, _Left()).take(event)
            broken_state = await _first_unexplained(session, last)
        return AuditReport(broken_state is None, count, broken_state, previous)

    async def export(self) -> AsyncIterator[dict[str, Any]]:
        """Yield every event as plain JSON values, in the order of the chain."""
        async with self._database.read() as session:
            async for event in _walk(session):
                yield {**canonical(event), "hash": event.hash}


@dataclass(slots=True)
class _Left:
    """What a persona's events left behind: the state, and the bytes that are approved."""

    sequence: int = 0
    status: str = ""
    sha256: str | None = None

    def take(self, event: BaseImageEventModel) -> None:
        self.sequence, self.status = event.sequence, event.to_status
        if event.action == "approve":
            self.sha256 = event.details.get("sha256")
        elif event.to_status != APPROVED:
            self.sha256 = None


async def _see_one_moment(session: AsyncSession) -> None:
    """Let no write come between the chain and the rows; SQLite's reads are of one moment anyway."""
    if session.get_bind().dialect.name == "postgresql":
        await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})


async def _walk(session: AsyncSession) -> AsyncIterator[BaseImageEventModel]:
    repository, sequence = EventRepository(session), 0
    while page := await repository.after(sequence, PAGE):
        for event in page:
            yield event
        sequence = page[-1].sequence
        session.expunge_all()


def _problem(event: BaseImageEventModel, place: int, previous: str) -> str | None:
    if event.sequence != place:
        return f"event {place} is missing"
    if event.previous_hash != previous:
        return "does not follow the event before it"
    if event.hash != digest(event):
        return "was changed after it was written"
    return None


async def _first_unexplained(session: AsyncSession, last: dict[str, _Left]) -> BrokenLink | None:
    """Return the first persona whose row is not what its events left."""
    statement = select(
        PersonaModel.id, PersonaModel.base_image_status, PersonaModel.approved_sha256
    ).order_by(PersonaModel.id)
    for persona_id, status, sha256 in await session.execute(statement):
        left = last.get(persona_id)
        if left is None and status == APPROVED:
            return BrokenLink(0, persona_id, "is approved, but no event says by whom")
        if left is not None and left.status != status:
            problem = f"left the base image {left.status}, but it is {status}"
            return BrokenLink(left.sequence, persona_id, problem)
        if left is not None and left.sha256 != sha256:
            problem = f"left {left.sha256} approved, but the row says {sha256}"
            return BrokenLink(left.sequence, persona_id, problem)
    return None
