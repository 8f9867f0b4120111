"""How long a pack lasts: from how many equally likely captions a persona's are drawn.

The collision space is 1 / Σp² over all captions there can be, which is what the chance that two
draws are alike says (Simpson, 1949); by the birthday problem the first repeat is expected after
about √(π/2 · N) draws (Flajolet et al., 1995). It is computed, not sampled: choices are
independent, so their chances multiply. Memory and the choice among eight drafts only add to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from backend.captions.brief import Brief
from backend.captions.drafts import Desk, desk_for
from backend.captions.grammar import TAGS, BoundPlan, BoundSlot, Choices
from backend.captions.packs import Library

_WEAKEST = 3


@dataclass(frozen=True, slots=True)
class SlotHealth:
    """One slot of a persona's captions."""

    slot: str
    fragments: int
    effective: float
    """To how many equally likely fragments its weights come."""


@dataclass(frozen=True, slots=True)
class Health:
    """How long one persona on one prompt lasts."""

    style: str
    kind: str
    collision_space: float
    first_repeat: float
    """Captions until the first repeat is expected, drawn without memory."""

    weakest: tuple[SlotHealth, ...]
    """The slots with the fewest effective fragments."""


def measure(brief: Brief, library: Library) -> Health:
    """Compute the health of the captions that a brief can have.

    Raises:
        ConfigurationError: the pack cannot be used.
    """
    desk = desk_for(brief, library)
    space = 1 / _alike(desk)
    slots = {
        slot.name
        for plan in desk.bound.plans
        for slot in plan.slots
        if slot.name != TAGS and not slot.optional
    }
    health = (
        SlotHealth(name, len(desk.choices[name]), 1 / _slot_alike(desk.choices[name]))
        for name in sorted(slots)
    )
    weakest = sorted(health, key=lambda slot: slot.effective)[:_WEAKEST]
    first_repeat = math.sqrt(math.pi / 2 * space)
    return Health(desk.pack.style, brief.topic.kind, space, first_repeat, tuple(weakest))


def _alike(desk: Desk) -> float:
    """Return the chance that two captions are alike."""
    weights = [
        later - earlier
        for earlier, later in zip((0, *desk.bound.cumulative), desk.bound.cumulative, strict=False)
    ]
    total = sum(weights)
    themes = len(desk.themes)
    return sum(
        (weight / total) ** 2 * _plan_alike(desk, plan) / themes
        for weight, plan in zip(weights, desk.bound.plans, strict=True)
    )


def _plan_alike(desk: Desk, plan: BoundPlan) -> float:
    return math.prod(_part_alike(desk, slot) for slot in plan.slots if slot.name != TAGS)


def _part_alike(desk: Desk, slot: BoundSlot) -> float:
    alike = _slot_alike(desk.choices[slot.name])
    return 0.25 + 0.25 * alike if slot.optional else alike


def _slot_alike(choices: Choices) -> float:
    return sum(
        (weight / choices.total) ** 2 / len(fragment.variants)
        for fragment, weight in zip(choices.fragments, choices.weights, strict=True)
    )
