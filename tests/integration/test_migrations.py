"""The one migration history, on both databases, from the days before it to today."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import IntegrityError

import backend.models.batch
import backend.models.content
import backend.models.persona  # noqa: F401 - the tables register themselves
from backend.config import child_environment
from backend.database.engine import Database
from backend.database.upgrade import alembic_config, head_revision, upgrade
from backend.models.base import Base
from backend.repositories.personas import PersonaRepository

SCRIPT = Path(__file__).parents[2] / "migrate_add_base_image_status.py"
LEGACY = """
CREATE TABLE personas (
    id VARCHAR(36) PRIMARY KEY, name VARCHAR(100) NOT NULL, appearance TEXT NOT NULL,
    personality TEXT NOT NULL, content_themes JSON NOT NULL DEFAULT '[]',
    style_preferences JSON NOT NULL DEFAULT '{}', base_appearance_description TEXT,
    base_image_path VARCHAR(500), appearance_locked BOOLEAN NOT NULL DEFAULT FALSE,
    created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP)
"""
ROW = (
    "INSERT INTO personas (id, name, appearance, personality, base_image_path, appearance_locked) "
    "VALUES (:id, :name, 'red hair', 'warm', :path, :locked)"
)


async def make_legacy(url: str, rows: int = 3) -> None:
    database = Database(url)
    async with database.engine.begin() as connection:
        await connection.execute(text(LEGACY))
        for i in range(rows):
            values = {"id": f"id-{i}", "name": f"Old {i}", "path": f"{i}.png", "locked": i == 1}
            await connection.execute(text(ROW), values)
    await database.close()


def run_script(url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), "--database-url", url],
        capture_output=True,
        text=True,
        env=child_environment({}),
        check=False,
    )


async def test_a_fresh_database_becomes_what_the_models_say(database_url: str) -> None:
    database = Database(database_url)
    assert await upgrade(database) == (None, head_revision())
    assert await upgrade(database) == (head_revision(), head_revision())

    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), Base.metadata))

    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await database.close()


async def test_the_script_adds_column_and_index_keeps_rows_and_runs_twice(
    database_url: str,
) -> None:
    await make_legacy(database_url)
    first, second = run_script(database_url), run_script(database_url)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "added column base_image_status" in first.stdout
    assert "3 of 3 persona(s) kept" in first.stdout
    assert "nothing to do" in second.stdout
    database = Database(database_url)
    async with database.engine.connect() as connection:
        rows = await connection.execute(
            text("SELECT name, base_image_status FROM personas ORDER BY name")
        )
        assert [tuple(row) for row in rows] == [(f"Old {i}", "pending_upload") for i in range(3)]
        indexes = await connection.run_sync(lambda c: inspect(c).get_indexes("personas"))
        assert ["base_image_status"] in [index["column_names"] for index in indexes]
    await database.close()


async def test_a_hand_made_column_is_kept(database_url: str) -> None:
    await make_legacy(database_url)
    database = Database(database_url)
    async with database.engine.begin() as connection:
        await connection.execute(
            text(
                "ALTER TABLE personas ADD COLUMN base_image_status VARCHAR(20) NOT NULL "
                "DEFAULT 'draft'"
            )
        )
    await database.close()
    assert "column was there already" in run_script(database_url).stdout
    async with database.engine.connect() as connection:
        statuses = await connection.execute(text("SELECT DISTINCT base_image_status FROM personas"))
        assert statuses.scalars().all() == ["draft"]
    await database.close()


async def test_legacy_rows_work_today_and_their_locks_have_fallen(database_url: str) -> None:
    await make_legacy(database_url)
    database = Database(database_url)
    await upgrade(database)
    async with database.read() as session:
        personas, total = await PersonaRepository(session).page(limit=10, offset=0)
    assert total == 3
    assert [p.appearance_locked for p in personas] == [False] * 3
    assert [p.revision for p in personas] == [1] * 3
    await database.close()


async def test_down_and_up_again_keeps_every_row(database_url: str) -> None:
    await make_legacy(database_url)
    database = Database(database_url)
    await upgrade(database)

    def down(connection: Connection) -> None:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")

    async with database.engine.begin() as connection:
        await connection.run_sync(down)
        columns = await connection.run_sync(lambda c: inspect(c).get_columns("personas"))
        assert "base_image_status" not in {column["name"] for column in columns}
    await upgrade(database)
    async with database.engine.connect() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM personas"))).scalar() == 3
    await database.close()


@pytest.mark.parametrize(("locked", "status"), [(True, "draft"), (False, "approved")])
async def test_the_database_itself_ties_the_lock_to_approval(
    database: Database, locked: bool, status: str
) -> None:
    statement = text(
        "INSERT INTO personas (id, name, appearance, personality, appearance_locked, "
        "base_image_status) VALUES ('x', 'x', 'x', 'x', :locked, :status)"
    )
    with pytest.raises(IntegrityError, match="locked_iff_approved"):
        async with database.write() as session:
            await session.execute(statement, {"locked": locked, "status": status})


def test_a_database_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run_script(f"sqlite+aiosqlite:///{tmp_path}/file/gator.sqlite3")
    assert done.returncode == 1
    assert "cannot be" in done.stderr
    assert "Traceback" not in done.stderr
