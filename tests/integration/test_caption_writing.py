"""Captions as the studio writes them: one gate and one memory for models and templates alike."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backend.captions.chain import Chain
from backend.captions.llm import Rung
from backend.captions.memory import HORIZON, Memory, Said
from backend.captions.packs import PACKS, Library
from backend.captions.platforms import EVERYWHERE, platform_named
from backend.config import Settings
from backend.database.engine import Database
from backend.errors import (
    ConfigurationError,
    ContentRejected,
    InvalidRequest,
    ProviderError,
    ProviderNotConfigured,
)
from backend.models.persona import PersonaModel
from backend.services.caption_memory import StoredCaptionMemory
from backend.services.caption_service import CaptionService
from backend.services.content_generation_service import (
    ContentGenerationService,
    ContentRating,
    ContentType,
    GenerationRequest,
)
from backend.services.template_service import TemplateService
from tests.fixtures.chat_endpoint import GOOD, ChatEndpoint, chat_endpoint, dead_url, streamed

PERSONA = SimpleNamespace(
    name="Mira",
    personality="creative, warm",
    content_themes=["street food", "murals"],
    style_preferences={"tone": "warm"},
)
SHORT = "Steam, neon, a night market: street food is theatre. Which stall is yours?"


@pytest.fixture
def endpoint() -> Iterator[ChatEndpoint]:
    with chat_endpoint() as state:
        yield state


def alone(*endpoints: ChatEndpoint, **more: Any) -> ContentGenerationService:
    chain = Chain(
        [Rung(f"r{n}", one.url, "m", probe_after_s=60) for n, one in enumerate(endpoints)]
    )
    return ContentGenerationService(Settings(_env_file=None), chain=chain, **more)


def asking(prompt: str = "a night market", **terms: Any) -> GenerationRequest:
    return GenerationRequest(persona_id="mira", prompt=prompt, **terms)


async def mira(database: Database) -> PersonaModel:
    persona = PersonaModel(
        id="mira",
        name="Mira",
        appearance="red hair",
        personality="creative, warm",
        content_themes=["street food", "murals"],
        style_preferences={"tone": "warm"},
    )
    async with database.write() as session:
        session.add(persona)
    return persona


async def test_a_good_answer_is_the_caption(endpoint: ChatEndpoint) -> None:
    result = await alone(endpoint).generate_caption(PERSONA, asking(seed=5))
    assert (result.text, result.origin, result.model, result.rung) == (GOOD, "llm", "m", "r0")
    assert (result.degraded_reason, result.seed, result.style) == (None, 5, "creative")
    assert result.theme == "street food"
    assert not result.is_draft


async def test_what_the_gate_refuses_is_written_by_the_templates_and_it_is_told(
    endpoint: ChatEndpoint,
) -> None:
    endpoint.answers = [streamed("I tried every stall of the night market and loved it all!")]
    result = await alone(endpoint).generate_caption(PERSONA, asking())
    assert (result.origin, result.model, result.rung) == ("template", None, None)
    assert "r0: Its caption was refused: claimed_experience" in str(result.degraded_reason)
    assert "claimed_experience" in [finding.code for finding in result.findings]
    assert result.is_draft
    assert "night market" in result.text


async def test_without_a_model_nothing_is_degraded_and_a_seed_says_all() -> None:
    result = await alone().generate_caption(PERSONA, asking(seed=3))
    assert (result.origin, result.degraded_reason, result.findings) == ("template", None, ())
    assert not result.is_draft
    assert await alone().generate_caption(PERSONA, asking(seed=3)) == result
    plain = TemplateService().generate_fallback_text(PERSONA, "a night market", seed=3)
    assert result.text == plain
    assert result.plan
    assert len(result.fragments) > 1


async def test_captions_made_at_once_keep_their_own_seeds() -> None:
    service = alone()
    together = await asyncio.gather(
        *(service.generate_caption(PERSONA, asking(seed=seed)) for seed in range(8))
    )
    apart = [await service.generate_caption(PERSONA, asking(seed=seed)) for seed in range(8)]
    assert together == apart
    assert len({result.text for result in together}) == 8


async def test_every_term_reaches_the_engine() -> None:
    service = alone()
    german = await service.generate_caption(
        PERSONA, asking("ein Nachtmarkt", seed=4, locale="Deutsch", platform="mastodon:300")
    )
    assert (german.locale, german.platform) == ("de", "mastodon:300")
    assert platform_named("mastodon:300").fits(german.text)
    fact = "The market opens on the third of May."
    facts = [
        (await service.generate_caption(PERSONA, asking(seed=seed, facts=(fact,)))).text
        for seed in range(40)
    ]
    assert any(fact in text for text in facts)
    by_hour = {
        (await service.generate_caption(PERSONA, asking(seed=7, time_of_day=hour))).text
        for hour in ("morning", "night")
    }
    assert len(by_hour) == 2
    with pytest.raises(InvalidRequest, match="friendster"):
        await service.generate_caption(PERSONA, asking(platform="friendster"))


async def test_the_fallback_door_only_delegates() -> None:
    heard: list[dict[str, Any]] = []

    class Listening(TemplateService):
        def generate_fallback_text(self, *args: Any, **kwargs: Any) -> str:  # type: ignore[override]
            assert not args
            heard.append(kwargs)
            return super().generate_fallback_text(**kwargs)

    service = alone(template_service=Listening())
    request = GenerationRequest(
        persona_id=1,
        content_type=ContentType.IMAGE,
        content_rating=ContentRating.MODERATE,
        prompt="a night market",
    )
    text = await service._create_enhanced_fallback_text(PERSONA, request)
    result = await service.generate_caption(PERSONA, request)
    expected = {"persona": PERSONA, "prompt": "a night market", "content_rating": "moderate"}
    assert heard == [expected, expected]
    assert min(len(text), len(result.text)) > 50


async def test_any_template_service_s_text_stands_and_is_held_to_the_gate() -> None:
    class Plain(TemplateService):
        def generate_fallback_text(self, **_: Any) -> str:  # type: ignore[override]
            return "A night market, and street food for everyone who shares a table."

    result = await alone(template_service=Plain()).generate_caption(PERSONA, asking())
    assert result.text.startswith("A night market, and street food")
    assert (result.style, result.plan, result.fragments) == ("creative", "", ())

    class Boasting(TemplateService):
        def generate_fallback_text(self, **_: Any) -> str:  # type: ignore[override]
            return "I tried the street food of the night market and it is 3x better."

    with pytest.raises(ContentRejected, match="claimed_experience") as raised:
        await alone(template_service=Boasting()).generate_caption(PERSONA, asking())
    assert {"claimed_experience", "invented_number"} <= {
        one["code"] for one in raised.value.details["findings"]
    }


def boasting_packs(folder: Path, *, only: bool) -> Library:
    """Packs of the user's own, where most captions claim a figure."""
    pack = """
extend = %s
words = ["today", "share", "creative"]
default_themes = ["small joys"]
[[plan]]
id = "boast"
weight = 60
slots = ["boast"]
[[fragment]]
id = "boast"
slot = "boast"
needs = ["topic"]
texts = ["My creative day: {topic} sells 99 percent better with {theme}, share it.",
         "My creative mood: {topic} earns 5 times as much with {theme}, share it."]
"""
    (folder / "en").mkdir(parents=True)
    (folder / "en" / "creative.toml").write_text(pack % str(not only).lower())
    return Library((PACKS, folder))


async def test_a_template_caption_that_fails_the_gate_is_drawn_again(tmp_path: Path) -> None:
    service = alone(template_service=TemplateService(boasting_packs(tmp_path / "p", only=False)))
    memory = Memory()
    for seed in range(5):
        result = await service.generate_caption(PERSONA, asking(seed=seed), memory=memory)
        assert "percent" not in result.text
        assert "times" not in result.text
        everywhere = await service.caption_for(PERSONA, asking(seed=seed), memory=memory)
        assert not any("percent" in one.text for one in everywhere.values())
    drawn = [
        service.template_service.generate_fallback_text(PERSONA, "a night market", seed=seed)
        for seed in range(5)
    ]
    refused = [text for text in drawn if "better" in text or "as much" in text]
    assert refused
    assert not any(map(memory.said, refused))  # whoever brought the memory finds it as it was


async def test_where_nothing_passes_there_is_an_error_and_no_pretence(tmp_path: Path) -> None:
    service = alone(template_service=TemplateService(boasting_packs(tmp_path / "p", only=True)))
    with pytest.raises(ContentRejected, match="invented_number") as raised:
        await service.generate_caption(PERSONA, asking(seed=1))
    assert raised.value.details["findings"][0]["severity"] == "block"
    with pytest.raises(ContentRejected):
        await service.caption_for(PERSONA, asking(seed=1))


async def test_one_idea_is_fitted_to_every_platform() -> None:
    service = alone()
    made = await service.caption_for(PERSONA, asking("a night market by the harbour", seed=8))
    assert list(made) == [platform.name for platform in EVERYWHERE]
    assert len({one.fragments for one in made.values()}) == 1
    assert {one.seed for one in made.values()} == {8}
    for platform in EVERYWHERE:
        assert platform.fits(made[platform.name].text)
    assert (
        await service.caption_for(PERSONA, asking("a night market by the harbour", seed=8)) == made
    )
    two = await service.caption_for(PERSONA, asking(seed=8), "linkedin, x")
    assert list(two) == ["linkedin", "x"]
    assert platform_named("x").fits(two["x"].text)


async def test_a_model_is_asked_once_for_all_platforms_that_take_its_text(
    endpoint: ChatEndpoint,
) -> None:
    endpoint.answers = [streamed(SHORT)]
    made = await alone(endpoint).caption_for(PERSONA, asking())
    assert {one.text for one in made.values()} == {SHORT}
    assert len(endpoint.asked) == 1
    assert endpoint.told()["platform"]["name"] == min(EVERYWHERE, key=lambda p: p.limit).name


async def test_a_platform_that_refuses_a_model_s_text_has_its_own(endpoint: ChatEndpoint) -> None:
    tagged = f"{SHORT} #StreetFood #NightMarket"
    endpoint.answers = [streamed(tagged), streamed(SHORT)]
    made = await alone(endpoint).caption_for(PERSONA, asking(), "bluesky,threads,tiktok")
    assert {name: one.text for name, one in made.items()} == {
        "bluesky": tagged,
        "threads": SHORT,  # it takes one hashtag alone
        "tiktok": tagged,
    }
    assert len(endpoint.asked) == 2


async def test_where_a_model_fails_on_some_platforms_the_templates_fill_in(
    endpoint: ChatEndpoint,
) -> None:
    tagged = f"{SHORT} #StreetFood #NightMarket"
    endpoint.answers = [streamed(tagged), streamed("As an AI language model I can't.")]
    made = await alone(endpoint).caption_for(PERSONA, asking(), "bluesky,threads,tiktok")
    assert [one.origin for one in made.values()] == ["llm", "template", "llm"]
    assert "refusal" in str(made["threads"].degraded_reason)
    assert made["tiktok"].degraded_reason is None


async def test_what_was_said_longer_ago_than_is_recalled_is_not_said_again(
    database: Database, endpoint: ChatEndpoint
) -> None:
    persona, memory = await mira(database), StoredCaptionMemory(database)
    service = alone(memory=memory)
    first = await service.generate_caption(persona, asking(seed=3))
    posts = [first.said, Said(GOOD), *(Said(f"Post {n}.") for n in range(HORIZON))]
    await memory.remember("mira", posts)
    assert not (await service.recall("mira")).said(first.text)
    forgetful = alone().generate_caption(
        persona, asking(seed=3), memory=await service.recall("mira")
    )
    again = await service.generate_caption(persona, asking(seed=3))
    assert again.text != first.text
    assert again == await service.generate_caption(persona, asking(seed=3))
    assert (await forgetful).text in (first.text, again.text)
    models = alone(endpoint, memory=memory)
    refused = await models.generate_caption(persona, asking(seed=3))
    assert refused.origin == "template"
    assert "repeated: this persona said the very same before" in str(refused.degraded_reason)
    assert [(f.code, getattr(f, "rung", None)) for f in refused.findings] == [("repeated", "r0")]


async def test_models_and_templates_share_one_memory(
    database: Database, endpoint: ChatEndpoint
) -> None:
    persona, memory = await mira(database), StoredCaptionMemory(database)
    service = alone(endpoint, memory=memory)
    writing = CaptionService(database, service, memory)
    (post,) = await writing.write("mira", ["a night market"], remember=True)
    assert post.main.origin == "llm"
    (again,) = await writing.write("Mira", ["a night market"], remember=True)
    assert again.main.origin == "template"
    assert "repeated" in str(again.main.degraded_reason)
    said = await memory.recall(persona.id, 9)
    assert [(one.origin, bool(one.fragments)) for one in said] == [
        ("template", True),
        ("llm", False),
    ]
    assert endpoint.told()["avoid_openings"]


async def test_a_preview_is_not_remembered_and_repeats_nothing_within_itself(
    database: Database,
) -> None:
    await mira(database)
    memory = StoredCaptionMemory(database)
    writing = CaptionService(database, alone(memory=memory), memory)
    terms = GenerationRequest(seed=11)
    posts = await writing.write("mira", ["a mural", "a harbour"], terms, count=6)
    texts = [post.main.text for post in posts]
    assert len(set(texts)) == 12
    assert all("mural" in text for text in texts[:6])
    assert [post.main.seed for post in posts] == [*range(11, 17)] * 2
    assert await memory.recall("mira", 99) == []
    assert [p.main.text for p in await writing.write("mira", ["a mural"], terms, count=2)] == texts[
        :2
    ]


async def test_what_is_kept_is_never_written_again(database: Database) -> None:
    await mira(database)
    memory = StoredCaptionMemory(database)
    writing = CaptionService(database, alone(memory=memory), memory)
    terms = GenerationRequest(seed=11, platforms=("all",))
    first = await writing.write("mira", ["a mural"], terms, count=3, remember=True)
    second = await writing.write("mira", ["a mural"], terms, count=3, remember=True)
    texts = [{one.text for one in post.captions.values()} for post in (*first, *second)]
    assert sum(map(len, texts)) == len(set().union(*texts))
    assert len(await memory.recall("mira", 99)) == 6
    assert all([await memory.said("mira", text) for text in set().union(*texts)])


async def test_who_loses_to_another_process_draws_again(database: Database) -> None:
    await mira(database)
    memory = StoredCaptionMemory(database)

    class Overtaken(StoredCaptionMemory):
        """Another process says the first caption in the very last moment."""

        def __init__(self) -> None:
            super().__init__(database)
            self.lost: list[str] = []

        async def remember(self, persona_id: str, said: Any) -> Any:
            if not self.lost:
                self.lost.append(said[0].text)
                await memory.remember(persona_id, [Said(said[0].text.upper())])
            return await super().remember(persona_id, said)

    overtaken = Overtaken()
    writing = CaptionService(database, alone(memory=overtaken), overtaken)
    terms = GenerationRequest(seed=1)
    (post,) = await writing.write("mira", ["a mural"], terms, remember=True)
    assert overtaken.lost
    assert post.main.text not in overtaken.lost
    assert len(await memory.recall("mira", 9)) == 2


async def test_an_explanation_is_of_the_caption_that_the_templates_write(
    database: Database,
) -> None:
    persona = await mira(database)
    memory = StoredCaptionMemory(database)
    service = alone(memory=memory)
    writing = CaptionService(database, service, memory)
    await writing.write("mira", ["a mural"], GenerationRequest(seed=1), count=9, remember=True)
    request = asking("a mural by the harbour", seed=5)
    told = await writing.explain("mira", request)
    assert told.caption == await service.generate_caption(persona, request)
    assert [one.id for one in told.fragments] == list(told.caption.fragments)
    assert all(0 < one.chance <= 1 and one.left <= one.choices for one in told.fragments)
    assert any(one.left < one.choices for one in told.fragments)
    assert any(one.matches_prompt for one in told.fragments) or told.caption.fragments
    assert told.posts_recalled == 9
    (winner,) = [one for one in told.candidates if one.chosen]
    assert winner.text == told.caption.text
    assert len(told.candidates) >= 8
    assert all(one.why for one in told.candidates)
    assert told.topic["kind"] == "noun"
    assert told.caption.scores["creative"] == 3
    assert told.refused == []


async def test_an_explanation_names_what_the_gate_refused(
    tmp_path: Path, database: Database
) -> None:
    await mira(database)
    memory = StoredCaptionMemory(database)
    packs = TemplateService(boasting_packs(tmp_path / "p", only=False))
    writing = CaptionService(database, alone(memory=memory, template_service=packs), memory)
    told = await writing.explain("mira", asking("a mural", seed=2))
    assert told.refused
    assert all(one.findings[0].code == "invented_number" for one in told.refused)
    assert told.caption.text not in {one.text for one in told.refused}


async def test_only_a_model_rewrites(endpoint: ChatEndpoint) -> None:
    with pytest.raises(ProviderNotConfigured, match="GATOR_LLM_BASE_URL"):
        await alone().rewritten(PERSONA, asking())
    dead = ChatEndpoint(url=dead_url())
    with pytest.raises(ProviderError, match="cannot be reached"):
        await alone(dead).rewritten(PERSONA, asking())
    post = await alone(endpoint).rewritten(PERSONA, asking(platforms=("x", "threads")))
    assert {name: one.origin for name, one in post.captions.items()} == {
        "x": "llm",
        "threads": "llm",
    }
    endpoint.answers = [streamed("As an AI language model I can't.")]
    with pytest.raises(ContentRejected, match="refusal"):
        await alone(endpoint).rewritten(PERSONA, asking())


async def test_a_service_alone_makes_no_pictures() -> None:
    with pytest.raises(ConfigurationError, match="studio"):
        await alone().generate_content(PERSONA, asking())


async def test_a_service_without_arguments_reads_the_environment(
    endpoint: ChatEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATOR_LLM_BASE_URL", endpoint.url)
    monkeypatch.setenv("GATOR_LLM_MODEL", "m")
    result = await ContentGenerationService().generate_caption(PERSONA, asking())
    assert result.origin == "llm"
