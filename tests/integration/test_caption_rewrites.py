"""Captions written anew: by a model where the templates wrote, by a person for good."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import update

from backend.captions.chain import Chain
from backend.captions.llm import Rung
from backend.config import Settings
from backend.database.engine import Database
from backend.errors import Conflict, ContentRejected, NotFound, ProviderError
from backend.models.account import LOCAL_OWNER
from backend.models.content import ContentModel
from backend.services.batch_captions import BatchCaptions
from backend.services.caption_memory import StoredCaptionMemory
from backend.services.caption_rewrites import CaptionRewrites
from backend.services.content_generation_service import ContentGenerationService
from tests.fixtures import contents
from tests.fixtures.chat_endpoint import ChatEndpoint, chat_endpoint, refused, streamed

PROMPTS = ["a mural", "a harbour", "lanterns"]
REFUSED = streamed("As an AI language model I can't write that.")


ABOUT = {
    "a mural": "Fresh paint! The mural next to my favourite street food stall has a new corner.",
    "a harbour": "Gulls, salt, and street food in paper bags. The harbour can feed a crowd.",
    "lanterns": "Who else slows down under lanterns? Murals look braver in that light.",
}


@pytest.fixture
def endpoint() -> Iterator[ChatEndpoint]:
    with chat_endpoint() as state:
        state.answers = [streamed(ABOUT[prompt]) for prompt in reversed(PROMPTS)]  # newest first
        yield state


@pytest_asyncio.fixture
async def drafts(database: Database) -> AsyncIterator[list[str]]:
    """Three pictures whose captions wait for a language model; the newest first."""
    await contents.persona(database)
    await contents.batch(database, "b", PROMPTS, done=3)
    with chat_endpoint() as broken:
        broken.answers = [refused(500)]
        service = studio_of(database, broken)
        await BatchCaptions(database, service, "me").advance("b")
        await service.chain.aclose()
    yield [f"b-{n}" for n in (2, 1, 0)]


def studio_of(database: Database, *endpoints: ChatEndpoint) -> ContentGenerationService:
    chain = Chain([Rung("near", one.url, "m", probe_after_s=60) for one in endpoints])
    memory = StoredCaptionMemory(database)
    return ContentGenerationService(Settings(_env_file=None), chain=chain, memory=memory)


async def read(database: Database, content_id: str) -> ContentModel:
    async with database.read() as session:
        return await session.get_one(ContentModel, content_id)


async def test_a_draft_is_rewritten_and_its_old_text_kept(
    database: Database, drafts: list[str], endpoint: ChatEndpoint
) -> None:
    endpoint.answers = [streamed(ABOUT["a mural"])]
    rewrites = CaptionRewrites(database, studio_of(database, endpoint))
    before = await read(database, "b-0")
    assert sorted(await rewrites.drafts(9)) == sorted(drafts)
    after = await rewrites.rewrite("b-0")
    assert (after.caption, after.caption_origin) == (ABOUT["a mural"], "llm")
    assert not after.caption_draft
    detail = after.caption_detail or {}
    assert (detail["model"], detail["rung"], detail["degraded_reason"]) == ("m", "near", None)
    (former,) = detail["history"]
    assert (former["text"], former["origin"]) == (before.caption, "template")
    assert former["detail"]["degraded_reason"]
    memory = StoredCaptionMemory(database)
    assert (await memory.recall("mira", 1))[0].text == after.caption
    assert await memory.said("mira", str(before.caption))
    assert "b-0" not in await rewrites.drafts(9)
    with pytest.raises(Conflict, match="by llm"):
        await rewrites.rewrite("b-0")


async def test_a_rewriting_that_fails_changes_nothing(
    database: Database, drafts: list[str], endpoint: ChatEndpoint
) -> None:
    rewrites = CaptionRewrites(database, studio_of(database, endpoint))
    before = await read(database, "b-0")
    endpoint.answers = [REFUSED]
    with pytest.raises(ContentRejected, match="refusal"):
        await rewrites.rewrite("b-0")
    endpoint.answers = [refused(500)]
    with pytest.raises(ProviderError, match="status 500"):
        await rewrites.rewrite("b-0")
    with pytest.raises(NotFound):
        await rewrites.rewrite("nothing")
    after = await read(database, "b-0")
    assert (after.caption, after.caption_detail) == (before.caption, before.caption_detail)
    assert after.caption_draft


async def test_of_many_each_has_its_outcome_until_no_model_answers(
    database: Database, drafts: list[str], endpoint: ChatEndpoint
) -> None:
    endpoint.answers = [REFUSED, streamed(ABOUT["a harbour"]), refused(500)]
    rewrites = CaptionRewrites(database, studio_of(database, endpoint))
    outcomes = await rewrites.rewrite_each(["nothing", "b-2", "b-1", "b-0", "b-0"])
    kinds = [type(outcome).__name__ for _, outcome in outcomes]
    assert kinds == ["NotFound", "ContentRejected", "ContentModel", "ProviderError"]
    assert sorted(await rewrites.drafts(9)) == ["b-0", "b-2"]


async def test_what_a_person_wrote_stays(
    database: Database, drafts: list[str], endpoint: ChatEndpoint
) -> None:
    endpoint.answers = [streamed(ABOUT["lanterns"]), streamed(ABOUT["a mural"])]
    rewrites = CaptionRewrites(database, studio_of(database, endpoint))
    old = (await read(database, "b-1")).caption
    edited = await rewrites.edit("b-1", "I tried 3 stalls. Mine, in my words.", actor=LOCAL_OWNER)
    assert (edited.caption_origin, edited.caption_draft) == ("person", False)
    detail = edited.caption_detail or {}
    assert detail["by"] == "owner"
    assert {"claimed_experience", "invented_number"} <= {one["code"] for one in detail["findings"]}
    assert detail["history"][0]["text"] == old
    with pytest.raises(Conflict, match="by person"):
        await rewrites.rewrite("b-1")
    assert await rewrites.sweep() == 2
    assert (await read(database, "b-1")).caption == edited.caption
    assert await StoredCaptionMemory(database).said("mira", str(edited.caption))
    again = await rewrites.edit("b-1", "Mine, a second time.", actor=LOCAL_OWNER)
    assert [one["origin"] for one in (again.caption_detail or {})["history"]] == [
        "template",
        "person",
    ]


async def test_what_somebody_changed_meanwhile_is_left_alone(
    database: Database, drafts: list[str], endpoint: ChatEndpoint
) -> None:
    endpoint.answers = [streamed(ABOUT["a mural"], first_s=1.0)]
    rewrites = CaptionRewrites(database, studio_of(database, endpoint))
    under_way = asyncio.create_task(rewrites.rewrite("b-0"))
    await until(lambda: was_asked(endpoint))
    await rewrites.edit("b-0", "My own words came first.", actor=LOCAL_OWNER)
    with pytest.raises(Conflict, match="meanwhile"):
        await under_way
    assert (await read(database, "b-0")).caption == "My own words came first."
    assert not await StoredCaptionMemory(database).said("mira", ABOUT["a mural"])


async def test_a_sweep_rewrites_the_drafts_and_only_them(
    database: Database, drafts: list[str], endpoint: ChatEndpoint
) -> None:
    async with database.write() as session:
        session.add(contents.content("c", caption="Not a draft.", caption_origin="template"))
    rewrites = CaptionRewrites(database, studio_of(database, endpoint))
    assert await rewrites.sweep() == 3
    origins = [(await read(database, one)).caption_origin for one in (*drafts, "c")]
    assert origins == ["llm", "llm", "llm", "template"]
    assert await rewrites.sweep() == 0
    assert len(endpoint.asked) == 3


async def test_a_sweep_stops_at_a_dead_model_and_gives_up_what_the_gate_refuses(
    database: Database, drafts: list[str], endpoint: ChatEndpoint
) -> None:
    endpoint.answers = [REFUSED, streamed(ABOUT["a harbour"]), refused(500)]
    rewrites = CaptionRewrites(database, studio_of(database, endpoint))
    assert await rewrites.sweep() == 1
    left = await rewrites.drafts(9)
    assert len(left) == 1
    rest = [await read(database, one) for one in drafts]
    (given_up,) = [one for one in rest if one.caption_origin == "template" and one.id not in left]
    assert "refusal" in (given_up.caption_detail or {})["rewrite_refused"]
    assert given_up.id == "b-2"
    endpoint.answers = [streamed(ABOUT["lanterns"])]
    another = CaptionRewrites(database, studio_of(database, endpoint))
    assert (await another.rewrite("b-2")).caption_origin == "llm"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_the_background_rewrites_where_the_setting_says_so(
    database: Database, drafts: list[str], endpoint: ChatEndpoint
) -> None:
    service = studio_of(database, endpoint)
    off = CaptionRewrites(database, service, "off", pause_s=0.05)
    await off.start()
    await asyncio.sleep(0.3)
    assert len(await off.drafts(9)) == 3
    await off.stop()
    auto = CaptionRewrites(database, service, "auto", pause_s=0.05)
    await auto.start()
    await until(lambda: no_drafts(auto))
    async with database.write() as session:
        await session.execute(
            update(ContentModel).values(caption_origin="template", caption_draft=True)
        )
    endpoint.answers = [streamed(f"So. {ABOUT[one]}") for one in reversed(PROMPTS)]
    await until(lambda: no_drafts(auto))
    await auto.stop()
    assert len(endpoint.asked) == 6


async def was_asked(endpoint: ChatEndpoint) -> bool:
    return bool(endpoint.asked)


async def no_drafts(rewrites: CaptionRewrites) -> bool:
    return not await rewrites.drafts(9)


async def until(true: Callable[[], Any], within_s: float = 20) -> None:
    ends = time.monotonic() + within_s
    while not await true():
        assert time.monotonic() < ends, "it did not happen in time"
        await asyncio.sleep(0.02)


async def test_a_post_of_several_forms_is_rewritten_in_all_of_them(
    database: Database, endpoint: ChatEndpoint
) -> None:
    await contents.persona(database)
    terms = {"platforms": ["x", "threads"]}
    await contents.batch(database, "b", PROMPTS[:1], done=1, caption_terms=terms)
    await BatchCaptions(database, studio_of(database), "me").advance("b")
    endpoint.answers = [streamed(ABOUT["a mural"])]
    after = await CaptionRewrites(database, studio_of(database, endpoint)).rewrite("b-0")
    detail = after.caption_detail or {}
    assert detail["terms"] == terms
    assert {form["origin"] for form in detail["forms"].values()} == {"llm"}
    assert list(detail["forms"]) == ["x", "threads"]
