"""Drafts: what a persona and a topic make of a pack, and how a draft is fitted to a platform.

A `Desk` is prepared once for a brief's persona, topic and terms; a draft then costs a few draws. A
draft keeps its parts apart until it is rendered, so the same idea can be fitted to every platform:
optional parts go first, then hashtags, then what carries neither topic nor theme. No word is cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

from backend.captions.brief import Brief
from backend.captions.claims import CLAIM
from backend.captions.grammar import (
    TAGS,
    Bound,
    BoundPlan,
    Choices,
    Pack,
    Part,
    Situation,
    fill,
    join,
)
from backend.captions.memory import Memory
from backend.captions.packs import Library
from backend.captions.platforms import Platform, hashtags
from backend.captions.scoring import StyleScores, modifiers_of, score_styles, score_voice
from backend.captions.seeds import below, mix, salt
from backend.captions.steering import MATCH_WEIGHT, customize, families_of, keywords_of
from backend.captions.topic import Topic, read_topic
from backend.captions.voice import Voice
from backend.captions.words import content_stems, lexicon, stem

SHORTEST = 51
"""A caption is longer than 50 characters."""

TIGHT = (60, 40, 24)
"""To how many characters a topic is shortened, one after the other, where nothing else helps."""

_CARRIED = frozenset({"topic", "Topic", "theme"})
_BEFORE_A_CLAIM = ("", "I ", "I just ", "we have ", "I'm ", "after ", "Done. ")
_LEAST_LEFT = 4
_CONTEXT_SPAN = 7
_ENDS = " .!?…;:,"
_THEME, _LOOK, _FACT, _TAGS, _TAG_COUNT = map(salt, ("theme", "look", "fact", TAGS, "tag count"))


class Draft(NamedTuple):
    """One caption before it is rendered."""

    seed: int
    plan: str
    parts: tuple[Part, ...]
    has_tags: bool
    theme: str
    leaves: Mapping[str, str]

    @property
    def fragments(self) -> tuple[str, ...]:
        """The ids of what fills its slots."""
        return tuple([part.fragment.id for part in self.parts])

    @property
    def shows_style(self) -> bool:
        """Whether a part that is never left out shows the style."""
        return any(part.fragment.shows_style and not _is_spare(part) for part in self.parts)


@dataclass(frozen=True)
class Desk:
    """What stays the same while drafts for one persona, topic and terms are written."""

    voice: Voice
    topic: Topic
    facts: tuple[str, ...]
    scored: StyleScores
    modifiers: tuple[str, ...]
    bound: Bound
    context: str
    """How a locked appearance is spoken of, with one leading space, or ""."""

    @property
    def pack(self) -> Pack:
        """The style's pack."""
        return self.bound.pack

    @cached_property
    def themes(self) -> tuple[str, ...]:
        """What may be named; the pack's own where the persona has none."""
        return self.voice.themes or self.pack.default_themes

    @cached_property
    def keywords(self) -> tuple[str, ...]:
        """The prompt's words that carry meaning."""
        return keywords_of(self.topic.prompt, self.pack.locale)

    @cached_property
    def families(self) -> frozenset[str]:
        """Which of future, analysis and community the prompt speaks of."""
        return families_of(self.keywords, self.pack.locale)

    @cached_property
    def choices(self) -> Mapping[str, Choices]:
        """The fragments by slot; those that the prompt's words match weigh twice."""
        wanted, families = (
            frozenset(stem(word, self.pack.locale) for word in self.keywords),
            self.families,
        )
        if not wanted:
            return self.bound.choices
        weighted = {}
        for slot, choices in self.bound.choices.items():
            weights = [
                weight * MATCH_WEIGHT
                if not wanted.isdisjoint(fragment.says) or families & fragment.families
                else weight
                for fragment, weight in zip(choices.fragments, choices.weights, strict=True)
            ]
            weighted[slot] = Choices(choices.fragments, weights)
        return weighted

    @cached_property
    def topic_stems(self) -> frozenset[str]:
        """The stems of the topic's own words that carry meaning."""
        return content_stems(self.topic.text, self.pack.locale)

    @cached_property
    def _near(self) -> tuple[str, ...]:
        """The themes, those twice that share a word with the topic."""
        about, locale = self.topic_stems, self.pack.locale
        near = (theme for theme in self.themes if about & content_stems(theme, locale))
        return (*self.themes, *near)

    def unsaid(self, memory: Memory) -> Mapping[str, Choices]:
        """Return the fragments that were used least recently: the never used, else a quarter."""
        if not len(memory):
            return self.choices
        return {slot: _least_recent(choices, memory) for slot, choices in self.choices.items()}

    def draft(
        self,
        seed: int,
        choices: Mapping[str, Choices],
        memory: Memory,
        plan: BoundPlan | None = None,
    ) -> Draft:
        """Draw one draft: 64 bits, the fragments and the memory say all of it."""
        plan = plan or self.bound.plan(mix(seed))
        parts = tuple(fill(plan, seed, choices))
        theme = self._theme(mix(seed ^ _THEME), memory)
        tagged = plan.is_tagged and mix(seed ^ _TAGS) & 1 == 0
        return Draft(seed, plan.id, parts, tagged, theme, self._leaves(seed, theme, memory))

    def _theme(self, bits: int, memory: Memory) -> str:
        themes = self._near
        if len(memory):
            ages = [memory.age(f"theme:{theme}") for theme in themes]
            middle = sorted(ages)[len(ages) // 2]
            themes = tuple(t for t, age in zip(themes, ages, strict=True) if age >= middle)
        return themes[below(bits, len(themes))]

    @cached_property
    def _given(self) -> Mapping[str, str]:
        """The leaves that are the same in every draft."""
        return {**_topic_leaves(self.topic), "context": self.context}

    def _leaves(self, seed: int, theme: str, memory: Memory) -> dict[str, str]:
        leaves = {**self._given, "theme": theme}
        if self.context and memory.recently(self.context, _CONTEXT_SPAN):
            leaves["context"] = ""
        looks = self.voice.appearance.phrases
        if looks:
            leaves["look"] = looks[below(mix(seed ^ _LOOK), len(looks))]
        if self.facts:
            fact = self.facts[below(mix(seed ^ _FACT), len(self.facts))]
            leaves["fact"] = fact.rstrip(_ENDS)
        return leaves

    def render(self, draft: Draft, platform: Platform) -> str:
        """Return a draft as a platform takes it, "" where it cannot be made to fit.

        Signs that the platform refuses are left out of the user's words; the packs have none.
        """
        if platform.forbidden:
            allowed = str.maketrans("", "", platform.forbidden)
            leaves = {name: value.translate(allowed) for name, value in draft.leaves.items()}
            draft = draft._replace(theme=leaves["theme"], leaves=leaves)
        text = self._finished(draft.parts, draft, platform if draft.has_tags else None)
        if platform.fits(text):
            return text
        return next(self._fitting(draft, platform), "") or next(
            (
                text
                for tight in self._tightened(draft, platform)
                for text in self._fitting(tight, platform)
            ),
            "",
        )

    @cached_property
    def _may_claim(self) -> bool:
        """Whether the user's words hold what after some words of a pack would be a claim."""
        said = (self.topic.text, *self.themes, *self.facts, *self.voice.appearance.phrases)
        return any(CLAIM.search(f"{before}{text}") for text in said for before in _BEFORE_A_CLAIM)

    def holds(self, draft: Draft, text: str) -> bool:
        """Tell whether a draft's text keeps what every caption promises."""
        return (
            len(text) >= SHORTEST
            and draft.theme in text
            and (draft.shows_style or self.pack.shows_style(text))
            and not (self._may_claim and CLAIM.search(text))
        )

    def _fitting(self, draft: Draft, platform: Platform) -> Iterator[str]:
        for parts, tagged in _narrower(draft):
            text = self._finished(parts, draft, platform if tagged else None)
            if platform.fits(text):
                yield text

    def _tightened(self, draft: Draft, platform: Platform) -> Iterator[Draft]:
        """Yield the draft with ever shorter topics, at last with the shortest theme."""
        themes = (draft.theme, min((*self.themes, *self.pack.default_themes), key=platform.length))
        for theme in dict.fromkeys(themes):
            for longest in TIGHT:
                topic = read_topic(self.topic.prompt, longest, self.voice.locale)
                if topic.kind == self.topic.kind or not topic.text:
                    leaves = {**draft.leaves, **_topic_leaves(topic), "theme": theme}
                    yield draft._replace(theme=theme, leaves=leaves)

    def _finished(self, parts: Sequence[Part], draft: Draft, tags_of: Platform | None) -> str:
        text = join(parts, draft.leaves)
        tags = self._tags(draft, tags_of) if tags_of else ""
        if tags:
            text = f"{text}\n\n{tags}"
        if not self.families:
            return text
        protected = (self.topic.text, *self.themes)
        turned = customize(text, self.keywords, protected, self.pack.locale)
        return turned if self.pack.shows_style(turned) else text

    def _tags(self, draft: Draft, platform: Platform) -> str:
        """Return hashtags of some themes, that of the theme named first."""
        wanted = 1 + below(mix(draft.seed ^ _TAG_COUNT), max(platform.max_hashtags, 1))
        made = hashtags((draft.theme, *self.themes), platform, self.pack.locale)
        return " ".join(made[:wanted])


def desk_for(brief: Brief, library: Library) -> Desk:
    """Return the desk at which a brief is written; kept for the next of like terms.

    Raises:
        ConfigurationError: the pack cannot be used.
    """
    terms = brief.rating, brief.time_of_day, brief.facts
    return _prepare(brief.voice, brief.topic, *terms, library)


@lru_cache(maxsize=256)
def _prepare(
    voice: Voice,
    topic: Topic,
    rating: str,
    time_of_day: str | None,
    facts: tuple[str, ...],
    library: Library,
) -> Desk:
    scored = score_voice(voice)
    modifiers = modifiers_of(voice.tone, voice.personality)
    extras = [
        name for name, given in (("look", voice.appearance.phrases), ("fact", facts)) if given
    ]
    situation = Situation.of(
        topic.kind,
        extras=extras,
        modifiers=frozenset(modifiers),
        rating=rating,
        time_of_day=time_of_day,
    )
    pack = library.pack(scored.style, voice.locale)
    context = appearance_context(voice, scored.style)
    return Desk(voice, topic, facts, scored, modifiers, pack.bind(situation), context)


def template_desk(
    style: str, themes: tuple[str, ...], context: str, modifiers: tuple[str, ...], library: Library
) -> Desk:
    """Return a desk for a style as such: no topic, and themes, context and modifiers as given."""
    pack = library.pack(style)
    bound = pack.bind(Situation.of("none", modifiers=frozenset(modifiers)))
    scored = score_styles((), (), ())
    return Desk(Voice(themes=themes), Topic(), (), scored, modifiers, bound, context)


def appearance_context(voice: Voice, style: str) -> str:
    """Return how a locked appearance is spoken of in a style, with one leading space, or ""."""
    if not voice.locked_appearance:
        return ""
    spoken: Mapping[str, str] = lexicon(voice.locale)["context"]
    return spoken.get(style, spoken["casual"])


def _topic_leaves(topic: Topic) -> dict[str, str]:
    return {"topic": topic.inline if topic.text else "", "Topic": topic.leading}


def _least_recent(choices: Choices, memory: Memory) -> Choices:
    ages = [memory.age(f.id, f.phrase) for f in choices.fragments]
    oldest = sorted(ages)[-max(_LEAST_LEFT, len(ages) // 4) :][0]
    kept = [index for index, age in enumerate(ages) if age >= oldest]
    if len(kept) == len(ages):
        return choices
    fragments, weights = choices.fragments, choices.weights
    return Choices([fragments[i] for i in kept], [weights[i] for i in kept])


def _narrower(draft: Draft) -> Iterator[tuple[Sequence[Part], bool]]:
    """Yield a draft's parts, and whether tags follow them, with ever less that can be spared."""
    parts = list(draft.parts)
    yield parts, draft.has_tags
    for part in [part for part in reversed(draft.parts) if part.optional and _is_spare(part)]:
        parts = [kept for kept in parts if kept is not part]
        yield parts, draft.has_tags
    if draft.has_tags:
        yield parts, False
    spare = [part for part in reversed(parts) if _is_spare(part)]
    for part in sorted(spare, key=lambda part: "fact" in part.fragment.leaves):
        parts = [kept for kept in parts if kept is not part]
        yield parts, False


def _is_spare(part: Part) -> bool:
    return part.fragment.leaves.isdisjoint(_CARRIED)
