"""What personas said, kept for ever in either database, also by several writers at once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Connection, inspect, text

from backend.captions.memory import CaptionMemory, Said, fingerprint
from backend.database.engine import Database
from backend.database.upgrade import downgrade, upgrade
from backend.errors import NotFound
from backend.models.persona import PersonaModel
from backend.services.caption_memory import SessionMemory, StoredCaptionMemory

MORNING = Said(
    "Good morning, river.", "template", ("open-noun.3", "core-2.1"), "rivers", "x", 2**53 - 1
)


@pytest.fixture
def memory(database: Database) -> CaptionMemory:
    return StoredCaptionMemory(database)


async def personas(database: Database, *ids: str) -> None:
    async with database.write() as session:
        for one in ids:
            session.add(PersonaModel(id=one, name=one, appearance="red hair", personality="warm"))


async def test_what_was_said_comes_back_newest_first(
    database: Database, memory: CaptionMemory
) -> None:
    await personas(database, "mira", "noa")
    posts = [MORNING, *(Said(f"Post {n}.", origin="llm") for n in range(4))]
    assert await memory.remember("mira", posts) == posts
    assert await memory.recall("mira", 2) == [posts[4], posts[3]]
    assert (await memory.recall("mira", 99))[-1] == MORNING
    assert await memory.recall("noa", 99) == []


async def test_a_text_is_said_once_for_ever_but_for_case_and_spaces(
    database: Database, memory: CaptionMemory
) -> None:
    await personas(database, "mira", "noa")
    await memory.remember("mira", [MORNING, *(Said(f"Post {n}.") for n in range(400))])
    again = Said("GOOD  morning,\nriver. ")
    assert await memory.said("mira", again.text)
    assert not await memory.said("noa", again.text)
    assert await memory.remember("mira", [again, Said("New."), Said("new.")]) == [Said("New.")]
    assert await memory.remember("noa", [again]) == [again]
    assert (await memory.recall("mira", 1))[0].text == "New."


async def test_a_post_s_forms_are_said_too_but_recalled_as_one(
    database: Database, memory: CaptionMemory
) -> None:
    await personas(database, "mira")
    await memory.remember("mira", [Said("A walk, in full.", forms=("A walk.", "Walk!"))])
    await memory.remember("mira", [Said("A swim.", forms=("A swim.", "WALK!"))])
    assert [one.text for one in await memory.recall("mira", 9)] == ["A swim.", "A walk, in full."]
    assert await memory.said("mira", "walk!")
    assert await memory.remember("mira", [Said("a walk.")]) == []


async def test_nobody_remembers_what_a_stranger_said(memory: CaptionMemory) -> None:
    with pytest.raises(NotFound, match="nobody"):
        await memory.remember("nobody", [MORNING])


async def test_a_persona_s_memory_goes_with_it(database: Database, memory: CaptionMemory) -> None:
    await personas(database, "mira")
    await memory.remember("mira", [MORNING])
    async with database.write() as session:
        await session.execute(text("DELETE FROM personas"))
    assert await memory.recall("mira", 9) == []


async def test_of_two_processes_that_say_the_same_at_once_one_is_told_so(
    database_url: str, database: Database
) -> None:
    await personas(database, "mira")
    other = Database(database_url)
    mine = [Said(f"Post {n}.", "llm") for n in range(20)]
    theirs = [Said(f"post  {n}.", "template") for n in reversed(range(20))]
    writers = [StoredCaptionMemory(one) for one in (database, other)]
    kept = await asyncio.gather(
        *(
            writers[n % 2].remember("mira", (mine, theirs)[n % 2][start : start + 5])
            for n in range(2)
            for start in range(0, 20, 5)
        )
    )
    all_kept = [fingerprint(one.text) for some in kept for one in some]
    assert len(all_kept) == len(set(all_kept)) == 20
    async with other.read() as session:
        numbers = await session.execute(text("SELECT sequence FROM caption_memory"))
        assert sorted(numbers.scalars()) == list(range(1, 21))
    await other.close()


async def test_a_memory_that_another_transaction_fills_is_waited_for(
    database_url: str, database: Database
) -> None:
    await personas(database, "mira")
    other = Database(database_url)
    async with database.write() as session:
        await SessionMemory(session).remember("mira", [MORNING])
        late = asyncio.create_task(StoredCaptionMemory(other).remember("mira", [MORNING]))
        await asyncio.wait([late], timeout=0.3)
        assert not late.done()
    assert await late == []
    await other.close()


CONTENT = (
    "INSERT INTO contents (id, persona_id, sha256, mime, width, height, size_bytes, prompt, seed, "
    "model, provider, kind, device, seconds, receipt, prompt_report, caption, caption_origin, "
    "caption_detail, captioned_at, created_at) VALUES (:id, :persona, 'a', 'image/png', 1, 1, 1, "
    "'a wall', 1, 'm', 'local', 'diffusion', 'cpu:0', 1, '{}', '{}', :caption, :origin, :detail, "
    ":at, :made)"
)


async def write_old_contents(database: Database) -> None:
    """Write contents as revision 0007 has them."""
    rows: list[tuple[Any, ...]] = [
        ("c3", "mira", "Third.", "llm", '{"seed": 3, "degraded_reason": null}', 3),
        ("c1", "mira", "First.", "template", '{"seed": 1, "degraded_reason": "it is dead"}', 1),
        ("c2", "mira", "first. ", "template", '{"seed": "odd"}', 2),
        ("c4", "noa", "First.", None, None, None),
        ("c5", "noa", None, None, None, None),
        ("c6", None, "Of nobody.", "template", '{"degraded_reason": null}', 6),
    ]
    async with database.engine.begin() as connection:
        for name in ("mira", "noa"):
            await connection.execute(
                text(
                    "INSERT INTO personas (id, name, appearance, personality) "
                    "VALUES (:name, :name, 'red hair', 'warm')"
                ),
                {"name": name},
            )
        for id_, persona, caption, origin, detail, hour in rows:
            made = datetime(2026, 1, 1, tzinfo=UTC)
            await connection.execute(
                text(CONTENT),
                {
                    "id": id_,
                    "persona": persona,
                    "caption": caption,
                    "origin": origin,
                    "detail": detail,
                    "at": hour and made.replace(hour=hour),
                    "made": made,
                },
            )


async def test_the_memory_fills_itself_from_the_captions_there_are(database_url: str) -> None:
    database = Database(database_url)
    await upgrade(database, "0007")
    await write_old_contents(database)
    await upgrade(database)
    memory = StoredCaptionMemory(database)
    said = await memory.recall("mira", 9)
    assert [(one.text, one.origin, one.seed) for one in said] == [
        ("Third.", "llm", 3),
        ("First.", "template", 1),
    ]
    assert [one.text for one in await memory.recall("noa", 9)] == ["First."]
    assert await memory.said("mira", "FIRST.")
    async with database.read() as session:
        drafts = await session.execute(text("SELECT id FROM contents WHERE caption_draft"))
        assert drafts.scalars().all() == ["c1"]
    await memory.remember("mira", [Said("Fourth.")])
    assert [one.text for one in await memory.recall("mira", 2)] == ["Fourth.", "Third."]
    await database.close()


async def test_the_memory_goes_down_and_comes_up_again(database_url: str) -> None:
    database = Database(database_url)
    await upgrade(database, "0007")
    await write_old_contents(database)
    await upgrade(database)
    await downgrade(database, "0007")

    def tables(connection: Connection) -> tuple[set[str], set[str]]:
        inspector = inspect(connection)
        return set(inspector.get_table_names()), {
            c["name"] for c in inspector.get_columns("contents")
        }

    async with database.engine.connect() as connection:
        names, columns = await connection.run_sync(tables)
    assert "caption_memory" not in names
    assert "caption_draft" not in columns
    await upgrade(database)
    assert len(await StoredCaptionMemory(database).recall("mira", 9)) == 2
    await database.close()
