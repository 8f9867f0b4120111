"""The check of blobs against the tables, on both databases."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from backend.database.engine import Database
from backend.models.base import Base
from backend.models.base_image import BaseImageVersionModel
from backend.models.persona import PersonaModel
from backend.repositories.blob_references import REFERENCES
from backend.services.blob_check import BlobCheck, BlobReport
from backend.storage.blobs import BlobStore

NOT_REFERENCES = {"base_image_tombstones.sha256", "base_image_tombstones.original_sha256"}


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


@pytest_asyncio.fixture
async def check(database: Database, blobs: BlobStore) -> BlobCheck:
    return BlobCheck(database, blobs)


async def version(database: Database, sha256: str, original_sha256: str | None = None) -> None:
    """Write a row that refers to blobs."""
    texts = ("mime", "method", "provider", "model", "kind", "device", "prompt", "created_by")
    values: dict[str, Any] = dict.fromkeys(texts, "-")
    values |= {key: {} for key in ("look", "receipt", "prompt_report")}
    values |= dict.fromkeys(("width", "height", "size_bytes", "seed", "seconds"), 1)
    async with database.write() as session:
        persona = PersonaModel(name=f"Mira {sha256[:8]}", appearance="red", personality="calm")
        session.add(persona)
        await session.flush()
        session.add(
            BaseImageVersionModel(
                persona_id=persona.id,
                n=1,
                sha256=sha256,
                original_sha256=original_sha256,
                **values,
            )
        )


def path_of(blobs: BlobStore, sha256: str) -> Path:
    assert blobs.folder
    return blobs.folder / sha256[:2] / sha256[2:]


def age(path: Path, seconds: float = 7_200) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


async def test_all_is_well(check: BlobCheck, database: Database, blobs: BlobStore) -> None:
    served, original = await blobs.put(b"served"), await blobs.put(b"original")
    await version(database, served, original)
    report = await check.check()
    assert report == BlobReport(blobs=2, bytes=14)
    assert report.ok
    assert (await check.check(repair=True)).ok


async def test_everything_wrong_is_named(
    check: BlobCheck, database: Database, blobs: BlobStore
) -> None:
    good, gone, bad = [await blobs.put(data) for data in (b"good", b"gone", b"bad")]
    orphan = await blobs.put(b"orphan")
    await version(database, good, gone)
    await version(database, bad)
    path_of(blobs, gone).unlink()
    path_of(blobs, bad).write_bytes(b"bits rot")
    assert blobs.folder
    (blobs.folder / "tmp" / "1234.part").write_bytes(b"half a pic")
    report = await check.check()
    assert report == BlobReport(
        blobs=3,
        bytes=18,
        orphans=(orphan,),
        missing=(gone,),
        damaged=(bad,),
        temporary=("tmp/1234.part",),
    )
    assert not report.ok
    assert path_of(blobs, orphan).exists()


async def test_repair_mends_what_it_can(
    check: BlobCheck, database: Database, blobs: BlobStore
) -> None:
    good, bad = await blobs.put(b"good"), await blobs.put(b"bad")
    old, young = await blobs.put(b"old orphan"), await blobs.put(b"young orphan")
    await version(database, good)
    await version(database, bad)
    await blobs.put_derived(old, "256", b"small")
    path_of(blobs, bad).write_bytes(b"bits rot")
    assert blobs.folder
    leftovers = [blobs.folder / "tmp" / name for name in ("old.part", "young.part")]
    for leftover in leftovers:
        leftover.write_bytes(b"half a pic")
    for path in (path_of(blobs, old), path_of(blobs, good), leftovers[0]):
        age(path)
    report = await check.check(repair=True)
    assert set(report.orphans) == {old, young}
    assert set(report.removed) == {old, "tmp/old.part"}
    assert report.quarantined == report.damaged == (bad,)
    assert await blobs.exists(good)
    assert await blobs.exists(young)
    assert await blobs.get_derived(old, "256") is None
    (aside,) = (blobs.folder / "damaged").iterdir()
    assert (aside.name.startswith(bad), aside.read_bytes()) == (True, b"bits rot")
    again = await check.check()
    assert (again.orphans, again.missing, again.damaged) == ((young,), (bad,), ())
    assert again.temporary == ("tmp/young.part",)
    await blobs.put(b"bad")
    await check.check(repair=True, grace_s=-60)
    assert (await check.check()).ok


async def test_an_orphan_that_is_put_again_is_young_again(
    check: BlobCheck, database: Database, blobs: BlobStore
) -> None:
    sha256 = await blobs.put(b"seeded once, purged, seeded again")
    age(path_of(blobs, sha256))
    await blobs.put(b"seeded once, purged, seeded again")
    assert (await check.check(repair=True)).removed == ()
    await version(database, sha256)
    assert (await check.check()).ok


def test_every_column_that_names_a_blob_is_known() -> None:
    named = {f"{column.class_.__tablename__}.{column.key}" for column in REFERENCES}
    found = {
        f"{table.name}.{column.name}"
        for table in Base.metadata.sorted_tables
        for column in table.columns
        if column.name.endswith("sha256")
    }
    assert found == named | NOT_REFERENCES
