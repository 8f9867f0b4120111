"""Pictures that somebody waits for: what of a persona they bring, and what is kept of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from backend.bootstrap import Studio, open_studio
from backend.config import load_settings
from backend.errors import Conflict, GatorError, InvalidRequest, ModelNotAvailable, NotFound
from backend.models.base import now
from backend.models.base_image import ConsentCreate
from backend.models.persona import ModelAdapter
from backend.services.interactive import MadePicture, PictureOrder
from backend.services.passing_pictures import LIFETIME, PassingPictures
from tests.fixtures.base_images import APPROVER, EDITOR, PERSONA, picture, use_solid_engine
from tests.fixtures.batches import run

MIRA = "persona:mira"


@pytest_asyncio.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Studio]:
    settings = load_settings(home=tmp_path / "home", devices="cpu:1")
    async with open_studio(settings) as opened:
        use_solid_engine(opened)
        yield opened


async def approved(studio: Studio, consent: ConsentCreate | None = None, **changes: Any) -> str:
    persona = await studio.personas.create(PERSONA.model_copy(update=changes))
    await studio.base_images.seed_upload(persona.id, picture(), actor=EDITOR, consent=consent)
    await studio.base_images.approve(persona.id, 1, actor=APPROVER, likeness_attestation=True)
    return persona.id


async def draw(studio: Studio, prompt: str = "at sea", *seeds: int, **more: Any) -> MadePicture:
    order = PictureOrder(prompt, seeds or (1,), **{"model": MIRA, **more})
    return (await studio.interactive.make(await studio.interactive.plan(order)))[-1]


def request_of(made: MadePicture) -> dict[str, Any]:
    asked: dict[str, Any] = made.image["receipt"]["request"]
    return asked


async def contents(studio: Studio) -> int:
    return (await studio.contents.page(limit=200))[1]


async def test_it_is_made_like_a_batchs_picture_and_from_the_base_image_too(
    studio: Studio,
) -> None:
    persona_id = await approved(studio, image_style="film grain", negative_prompt="text")
    batch = await studio.batches.create(persona_id, ["at sea"], seeds=[1], captions=False)
    (item,) = (await run(studio, batch.batch.id)).items
    asked = (await studio.contents.get(str(item.content_id))).receipt["request"]
    made = await draw(studio)
    reference = (await studio.personas.find(persona_id)).approved_sha256
    assert request_of(made) == {**asked, "reference_sha256": reference, "strength": 0.8}
    assert made.without_base == ""


async def test_an_ip_adapter_looks_at_the_base_image_at_its_own_strength(studio: Studio) -> None:
    await approved(studio)
    use_solid_engine(studio, ip_adapter="somewhere", strength=0.4)
    asked = request_of(await draw(studio))
    assert asked["reference_sha256"]
    assert "strength" not in asked


async def test_a_model_that_draws_from_words_alone_does_so_and_it_is_said(studio: Studio) -> None:
    await approved(studio)
    use_solid_engine(studio, kind="illustrated")
    made = await draw(studio)
    assert "takes no reference" in made.without_base
    assert "reference_sha256" not in request_of(made)
    assert made.content is not None


async def test_an_engine_that_finds_it_cannot_start_from_it_draws_from_words(
    studio: Studio,
) -> None:
    await approved(studio)
    made = await draw(studio, "words-only")
    assert made.without_base == "this brush starts from words alone"
    assert not {"reference_sha256", "strength"} & set(request_of(made))
    with pytest.raises(GatorError, match="starts from words alone"):
        await draw(studio, "words-only", options={"reference": picture()})


async def test_an_adapter_that_is_not_here_is_no_other_persona(studio: Studio) -> None:
    await approved(studio, model_adapters=[ModelAdapter(name="mira-v3")])
    with pytest.raises(ModelNotAvailable, match="mira-v3"):
        await draw(studio)


async def test_what_the_persona_never_shows_is_added_to_not_replaced(studio: Studio) -> None:
    await approved(studio, negative_prompt="text")
    assert request_of(await draw(studio))["negative_prompt"] == "text"
    both = await draw(studio, options={"negative_prompt": "rain"})
    assert request_of(both)["negative_prompt"] == "text, rain"
    with pytest.raises(InvalidRequest, match="with what the persona never shows"):
        await draw(studio, options={"negative_prompt": "x" * 3_999})


async def test_a_persona_whose_leave_ends_meanwhile_is_not_kept(studio: Studio) -> None:
    consent = ConsentCreate(real_person=True, person="Ida", granted_by="Ida herself")
    persona_id = await approved(studio, consent)
    (given,) = (await studio.base_images.show(persona_id)).consents
    drawing = asyncio.create_task(draw(studio, "sleep:1"))
    await asyncio.sleep(0.3)
    await studio.base_images.revoke_consent(persona_id, given.id, "asked", actor=APPROVER)
    with pytest.raises(Conflict, match="not approved"):
        await drawing
    with pytest.raises(Conflict):
        await draw(studio)
    assert await contents(studio) == 0


async def test_a_persona_that_is_deleted_meanwhile_leaves_no_picture(studio: Studio) -> None:
    persona_id = await approved(studio)
    drawing = asyncio.create_task(draw(studio, "sleep:1"))
    await asyncio.sleep(0.3)
    await studio.personas.delete(persona_id)
    with pytest.raises(NotFound):
        await drawing
    assert await contents(studio) == 0


async def test_of_several_none_is_kept_where_one_fails(studio: Studio) -> None:
    await approved(studio)
    with pytest.raises(GatorError, match="out of paint"):
        await draw(studio, "odd-seeds-fail", 2, 4, 5)
    assert await contents(studio) == 0
    await draw(studio, "odd-seeds-fail", 2, 4, 6)
    assert await contents(studio) == 3


async def test_more_pictures_than_are_made_at_once_are_refused(studio: Studio) -> None:
    for seeds in ((), tuple(range(11))):
        with pytest.raises(InvalidRequest, match=f"is {len(seeds)}; 1 to 10"):
            await studio.interactive.plan(PictureOrder("at sea", seeds))


async def test_a_kept_picture_can_be_made_again(studio: Studio) -> None:
    await approved(studio)
    made = await draw(studio)
    assert made.content is not None
    assert (await studio.reproductions.reproduce(made.content.id)).matches


@pytest.mark.parametrize("model", [MIRA, None])
async def test_it_is_the_same_on_both_databases(
    database_url: str, tmp_path: Path, model: str | None
) -> None:
    settings = load_settings(home=tmp_path / "other", devices="cpu:1", database_url=database_url)
    async with open_studio(settings) as studio:
        use_solid_engine(studio)
        persona_id = await approved(studio)
        made = await draw(studio, "at sea", 1, 2, model=model)
        page, total = await studio.contents.page(persona_id=persona_id, limit=5)
        assert total == (2 if model else 0)
        if made.content is not None:
            assert {content.seed for content in page} == {1, 2}
            _, data = await studio.contents.image(made.content.id)
            assert data == made.image["image_data"]


async def test_a_passing_picture_is_gone_after_an_hour(studio: Studio) -> None:
    at = now()
    passing = PassingPictures(studio.blobs, lambda: at)
    name = await passing.put(picture())
    found = await PassingPictures(studio.blobs).get(name)  # as another server would
    assert (found.data, found.mime) == (picture(), "image/png")
    assert await passing.sweep() == 0

    at = found.expires_at - timedelta(seconds=1)
    assert (await passing.get(name)).data == picture()
    at = found.expires_at
    with pytest.raises(NotFound, match="60 minutes"):
        await passing.get(name)
    assert await passing.sweep() == 1
    assert await studio.blobs.place.stat(f"passing/{name}") is None
    assert timedelta(hours=1) == LIFETIME


async def test_a_passing_picture_is_no_blob_and_no_leftover(studio: Studio) -> None:
    await studio.passing.put(picture(red=5))
    assert (await studio.blob_check.check()).ok
    assert (await studio.blob_check.check()).blobs == 0


@pytest.mark.parametrize("name", ["", "x", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64])
async def test_a_name_that_was_never_given_finds_nothing(studio: Studio, name: str) -> None:
    with pytest.raises(NotFound):
        await studio.passing.get(name)


async def test_what_has_passed_is_swept_while_the_studio_is_open(studio: Studio) -> None:
    name = await studio.passing.put(picture())
    late = PassingPictures(studio.blobs, lambda: now() + LIFETIME)
    async with late.sweeping():
        for _ in range(100):
            if await studio.blobs.place.stat(f"passing/{name}") is None:
                return
            await asyncio.sleep(0.02)
    raise AssertionError("it is still there")
