"""Packs, compiled: plans and fragments that are bound to a situation once and then only drawn.

A *plan* is an ordered list of slots, a *fragment* a text that may fill one. What a situation (the
topic's kind, the persona's modifiers, rating, time of day) allows is sorted out when a pack is
bound to it, so that a draft is a few draws and joins.

Invariant: braces and brackets are read when a pack is compiled and never again. Whatever a leaf's
value holds goes into the text as it is.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import Any

from backend.captions.seeds import below, mix, salt

LEAVES = frozenset({"topic", "Topic", "theme", "context", "look", "fact"})
PARAGRAPH = "¶"
TAGS = "tags"
TONE = "tone"
TIMELY = 3
"""How much likelier a fragment for this very time of day is than its weight says."""

_STATEMENT = frozenset({"topic", "statement"})
FLAGS: Mapping[str, frozenset[str]] = {
    "none": frozenset({"no-topic"}),
    "gerund": _STATEMENT | {"phrase", "gerund"},
    "noun": _STATEMENT | {"phrase", "noun"},
    "bare": _STATEMENT | {"phrase", "bare"},
    "clause": _STATEMENT | {"clause"},
    "imperative": _STATEMENT | {"imperative"},
    "free": _STATEMENT | {"free"},
    "question": frozenset({"topic", "question"}),
}
EXTRAS = frozenset({"look", "fact"})
KNOWN_NEEDS = EXTRAS.union(*FLAGS.values())


@dataclass(frozen=True, slots=True)
class Fragment:
    """A text that may fill a slot."""

    id: str
    """The group's id and a hash of the text: it stays when others are added."""

    variants: tuple[str, ...]
    """The text with each of its alternatives, as format strings over the leaves."""

    weight: int
    needs: frozenset[str]
    modifiers: frozenset[str]
    ratings: frozenset[str]
    times: frozenset[str]
    claims: frozenset[str]
    leaves: frozenset[str]
    says: frozenset[str]
    """Stems of its own content words."""

    families: frozenset[str]
    """Which of future, analysis and community it speaks of."""

    shows_style: bool
    """Whether its own words hold one of the pack's."""

    phrase: str
    """The longest run of its own words, by which a text is seen to hold it."""

    def fits(self, situation: Situation) -> bool:
        """Tell whether a situation gives what is needed and allows this."""
        return (
            self.needs <= situation.flags
            and (not self.modifiers or not self.modifiers.isdisjoint(situation.modifiers))
            and situation.rating in self.ratings
            and (not self.times or situation.time_of_day in self.times)
        )


@dataclass(frozen=True, slots=True)
class Situation:
    """What fragments are chosen by."""

    flags: frozenset[str]
    modifiers: frozenset[str] = frozenset()
    rating: str = "sfw"
    time_of_day: str | None = None

    @classmethod
    def of(cls, kind: str, *, extras: Iterable[str] = (), **terms: Any) -> Situation:
        """Return the situation of a kind of topic, with `look` and `fact` where there are some."""
        return cls(FLAGS[kind] | frozenset(extras), **terms)


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in a plan."""

    name: str
    optional: bool = False
    opens_paragraph: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """An order of slots."""

    id: str
    slots: tuple[Slot, ...]
    weight: int


class Choices:
    """The fragments that may fill a slot, ready to be drawn from by weight."""

    __slots__ = ("cumulative", "fragments", "total", "weights")

    def __init__(self, fragments: Sequence[Fragment], weights: Sequence[int]) -> None:
        self.fragments = tuple(fragments)
        self.weights = tuple(weights)
        self.cumulative = tuple(accumulate(weights))
        self.total = self.cumulative[-1] if self.cumulative else 0

    def __len__(self) -> int:
        return len(self.fragments)

    def draw(self, bits: int) -> Fragment:
        """Return the fragment that 64 bits stand for."""
        return self.fragments[bisect_right(self.cumulative, bits * self.total >> 64)]


@dataclass(frozen=True, slots=True)
class BoundSlot:
    """A slot that something can fill here, and by which seeds it is drawn."""

    name: str
    optional: bool
    opens_paragraph: bool
    salt: int
    optional_salt: int
    variant_salt: int


@dataclass(frozen=True, slots=True)
class BoundPlan:
    """A plan less the slots that nothing can fill here."""

    id: str
    slots: tuple[BoundSlot, ...]

    @property
    def has_tone(self) -> bool:
        """Whether every caption of this plan is toned."""
        return any(slot.name == TONE and not slot.optional for slot in self.slots)


@dataclass(frozen=True)
class Bound:
    """A pack in one situation."""

    pack: Pack
    plans: tuple[BoundPlan, ...]
    cumulative: tuple[int, ...]
    choices: Mapping[str, Choices] = field(repr=False)

    def plan(self, bits: int) -> BoundPlan:
        """Return the plan that 64 bits stand for."""
        return self.plans[bisect_right(self.cumulative, bits * self.cumulative[-1] >> 64)]


@dataclass(frozen=True)
class Pack:
    """One style's plans and fragments in one locale."""

    style: str
    locale: str
    words: tuple[str, ...]
    """Every caption shows at least one of these."""

    default_themes: tuple[str, ...]
    plans: tuple[Plan, ...]
    fragments: Mapping[str, tuple[Fragment, ...]] = field(repr=False)

    @cached_property
    def _shown(self) -> re.Pattern[str]:
        return word_pattern(self.words)

    def shows_style(self, text: str) -> bool:
        """Tell whether a text holds one of the style's words."""
        return bool(self._shown.search(text))

    def bind(self, situation: Situation) -> Bound:
        """Sort out what a situation allows; kept, since a persona is in few situations."""
        return _bind(self, situation)

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


@lru_cache(maxsize=512)
def _bind(pack: Pack, situation: Situation) -> Bound:
    choices: dict[str, Choices] = {}
    for slot, fragments in pack.fragments.items():
        fitting = [fragment for fragment in fragments if fragment.fits(situation)]
        if slot == TONE:  # a persona's own modifiers are always heard
            fitting = [fragment for fragment in fitting if fragment.modifiers] or fitting
        if fitting:
            choices[slot] = Choices(
                fitting, [f.weight * (TIMELY if f.times else 1) for f in fitting]
            )
    plans = [_bound_plan(plan, choices) for plan in pack.plans]
    weights = accumulate(plan.weight for plan in pack.plans)
    return Bound(pack, tuple(plans), tuple(weights), choices)


def _bound_plan(plan: Plan, choices: Mapping[str, Choices]) -> BoundPlan:
    slots: list[BoundSlot] = []
    opens_paragraph = False
    for slot in plan.slots:
        opens_paragraph = opens_paragraph or slot.opens_paragraph
        if slot.name in choices or slot.name == TAGS:
            name = slot.name
            salts = (salt(name), salt(f"{plan.id}/{name}?"), salt(f"{name}|"))
            slots.append(BoundSlot(name, slot.optional, opens_paragraph, *salts))
            opens_paragraph = False
    return BoundPlan(plan.id, tuple(slots))


@dataclass(frozen=True, slots=True)
class Part:
    """A filled slot, before its leaves are put in."""

    slot: str
    fragment: Fragment
    template: str
    optional: bool
    opens_paragraph: bool


def draw_parts(bound: Bound, seed: int, choices: Mapping[str, Choices] | None = None) -> list[Part]:
    """Draw a plan and a fragment for each of its slots.

    Args:
        bound: the pack and what may fill its slots.
        seed: 64 bits; the same bits draw the same parts.
        choices: instead of the pack's own, those that memory and keywords prefer.
    """
    return fill(bound.plan(mix(seed)), seed, choices or bound.choices)


def fill(plan: BoundPlan, seed: int, choices: Mapping[str, Choices]) -> list[Part]:
    """Fill a plan's slots, tags apart."""
    parts = []
    for slot in plan.slots:
        if slot.name == TAGS or (slot.optional and mix(seed ^ slot.optional_salt) >> 63):
            continue
        fragment = choices[slot.name].draw(mix(seed ^ slot.salt))
        variants = fragment.variants
        template = variants[0]
        if len(variants) > 1:
            template = variants[below(mix(seed ^ slot.variant_salt), len(variants))]
        parts.append(Part(slot.name, fragment, template, slot.optional, slot.opens_paragraph))
    return parts


def word_pattern(words: Iterable[str]) -> re.Pattern[str]:
    """Return what finds any of some words, as whole words."""
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, words)) or '(?!)'})\b", re.IGNORECASE)


def join(parts: Iterable[Part], leaves: Mapping[str, str]) -> str:
    """Join filled slots into a text, with the leaves' values as they are."""
    text = ""
    for part in parts:
        if text:
            text += "\n\n" if part.opens_paragraph else " "
        text += part.template.format_map(leaves)
    return text
