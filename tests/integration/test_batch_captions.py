"""Captions of batches: the same whenever and by whom they are written, and never twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest_asyncio
from sqlalchemy import select

from backend.captions.chain import Chain
from backend.captions.llm import Rung
from backend.captions.memory import HORIZON, Said
from backend.config import Settings
from backend.database.engine import Database
from backend.database.upgrade import upgrade
from backend.models.batch import BatchModel
from backend.models.content import ContentModel
from backend.services.batch_captions import BatchCaptions
from backend.services.caption_memory import StoredCaptionMemory
from backend.services.content_generation_service import ContentGenerationService
from backend.services.template_service import TemplateService
from tests.fixtures import contents
from tests.fixtures.chat_endpoint import dead_url

PLACES = ("harbour", "station", "old mill", "river", "market", "garden")
PROMPTS = [
    f"{what} by the {where}" for what in ("a mural", "lanterns", "walking home") for where in PLACES
]
LONG_AGO = [
    Said(f"Post {n} of long ago.", "llm" if n % 3 else "template", (f"f{n}",) if n % 3 == 0 else ())
    for n in range(HORIZON + 25)
]


@pytest_asyncio.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Callable[[str], Any]]:
    """Open databases by name, each with the persona and what she said long ago."""
    databases: list[Database] = []

    async def open_database(name: str) -> Database:
        database = Database(f"sqlite+aiosqlite:///{tmp_path / name}.sqlite3")
        databases.append(database)
        await upgrade(database)
        await contents.persona(database)
        await StoredCaptionMemory(database).remember("mira", LONG_AGO)
        return database

    yield open_database
    for database in databases:
        await database.close()


def writer(database: Database, name: str = "me", **more: Any) -> BatchCaptions:
    memory = StoredCaptionMemory(database)
    settings = Settings(_env_file=None)
    service = more.pop("service", ContentGenerationService)(settings, memory=memory, **more)
    return BatchCaptions(database, service, name)


async def to_the_end(captions: BatchCaptions, batch_id: str) -> None:
    while await captions.advance(batch_id):
        pass


async def written(database: Database, batch_id: str) -> list[ContentModel]:
    async with database.read() as session:
        statement = select(ContentModel).where(ContentModel.id.like(f"{batch_id}-%"))
        found = {one.id: one for one in await session.scalars(statement)}
    return [found[f"{batch_id}-{n}"] for n in range(len(found))]


async def texts(database: Database, batch_id: str = "b") -> list[str | None]:
    return [one.caption for one in await written(database, batch_id)]


async def state_of(database: Database, batch_id: str = "b") -> str:
    async with database.read() as session:
        return (await session.get_one(BatchModel, batch_id)).state


async def test_a_batch_has_the_same_captions_however_it_was_interrupted(
    opened: Any, rounds: Any
) -> None:
    prompts = PROMPTS * 3
    whole = await opened("whole")
    await contents.batch(whole, "b", prompts, done=len(prompts))
    await to_the_end(writer(whole), "b")
    expected = await texts(whole)
    assert len(set(expected)) == len(prompts)
    for seed in range(rounds(2, 12)):
        random = Random(seed)
        pieces = await opened(f"pieces{seed}")
        await contents.batch(pieces, "b", prompts, done=0)
        while await state_of(pieces) == "running":
            await contents.finish(pieces, "b", random.randrange(1, 14))
            process = writer(pieces, f"p{random.random()}")
            for _ in range(random.randrange(3)):
                await process.advance("b")
        assert await texts(pieces) == expected


async def test_two_processes_never_say_the_same_of_a_persona(
    database_url: str, database: Database
) -> None:
    await contents.persona(database)
    for batch_id in ("a", "b"):
        await contents.batch(database, batch_id, PROMPTS, done=len(PROMPTS))
    other = Database(database_url)
    await asyncio.gather(
        to_the_end(writer(database, "me"), "a"), to_the_end(writer(other, "you"), "b")
    )
    said = [*await texts(database, "a"), *await texts(database, "b")]
    assert None not in said
    assert len(set(said)) == 2 * len(PROMPTS)
    remembered = await StoredCaptionMemory(database).recall("mira", 99)
    assert {one.text for one in remembered} == set(said)
    await other.close()


async def test_who_is_overtaken_keeps_what_came_before_and_draws_the_rest_again(
    opened: Any,
) -> None:
    database = await opened("one")
    await contents.batch(database, "b", PROMPTS[:8], done=8)

    class Overtaken(ContentGenerationService):
        """Another process says the fourth caption before it is kept."""

        overtaken: list[str] = []  # noqa: RUF012

        async def post(self, *args: Any, **kwargs: Any) -> Any:
            post = await super().post(*args, **kwargs)
            self.overtaken.append(post.main.text)
            if len(self.overtaken) == 4:
                memory = StoredCaptionMemory(database)
                assert await memory.remember("mira", [Said(post.main.text.upper())])
            return post

    mine = writer(database, service=Overtaken)
    assert await mine.advance("b")
    kept = await texts(database)
    assert kept == [*Overtaken.overtaken[:3], *[None] * 5]
    await to_the_end(mine, "b")
    final = await texts(database)
    assert final[:3] == Overtaken.overtaken[:3]
    assert None not in final
    assert Overtaken.overtaken[3] not in final
    assert await state_of(database) == "done"


async def test_a_batch_s_terms_hold_for_its_captions(opened: Any) -> None:
    database = await opened("one")
    terms = {"platforms": ["x", "linkedin"], "locale": "de", "time_of_day": "morning"}
    await contents.batch(database, "b", PROMPTS[:3], done=3, caption_terms=terms)
    await to_the_end(writer(database), "b")
    for one in await written(database, "b"):
        detail = one.caption_detail or {}
        assert list(detail["forms"]) == ["x", "linkedin"]
        assert one.caption in {form["text"] for form in detail["forms"].values()}
        assert (detail["locale"], detail["terms"], one.caption_draft) == ("de", terms, False)
        assert {"seed", "style", "theme", "plan", "fragments", "scores", "findings"} <= set(detail)


async def test_drafts_are_marked_while_no_model_answers(opened: Any) -> None:
    database = await opened("one")
    await contents.batch(database, "b", PROMPTS[:3], done=3)
    chain = Chain([Rung("dead", dead_url(), "m", probe_after_s=60)])
    await to_the_end(writer(database, chain=chain), "b")
    await chain.aclose()
    made = await written(database, "b")
    assert all(one.caption and one.caption_draft for one in made)
    assert all((one.caption_detail or {})["degraded_reason"] for one in made)


async def test_a_picture_without_a_caption_says_why(opened: Any) -> None:
    class Boasting(TemplateService):
        def generate_fallback_text(self, **asked: Any) -> str:  # type: ignore[override]
            if "mill" in str(asked["prompt"]):
                return "My creative mural by the old mill is 7 times as good, share it."
            return super().generate_fallback_text(**asked)

    database = await opened("one")
    await contents.batch(database, "b", PROMPTS[:4], done=4)
    await to_the_end(writer(database, template_service=Boasting()), "b")
    made = await written(database, "b")
    assert [bool(one.caption) for one in made] == [True, True, False, True]
    detail = made[2].caption_detail or {}
    assert detail["error"]["code"] == "content_rejected"
    assert detail["findings"][0]["code"] == "invented_number"
    assert (made[2].captioned_at, made[2].caption_origin) == (None, None)
    assert await state_of(database) == "done"
