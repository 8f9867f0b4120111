"""From a voice, a topic and a seed to a caption.

Invariants: equal arguments give equal text in any process. Every caption shows its style in
words, names a theme, is longer than 50 characters, fits its platform and passes the claims rule; of
several drafts one is taken that is unlike what was said lately.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from backend.captions.claims import CLAIM
from backend.captions.grammar import (
    FLAGS,
    TAGS,
    Pack,
    Part,
    Plan,
    draw,
    fill,
    join,
    load_pack,
    sub_random,
)
from backend.captions.memory import Memory
from backend.captions.platforms import ANY, Platform, hashtag
from backend.captions.scoring import modifiers_of, score_voice
from backend.captions.steering import HANDSHAKE, customize, keywords_of, select_weighted
from backend.captions.topic import Topic, read_topic
from backend.captions.voice import Voice
from backend.captions.words import content_stems

SHORTEST = 51
_DRAFTS = 5
_ROUNDS = 3
_LIKE = 0.3
_TEMPLATES = 4
_CONTEXT_EVERY = 3
_DROPPED_FIRST = (TAGS, "tone", "depth", "close")
CONTEXTS = {
    "professional": " (staying true to my professional image)",
    "creative": " (expressing my creative side)",
    "casual": " (keeping it authentic and real)",
    "tech": " (maintaining my tech-forward presence)",
}


@dataclass(frozen=True, slots=True)
class Caption:
    """A caption and what it was made from."""

    text: str
    style: str
    modifiers: tuple[str, ...]
    seed: int
    scores: Mapping[str, int]
    theme: str
    topic: str
    fragments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Draft:
    text: str
    theme: str
    fragments: tuple[str, ...]


def compose(
    voice: Voice,
    topic: Topic | str | None,
    seed: int,
    recent: Sequence[str] = (),
    platform: Platform = ANY,
) -> Caption:
    """Write a caption.

    Args:
        voice: who speaks.
        topic: what about; a text is read as a prompt.
        seed: any int; equal seeds give equal captions.
        recent: what this persona said lately, newest first; it is not said again.
        platform: whose limits the caption has to fit.
    """
    scored = score_voice(voice)
    modifiers = modifiers_of(voice.tone, voice.personality)
    pack = load_pack(scored.style)
    read = topic if isinstance(topic, Topic) else read_topic(topic)
    if platform.limit < 400 and len(read.text) > 60:
        read = replace(read_topic(read.prompt, 60), prompt=read.prompt)
    context = appearance_context(voice, scored.style)
    if any(context and context in text for text in recent[: _CONTEXT_EVERY - 1]):
        context = ""
    memory = Memory(recent, read.text)
    desk = _Desk(
        pack, voice.themes or pack.default_themes, read, modifiers, context, platform, memory
    )
    draft = desk.choose(_root(seed, voice, read))
    return Caption(
        draft.text,
        scored.style,
        modifiers,
        seed,
        scored.scores,
        draft.theme,
        read.text,
        draft.fragments,
    )


def _root(seed: int, voice: Voice, topic: Topic) -> int:
    """Return a seed of this persona's and topic's own: two who share a seed do not sound alike."""
    return int(sub_random(seed, voice.name, topic.prompt).random() * 2**53)


def appearance_context(voice: Voice, style: str) -> str:
    """Return how a locked appearance is spoken of in a style, with one leading space, or ""."""
    return CONTEXTS.get(style, CONTEXTS["casual"]) if voice.locked_appearance else ""


def templates_for_style(
    style: str, themes: Sequence[str], context: str, modifiers: Sequence[str]
) -> list[str]:
    """Return a style's templates without a topic: one a plan, finished, with the themes put in."""
    pack = load_pack(style)
    desk = _Desk(
        pack, tuple(themes) or pack.default_themes, Topic(), modifiers, context, ANY, Memory()
    )
    return [
        desk.write(pack.plans[index % len(pack.plans)], index).text for index in range(_TEMPLATES)
    ]


@dataclass(frozen=True, slots=True)
class _Desk:
    """What stays the same while one caption's drafts are written."""

    pack: Pack
    themes: tuple[str, ...]
    topic: Topic
    modifiers: Sequence[str]
    context: str
    platform: Platform
    memory: Memory

    def choose(self, seed: int) -> _Draft:
        """Draw drafts until one is unlike the recent captions; else take the least like them."""
        keywords = keywords_of(self.topic.prompt)
        sound: list[_Draft] = []
        for round_ in range(_ROUNDS):
            drafts = [self._draft(seed, f"{round_}.{n}", keywords) for n in range(_DRAFTS)]
            drafts = [draft for draft in drafts if self._holds(draft.text, draft.theme)]
            fresh = {self._own_words(draft): draft for draft in drafts if self._is_fresh(draft)}
            if fresh:
                return fresh[
                    select_weighted(list(fresh), keywords, sub_random(seed, round_, "choice"))
                ]
            sound += drafts
        return min(sound or [self._draft(seed, "last", keywords)], key=self._likeness)

    def _draft(self, seed: int, number: str, keywords: Sequence[str]) -> _Draft:
        plan = draw(self.pack.plans, sub_random(seed, number, "plan"))
        draft = self.write(plan, int(sub_random(seed, number).random() * 2**53))
        turned = customize(draft.text, keywords, (self.topic.text, *self.themes))
        return replace(draft, text=turned) if self._holds(turned, draft.theme) else draft

    def write(self, plan: Plan, seed: int) -> _Draft:
        """Fill a plan, then leave out what the platform has no room for."""
        theme = self._theme(seed)
        leaves = {
            "topic": self.topic.inline if self.topic.text else "",
            "Topic": self.topic.leading,
            "theme": theme,
            "context": self.context,
        }
        flags = FLAGS[self.topic.kind]
        parts = fill(self.pack, plan, leaves, flags, self.modifiers, seed, self.memory)
        if any(slot.name == TAGS for slot in plan.slots):
            parts += self._tags(theme, seed)
        for slot in _DROPPED_FIRST:
            if self.platform.fits(f"{join(parts)} {HANDSHAKE}"):
                break
            parts = [part for part in parts if part.slot != slot]
        return _Draft(join(parts), theme, tuple(part.fragment for part in parts))

    def _theme(self, seed: int) -> str:
        about = content_stems(self.topic.text)
        near = [theme for theme in self.themes if about & content_stems(theme)] or self.themes
        choices = self.memory.least_recent(near, near)
        return choices[int(sub_random(seed, "theme").random() * len(choices))]

    def _tags(self, theme: str, seed: int) -> list[Part]:
        random = sub_random(seed, TAGS)
        if random.random() < 0.5:
            return []
        wanted = 1 + int(random.random() * self.platform.max_hashtags)
        found: dict[str, str] = {}
        for name in (theme, *self.themes):
            tag = hashtag(name)
            if tag:
                found.setdefault(tag.casefold(), tag)
        tags = " ".join(list(found.values())[: min(wanted, self.platform.max_hashtags)])
        return [Part(TAGS, TAGS, tags, opens_paragraph=True)] if tags else []

    def _holds(self, text: str, theme: str) -> bool:
        return (
            self.pack.shows_style(text)
            and theme in text
            and len(text) >= SHORTEST
            and not CLAIM.search(text)
            and self.platform.fits(text)
        )

    def _is_fresh(self, draft: _Draft) -> bool:
        return self._likeness(draft) <= (False, False, _LIKE)

    def _likeness(self, draft: _Draft) -> tuple[bool, bool, float]:
        memory, text = self.memory, draft.text
        return memory.said(text), memory.opening(text), memory.overlap(text)

    def _own_words(self, draft: _Draft) -> str:
        """Return a draft less the user's words, which match every keyword anyway."""
        return draft.text.replace(self.topic.text, " ") if self.topic.text else draft.text
