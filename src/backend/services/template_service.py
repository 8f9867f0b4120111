"""Captions without a language model: a switchboard over the caption room.

The methods with a leading underscore are the contract's own; each chooses, delegates, returns.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cached_property
from random import Random

from backend.captions import composer, steering
from backend.captions.brief import RATINGS, Brief, TimeOfDay
from backend.captions.composer import Caption
from backend.captions.drafts import appearance_context
from backend.captions.memory import Memory
from backend.captions.packs import Library
from backend.captions.platforms import ANY, Platform
from backend.captions.scoring import modifiers_of, score_styles, score_voice, styles_in
from backend.captions.topic import read_topic
from backend.captions.voice import Voice, as_text, as_themes, locked_appearance, read_voice
from backend.captions.words import clean
from backend.config import load_settings

_SEED_BITS = 53  # what JSON's numbers hold exactly
_REMEMBERED_PERSONAS = 64


@dataclass(slots=True)
class Draw:
    """What a caption inside a `drawing` block is made with, and that caption."""

    seed: int
    memory: Memory = field(default_factory=Memory)
    platform: Platform = ANY
    time_of_day: TimeOfDay | None = None
    facts: tuple[str, ...] = ()
    locale: str | None = None
    caption: Caption | None = None
    brief: Brief | None = None


_drawing: ContextVar[Draw | None] = ContextVar("drawing", default=None)


class TemplateService:
    """Write captions from a persona's own words, offline.

    Args:
        library: where the packs come from; by the settings where none is given.
    """

    def __init__(self, library: Library | None = None) -> None:
        self._given_library = library
        self._remembered: OrderedDict[str, Memory] = OrderedDict()

    @cached_property
    def library(self) -> Library:
        """The packs: shipped, installed, and those in `$GATOR_HOME/packs`."""
        return self._given_library or Library.installed(load_settings().home / "packs")

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

        Without a seed, what this service said to the persona before is not said again.

        Args:
            persona: anything with a persona's attributes; what is missing or of a wrong type is
                passed over.
            prompt: what the caption is about.
            content_rating: sfw, moderate or nsfw; phrases that are not for it are left out.
                Anything else reads as sfw.
            seed: equal seeds give equal captions.
            recent: what this persona said lately, newest first; it is not said again.

        Raises:
            ConfigurationError: a pack of the user's cannot be used.
        """
        voice = read_voice(persona)
        drawn = _drawing.get() if seed is None and not recent else None
        remembers = drawn is None and seed is None and not recent
        if drawn is None:
            memory = self._memory_of(voice) if remembers else Memory(recent)
            drawn = Draw(new_seed() if seed is None else seed, memory)
        if drawn.locale:
            voice = replace(voice, locale=drawn.locale)
        drawn.brief = Brief(
            voice=voice,
            topic=read_topic(prompt, locale=voice.locale),
            seed=drawn.seed,
            platform=drawn.platform,
            rating=next((known for known in RATINGS if known == content_rating), "sfw"),
            time_of_day=drawn.time_of_day,
            facts=drawn.facts,
        )
        drawn.caption = composer.compose(drawn.brief, drawn.memory, self.library)
        if remembers:
            drawn.memory.add(drawn.caption.said)
        return drawn.caption.text

    @contextmanager
    def drawing(
        self,
        seed: int,
        memory: Memory | None = None,
        platform: Platform = ANY,
        *,
        time_of_day: TimeOfDay | None = None,
        facts: Sequence[str] = (),
        locale: str | None = None,
    ) -> Iterator[Draw]:
        """Set seed, memory and terms for the caption that this task writes inside the block.

        The yielded `Draw` holds the brief and the whole caption afterwards: its style, plan,
        fragments and scores. Whether the memory takes the caption in is the caller's business.
        """
        said = tuple(fact for fact in map(clean, facts) if fact)
        known = Memory() if memory is None else memory
        drawn = Draw(seed, known, platform, time_of_day, said, locale)
        token = _drawing.set(drawn)
        try:
            yield drawn
        finally:
            _drawing.reset(token)

    def _memory_of(self, voice: Voice) -> Memory:
        """Return what was said for a voice; that of the voices used longest ago is let go."""
        key = f"{voice.name}/{voice.personality}"
        memory = self._remembered.setdefault(key, Memory())
        self._remembered.move_to_end(key)
        if len(self._remembered) > _REMEMBERED_PERSONAS:
            self._remembered.popitem(last=False)
        return memory

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
        return appearance_context(voice, scored.style)

    def _determine_voice_modifiers(self, tone_pref: object, personality_full: object) -> list[str]:
        """Return any of warm, confident, passionate, analytical, from tone and from personality."""
        return list(modifiers_of(tone_pref, personality_full))

    def _generate_templates_for_style(
        self, style: str, themes: object, appearance_context: str, voice_modifiers: Sequence[str]
    ) -> list[str]:
        """Return a style's templates, finished, with the themes put in."""
        return composer.templates_for_style(
            style,
            as_themes(themes),
            appearance_context or "",
            tuple(voice_modifiers or ()),
            self.library,
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
