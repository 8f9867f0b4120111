"""The table of transitions, candidates, consents and the audit log, on both databases."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import event, text, update
from sqlalchemy.exc import IntegrityError

from backend.bootstrap import LOCAL_OWNER, Studio, open_studio
from backend.config import load_settings
from backend.errors import Conflict, Forbidden, InvalidRequest, NotFound, PreconditionFailed
from backend.imaging.types import item_seed
from backend.models.account import Actor
from backend.models.base import now
from backend.models.base_image import BaseImageVersionModel, ConsentCreate, ConsentModel
from backend.models.batch import ItemState
from backend.models.persona import PersonaUpdate
from backend.repositories.base_images import BaseImageRepository
from backend.services.persona_service import LOCKED_FIELDS
from tests.fixtures.base_images import (
    APPROVER,
    EDITOR,
    OWNER,
    PERSONA,
    VIEWER,
    picture,
    use_solid_engine,
)
from tests.fixtures.batches import run

Act = Callable[[Studio, str, Actor], Any]

ACTS: dict[str, tuple[Actor, Act]] = {
    "seed": (EDITOR, lambda s, p, a: s.base_images.seed_upload(p, picture(), actor=a)),
    "approve": (
        APPROVER,
        lambda s, p, a: s.base_images.approve(p, None, actor=a, likeness_attestation=True),
    ),
    "reject": (APPROVER, lambda s, p, a: s.base_images.reject(p, "too dark", actor=a)),
    "reopen": (APPROVER, lambda s, p, a: s.base_images.reopen(p, actor=a)),
    "unlock": (APPROVER, lambda s, p, a: s.base_images.unlock(p, "new hair", actor=a)),
    "purge": (OWNER, lambda s, p, a: s.base_images.purge(p, "asked to", actor=a)),
}
STATES: dict[str, tuple[str, ...]] = {
    "pending_upload": (),
    "draft": ("seed",),
    "rejected": ("seed", "reject"),
    "approved": ("seed", "approve"),
}
TABLE = {
    "pending_upload": {"seed": "draft", "purge": "pending_upload"},
    "draft": {
        "seed": "draft", "approve": "approved", "reject": "rejected", "purge": "pending_upload",
    },
    "rejected": {"seed": "draft", "reopen": "draft", "purge": "pending_upload"},
    "approved": {"seed": "approved", "unlock": "draft", "purge": "pending_upload"},
}  # fmt: skip


@pytest_asyncio.fixture
async def studio(database_url: str, tmp_path: Path) -> AsyncIterator[Studio]:
    settings = load_settings(home=tmp_path / "home", devices="cpu:2", database_url=database_url)
    async with open_studio(settings) as opened:
        use_solid_engine(opened)
        yield opened


async def persona_in(studio: Studio, state: str) -> str:
    persona = await studio.personas.create(PERSONA)
    for action in STATES[state]:
        actor, act = ACTS[action]
        await act(studio, persona.id, actor)
    return persona.id


async def approved(studio: Studio, **upload: Any) -> str:
    persona = await studio.personas.create(PERSONA)
    await studio.base_images.seed_upload(persona.id, picture(), actor=EDITOR, **upload)
    await studio.base_images.approve(persona.id, 1, actor=APPROVER, likeness_attestation=True)
    return persona.id


async def test_the_table_holds_from_every_state(studio: Studio) -> None:
    for state, allowed in TABLE.items():
        for action, (actor, act) in ACTS.items():
            persona_id = await persona_in(studio, state)
            before = await studio.base_images.show(persona_id)
            assert before.allowed_actions == [a for a in ACTS if a in allowed]
            if action in allowed:
                after = await act(studio, persona_id, actor)
                assert after.persona.base_image_status == allowed[action]
                assert after.persona.appearance_locked == (allowed[action] == "approved")
                assert after.persona.revision == before.persona.revision + 1
                continue
            with pytest.raises(Conflict, match=f"while it is {state}; allowed now:") as caught:
                await act(studio, persona_id, actor)
            assert caught.value.details == {"state": state, "allowed_actions": [*allowed]}
    assert (await studio.audit.verify()).ok


async def test_a_role_too_low_is_forbidden_whatever_the_state(studio: Studio) -> None:
    below = {EDITOR: VIEWER, APPROVER: EDITOR, OWNER: APPROVER}
    persona_id = await persona_in(studio, "draft")
    for actor, act in ACTS.values():
        with pytest.raises(Forbidden, match=f"takes the role {actor.role.name.lower()}"):
            await act(studio, persona_id, below[actor])
    assert len((await studio.base_images.events(persona_id))[0]) == 1


@pytest.mark.parametrize("action", ["reject", "unlock", "purge"])
@pytest.mark.parametrize("reason", ["", " \n", "nul\0", "x" * 2_001])
async def test_reasons_are_required_and_have_to_be_text(
    studio: Studio, action: str, reason: str
) -> None:
    persona_id = await persona_in(studio, "approved" if action == "unlock" else "draft")
    with pytest.raises(InvalidRequest, match="reason:") as caught:
        await getattr(studio.base_images, action)(persona_id, reason, actor=OWNER)
    assert caught.value.details["errors"][0]["field"] == "reason"


async def test_a_stale_revision_fails_before_state_and_attestation(studio: Studio) -> None:
    persona_id = await persona_in(studio, "approved")
    stale = {"actor": OWNER, "expected_revision": 1}
    for act in (
        studio.base_images.approve(persona_id, 99, **stale),
        studio.base_images.reject(persona_id, "no", **stale),
        studio.base_images.reopen(persona_id, **stale),
        studio.base_images.unlock(persona_id, "no", **stale),
        studio.base_images.purge(persona_id, "no", **stale),
    ):
        with pytest.raises(PreconditionFailed, match="at revision 3, not 1"):
            await act
    view = await studio.base_images.unlock(persona_id, "yes", actor=APPROVER, expected_revision=3)
    assert view.persona.base_image_status == "draft"


async def test_a_candidate_stands_beside_the_live_version_until_it_is_approved(
    studio: Studio,
) -> None:
    persona_id = await approved(studio)
    live = (await studio.base_images.show(persona_id)).persona.approved_sha256
    view = await studio.base_images.seed_upload(persona_id, picture(9), actor=EDITOR)
    assert view.persona.base_image_status == "approved"
    assert (view.persona.approved_version, view.persona.approved_sha256) == (1, live)
    assert [version.n for version in view.candidates] == [2]
    assert view.allowed_actions == ["seed", "approve", "unlock", "purge"]
    assert view.current
    assert view.current.n == 2
    with pytest.raises(Conflict, match="version 1 is not the current one"):
        await studio.base_images.approve(persona_id, 1, actor=APPROVER)
    view = await studio.base_images.approve(
        persona_id, 2, actor=APPROVER, likeness_attestation=True
    )
    assert (view.persona.approved_version, view.candidates) == (2, [])
    assert view.persona.approved_sha256 == view.current.sha256 != live
    assert (
        view.persona.base_image_path
        == f"blobs/{view.current.sha256[:2]}/" + (view.current.sha256[2:])
    )


async def test_a_seed_reads_what_came_before_once_for_its_answer(studio: Studio) -> None:
    persona = await studio.personas.create(PERSONA)
    await studio.base_images.seed_local(persona.id, actor=EDITOR, count=8, seed=1)
    await studio.base_images.approve(persona.id, 3, actor=APPROVER)
    await studio.base_images.seed_local(persona.id, actor=EDITOR, count=8, seed=2)
    read: list[int] = []

    @event.listens_for(BaseImageVersionModel, "load")
    def on_load(version: BaseImageVersionModel, _context: object) -> None:
        read.append(version.n)

    try:
        view = await studio.base_images.seed_upload(persona.id, picture(), actor=EDITOR)
    finally:
        event.remove(BaseImageVersionModel, "load", on_load)
    assert len(view.versions) == 17
    once, live, last = range(1, 18), [3], range(9, 17)
    assert Counter(read) == Counter([*once, *live, *last, *last])


async def test_candidates_are_made_side_by_side_and_one_is_picked(studio: Studio) -> None:
    persona = await studio.personas.create(PERSONA)
    view = await studio.base_images.seed_local(persona.id, actor=EDITOR, count=5, seed=7)
    assert [version.seed for version in view.versions] == [item_seed(7, i) for i in range(5)]
    assert {version.device for version in view.versions} == {"cpu:0", "cpu:1"}
    assert [version.n for version in view.candidates] == [1, 2, 3, 4, 5]
    await studio.base_images.seed_local(persona.id, actor=EDITOR, count=2)
    with pytest.raises(Conflict, match="version 3 is not the current one"):
        await studio.base_images.approve(persona.id, 3, actor=APPROVER)
    view = await studio.base_images.approve(persona.id, 6, actor=APPROVER)
    assert view.persona.approved_version == 6
    assert view.candidates == []


@pytest.mark.parametrize("count", [0, 9, -1])
async def test_one_to_eight_candidates_are_made(studio: Studio, count: int) -> None:
    persona = await studio.personas.create(PERSONA)
    with pytest.raises(InvalidRequest, match="count"):
        await studio.base_images.seed_local(persona.id, actor=EDITOR, count=count)


async def test_good_candidates_are_kept_and_the_others_reported(studio: Studio) -> None:
    persona = await studio.personas.create(PERSONA)
    view = await studio.base_images.seed_local(
        persona.id, actor=EDITOR, count=4, seed=1, prompt="odd-seeds-fail"
    )
    odd = [seed for i in range(4) if (seed := item_seed(1, i)) % 2]
    assert 0 < len(odd) < 4, "the seeds were chosen so that some fail"
    assert [failure.seed for failure in view.failures] == odd
    assert len(view.versions) == 4 - len(odd)
    assert [f["code"] for f in view.response().model_dump()["failures"]] == (
        ["generation_failed"] * len(odd)
    )


async def test_a_seed_that_fails_or_is_cancelled_changes_nothing(studio: Studio) -> None:
    for state in STATES:
        persona_id = await persona_in(studio, state)
        before = (await studio.base_images.show(persona_id)).response()
        with pytest.raises(Exception, match="paint has run out"):
            await studio.base_images.seed_local(persona_id, actor=EDITOR, count=2, prompt="fail")
        with pytest.raises(InvalidRequest):
            await studio.base_images.seed_upload(persona_id, b"<svg/>", actor=EDITOR)
        seeding = asyncio.ensure_future(
            studio.base_images.seed_local(persona_id, actor=EDITOR, prompt="sleep:0.3")
        )
        await asyncio.sleep(0.15)
        seeding.cancel()
        await asyncio.gather(seeding, return_exceptions=True)
        assert (await studio.base_images.show(persona_id)).response() == before


async def test_an_upload_needs_an_attestation_and_keeps_its_original(studio: Studio) -> None:
    persona = await studio.personas.create(PERSONA)
    view = await studio.base_images.seed_upload(persona.id, picture(), actor=EDITOR)
    assert view.current
    assert await studio.blobs.get(str(view.current.original_sha256)) == picture()
    assert "original_sha256" not in view.response().model_dump_json()
    with pytest.raises(InvalidRequest, match="likeness_attestation"):
        await studio.base_images.approve(persona.id, 1, actor=APPROVER)
    await studio.base_images.approve(persona.id, 1, actor=APPROVER, likeness_attestation=True)
    events, _ = await studio.base_images.events(persona.id)
    assert events[-1].details == {"sha256": view.current.sha256, "likeness_attestation": True}


@pytest.mark.parametrize(
    ("setting", "actor", "allowed"),
    [
        ("auto", LOCAL_OWNER, True),
        ("auto", OWNER, False),
        ("no", LOCAL_OWNER, False),
        ("yes", OWNER, True),
    ],
)
async def test_self_approval_is_a_setting(
    tmp_path: Path, setting: str, actor: Actor, allowed: bool
) -> None:
    settings = load_settings(home=tmp_path / "home", devices="cpu:1", self_approval=setting)
    async with open_studio(settings) as studio:
        persona = await studio.personas.create(PERSONA)
        await studio.base_images.seed_upload(persona.id, picture(), actor=actor)
        approve = studio.base_images.approve(persona.id, 1, actor=actor, likeness_attestation=True)
        if allowed:
            await approve
        else:
            with pytest.raises(Forbidden, match="somebody else has to approve"):
                await approve


async def test_approval_locks_the_look_and_leaves_the_rest(studio: Studio) -> None:
    persona_id = await approved(studio)
    values: dict[str, Any] = dict.fromkeys(LOCKED_FIELDS, "changed")
    values["model_adapters"] = [{"name": "watercolour", "weight": 0.5}]
    for field, value in values.items():
        with pytest.raises(Conflict, match=f"{field} is locked") as caught:
            await studio.personas.update(persona_id, PersonaUpdate.model_validate({field: value}))
        assert caught.value.details["field"] == field
    await studio.personas.update(persona_id, PersonaUpdate(personality="dry"))
    await studio.base_images.unlock(persona_id, "new hair", actor=APPROVER)
    changed = await studio.personas.update(persona_id, PersonaUpdate.model_validate(values))
    assert changed.model_adapters == values["model_adapters"]
    cleared = await studio.personas.update(
        persona_id, PersonaUpdate.model_validate(dict.fromkeys(list(values)[1:]))
    )
    assert (cleared.image_style, cleared.appearance) == (None, "changed")


async def test_purge_leaves_a_tombstone_and_nothing_else(studio: Studio) -> None:
    persona_id, other_id = await approved(studio), await persona_in(studio, "pending_upload")
    shared = (await studio.base_images.show(persona_id)).versions[0].sha256
    await studio.base_images.seed_upload(
        persona_id, picture(9), actor=EDITOR, consent=ConsentCreate(note="a drawing")
    )
    await studio.base_images.seed_upload(other_id, picture(), actor=EDITOR)
    own = (await studio.base_images.show(persona_id)).versions[1]
    view = await studio.base_images.purge(persona_id, "asked to", actor=OWNER)
    assert (view.versions, view.consents, view.persona.base_image_path) == ((), (), None)
    assert view.persona.approved_sha256 is None
    assert not await studio.blobs.exists(own.sha256)
    assert not await studio.blobs.exists(str(own.original_sha256))
    assert await studio.blobs.exists(shared), "another persona has the same picture"
    async with studio.database.read() as session:
        stones = await BaseImageRepository(session).tombstones(persona_id)
    assert [(s.n, s.reason, s.purged_by) for s in stones] == [
        (1, "asked to", "olga"), (2, "asked to", "olga"),
    ]  # fmt: skip
    assert stones[1].sha256 == own.sha256
    view = await studio.base_images.seed_upload(persona_id, picture(9), actor=EDITOR)
    assert [version.n for version in view.versions] == [3]


async def test_revoking_consent_unlocks_and_halts_generation(studio: Studio) -> None:
    consent = ConsentCreate(real_person=True, person="Ida", granted_by="Ida herself")
    persona_id = await approved(studio, consent=consent)
    batch = await studio.batches.create(persona_id, [f"sleep:0.3 {i}" for i in range(8)])
    running = asyncio.ensure_future(run(studio, batch.batch.id))
    await asyncio.sleep(0.7)
    (given,) = (await studio.base_images.show(persona_id)).consents
    with pytest.raises(Forbidden):
        await studio.base_images.revoke_consent(persona_id, given.id, "asked", actor=EDITOR)
    view = await studio.base_images.revoke_consent(persona_id, given.id, "asked", actor=APPROVER)
    assert view.persona.base_image_status == "draft"
    assert not view.persona.appearance_locked
    done = await running
    assert done.counts[ItemState.FAILED] >= 4
    said = {(i.error or {}).get("message", "") for i in done.items if i.state == "failed"}
    assert all("not approved" in message for message in said)
    with pytest.raises(Conflict, match="not approved"):
        await studio.batches.create(persona_id, ["a wall"])
    with pytest.raises(Conflict, match="its consent was revoked"):
        await studio.base_images.approve(persona_id, 1, actor=OWNER, likeness_attestation=True)
    with pytest.raises(Conflict, match="was revoked"):
        await studio.base_images.revoke_consent(persona_id, given.id, "again", actor=APPROVER)
    with pytest.raises(NotFound):
        await studio.base_images.revoke_consent(persona_id, "other", "again", actor=APPROVER)
    events, _ = await studio.base_images.events(persona_id)
    assert events[-1].details == {"consent": given.id, "unlocked": True}


async def test_an_expired_consent_shows_nobody_any_more(studio: Studio) -> None:
    soon = now() + timedelta(days=1)
    consent = ConsentCreate(real_person=True, granted_by="Ida herself", expires_at=soon)
    persona_id = await approved(studio, consent=consent)
    batch = await studio.batches.create(persona_id, ["a wall"])
    async with studio.database.write() as session:
        await session.execute(update(ConsentModel).values(expires_at=now()))
    with pytest.raises(Conflict, match="expired"):
        await studio.batches.create(persona_id, ["a wall"])
    done = await run(studio, batch.batch.id)
    assert "expired" in (done.items[0].error or {})["message"]
    late = ConsentCreate(expires_at=now())
    with pytest.raises(InvalidRequest, match="expires_at"):
        await studio.base_images.seed_upload(persona_id, picture(), actor=EDITOR, consent=late)


async def test_unlocking_halts_a_batch_and_a_new_approval_lets_it_go_on(studio: Studio) -> None:
    persona_id = await approved(studio)
    batch = await studio.batches.create(persona_id, ["a wall"])
    await studio.base_images.unlock(persona_id, "new hair", actor=APPROVER)
    done = await run(studio, batch.batch.id)
    assert done.counts[ItemState.FAILED] == 1
    await studio.base_images.approve(persona_id, 1, actor=APPROVER, likeness_attestation=True)
    await studio.batches.retry_failed(batch.batch.id)
    assert (await run(studio, batch.batch.id)).counts[ItemState.DONE] == 1


async def test_a_halted_batch_renders_nothing(studio: Studio) -> None:
    persona_id = await approved(studio)
    batch = await studio.batches.create(persona_id, ["die"])  # rendering it would kill the worker
    await studio.base_images.unlock(persona_id, "new hair", actor=APPROVER)
    (item,) = (await run(studio, batch.batch.id)).items
    assert (item.error or {})["code"] == "conflict"
    assert item.attempts == 1


async def test_the_audit_log_says_who_did_what_and_why(studio: Studio) -> None:
    persona = await studio.personas.create(PERSONA)
    await studio.base_images.seed_upload(persona.id, picture(), actor=EDITOR, request_id="r-1")
    await studio.base_images.reject(persona.id, " too dark ", actor=APPROVER, request_id="r-2")
    await studio.personas.delete(persona.id)
    told = [event async for event in studio.audit.export()]
    assert [
        (e["action"], e["actor"], e["role"], e["from"], e["to"], e["version"], e["reason"])
        for e in told
    ] == [
        ("seed", "ann", "editor", "pending_upload", "draft", 1, None),
        ("reject", "bob", "approver", "draft", "rejected", 1, "too dark"),
        ("delete", "owner", "owner", "rejected", "deleted", None, None),
    ]
    assert [e["request_id"] for e in told] == ["r-1", "r-2", None]
    assert [e["previous_hash"] for e in told] == ["0" * 64, told[0]["hash"], told[1]["hash"]]
    report = await studio.audit.verify()
    assert (report.ok, report.events, report.head) == (True, 3, told[-1]["hash"])


BORN_AS_DRAFT = (
    "INSERT INTO personas (id, name, appearance, personality, base_image_status) "
    "VALUES ('x', 'x', 'x', 'x', 'draft')"
)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE base_image_events SET actor = 'eve'",
        "DELETE FROM base_image_events",
        "UPDATE personas SET base_image_status = 'rejected', appearance_locked = false",
        "UPDATE personas SET base_image_status = 'draft'",
        BORN_AS_DRAFT,
    ],
)
async def test_the_database_refuses_it_too(studio: Studio, statement: str) -> None:
    await approved(studio)
    with pytest.raises(IntegrityError):
        async with studio.database.write() as session:
            await session.execute(text(statement))


TAMPERING = {
    "was changed": ("UPDATE base_image_events SET actor = 'eve' WHERE sequence = 2", 2),
    "is missing": ("DELETE FROM base_image_events WHERE sequence = 1", 2),
    "left the base image": ("DELETE FROM base_image_events WHERE sequence = 4", 3),
    "does not follow": (
        "UPDATE base_image_events SET previous_hash = 'none' WHERE sequence = 3",
        3,
    ),
}


@pytest.mark.parametrize("problem", TAMPERING)
async def test_verify_names_the_first_broken_link(studio: Studio, problem: str) -> None:
    persona_id = await approved(studio)
    for act in ("unlock", "reject"):
        await ACTS[act][1](studio, persona_id, APPROVER)
    statement, sequence = TAMPERING[problem]
    await without_triggers(studio, statement)
    report = await studio.audit.verify()
    assert not report.ok
    assert report.broken
    assert (report.broken.sequence, report.broken.persona_id) == (sequence, persona_id)
    assert problem in report.broken.problem


async def test_verify_notices_other_bytes_in_an_approval(studio: Studio) -> None:
    await approved(studio)
    async with studio.database.write() as session:
        await session.execute(text("UPDATE personas SET approved_sha256 = 'other'"))
    report = await studio.audit.verify()
    assert report.broken
    assert "approved, but the row says other" in report.broken.problem


async def without_triggers(studio: Studio, statement: str) -> None:
    """Do what nobody may, as somebody who owns the database could."""
    async with studio.database.write() as session:
        if studio.database.url.get_backend_name() == "sqlite":
            await session.execute(text("DROP TRIGGER base_image_events_no_update"))
            await session.execute(text("DROP TRIGGER base_image_events_no_delete"))
        else:
            await session.execute(text("ALTER TABLE base_image_events DISABLE TRIGGER USER"))
        await session.execute(text(statement))


async def test_of_64_approvers_exactly_one_wins(studio: Studio) -> None:
    persona = await studio.personas.create(PERSONA)
    view = await studio.base_images.seed_local(persona.id, actor=EDITOR, count=4)
    revision = view.persona.revision

    async def approve(i: int) -> str:
        expected = revision if i % 2 else None
        try:
            await studio.base_images.approve(
                persona.id, i % 4 + 1, actor=APPROVER, expected_revision=expected
            )
        except (Conflict, PreconditionFailed) as exc:
            return type(exc).__name__
        return "won"

    outcomes = await asyncio.gather(*map(approve, range(64)))
    assert outcomes.count("won") == 1
    assert outcomes.count("Conflict") + outcomes.count("PreconditionFailed") == 63
    report = await studio.audit.verify()
    assert (report.ok, report.events) == (True, 2)
    view = await studio.base_images.show(persona.id)
    assert (view.persona.base_image_status, view.persona.revision) == ("approved", revision + 1)
