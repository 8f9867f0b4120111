"""Captions for a persona: a language model where one answers, else the templates.

Invariant: whoever wrote a caption, it passed the same gate, and the result says who wrote it and
why it was not the first choice. Nothing pretends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from backend.captions.gate import Finding, explain, judge
from backend.captions.llm import Brief, CaptionModel
from backend.captions.platforms import Platform, platform_named
from backend.captions.scoring import modifiers_of, score_voice
from backend.captions.voice import Voice, read_voice
from backend.captions.words import clean
from backend.config import Settings, load_settings
from backend.errors import ProviderError
from backend.logs import get_logger
from backend.services.template_service import TemplateService, new_seed

log = get_logger(__name__)


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


class Origin(StrEnum):
    """Who wrote a caption."""

    LLM = "llm"
    TEMPLATE = "template"


class GenerationRequest(BaseModel):
    """What someone asks of a persona."""

    model_config = ConfigDict(frozen=True)

    persona_id: UUID | int | str | None = None
    content_type: ContentType = ContentType.TEXT
    content_rating: ContentRating = ContentRating.SFW
    prompt: str | None = None
    platform: str | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class CaptionResult:
    """A caption and how it came to be."""

    text: str
    origin: Origin
    seed: int
    style: str
    model: str | None = None
    degraded_reason: str | None = None
    """Why a configured language model did not write this; None where it did or none is set."""
    findings: tuple[Finding, ...] = ()
    """What the gate said: against the model's text that was refused, and against this one."""


class ContentGenerationService:
    """Write captions by the best way that answers.

    Args:
        settings: read from the environment on first use where none are given.
        template_service: writes where no language model does.
        caption_model: the language model; built from the settings where none is given.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        template_service: TemplateService | None = None,
        caption_model: CaptionModel | None = None,
    ) -> None:
        self.template_service = template_service or TemplateService()
        self._settings = settings
        self._given_model = caption_model

    @cached_property
    def _model(self) -> CaptionModel | None:
        return self._given_model or CaptionModel.from_settings(self._settings or load_settings())

    async def generate_caption(
        self, persona: object, request: GenerationRequest, *, recent: Sequence[str] = ()
    ) -> CaptionResult:
        """Write a caption for a persona.

        Args:
            persona: anything with a persona's attributes.
            request: the prompt, and for which platform and seed.
            recent: what this persona said lately, newest first.

        Raises:
            InvalidRequest: the request names a platform that is not known.
        """
        platform = platform_named(request.platform)
        seed = new_seed() if request.seed is None else request.seed
        if self._model is None:
            return await self._by_template(persona, request, seed, recent, platform)
        voice = read_voice(persona)
        style = score_voice(voice).style
        try:
            text = await self._model.write(_brief(voice, style, request, seed, recent, platform))
        except ProviderError as exc:
            tell = log.info if exc.details.get("breaker") == "open" else log.warning
            tell("caption.model_failed", code=exc.code, reason=exc.message)
            return await self._by_template(
                persona, request, seed, recent, platform, degraded_reason=exc.message
            )
        findings = judge(text, source=_source(voice, request), recent=recent, platform=platform)
        if findings:
            reason = f"The language model's caption was refused: {explain(findings)}."
            return await self._by_template(
                persona,
                request,
                seed,
                recent,
                platform,
                degraded_reason=reason,
                findings=findings,
            )
        return CaptionResult(text, Origin.LLM, seed, style, self._model.model)

    async def _by_template(
        self,
        persona: object,
        request: GenerationRequest,
        seed: int,
        recent: Sequence[str],
        platform: Platform,
        *,
        degraded_reason: str | None = None,
        findings: tuple[Finding, ...] = (),
    ) -> CaptionResult:
        with self.template_service.drawing(seed, recent, platform) as drawn:
            text = await self._create_enhanced_fallback_text(persona, request)
        voice = read_voice(persona)
        own = judge(text, source=_source(voice, request), recent=recent, platform=platform)
        style = drawn.caption.style if drawn.caption else score_voice(voice).style
        return CaptionResult(
            text,
            Origin.TEMPLATE,
            seed,
            style,
            degraded_reason=degraded_reason,
            findings=findings + own,
        )

    async def _create_enhanced_fallback_text(
        self, persona: object, request: GenerationRequest
    ) -> str:
        return self.template_service.generate_fallback_text(
            persona=persona,
            prompt=request.prompt,
            content_rating=request.content_rating.value,
        )


def _brief(
    voice: Voice,
    style: str,
    request: GenerationRequest,
    seed: int,
    recent: Sequence[str],
    platform: Platform,
) -> Brief:
    return Brief(
        voice=voice,
        style=style,
        modifiers=modifiers_of(voice.tone, voice.personality),
        prompt=clean(request.prompt),
        recent=recent,
        platform=platform,
        rating=request.content_rating.value,
        seed=seed,
    )


def _source(voice: Voice, request: GenerationRequest) -> str:
    """Return everything that was said by the user, in which a caption's figures may stand."""
    return " ".join(
        (
            request.prompt or "",
            voice.name,
            voice.personality,
            voice.locked_appearance,
            *voice.themes,
        )
    )
