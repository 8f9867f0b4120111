"""Captions without a language model: a switchboard over the caption room.

The methods with a leading underscore are the contract's own; each chooses, delegates, returns.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from random import Random

from backend.captions import composer, steering
from backend.captions.composer import Caption
from backend.captions.platforms import ANY, Platform
from backend.captions.scoring import modifiers_of, score_styles, score_voice, styles_in
from backend.captions.topic import read_topic
from backend.captions.voice import as_text, as_themes, locked_appearance, read_voice

_SEED_BITS = 53  # what JSON's numbers hold exactly


@dataclass(slots=True)
class Draw:
    """What a caption inside a `drawing` block is made with, and that caption."""

    seed: int
    recent: Sequence[str] = ()
    platform: Platform = ANY
    caption: Caption | None = None


_drawing: ContextVar[Draw | None] = ContextVar("drawing", default=None)


class TemplateService:
    """Write captions from a persona's own words, offline."""

    def generate_fallback_text(
        self,
        persona: object,
        prompt: str | None = None,
        content_rating: str | None = None,
        *,
        seed: int | None = None,
        recent: Sequence[str] = (),
    ) -> str:
        """Write a caption; another one at every call unless a seed is given.

        Args:
            persona: anything with a persona's attributes; what is missing or of a wrong type is
                passed over.
            prompt: what the caption is about.
            content_rating: taken as said; every phrase of the packs suits every rating.
            seed: equal seeds give equal captions.
            recent: what this persona said lately, newest first; it is not said again.
        """
        del content_rating
        drawn = _drawing.get() if seed is None and not recent else None
        drawn = drawn or Draw(new_seed() if seed is None else seed, recent)
        drawn.caption = composer.compose(
            read_voice(persona), read_topic(prompt), drawn.seed, drawn.recent, drawn.platform
        )
        return drawn.caption.text

    @contextmanager
    def drawing(
        self, seed: int, recent: Sequence[str] = (), platform: Platform = ANY
    ) -> Iterator[Draw]:
        """Set seed, memory and platform for the caption that this task writes inside the block.

        The yielded `Draw` holds the whole caption afterwards: its style, modifiers and scores.
        """
        drawn = Draw(seed, recent, platform)
        token = _drawing.set(drawn)
        try:
            yield drawn
        finally:
            _drawing.reset(token)

    def _determine_content_style(
        self, personality_traits: object, aesthetic: object, voice_style: object
    ) -> str:
        """Return the style that the words weigh towards: traits 3, aesthetic 2, voice style 1."""
        return score_styles(personality_traits, aesthetic, voice_style).style

    def _generate_appearance_context(
        self,
        persona: object,
        appearance_desc: object,  # noqa: ARG002  the approved description is the persona's own
        aesthetic: object,
    ) -> str:
        """Return how a locked appearance is spoken of, with one leading space; else ""."""
        if not locked_appearance(persona):
            return ""
        voice = read_voice(persona)
        named = styles_in(as_text(aesthetic))
        scored = score_styles((), as_text(aesthetic), "") if len(named) == 1 else score_voice(voice)
        return composer.appearance_context(voice, scored.style)

    def _determine_voice_modifiers(self, tone_pref: object, personality_full: object) -> list[str]:
        """Return any of warm, confident, passionate, analytical, from tone and from personality."""
        return list(modifiers_of(tone_pref, personality_full))

    def _generate_templates_for_style(
        self, style: str, themes: object, appearance_context: str, voice_modifiers: Sequence[str]
    ) -> list[str]:
        """Return a style's templates, finished, with the themes put in."""
        return composer.templates_for_style(
            style, as_themes(themes), appearance_context or "", tuple(voice_modifiers or ())
        )

    def _select_weighted_template(self, templates: Sequence[str], prompt_keywords: object) -> str:
        """Draw a template; one that matches the prompt's words is twice as likely."""
        keywords = steering.keywords_of(prompt_keywords)
        return steering.select_weighted(templates, keywords, Random(new_seed()))

    def _customize_template(self, template: str, prompt_keywords: object) -> str:
        """Turn a template towards the prompt's words where its sentences allow it."""
        return steering.customize(template, steering.keywords_of(prompt_keywords))


def new_seed() -> int:
    """Return a seed that was not used before, as far as chance goes."""
    return secrets.randbits(_SEED_BITS)
