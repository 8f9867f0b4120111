"""Pictures made again from their receipts, with the real models."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.bootstrap import Studio, open_studio
from backend.config import load_settings
from backend.errors import Conflict
from backend.models.account import LOCAL_OWNER
from backend.models.content import ContentModel
from backend.models.persona import PersonaCreate, PersonaUpdate


async def pictured(studio: Studio, model: str, **options: object) -> list[ContentModel]:
    """Return two pictures of a persona that was approved."""
    persona = await studio.personas.create(
        PersonaCreate(name="Ada", appearance="grey hair, glasses", personality="dry")
    )
    await studio.base_images.seed_local(persona.id, actor=LOCAL_OWNER, seed=4, model=model)
    await studio.base_images.approve(persona.id, None, actor=LOCAL_OWNER)
    batch = await studio.batches.create(
        persona.id,
        ["smiling, blue background", "winking"],
        actor=LOCAL_OWNER,
        seed=5,
        model=model,
        **options,
    )
    await studio.runner.run_until_finished([batch.batch.id])
    view = await studio.batches.show(batch.batch.id)
    return [await studio.contents.get(str(item.content_id)) for item in view.items]


@pytest.mark.parametrize(
    ("model", "options"), [("portrait", {"num_inference_steps": 2}), ("illustrated", {})]
)
async def test_a_picture_is_made_again_to_the_byte(
    tmp_path: Path, model: str, options: dict[str, object]
) -> None:
    settings = load_settings(home=tmp_path / "home", devices="cpu:1")
    async with open_studio(settings) as studio:
        for content in await pictured(studio, model, **options):
            again = await studio.reproductions.reproduce(content.id)
            assert again.matches
            assert dict(again.differences) == {}


async def test_a_persona_that_was_renamed_since_makes_no_difference(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path / "home", devices="cpu:1")
    async with open_studio(settings) as studio:
        (content, _) = await pictured(studio, "illustrated")
        await studio.personas.update(str(content.persona_id), PersonaUpdate(name="Somebody else"))
        assert (await studio.reproductions.reproduce(content.id)).matches


async def test_what_changed_since_is_named(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path / "home", devices="cpu:1")
    async with open_studio(settings) as studio:
        (content, _) = await pictured(studio, "portrait", num_inference_steps=2)
        async with studio.database.write() as session:
            row = await session.get_one(ContentModel, content.id)
            row.receipt = {
                **row.receipt,
                "scheduler": "AnotherScheduler",
                "request": {**row.receipt["request"], "seed": row.seed + 1},
            }
        again = await studio.reproductions.reproduce(content.id)
    assert not again.matches
    assert again.differences["scheduler"][0] == "AnotherScheduler"


async def test_a_receipt_without_a_request_is_refused(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path / "home", devices="cpu:1")
    async with open_studio(settings) as studio:
        (content, _) = await pictured(studio, "illustrated")
        async with studio.database.write() as session:
            (await session.get_one(ContentModel, content.id)).receipt = {}
        with pytest.raises(Conflict, match="cannot be made again"):
            await studio.reproductions.reproduce(content.id)
