"""Databases from before the approval workflow: whoever made the table, every row works today."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from typer.testing import CliRunner

from backend.bootstrap import Studio, open_studio
from backend.cli.main import app
from backend.config import Settings, child_environment, load_settings
from backend.database.engine import Database
from backend.database.upgrade import head_revision, upgrade
from backend.repositories.legacy import IMAGE_TOO_SMALL, LegacyRepository
from tests.fixtures.base_images import APPROVER, EDITOR, PERSONA, picture

SCRIPT = Path(__file__).parents[2] / "migrate_add_base_image_status.py"
LEGACY = """
CREATE TABLE personas (
    id {key} PRIMARY KEY, name VARCHAR(100) NOT NULL, appearance TEXT NOT NULL,
    personality TEXT NOT NULL, content_themes {json} NOT NULL DEFAULT '[]',
    style_preferences {json} DEFAULT '{{}}', base_appearance_description TEXT,
    base_image_path VARCHAR(500), appearance_locked BOOLEAN NOT NULL DEFAULT FALSE,
    created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP {more})
"""


async def execute(url: str, *statements: Any) -> None:
    database = Database(url)
    async with database.engine.begin() as connection:
        for statement in statements:
            await connection.execute(
                text(statement) if isinstance(statement, str) else statement[0],
                None if isinstance(statement, str) else statement[1],
            )
    await database.close()


async def make(
    url: str, *, key: str = "VARCHAR(36)", json: str = "JSON", more: str = "", ids: Any = None
) -> None:
    rows = ids or ["id-0", "id-1", "id-2"]
    insert = text(
        "INSERT INTO personas (id, name, appearance, personality, style_preferences, "
        "appearance_locked, base_image_path) VALUES (:id, :name, 'red hair', 'warm', NULL, "
        ":locked, :path)"
    )
    values = [
        {"id": one, "name": f"Old {i}", "locked": i == 1, "path": f"uploads/{i}.png" if i else None}
        for i, one in enumerate(rows)
    ]
    await execute(url, LEGACY.format(key=key, json=json, more=more), *((insert, v) for v in values))


def settings_of(url: str, tmp_path: Path) -> Settings:
    return load_settings(home=tmp_path / "home", devices="cpu:1", database_url=url)


async def check_works(studio: Studio, ids: list[str]) -> None:
    """Old rows are read, changed, seeded and approved, and a new persona is made beside them."""
    personas, total = await studio.personas.page(limit=10)
    assert total == len(ids)
    assert sorted(persona.id for persona in personas) == sorted(ids)
    assert all(persona.content_themes == [] for persona in personas)
    assert all(persona.style_preferences == {} for persona in personas)
    assert all(persona.created_at.tzinfo is not None for persona in personas)
    for persona_id in ids[:2]:
        await studio.base_images.seed_upload(persona_id, picture(), actor=EDITOR)
        view = await studio.base_images.approve(
            persona_id, None, actor=APPROVER, likeness_attestation=True
        )
        assert view.persona.base_image_status == "approved"
    made = await studio.personas.create(PERSONA)
    assert (await studio.personas.find(made.id)).name == PERSONA.name
    await studio.personas.delete(ids[0])
    assert (await studio.audit.verify()).ok


async def test_integer_ids_become_text_and_what_refers_to_them_stays(
    database_url: str, tmp_path: Path
) -> None:
    await make(database_url, key="INTEGER", ids=[1, 2, 3])
    await execute(
        database_url,
        "CREATE TABLE posts (id INTEGER PRIMARY KEY, persona_id INTEGER NOT NULL "
        "REFERENCES personas (id) ON DELETE CASCADE)",
        "INSERT INTO posts VALUES (1, 1), (2, 2)",
    )
    async with open_studio(settings_of(database_url, tmp_path)) as studio:
        async with studio.database.read() as session:
            posts = await session.execute(text("SELECT id, persona_id FROM posts ORDER BY id"))
            assert [(post, str(persona)) for post, persona in posts] == [(1, "1"), (2, "2")]
        await check_works(studio, ["1", "2", "3"])
        async with studio.database.read() as session:
            left = await session.execute(text("SELECT id FROM posts"))
            assert left.scalars().all() == [2], "the cascade of the old key still holds"


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_uuid_ids_on_postgresql(database_url: str, tmp_path: Path) -> None:
    ids = [uuid.uuid4() for _ in range(3)]
    await make(database_url, key="UUID DEFAULT gen_random_uuid()", json="JSONB", ids=ids)
    async with open_studio(settings_of(database_url, tmp_path)) as studio:
        await check_works(studio, [str(one) for one in ids])


async def test_columns_that_nobody_fills_do_not_stop_new_personas(
    database_url: str, tmp_path: Path
) -> None:
    more = ", region VARCHAR(10) NOT NULL CHECK (region <> '')"
    table = LEGACY.format(key="VARCHAR(36)", json="TEXT", more=more)
    row = (
        "INSERT INTO personas (id, name, appearance, personality, region) "
        "VALUES ('a', 'Old', 'red hair', 'warm', 'north'), ('b', 'Two', 'bald', 'dry', 'south')"
    )
    await execute(database_url, table, row)
    async with open_studio(settings_of(database_url, tmp_path)) as studio:
        await check_works(studio, ["a", "b"])
        async with studio.database.read() as session:
            regions = await session.execute(text("SELECT region FROM personas ORDER BY region"))
            assert sorted(filter(None, regions.scalars())) == ["south"]


async def test_a_table_that_lacks_columns_is_completed(database_url: str, tmp_path: Path) -> None:
    await execute(
        database_url,
        "CREATE TABLE personas (id VARCHAR(36) PRIMARY KEY, name VARCHAR(100) NOT NULL, "
        "appearance TEXT NOT NULL, personality TEXT NOT NULL, base_image_status VARCHAR(20))",
        "INSERT INTO personas VALUES ('a', 'Old', 'red hair', 'warm', 'DRAFT'), "
        "('b', 'Two', 'bald', 'dry', NULL), ('c', 'Three', 'bald', 'dry', 'whatever')",
    )
    async with open_studio(settings_of(database_url, tmp_path)) as studio:
        personas, _ = await studio.personas.page(limit=10)
        assert {p.id: p.base_image_status for p in personas} == {
            "a": "draft", "b": "pending_upload", "c": "pending_upload",
        }  # fmt: skip
        await check_works(studio, ["a", "b", "c"])


@pytest.mark.parametrize("ids", [[], ["a", "b"]])
async def test_a_column_that_a_later_revision_would_add_may_be_there(
    database_url: str, tmp_path: Path, ids: list[str]
) -> None:
    await execute(
        database_url,
        LEGACY.format(key="VARCHAR(36)", json="JSON", more=", revision INTEGER NOT NULL DEFAULT 1"),
        *(
            "INSERT INTO personas (id, name, appearance, personality) "
            f"VALUES ('{one}', 'Old', 'red hair', 'warm')"
            for one in ids
        ),
    )
    async with open_studio(settings_of(database_url, tmp_path)) as studio:
        if ids:
            await check_works(studio, ids)
        made = await studio.personas.create(PERSONA)
        with pytest.raises(IntegrityError, match="locked_iff_approved"):
            async with studio.database.write() as session:
                await session.execute(
                    text("UPDATE personas SET appearance_locked = true WHERE id = :id"),
                    {"id": made.id},
                )


async def test_an_empty_history_is_begun(database_url: str, tmp_path: Path) -> None:
    await make(database_url)
    await execute(database_url, "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
    assert "3 of 3 persona(s) kept; revision 0002." in run_script(database_url)


async def test_legacy_images_become_drafts_and_the_rest_is_listed(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / "uploads").mkdir(parents=True)
    (home / "uploads" / "1.png").write_bytes(picture())
    await make(database_url)
    await execute(
        database_url,
        "INSERT INTO personas (id, name, appearance, personality, base_image_path) VALUES "
        f"('x', 'Absolute', 'bald', 'dry', '{tmp_path}/absolute.png'), "
        "('y', 'Outside', 'bald', 'dry', '../absolute.png'), "
        f"('z', 'No picture', 'bald', 'dry', '{__file__}')",
    )
    (tmp_path / "absolute.png").write_bytes(picture(9))
    async with open_studio(settings_of(database_url, tmp_path)) as studio:
        for name, data in (("Old 1", picture()), ("Absolute", picture(9))):
            view = await studio.base_images.show(name)
            (version,) = view.versions
            assert (version.n, version.method) == (1, "legacy")
            assert version.original_sha256 == hashlib.sha256(data).hexdigest()
            assert (view.persona.base_image_status, view.persona.appearance_locked) == (
                "draft", False,
            )  # fmt: skip
            await studio.base_images.approve(name, 1, actor=APPROVER)
        for name in ("Old 0", "Old 2", "Outside", "No picture"):
            view = await studio.base_images.show(name)
            assert (view.persona.base_image_status, view.versions) == ("pending_upload", ())
        assert (await studio.audit.verify()).ok
    monkeypatch.setenv("GATOR_HOME", str(home))
    monkeypatch.setenv("GATOR_DATABASE_URL", database_url)
    told = await upgraded_by_cli()
    assert told["adopted"] == []
    assert {one["persona"] for one in told["missing"]} == {"Old 2", "Outside", "No picture"}
    assert told["locks"] == ["Old 1"]
    (home / "uploads" / "2.png").write_bytes(picture())
    assert (await upgraded_by_cli())["adopted"] == ["Old 2"]
    assert {one["persona"] for one in (await upgraded_by_cli())["missing"]} == {
        "Outside", "No picture",
    }  # fmt: skip


async def test_an_image_that_is_too_small_is_listed_as_such(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / "uploads").mkdir(parents=True)
    buffer = io.BytesIO()
    Image.new("RGB", (200, 180), "teal").save(buffer, "PNG")
    (home / "uploads" / "1.png").write_bytes(buffer.getvalue())
    await make(database_url)
    monkeypatch.setenv("GATOR_HOME", str(home))
    monkeypatch.setenv("GATOR_DATABASE_URL", database_url)
    words = "too small: 200x180, at least 256 are needed"
    for _ in range(2):
        told = await upgraded_by_cli()
        (small,) = told["too_small"]
        assert (small["persona"], small["problem"]) == ("Old 1", words)
        assert {one["persona"] for one in told["missing"]} == {"Old 2"}
    done = await asyncio.to_thread(CliRunner().invoke, app, ["db", "upgrade"])
    assert f"the image of Old 1 is {words}: " in done.output
    assert "the image of Old 2 is missing: " in done.output
    database = Database(database_url)
    async with database.read() as session:
        (note,) = await LegacyRepository(session).notes(IMAGE_TOO_SMALL)
    assert (note.persona_name, words in str(note.detail)) == ("Old 1", True)
    await database.close()
    (home / "uploads" / "1.png").write_bytes(picture())
    told = await upgraded_by_cli()
    assert (told["adopted"], told["too_small"]) == (["Old 1"], [])


async def upgraded_by_cli() -> dict[str, Any]:
    done = await asyncio.to_thread(CliRunner().invoke, app, ["db", "upgrade", "--json"])
    assert done.exit_code == 0, done.output
    told: dict[str, Any] = json.loads(done.output)
    assert told["after"] == head_revision()
    return told


@pytest.mark.parametrize(("locked", "status"), [(True, "draft"), (False, "approved")])
async def test_old_rows_are_held_to_the_lock_too(
    database_url: str, locked: bool, status: str
) -> None:
    await make(database_url)
    database = Database(database_url)
    await upgrade(database)
    change = "UPDATE personas SET appearance_locked = :locked, base_image_status = :status"
    async with database.write() as session:
        await session.execute(text("UPDATE personas SET base_image_status = 'draft'"))
    with pytest.raises(IntegrityError, match="locked_iff_approved"):
        async with database.write() as session:
            await session.execute(text(change), {"locked": locked, "status": status})
    await database.close()


def run_script(url: str, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--database-url", url, *options],
        capture_output=True,
        text=True,
        env=child_environment({}),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def dump(url: str) -> list[Any]:
    """Return all that the table holds, and what it looks like."""
    database = Database(url)
    async with database.engine.connect() as connection:
        rows = (await connection.execute(text("SELECT * FROM personas ORDER BY id"))).mappings()
        found: list[Any] = [dict(row) for row in rows]
    await database.close()
    return found


async def test_a_dry_run_changes_nothing_and_says_what_would_be(
    database_url: str, tmp_path: Path
) -> None:
    await make(database_url)
    file = tmp_path / "test.sqlite3"
    before = await dump(database_url), file.read_bytes() if file.exists() else b""
    told = run_script(database_url, "--dry-run")
    assert "would add column base_image_status, would add its index" in told
    assert "3 persona(s) stay. 1 lock(s) without an approval fall" in told
    assert "nothing to do" in run_script(database_url, "--dry-run", "--downgrade")
    assert before == (await dump(database_url), file.read_bytes() if file.exists() else b"")


def test_a_dry_run_makes_no_database(tmp_path: Path) -> None:
    file = tmp_path / "none" / "gator.sqlite3"
    assert "there are no personas" in run_script(f"sqlite+aiosqlite:///{file}", "--dry-run")
    assert not file.parent.exists()


async def test_there_and_back_again_by_the_script(database_url: str) -> None:
    await make(database_url)
    before = await dump(database_url)
    run_script(database_url)
    assert "would remove column" in run_script(database_url, "--downgrade", "--dry-run")
    assert "3 of 3 persona(s) kept" in run_script(database_url, "--downgrade")
    assert await dump(database_url) == before
    assert "nothing to do" in run_script(database_url, "--downgrade")
    run_script(database_url)


async def test_back_from_today_keeps_every_row(database_url: str) -> None:
    await make(database_url)
    before = await dump(database_url)
    database = Database(database_url)
    await upgrade(database)
    await database.close()
    assert "3 of 3 persona(s) kept; revision 0001." in run_script(database_url, "--downgrade")
    after = await dump(database_url)
    for row in before:
        row.update(style_preferences=after[0]["style_preferences"])
    for row, was in zip(after, before, strict=True):
        assert {k: v for k, v in row.items() if not k.endswith("_at")} == {
            k: v for k, v in was.items() if not k.endswith("_at")
        }
    database = Database(database_url)
    assert await upgrade(database) == ("0001", head_revision())
    await database.close()


async def test_a_migration_that_fails_leaves_all_as_it_was(database_url: str) -> None:
    await make(database_url)
    await execute(database_url, "CREATE TABLE base_image_events (id INTEGER)")
    before = await dump(database_url)
    database = Database(database_url)
    with pytest.raises(Exception, match="base_image_events"):
        await upgrade(database)
    await database.close()
    assert await dump(database_url) == before
