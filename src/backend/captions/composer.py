"""From a brief to a caption: of several drafts, the one least like what was said lately.

Invariants: equal arguments give equal text in any process. Every caption shows its style in words,
names a theme, stays on its topic, is longer than 50 characters and fits its platform.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backend.captions.brief import Brief
from backend.captions.drafts import Desk, Draft, desk_for, template_desk
from backend.captions.memory import Memory, Said
from backend.captions.packs import Library
from backend.captions.platforms import ANY, Platform
from backend.captions.seeds import digest, mix, salt
from backend.captions.words import content_stems

DRAFTS = 8
"""How many drafts the best is taken of."""

ROUNDS = 3
"""How often the drafts are drawn anew where none is both new and sound."""

_ECHO = 0.02
_TEMPLATES = 4
_NOTHING_SAID = Memory()
_DRAFT = salt("draft")
SHIPPED = Library()


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
    plan: str
    fragments: tuple[str, ...]
    locale: str = "en"

    @property
    def said(self) -> Said:
        """This caption as a memory takes it."""
        return Said(self.text, "template", self.fragments, self.theme)


@dataclass(frozen=True, slots=True, order=True)
class Likeness:
    """How far a draft is from being new and sound; the least is best."""

    unsound: bool
    said: bool
    opening_seen: bool
    overlap: float
    """The share of its runs of four words that the likest recent caption has, and a little for
    each word that it says twice."""

    @property
    def is_fresh(self) -> bool:
        """Whether this may go out as it is."""
        return not (self.unsound or self.said or self.opening_seen)


@dataclass(frozen=True, slots=True)
class Considered:
    """A draft that was looked at, for the explain view."""

    text: str
    plan: str
    fragments: tuple[str, ...]
    likeness: Likeness


def compose(brief: Brief, memory: Memory = _NOTHING_SAID, library: Library = SHIPPED) -> Caption:
    """Write a caption.

    Args:
        brief: who speaks, about what, and the terms; its seed decides all that memory leaves open.
        memory: what this persona said lately; it is only read.
        library: where the packs come from.

    Raises:
        ConfigurationError: the pack cannot be used.
    """
    desk = desk_for(brief, library)
    draft, _ = _choose(desk, brief, memory, brief.platform)
    return _caption(desk, brief, draft, desk.render(draft, brief.platform))


def compose_for(
    brief: Brief,
    platforms: Sequence[Platform],
    memory: Memory = _NOTHING_SAID,
    library: Library = SHIPPED,
) -> dict[str, Caption]:
    """Write one idea as each platform takes it: one seed, the same fragments, each fitted.

    Raises:
        ConfigurationError: the pack cannot be used.
    """
    desk = desk_for(brief, library)
    draft, _ = _choose(desk, brief, memory, ANY)
    return {
        platform.name: _caption(desk, brief, draft, desk.render(draft, platform))
        for platform in platforms
    }


def consider(
    brief: Brief, memory: Memory = _NOTHING_SAID, library: Library = SHIPPED
) -> tuple[Considered, ...]:
    """Return every draft that `compose` looks at, in its order; the least likeness wins.

    Raises:
        ConfigurationError: the pack cannot be used.
    """
    return _choose(desk_for(brief, library), brief, memory, brief.platform)[1]


def templates_for_style(
    style: str,
    themes: Sequence[str],
    context: str,
    modifiers: Sequence[str],
    library: Library = SHIPPED,
) -> list[str]:
    """Return a style's templates without a topic: one a plan, finished, with the themes put in.

    Raises:
        ConfigurationError: the pack cannot be used.
    """
    desk = template_desk(style, tuple(themes), context, tuple(modifiers), library)
    plans = sorted(desk.bound.plans, key=lambda plan: not plan.has_tone)[:_TEMPLATES]
    drafts = (
        desk.draft(_sub_seed(0, number), desk.choices, _NOTHING_SAID, plan)
        for number, plan in enumerate(plans)
    )
    return [desk.render(draft, ANY) for draft in drafts]


def _choose(
    desk: Desk, brief: Brief, memory: Memory, platform: Platform
) -> tuple[Draft, tuple[Considered, ...]]:
    """Draw drafts, in rounds until one is new and sound; return the best and all of them."""
    root, choices = _root(brief), desk.unsaid(memory)
    drafts: list[Draft] = []
    seen: list[Considered] = []
    for _ in range(ROUNDS):
        for number in range(len(drafts), len(drafts) + DRAFTS):
            draft = desk.draft(_sub_seed(root, number), choices, memory)
            text = desk.render(draft, platform)
            drafts.append(draft)
            seen.append(
                Considered(text, draft.plan, draft.fragments, _likeness(desk, draft, text, memory))
            )
        if any(considered.likeness.is_fresh for considered in seen):
            break
    best = min(range(len(seen)), key=lambda index: seen[index].likeness)
    return drafts[best], tuple(seen)


def _likeness(desk: Desk, draft: Draft, text: str, memory: Memory) -> Likeness:
    said: set[str] = set()
    echoes = 0
    for part in draft.parts:
        echoes += len(said & part.fragment.says)
        said |= part.fragment.says
    echoes += len(said & (desk.topic_stems | content_stems(draft.theme, desk.pack.locale)))
    return Likeness(
        not desk.holds(draft, text),
        memory.said(text),
        memory.opening(text),
        round(memory.overlap(text) + _ECHO * echoes, 6),
    )


def _root(brief: Brief) -> int:
    """Return a seed of this persona's and topic's own: two who share a seed do not sound alike."""
    return digest(brief.seed, brief.voice.name, brief.topic.prompt)


def _sub_seed(root: int, number: int) -> int:
    return mix(root ^ mix(_DRAFT + number))


def _caption(desk: Desk, brief: Brief, draft: Draft, text: str) -> Caption:
    return Caption(
        text=text,
        style=desk.scored.style,
        modifiers=desk.modifiers,
        seed=brief.seed,
        scores=desk.scored.scores,
        theme=draft.theme,
        topic=desk.topic.text,
        plan=draft.plan,
        fragments=draft.fragments,
        locale=desk.pack.locale,
    )
