"""Personas, base images and batches: real services on real databases, blobs and workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text

from backend.bootstrap import Studio, open_studio
from backend.config import load_settings
from backend.errors import Conflict, InvalidRequest, NotFound, StorageError
from backend.imaging.builtin.adapter import adapt
from backend.imaging.types import ImageRequest, item_seed
from backend.models.account import Actor, Role
from backend.models.batch import ItemState
from backend.models.persona import PersonaCreate, PersonaUpdate
from backend.services.persona_service import persona_as_toml, read_persona_file
from tests.fixtures.batches import run
from tests.fixtures.solid_engine import CARD

ANN = Actor("ann", Role.EDITOR)
BOB = Actor("bob", Role.APPROVER)
PERSONA = PersonaCreate(
    name="Mira",
    appearance="long red hair",
    personality="creative, warm",
    content_themes=["street art"],
)


@pytest_asyncio.fixture
async def studio(database_url: str, tmp_path: Path) -> AsyncIterator[Studio]:
    """A studio on either database, whose workers run the small engine."""
    settings = load_settings(home=tmp_path / "home", devices="cpu:2", database_url=database_url)
    async with open_studio(settings) as opened:
        use_solid_engine(opened)
        yield opened


def use_solid_engine(studio: Studio) -> None:
    studio.models.available_models["image"] = [CARD.as_entry()]
    studio.models._pool._cards = (CARD,)


async def approved(studio: Studio) -> str:
    persona = await studio.personas.create(PERSONA)
    await studio.base_images.seed_local(persona.id, actor=ANN, seed=5)
    await studio.base_images.approve(persona.id, None, actor=BOB)
    return persona.id


async def test_from_pending_over_draft_to_approved(studio: Studio) -> None:
    persona = await studio.personas.create(PERSONA)
    view = await studio.base_images.show("mira")
    assert (view.persona.base_image_status, view.allowed_actions) == (
        "pending_upload", ["seed", "purge"],
    )  # fmt: skip

    view = await studio.base_images.seed_local(persona.id, actor=ANN, seed=5)
    assert view.persona.base_image_status == "draft"
    assert view.allowed_actions == ["seed", "approve", "reject", "purge"]
    assert not view.persona.appearance_locked

    view = await studio.base_images.approve(persona.id, 1, actor=BOB)
    version, data = await studio.base_images.image(persona.id, 1)
    assert view.persona.base_image_status == "approved"
    assert view.persona.appearance_locked
    assert view.persona.base_appearance_description == PERSONA.appearance
    assert (view.persona.approved_version, view.persona.approved_by) == (1, "bob")
    assert view.persona.approved_sha256 == version.sha256
    assert view.persona.approved_at is not None
    assert view.persona.approved_at.tzinfo is not None
    assert (version.created_by, version.seed, version.method) == ("ann", 5, "local")
    assert data.startswith(b"\x89PNG")


async def test_rejected_waits_for_another_seed(studio: Studio) -> None:
    persona = await studio.personas.create(PERSONA)
    await studio.base_images.seed_local(persona.id, actor=ANN)
    with pytest.raises(InvalidRequest, match="reason"):
        await studio.base_images.reject(persona.id, "  ", actor=BOB)
    view = await studio.base_images.reject(persona.id, "too dark", actor=BOB)
    assert (view.persona.base_image_status, view.persona.rejection_reason) == (
        "rejected", "too dark",
    )  # fmt: skip
    view = await studio.base_images.seed_local(persona.id, actor=ANN)
    assert [version.n for version in view.versions] == [1, 2]


async def test_every_other_move_is_a_conflict_that_says_what_is_allowed(studio: Studio) -> None:
    persona = await studio.personas.create(PERSONA)
    with pytest.raises(Conflict, match=r"cannot approve .* pending_upload; allowed now: seed, p"):
        await studio.base_images.approve(persona.id, None, actor=BOB)
    await studio.base_images.seed_local(persona.id, actor=ANN)
    await studio.base_images.seed_local(persona.id, actor=ANN)
    with pytest.raises(Conflict, match="version 1 is not the current one"):
        await studio.base_images.approve(persona.id, 1, actor=BOB)
    await studio.base_images.approve(persona.id, 2, actor=BOB)
    with pytest.raises(Conflict, match=r"cannot reopen .* approved; allowed now: seed, unlock"):
        await studio.base_images.reopen(persona.id, actor=BOB)


async def test_a_seed_that_fails_leaves_everything_as_it_was(studio: Studio) -> None:
    persona = await studio.personas.create(PERSONA)
    with pytest.raises(Exception, match="paint has run out"):
        await studio.base_images.seed_local(persona.id, actor=ANN, prompt="fail")
    view = await studio.base_images.show(persona.id)
    assert (view.persona.base_image_status, view.versions) == ("pending_upload", ())


async def test_approval_checks_the_bytes(studio: Studio) -> None:
    persona = await studio.personas.create(PERSONA)
    view = await studio.base_images.seed_local(persona.id, actor=ANN)
    assert view.current
    blob = studio.blobs.folder / view.current.sha256[:2] / view.current.sha256[2:]
    blob.write_bytes(b"another picture")
    with pytest.raises(StorageError, match="damaged"):
        await studio.base_images.approve(persona.id, None, actor=BOB)
    assert (await studio.base_images.show(persona.id)).persona.base_image_status == "draft"


async def test_approval_locks_the_appearance_and_leaves_the_personality(studio: Studio) -> None:
    persona_id = await approved(studio)
    with pytest.raises(Conflict, match="appearance is locked") as caught:
        await studio.personas.update(persona_id, PersonaUpdate(appearance="bald"))
    assert caught.value.details["field"] == "appearance"
    changed = await studio.personas.update(persona_id, PersonaUpdate(personality="dry"))
    assert (changed.personality, changed.revision) == ("dry", 3 + 1)


async def test_the_status_is_not_the_clients_to_set(studio: Studio) -> None:
    persona = await studio.personas.create(PERSONA)
    change = PersonaUpdate.model_validate({"base_image_status": "approved"})
    with pytest.raises(InvalidRequest, match="base_image_status"):
        await studio.personas.update(persona.id, change)


async def test_a_batch_ends_with_a_picture_or_an_error_for_every_prompt(studio: Studio) -> None:
    persona_id = await approved(studio)
    prompts = ["a red wall", "fail", "x" * 10_000, "   ", "nul\0here", "lone \ud800", "a blue door"]
    view = await studio.batches.create(persona_id, prompts, seed=11)
    assert view.counts[ItemState.FAILED] == 4
    view = await run(studio, view.batch.id)
    assert [item.state for item in view.items] == [
        "done", "failed", "failed", "failed", "failed", "failed", "done",
    ]  # fmt: skip
    says = [(item.error or {}).get("message", "") for item in view.items]
    assert "paint has run out" in says[1]
    assert "10,000 characters" in says[2]
    assert "is empty" in says[3]
    assert "U+0000" in says[4]
    assert "U+D800" in says[5]
    assert [item.seed for item in view.items] == [item_seed(11, i) for i in range(7)]
    assert view.batch.finished_at is not None


async def test_each_picture_has_a_caption_pinned_to_the_approved_version(studio: Studio) -> None:
    persona_id = await approved(studio)
    view = await studio.batches.create(persona_id, ["a red wall", "a blue door"], seed=1)
    view = await run(studio, view.batch.id)
    contents = [await studio.contents.get(str(item.content_id)) for item in view.items]
    assert [content.base_version for content in contents] == [1, 1]
    assert [content.caption_origin for content in contents] == ["template", "template"]
    captions = [str(content.caption) for content in contents]
    assert len(set(captions)) == 2
    assert all("street art" in caption.lower() for caption in captions)
    assert (contents[0].caption_detail or {})["style"] == "creative"


async def test_pictures_keep_the_approved_look_whatever_the_persona_is_called(
    tmp_path: Path,
) -> None:
    unsaid = PersonaCreate(name="Mira", appearance="a friendly face", personality="calm")
    async with open_studio(load_settings(home=tmp_path / "home", devices="cpu:1")) as studio:
        persona = await studio.personas.create(unsaid)
        await studio.base_images.seed_local(persona.id, actor=ANN, model="illustrated", seed=5)
        view = await studio.base_images.approve(persona.id, None, actor=BOB)
        await studio.personas.update(persona.id, PersonaUpdate(name="Zoe"))
        batch = await studio.batches.create(
            persona.id, ["with green hair", "in a park"], model="illustrated", captions=False
        )
        batch = await run(studio, batch.batch.id)
        contents = [await studio.contents.get(str(item.content_id)) for item in batch.items]
    look = view.versions[0].look
    assert len(look) == 6
    assert look != adapt(ImageRequest("in a park", 1, identity="Zoe")).look
    assert [content.prompt_report["look"] for content in contents] == [look, look]


async def test_a_batch_needs_an_approved_base_image(studio: Studio) -> None:
    persona = await studio.personas.create(PERSONA)
    with pytest.raises(Conflict, match="pending_upload, not approved"):
        await studio.batches.create(persona.id, ["a"])


@pytest.mark.parametrize("options", [{"width": -1}, {"num_inference_steps": "x"}, {"colour": 1}])
async def test_a_wrong_option_is_refused_before_anything_is_written(
    studio: Studio, options: dict[str, Any]
) -> None:
    persona_id = await approved(studio)
    with pytest.raises(InvalidRequest, match=next(iter(options))):
        await studio.batches.create(persona_id, ["a"], **options)
    assert (await studio.batches.page(limit=5))[1] == 0


async def test_an_equal_request_finds_the_batch_it_made_before(studio: Studio) -> None:
    persona_id = await approved(studio)
    make = studio.batches.create
    first = await make(persona_id, ["a", "b"], seed=1, reuse=True)
    again = await make(persona_id, ["a", "b"], seed=1, reuse=True)
    other = await make(persona_id, ["a", "c"], seed=1, reuse=True)
    assert first.batch.id == again.batch.id != other.batch.id


async def test_a_batch_that_was_cut_off_goes_on_and_makes_nothing_twice(studio: Studio) -> None:
    persona_id = await approved(studio)
    view = await studio.batches.create(persona_id, [f"sleep:0.2 {i}" for i in range(8)], seed=2)
    three_done, finished = asyncio.Event(), []

    def advance(stage: str) -> None:
        finished.append(stage)
        if finished.count("images") == 3:
            three_done.set()

    running = asyncio.ensure_future(studio.runner.run_until_finished([view.batch.id], advance))
    await three_done.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    before = await studio.batches.show(view.batch.id)
    done = {item.id: item.content_id for item in before.items if item.content_id}
    assert 3 <= len(done) < 8
    after = await run(studio, view.batch.id)
    assert after.counts[ItemState.DONE] == 8
    assert {item.id: item.content_id for item in after.items if item.id in done} == done
    assert (await studio.contents.page(persona_id=persona_id, limit=50))[1] == 8


async def test_a_lost_worker_costs_a_second_attempt_and_then_an_error(studio: Studio) -> None:
    persona_id = await approved(studio)
    view = await studio.batches.create(persona_id, ["die", "fine"], seed=2)
    view = await run(studio, view.batch.id)
    assert [item.state for item in view.items] == ["failed", "done"]
    assert view.items[0].attempts == 2
    assert (view.items[0].error or {})["code"] == "device_lost"


async def test_two_runs_of_one_batch_make_every_picture_once(studio: Studio) -> None:
    persona_id = await approved(studio)
    view = await studio.batches.create(persona_id, [f"sleep:0.05 {i}" for i in range(12)], seed=2)
    await asyncio.gather(*(run(studio, view.batch.id) for _ in range(2)))
    view = await run(studio, view.batch.id)
    assert view.counts[ItemState.DONE] == 12
    assert (await studio.contents.page(persona_id=persona_id, limit=1))[1] == 12


async def test_deleting_a_persona_takes_its_rows_along(studio: Studio) -> None:
    persona_id = await approved(studio)
    view = await studio.batches.create(persona_id, ["a"], seed=2)
    await run(studio, view.batch.id)
    await studio.personas.delete(persona_id)
    with pytest.raises(NotFound):
        await studio.personas.find(persona_id)
    async with studio.database.read() as session:
        for table in ("base_image_versions", "batches", "batch_items", "contents"):
            count = await session.execute(text(f"SELECT count(*) FROM {table}"))
            assert count.scalar() == 0, table


async def test_a_persona_file_round_trips(studio: Studio, tmp_path: Path) -> None:
    persona = await studio.personas.create(PERSONA)
    file = tmp_path / "mira.toml"
    file.write_text(persona_as_toml(persona))
    assert read_persona_file(file) == PERSONA
