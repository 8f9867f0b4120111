"""Any actions in any order, by anybody, on any revision: the state stays one that the table allows.

A model of the state is held against the studio after every step. The database is one for the whole
run; every example makes a persona of its own in it, so that the audit chain grows over all of them
and is verified whole at the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from backend.config import load_settings
from backend.database.engine import Database
from backend.database.upgrade import upgrade
from backend.errors import Conflict, Forbidden, GatorError, InvalidRequest, PreconditionFailed
from backend.models.account import LOCAL_OWNER, Actor, Role
from backend.models.base_image import BaseImageEventModel, ConsentCreate
from backend.models.persona import PersonaUpdate
from backend.repositories.events import EventRepository, digest
from backend.services.ai_models import AIModelManager
from backend.services.audit_service import AuditService
from backend.services.base_image_moves import Wanted
from backend.services.base_image_workflow import BaseImageWorkflow
from backend.services.persona_service import PersonaService
from backend.services.seeding import Seeded, brought
from backend.services.version_store import VersionStore
from backend.storage.blobs import BlobStore
from tests.fixtures.base_images import PERSONA, picture

NEEDED = {
    "seed": Role.EDITOR,
    "approve": Role.APPROVER,
    "reject": Role.APPROVER,
    "reopen": Role.APPROVER,
    "unlock": Role.APPROVER,
    "revoke_consent": Role.APPROVER,
    "purge": Role.OWNER,
}
ALLOWED = {
    "pending_upload": {"seed", "purge"},
    "draft": {"seed", "approve", "reject", "purge"},
    "rejected": {"seed", "reopen", "purge"},
    "approved": {"seed", "approve", "unlock", "purge"},
}
ACTORS = st.sampled_from(
    [LOCAL_OWNER, *(Actor(f"{role.name.lower()}-{i}", role) for role in Role for i in (1, 2))]
)
REVISIONS = st.sampled_from(["none", "none", "current", "current", "stale", "future"])
REASONS = st.sampled_from(["a reason", "another", " "])


@dataclass
class World:
    """One database, one loop, and the services that the examples share."""

    loop: asyncio.AbstractEventLoop
    database: Database
    blobs: BlobStore
    workflow: BaseImageWorkflow
    personas: PersonaService
    versions: VersionStore

    def run(self, work: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(work)


@dataclass
class Version:
    """What the model knows of one version."""

    n: int
    group: int
    method: str
    by: str
    consent: str | None = None


@dataclass
class Expected:
    """The state as it should be."""

    status: str = "pending_upload"
    revision: int = 1
    versions: list[Version] = field(default_factory=list)
    next_n: int = 1
    group: int = 0
    approved: int | None = None
    revoked: set[str] = field(default_factory=set)
    events: int = 0

    @property
    def candidates(self) -> list[Version]:
        if self.status not in {"draft", "approved"} or not self.versions:
            return []
        last = [v for v in self.versions if v.group == self.versions[-1].group]
        return [] if self.approved is not None and last[0].n <= self.approved else last

    def allows(self, action: str) -> bool:
        if action == "revoke_consent":
            return True
        return action in ALLOWED[self.status] and (action != "approve" or bool(self.candidates))


class BaseImageMachine(RuleBasedStateMachine):
    """Every rule says what has to come of it before it is done."""

    world: ClassVar[World]

    @initialize()
    def begin(self) -> None:
        self.model = Expected()
        self.id = self.world.run(self.world.personas.create(PERSONA)).id
        self.base = self.world.run(_head(self.world.database))

    def expect(
        self, action: str, actor: Actor, revision: str, *, reason: str = "x"
    ) -> type[GatorError] | None:
        """Return what has to be raised before anything that is the action's own."""
        if actor.role < NEEDED[action]:
            return Forbidden
        if not reason.strip():
            return InvalidRequest
        if revision in {"stale", "future"}:
            return PreconditionFailed
        return None if self.model.allows(action) else Conflict

    def number(self, revision: str) -> int | None:
        change = {"none": None, "current": 0, "stale": -1, "future": 1}[revision]
        return None if change is None else self.model.revision + change

    def attempt(self, work: Awaitable[Any], refused: type[GatorError] | None) -> bool:
        """Do it; check that it is refused as it should be. Return whether it was done."""
        raised = self.world.run(_raised_by(work))
        assert type(raised) is (refused or type(None)), f"{raised!r} and not {refused}"
        if raised is not None:
            return False
        self.model.revision += 1
        self.model.events += 1
        return True

    @rule(actor=ACTORS, count=st.integers(1, 8), colour=st.integers(0, 5))
    def seed(self, actor: Actor, count: int, colour: int) -> None:
        """As `seed_local`, whose pictures are made already."""
        pictures = [
            brought(
                self.id, picture(colour + i), None, actor.name,
                method="local", mime="image/png", width=256, height=256,
            )
            for i in range(count)
        ]  # fmt: skip
        for one in pictures:
            one.version.seed_group = pictures[0].version.seed_group
        work = self.world.versions.add(Wanted("seed", self.id, actor), Seeded(pictures, []), None)
        if self.attempt(work, self.expect("seed", actor, "none")):
            self.seeded("local", count, actor, None)

    @rule(actor=ACTORS, consent=st.booleans(), good=st.booleans())
    def upload(self, actor: Actor, consent: bool, good: bool) -> None:
        given = ConsentCreate(real_person=True, granted_by="Ida") if consent else None
        data = picture() if good else b"<svg/>"
        work = self.world.workflow.seed_upload(self.id, data, actor=actor, consent=given)
        refused = self.expect("seed", actor, "none") or (None if good else InvalidRequest)
        if self.attempt(work, refused):
            view = self.world.run(self.world.workflow.show(self.id))
            self.seeded("upload", 1, actor, view.versions[-1].consent_id)

    def seeded(self, method: str, count: int, actor: Actor, consent: str | None) -> None:
        model = self.model
        model.group += 1
        for _ in range(count):
            model.versions.append(Version(model.next_n, model.group, method, actor.name, consent))
            model.next_n += 1
        model.status = "approved" if model.status == "approved" else "draft"

    @rule(
        actor=ACTORS,
        n=st.none() | st.integers(1, 12),
        attested=st.booleans(),
        revision=REVISIONS,
    )
    def approve(self, actor: Actor, n: int | None, attested: bool, revision: str) -> None:
        refused = self.expect("approve", actor, revision)
        found = self.model.candidates
        chosen = next((v for v in found if v.n == n), found[-1] if found and n is None else None)
        if refused is None:
            refused = self.approval_refused(chosen, actor, attested)
        work = self.world.workflow.approve(
            self.id, n, actor=actor, likeness_attestation=attested,
            expected_revision=self.number(revision),
        )  # fmt: skip
        if self.attempt(work, refused):
            assert chosen
            self.model.status, self.model.approved = "approved", chosen.n

    def approval_refused(
        self, chosen: Version | None, actor: Actor, attested: bool
    ) -> type[GatorError] | None:
        if chosen is None:
            return Conflict
        if chosen.by == actor.name and actor != LOCAL_OWNER:
            return Forbidden
        if chosen.consent in self.model.revoked:
            return Conflict
        return InvalidRequest if chosen.method == "upload" and not attested else None

    @rule(actor=ACTORS, reason=REASONS, revision=REVISIONS)
    def reject(self, actor: Actor, reason: str, revision: str) -> None:
        work = self.world.workflow.reject(
            self.id, reason, actor=actor, expected_revision=self.number(revision)
        )
        if self.attempt(work, self.expect("reject", actor, revision, reason=reason)):
            self.model.status = "rejected"

    @rule(actor=ACTORS, revision=REVISIONS)
    def reopen(self, actor: Actor, revision: str) -> None:
        work = self.world.workflow.reopen(
            self.id, actor=actor, expected_revision=self.number(revision)
        )
        if self.attempt(work, self.expect("reopen", actor, revision)):
            self.model.status = "draft"

    @rule(actor=ACTORS, reason=REASONS, revision=REVISIONS)
    def unlock(self, actor: Actor, reason: str, revision: str) -> None:
        work = self.world.workflow.unlock(
            self.id, reason, actor=actor, expected_revision=self.number(revision)
        )
        if self.attempt(work, self.expect("unlock", actor, revision, reason=reason)):
            self.model.status, self.model.approved = "draft", None

    @rule(actor=ACTORS, reason=REASONS, revision=REVISIONS)
    def purge(self, actor: Actor, reason: str, revision: str) -> None:
        work = self.world.workflow.purge(
            self.id, reason, actor=actor, expected_revision=self.number(revision)
        )
        if self.attempt(work, self.expect("purge", actor, revision, reason=reason)):
            self.model.status, self.model.approved = "pending_upload", None
            self.model.versions = []

    @precondition(lambda self: any(v.consent for v in self.model.versions))
    @rule(actor=ACTORS, reason=REASONS, pick=st.integers(0, 99))
    def revoke_consent(self, actor: Actor, reason: str, pick: int) -> None:
        model = self.model
        given = [v.consent for v in model.versions if v.consent]
        consent = given[pick % len(given)]
        refused = self.expect("revoke_consent", actor, "none", reason=reason)
        if refused is None and consent in model.revoked:
            refused = Conflict
        work = self.world.workflow.revoke_consent(self.id, consent, reason, actor=actor)
        if self.attempt(work, refused):
            model.revoked.add(consent)
            live = next((v for v in model.versions if v.n == model.approved), None)
            if live and live.consent == consent:
                model.status, model.approved = "draft", None

    @rule(
        field=st.sampled_from(["appearance", "negative_prompt", "personality"]),
        words=st.sampled_from(["red hair", "bald", "dry"]),
        stale=st.booleans(),
    )
    def edit(self, field: str, words: str, stale: bool) -> None:
        """The lock holds for the look, and for nothing else."""
        before = self.world.run(self.world.personas.find(self.id))
        changes = PersonaUpdate.model_validate({field: words})
        expected = self.model.revision - stale
        same = getattr(before, field) == words
        refused: type[GatorError] | None = None
        if stale:
            refused = PreconditionFailed
        elif self.model.status == "approved" and field != "personality" and not same:
            refused = Conflict
        work = self.world.personas.update(self.id, changes, expected_revision=expected)
        if self.attempt(work, refused):
            self.model.events -= 1  # edits are no events
            self.model.revision -= same  # what changes nothing is no revision

    @invariant()
    def the_studio_is_as_expected(self) -> None:
        view = self.world.run(self.world.workflow.show(self.id))
        persona, model = view.persona, self.model
        assert persona.base_image_status == model.status
        assert persona.appearance_locked == (model.status == "approved")
        assert persona.revision == model.revision
        assert persona.approved_version == model.approved
        assert (persona.approved_sha256 is not None) == (model.approved is not None)
        assert [v.n for v in view.versions] == [v.n for v in model.versions]
        assert [v.n for v in view.candidates] == [v.n for v in model.candidates]
        assert set(view.allowed_actions) == {a for a in ALLOWED[model.status] if model.allows(a)}
        if view.approved:
            assert persona.approved_sha256 == view.approved.sha256

    def teardown(self) -> None:
        """The chain of this example is whole, and it tells of every step that was made."""
        events = self.world.run(_events(self.world.database, self.base[0]))
        previous = self.base
        for event in events:
            assert event.hash == digest(event)
            assert (event.sequence, event.previous_hash) == (previous[0] + 1, previous[1])
            previous = (event.sequence, event.hash)
        assert len(events) == self.model.events
        assert not events or events[-1].to_status == self.model.status


async def _raised_by(work: Awaitable[Any]) -> GatorError | None:
    try:
        await work
    except GatorError as exc:
        return exc
    return None


async def _events(database: Database, after: int) -> list[BaseImageEventModel]:
    async with database.read() as session:
        return list(await EventRepository(session).after(after, 1_000))


async def _head(database: Database) -> tuple[int, str]:
    report = getattr(database, "_seen", (0, "0" * 64))
    events = await _events(database, report[0])
    head = (events[-1].sequence, events[-1].hash) if events else report
    database._seen = head  # type: ignore[attr-defined]
    return head


@contextmanager
def a_world(url: str, home: Path) -> Iterator[World]:
    loop = asyncio.new_event_loop()
    database = Database(url)
    blobs = BlobStore(home / "blobs")
    models = AIModelManager(load_settings(home=home, devices="cpu:1"))
    workflow = BaseImageWorkflow(database, blobs, models)
    world = World(
        loop,
        database,
        blobs,
        workflow,
        PersonaService(database, blobs),
        VersionStore(database, blobs),
    )
    try:
        world.run(upgrade(database))
        yield world
    finally:
        world.run(models.close())
        world.run(database.close())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def test_no_order_of_actions_leads_to_an_illegal_state(
    database_url: str, tmp_path: Path, rounds: Any
) -> None:
    with a_world(database_url, tmp_path) as world:
        machine = type("Machine", (BaseImageMachine,), {"world": world})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=rounds(25, 2_000),
                stateful_step_count=20,
                derandomize=True,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
        report = world.run(AuditService(world.database).verify())
        assert report.ok, report.broken
        assert report.events > 0
