"""Captions for a persona: a language model where one answers, else the templates.

Invariant: whoever wrote a caption, it passed the same gate, and the result says who wrote it and
why it was not the first choice. Nothing pretends: where nothing passes, there is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from enum import StrEnum
from functools import cached_property
from typing import Any, Protocol
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from backend.captions import composer
from backend.captions.brief import Brief, TimeOfDay
from backend.captions.chain import Chain, Written
from backend.captions.composer import Caption
from backend.captions.gate import judge, passes
from backend.captions.memory import HORIZON, CaptionMemory, Memory
from backend.captions.platforms import ANY, Platform, platform_named, platforms_named
from backend.captions.scoring import score_voice
from backend.captions.topic import read_topic
from backend.captions.voice import read_locale, read_voice
from backend.captions.words import clean
from backend.config import Settings, load_settings
from backend.errors import ConfigurationError, ProviderError, ProviderNotConfigured
from backend.models.content import ContentModel
from backend.services.caption_posts import CaptionResult, Origin, Post
from backend.services.caption_writing import (
    Drawing,
    Past,
    ask,
    by_model,
    first_that_passes,
    rejected,
)
from backend.services.template_service import Draw, TemplateService, new_seed

__all__ = ["CaptionResult", "ContentGenerationService", "GenerationRequest", "Origin", "Post"]


class ContentType(StrEnum):
    """What is to be made."""

    IMAGE = "image"
    TEXT = "text"
    VIDEO = "video"
    VOICE = "voice"


class ContentRating(StrEnum):
    """Whom it is fit for."""

    SFW = "sfw"
    MODERATE = "moderate"
    NSFW = "nsfw"


class GenerationRequest(BaseModel):
    """What someone asks of a persona.

    Attributes:
        platform: whose limits a caption keeps to.
        platforms: several, for one idea in the form of each; "all" names them all.
        facts: statements that a caption may repeat; nothing else in it is claimed.
        locale: the language, where it is not the persona's own.
    """

    model_config = ConfigDict(frozen=True)

    persona_id: UUID | int | str | None = None
    content_type: ContentType = ContentType.TEXT
    content_rating: ContentRating = ContentRating.SFW
    prompt: str | None = None
    platform: str | None = None
    platforms: tuple[str, ...] = ()
    seed: int | None = None
    facts: tuple[str, ...] = ()
    time_of_day: TimeOfDay | None = None
    locale: str | None = None

    def named_platforms(self) -> tuple[Platform, ...]:
        """Return the platforms whose form is asked for; where none is named, the general one.

        Raises:
            InvalidRequest: one of them is not known.
        """
        return platforms_named(self.platforms) or (platform_named(self.platform),)

    def terms(self) -> dict[str, Any]:
        """Return what a caption is asked for beside persona, prompt and seed, as JSON values."""
        own = {"platform", "platforms", "content_rating", "facts", "time_of_day", "locale"}
        return self.model_dump(mode="json", include=own, exclude_defaults=True)


class ContentMaker(Protocol):
    """Who makes a picture together with its caption."""

    async def make(
        self, persona_id: str, request: GenerationRequest, **options: Any
    ) -> ContentModel:
        """Make one piece of content and keep it."""


class ContentGenerationService:
    """Write captions by the best way that answers.

    Args:
        settings: read from the environment on first use where none are given.
        template_service: writes where no language model does.
        chain: the language models; built from the settings where none is given.
        memory: what personas said; without one, only what a call brings along is known.

    Attributes:
        maker: makes pictures, which wait for captions of this very service; so whoever puts the
            studio together sets it afterwards.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        template_service: TemplateService | None = None,
        chain: Chain | None = None,
        memory: CaptionMemory | None = None,
    ) -> None:
        self.template_service = template_service or TemplateService()
        self.maker: ContentMaker | None = None
        self._settings = settings
        self._given_chain = chain
        self._memory = memory

    @cached_property
    def chain(self) -> Chain:
        """The language models, in the order they are asked."""
        return self._given_chain or Chain.from_settings(self._settings or load_settings())

    async def generate_content(
        self, persona: Any, request: GenerationRequest, **options: Any
    ) -> ContentModel:
        """Make a picture and its caption, and keep both as one piece of content.

        Args:
            persona: one that is stored.
            request: the prompt and what else holds for both; its seed is the picture's too.
            **options: of the image, such as `model` or `width`.

        Raises:
            ConfigurationError: this service stands alone, without a studio around it.
            Conflict: the persona's base image is not approved.
            GatorError: whatever kept the picture from being made.
        """
        if self.maker is None:
            raise ConfigurationError("pictures are made in a studio; open one.")
        return await self.maker.make(str(persona.id), request, **options)

    async def generate_caption(
        self,
        persona: object,
        request: GenerationRequest,
        *,
        memory: Memory | None = None,
        recent: Sequence[str] = (),
    ) -> CaptionResult:
        """Write a caption for a persona; whether it is remembered is the caller's business.

        Args:
            persona: anything with a persona's attributes.
            request: the prompt, the platform, the seed and the other terms.
            memory: what the persona said; recalled from the studio's where it is left out.
            recent: the same, as texts, newest first.

        Raises:
            InvalidRequest: the request names a platform that is not known.
            ContentRejected: nothing passed the gate; `findings` says why.
        """
        brief = brief_of(persona, request, platform_named(request.platform))
        past = await self._past(persona, request, Memory(recent) if recent else memory)
        written = await ask(self.chain, brief, past)
        if written.text is not None:
            return by_model(brief, written, written.text)

        async def draw(seed: int, trial: Memory) -> Drawing:
            with self._drawing(replace(brief, seed=seed), trial) as drawn:
                text = await self._create_enhanced_fallback_text(persona, request)
            return Drawing(text, {brief.platform.name: _drawn(drawn, brief, text)})

        return (await first_that_passes(draw, [brief], past, written))[brief.platform.name]

    async def caption_for(
        self,
        persona: object,
        request: GenerationRequest,
        platforms: str | Iterable[str] = "all",
        *,
        memory: Memory | None = None,
    ) -> dict[str, CaptionResult]:
        """Write one idea as each platform takes it, from one seed.

        A language model is asked for the platform with the least room, and asked again only for
        those whose gate refuses that text. The templates fit one draft to each platform.

        Raises:
            InvalidRequest: a platform is not known.
            ContentRejected: nothing passed the gate in all its forms; `findings` says why.
        """
        named = platforms_named(platforms) or (ANY,)
        request = request.model_copy(update={"seed": _seed_of(request)})
        past = await self._past(persona, request, memory)
        briefs = [brief_of(persona, request, platform) for platform in named]
        results, refused = await self._by_models(briefs, past)
        left = [brief for brief in briefs if brief.platform.name not in results]
        if left:
            results |= await self._fitted(left, past, refused)
        return {platform.name: results[platform.name] for platform in named}

    async def post(
        self, persona: object, request: GenerationRequest, *, memory: Memory | None = None
    ) -> Post:
        """Write one post: in the form of each platform that the request names, or in one.

        Raises:
            InvalidRequest: a platform is not known.
            ContentRejected: nothing passed the gate; `findings` says why.
        """
        if not request.platforms:
            return Post.of(await self.generate_caption(persona, request, memory=memory))
        return Post(await self.caption_for(persona, request, request.platforms, memory=memory))

    async def rewritten(self, persona: object, request: GenerationRequest) -> Post:
        """Have a language model write a post, and nobody else.

        Raises:
            ProviderNotConfigured: there is none.
            ProviderError: none of them answered.
            ContentRejected: what they wrote did not pass the gate; `findings` says why.
        """
        if not self.chain.rungs:
            raise ProviderNotConfigured("no language model is configured: set GATOR_LLM_BASE_URL.")
        request = request.model_copy(update={"seed": _seed_of(request)})
        briefs = [brief_of(persona, request, platform) for platform in request.named_platforms()]
        results, refused = await self._by_models(briefs, await self._past(persona, request, None))
        if len(results) == len(briefs):
            return Post(results)
        if refused.findings:
            raise rejected("nothing that a language model wrote passed the gate", refused.findings)
        raise ProviderError(f"no language model wrote a caption: {refused.degraded_reason}")

    async def recall(self, persona_id: str) -> Memory:
        """Return what a persona said lately, as the next caption is compared with it."""
        if self._memory is None or not persona_id:
            return Memory()
        return Memory(await self._memory.recall(persona_id, HORIZON))

    async def _past(
        self, persona: object, request: GenerationRequest, memory: Memory | None
    ) -> Past:
        persona_id = str(getattr(persona, "id", None) or request.persona_id or "")
        known = await self.recall(persona_id) if memory is None else memory
        return Past(known, persona_id, self._memory)

    def _drawing(self, brief: Brief, memory: Memory) -> AbstractContextManager[Draw]:
        return self.template_service.drawing(
            brief.seed,
            memory,
            brief.platform,
            time_of_day=brief.time_of_day,
            facts=brief.facts,
            locale=brief.voice.locale,
        )

    async def _by_models(
        self, briefs: Sequence[Brief], past: Past
    ) -> tuple[dict[str, CaptionResult], Written]:
        """Return what language models write, by platform, and why some of it may be missing."""
        idea = refused = await ask(
            self.chain, min(briefs, key=lambda brief: brief.platform.limit), past
        )
        results = {}
        for brief in briefs:
            written = idea
            if idea.text is not None and not passes(judge(idea.text, brief, past.memory)):
                written = await ask(self.chain, brief, past)
            if written.text is None:
                refused = written
            else:
                results[brief.platform.name] = by_model(brief, written, written.text)
        return results, refused

    async def _fitted(
        self, briefs: Sequence[Brief], past: Past, written: Written
    ) -> dict[str, CaptionResult]:
        whole, platforms = replace(briefs[0], platform=ANY), [brief.platform for brief in briefs]
        library = self.template_service.library

        async def draw(seed: int, trial: Memory) -> Drawing:
            idea = replace(whole, seed=seed)
            made = composer.compose_for(idea, [ANY, *platforms], trial, library)
            return Drawing(made[ANY.name].text, made)

        return await first_that_passes(draw, briefs, past, written)

    async def _create_enhanced_fallback_text(
        self, persona: object, request: GenerationRequest
    ) -> str:
        return self.template_service.generate_fallback_text(
            persona=persona,
            prompt=request.prompt,
            content_rating=request.content_rating.value,
        )


def brief_of(persona: object, request: GenerationRequest, platform: Platform = ANY) -> Brief:
    """Return what a request asks of a persona, for one platform."""
    voice = read_voice(persona)
    if request.locale:
        voice = replace(voice, locale=read_locale(request.locale))
    return Brief(
        voice=voice,
        topic=read_topic(request.prompt, locale=voice.locale),
        seed=_seed_of(request),
        platform=platform,
        rating=request.content_rating.value,
        time_of_day=request.time_of_day,
        facts=tuple(fact for fact in map(clean, request.facts) if fact),
    )


def _seed_of(request: GenerationRequest) -> int:
    return new_seed() if request.seed is None else request.seed


def _drawn(drawn: Draw, brief: Brief, text: str) -> Caption:
    """Return what the fallback door gave; its text counts, whatever the template service is."""
    if drawn.caption is not None:
        return replace(drawn.caption, text=text)
    scored = score_voice(brief.voice)
    return Caption(text, scored.style, (), brief.seed, scored.scores, "", brief.topic.text, "", ())
