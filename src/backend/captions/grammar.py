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
from typing import Any, NamedTuple

from backend.captions.seeds import mix, salt

LEAVES = frozenset({"topic", "Topic", "theme", "context", "look", "fact"})
_VARIANT_BITS = 31
_VARIANT_MASK = (1 << _VARIANT_BITS) - 1
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
        """Return the fragment that the upper 32 of 64 bits stand for."""
        return self.fragments[bisect_right(self.cumulative, (bits >> 32) * self.total >> 32)]


class BoundSlot(NamedTuple):
    """A slot that something can fill here, and by which seeds it is drawn."""

    name: str
    optional: bool
    opens_paragraph: bool
    salt: int


@dataclass(frozen=True)
class BoundPlan:
    """A plan less the slots that nothing can fill here."""

    id: str
    slots: tuple[BoundSlot, ...]

    @cached_property
    def order(self) -> tuple[BoundSlot, ...]:
        """The slots that fragments fill: all but the tags."""
        return tuple(slot for slot in self.slots if slot.name != TAGS)

    @cached_property
    def is_tagged(self) -> bool:
        """Whether hashtags may follow."""
        return len(self.order) < len(self.slots)

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
            slots.append(BoundSlot(slot.name, slot.optional, opens_paragraph, salt(slot.name)))
            opens_paragraph = False
    return BoundPlan(plan.id, tuple(slots))


class Part(NamedTuple):
    """A filled slot, before its leaves are put in."""

    slot: str
    fragment: Fragment
    template: str
    optional: bool
    opens_paragraph: bool


def fill(plan: BoundPlan, seed: int, choices: Mapping[str, Choices]) -> list[Part]:
    """Fill a plan's slots, tags apart.

    Each slot has 64 bits of its own: the lowest says whether an optional one is filled, the upper
    half which fragment fills it, those between which of its variants.

    Args:
        plan: the order of slots.
        seed: 64 bits; the same bits draw the same parts.
        choices: what may fill each slot: the pack's own, or what memory and keywords prefer.
    """
    parts = []
    for name, optional, opens_paragraph, salted in plan.order:
        bits = mix(seed ^ salted)
        if optional and bits & 1:
            continue
        fragment = choices[name].draw(bits)
        variants = fragment.variants
        chosen = (bits >> 1 & _VARIANT_MASK) * len(variants) >> _VARIANT_BITS
        parts.append(Part(name, fragment, variants[chosen], optional, opens_paragraph))
    return parts


def word_pattern(words: Iterable[str]) -> re.Pattern[str]:
    """Return what finds any of some words, as whole words."""
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, words)) or '(?!)'})\b", re.IGNORECASE)


def join(parts: Iterable[Part], leaves: Mapping[str, str]) -> str:
    """Join filled slots into a text, with the leaves' values as they are."""
    text = ""
    for _, _, template, _, opens_paragraph in parts:
        if text:
            text += "\n\n" if opens_paragraph else " "
        text += template.format_map(leaves)
    return text
