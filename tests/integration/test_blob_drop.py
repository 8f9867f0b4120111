"""What a deleted persona leaves behind: nothing, unless somebody else refers to it."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from backend.bootstrap import LOCAL_OWNER, Studio, open_studio
from backend.config import load_settings
from backend.database.engine import Database
from backend.errors import StorageError
from backend.models.persona import PersonaCreate
from backend.repositories.base_images import BaseImageRepository
from backend.repositories.blob_references import BlobReferences
from backend.services.blob_drop import drop_unreferenced
from backend.storage.blobs import BlobStore
from tests.fixtures.batches import run

DRAWN = {"model": "illustrated", "width": 256, "height": 256}


def picture(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (256, 256), colour).save(buffer, "PNG")
    return buffer.getvalue()


async def persona_with(studio: Studio, name: str, *colours: str) -> str:
    new = PersonaCreate(name=name, appearance="red hair", personality="warm")
    persona = await studio.personas.create(new)
    for colour in colours:
        await studio.base_images.seed_upload(persona.id, picture(colour), actor=LOCAL_OWNER)
    return persona.id


async def with_content(studio: Studio, persona_id: str) -> None:
    await studio.base_images.approve(persona_id, None, actor=LOCAL_OWNER, likeness_attestation=True)
    view = await studio.batches.create(persona_id, ["a harbour"], seed=3, captions=False, **DRAWN)
    await run(studio, view.batch.id)


async def held(studio: Studio) -> set[str]:
    return {entry.sha256 async for entry in studio.blobs.list()}


@pytest.fixture
def settings_of(database_url: str, tmp_path: Path) -> Any:
    return load_settings(home=tmp_path / "home", devices="cpu:1", database_url=database_url)


async def test_a_deleted_persona_takes_its_pictures_along(settings_of: Any) -> None:
    async with open_studio(settings_of) as studio:
        mine = await persona_with(studio, "Mira", "red", "teal")
        await with_content(studio, mine)
        view = await studio.base_images.show(mine)
        thumbed = view.versions[0].sha256
        await studio.pictures.ensure_thumbnail(thumbed, 256)
        other = await persona_with(studio, "Noor", "teal")
        before = await held(studio)
        await studio.personas.delete(mine)
        shared = (await studio.base_images.show(other)).versions[0]
        assert await held(studio) == {shared.sha256, shared.original_sha256}
        assert len(before) == 5  # two served, two as they came, one made
        assert await studio.blobs.get_derived(thumbed, "256") is None
        assert (await studio.blob_check.check()).ok
        assert (await studio.audit.verify()).ok
        async with studio.database.read() as session:
            stones = await BaseImageRepository(session).tombstones(mine)
        assert [stone.n for stone in stones] == [1, 2]
        await studio.personas.delete(other)
        assert await held(studio) == set()


async def test_what_cannot_be_deleted_is_left_to_the_check(
    settings_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a crash in between: the rows are gone, the blobs are named as orphans."""
    async with open_studio(settings_of) as studio:
        persona_id = await persona_with(studio, "Mira", "red")
        left = await held(studio)

        async def fails(sha256: str) -> None:
            raise StorageError("the disk is gone.")

        monkeypatch.setattr(studio.blobs, "delete", fails)
        await studio.personas.delete(persona_id)
        assert (await studio.personas.page(limit=1))[1] == 0
        monkeypatch.undo()
        report = await studio.blob_check.check(repair=True, grace_s=0)
        assert set(report.orphans) == set(report.removed) == left
        assert (await studio.blob_check.check()).ok


async def test_what_is_being_added_is_not_dropped(database: Database, tmp_path: Path) -> None:
    """A picture's bytes are there, its row is not committed yet."""
    blobs = BlobStore(tmp_path / "blobs")
    sha256 = await blobs.put(b"bytes")
    async with database.write() as session:
        await BlobReferences(session).hold()
        await blobs.put(b"bytes")
        dropping = asyncio.create_task(drop_unreferenced(database, blobs, [sha256]))
        await asyncio.sleep(0.3)
        assert await blobs.exists(sha256)
        assert not dropping.done()
    await dropping
    assert not await blobs.exists(sha256)
