"""The peers of the caption benchmark: the same plans and texts, drawn by Tracery and by Jinja2.

Each gets just the texts that suit the persona and the kind of topic, so the choice is as large for
all three. The peers know no weights, seeds of slots, memory, platforms or hashtags of their own;
they are what it costs to draw and join such a text, not rivals.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import tracery
from jinja2 import Environment

from backend.captions.drafts import Desk
from backend.captions.grammar import TAGS, BoundPlan

OPTIONAL_TIMES = 2
Writer = Callable[[int], str]


def by_jinja2(desk: Desk) -> Writer:
    """Return a writer whose every text is a compiled Jinja2 template."""
    environment = Environment(autoescape=False)
    texts = {
        slot: [
            environment.from_string(variant.replace("{", "{{ ").replace("}", " }}"))
            for fragment in choices.fragments
            for variant in fragment.variants
        ]
        for slot, choices in desk.bound.choices.items()
    }
    tags = environment.from_string("#{{ theme | title | replace(' ', '') }}")
    leaves = _leaves(desk)
    plans, themes = desk.bound.plans, desk.themes

    def part(name: str, optional: bool, draw: Random, values: Mapping[str, str]) -> str:
        if optional and draw.random() < 0.5:
            return ""
        return (tags if name == TAGS else draw.choice(texts[name])).render(values)

    def write(seed: int) -> str:
        draw = Random(seed)
        values = {**leaves, "theme": draw.choice(themes)}
        plan = draw.choice(plans)
        return " ".join(part(slot.name, slot.optional, draw, values) for slot in plan.slots)

    return write


def by_tracery(desk: Desk) -> Writer:
    """Return a writer by a Tracery grammar; its plans name each optional slot half of the time."""
    rules: dict[str, Any] = {
        slot: [
            variant.replace("{", "#").replace("}", "#")
            for fragment in choices.fragments
            for variant in fragment.variants
        ]
        for slot, choices in desk.bound.choices.items()
    }
    rules |= {leaf: [value] for leaf, value in _leaves(desk).items()}
    rules["theme"] = list(desk.themes)
    rules[TAGS] = [theme.title().replace(" ", "") for theme in desk.themes]
    rules["origin"] = [
        _as_rule(plan, bool(number))
        for plan in desk.bound.plans
        for number in range(OPTIONAL_TIMES)
    ]
    grammar = tracery.Grammar(rules)

    def write(seed: int) -> str:
        random.seed(seed)
        return str(grammar.flatten("#origin#"))

    return write


def _as_rule(plan: BoundPlan, whole: bool) -> str:
    return " ".join(f"#{slot.name}#" for slot in plan.slots if whole or not slot.optional)


def _leaves(desk: Desk) -> dict[str, str]:
    topic = desk.topic
    return {
        "topic": topic.inline if topic.text else "",
        "Topic": topic.leading,
        "context": desk.context,
        "look": next(iter(desk.voice.appearance.phrases), ""),
        "fact": next(iter(desk.facts), ""),
    }
