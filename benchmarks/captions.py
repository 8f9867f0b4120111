"""Captions of the four example personas: how many a second, how many of them distinct and on topic.

The peer is Jinja2 with a grammar of like size: the same plans and phrases of the persona's style,
each phrase a compiled template, drawn at random and joined. It knows no weights, no modifiers and
no memory, drops nothing that is too long and checks nothing, so it is the floor of what such a text
costs, not a rival.
"""

from __future__ import annotations

import re
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any

import report
from jinja2 import Environment

from backend.captions.grammar import PARAGRAPH, TAGS
from backend.captions.scoring import score_voice
from backend.captions.voice import read_voice
from backend.captions.words import PACKS
from backend.models.persona import PersonaCreate
from backend.services.demo import examples_folder, read_personas, read_prompts
from backend.services.template_service import TemplateService

CAPTIONS = 1_000
TIMED_SEEDS = 10
SEEDS = 30
"""Captions a prompt that are looked at for topic and length."""

PLAIN_WORD = re.compile(r"[a-z]{4,}")
NO_TOPIC = {"about", "after", "another", "before", "from", "into", "over", "that", "this", "with"}

Writer = Callable[[str, int], str]


class JinjaGrammar:
    """The plans and phrases of one style, written by Jinja2."""

    def __init__(self, style: str, themes: Sequence[str]) -> None:
        pack = tomllib.loads((PACKS / "en" / f"{style}.toml").read_text("utf-8"))
        environment = Environment(autoescape=False)
        self._themes = themes
        self._plans = [plan["slots"] for plan in pack["plan"]]
        self._phrases: dict[str, list[Any]] = {}
        for fragment in pack["fragment"]:
            phrases = [environment.from_string(as_template(text)) for text in fragment["texts"]]
            for slot in slots_of(fragment):
                self._phrases.setdefault(slot, []).extend(phrases)
        self._tags = environment.from_string("#{{ theme | title | replace(' ', '') }}")

    def write(self, prompt: str, seed: int) -> str:
        """Draw a plan and a phrase for each of its slots."""
        random = Random(seed)
        leaves = {"topic": prompt, "Topic": prompt.capitalize(), "context": ""}
        leaves["theme"] = random.choice(self._themes)
        plan = random.choice(self._plans)
        return " ".join(self._part(slot, random, leaves) for slot in plan)

    def _part(self, slot: str, random: Random, leaves: Mapping[str, str]) -> str:
        if slot == PARAGRAPH or (slot.endswith("?") and random.random() < 0.5):
            return ""
        if slot == TAGS:
            return self._tags.render(leaves)
        return random.choice(self._phrases[slot.removesuffix("?")]).render(leaves)


def slots_of(fragment: Mapping[str, Any]) -> list[str]:
    slot = fragment["slot"]
    return [slot] if isinstance(slot, str) else slot


def as_template(text: str) -> str:
    return re.sub(r"\{(\w+)\}", r"{{ \1 }}", text)


def measure(rounds: int, captions: int) -> report.Report:
    """Measure every persona."""
    personas = read_personas(examples_folder() / "personas")
    prompts = read_prompts(examples_folder() / "prompts.txt")
    found = {
        persona.name: measure_persona(persona, prompts, rounds, captions) for persona in personas
    }
    return summed_up(found, rounds, captions)


def measure_persona(
    persona: PersonaCreate, prompts: Sequence[str], rounds: int, captions: int
) -> dict[str, Any]:
    """Time both writers in turns, then look at what Gator wrote."""
    service = TemplateService()

    def gator(prompt: str, seed: int) -> str:
        return service.generate_fallback_text(persona, prompt, seed=seed)

    style = score_voice(read_voice(persona)).style
    jinja2 = JinjaGrammar(style, persona.content_themes).write
    ways = {
        "gator": partial(captions_per_s, gator, prompts),
        "jinja2": partial(captions_per_s, jinja2, prompts),
    }
    report.interleave(ways, 1)
    speeds = report.interleave(ways, rounds)
    written = [(prompt, gator(prompt, seed)) for prompt in prompts for seed in range(SEEDS)]
    return {
        "style": style,
        "captions_per_s": report.spread(speeds["gator"], 0),
        "jinja2_per_s": report.spread(speeds["jinja2"], 0),
        "ratio_to_jinja2": report.ratio(speeds["gator"], speeds["jinja2"]),
        "mean_length": mean_length(gator, prompts),
        "jinja2_mean_length": mean_length(jinja2, prompts),
        "distinct": len({gator(prompts[0], seed) for seed in range(captions)}) / captions,
        "on_topic": sum(is_on_topic(*pair) for pair in written) / len(written),
        "longest": max(len(text) for _, text in written),
    }


def captions_per_s(writer: Writer, prompts: Sequence[str]) -> float:
    """Write some captions on every prompt."""
    started = time.perf_counter()
    for seed in range(TIMED_SEEDS):
        for prompt in prompts:
            writer(prompt, seed)
    return TIMED_SEEDS * len(prompts) / (time.perf_counter() - started)


def mean_length(writer: Writer, prompts: Sequence[str]) -> int:
    lengths = [len(writer(prompt, seed)) for prompt in prompts for seed in range(TIMED_SEEDS)]
    return round(sum(lengths) / len(lengths))


def is_on_topic(prompt: str, caption: str) -> bool:
    """Tell whether a caption holds a word of the prompt that carries meaning."""
    words = set(PLAIN_WORD.findall(prompt.casefold())) - NO_TOPIC
    return not words.isdisjoint(PLAIN_WORD.findall(caption.casefold()))


def summed_up(found: Mapping[str, Mapping[str, Any]], rounds: int, captions: int) -> report.Report:
    """Turn the personas' figures into claims on the worst of them."""

    def worst(figure: str) -> float:
        return min(values[figure] for values in found.values())

    slowest = min(values["captions_per_s"]["median"] for values in found.values())
    columns = (
        "persona",
        "style",
        "captions/s",
        "Jinja2/s",
        "ratio",
        "distinct",
        "on topic",
        "longest",
    )
    return report.Report(
        figures={"rounds": rounds, "captions": captions, "personas": dict(found)},
        claims=[
            report.at_least(
                f"distinct of {captions:,}, one persona, one prompt", worst("distinct"), 1
            ),
            report.at_least("on topic: a content word of the prompt", worst("on_topic"), 1),
            report.Claim("captions/s, the slowest persona", slowest),
            report.Claim(
                "captions/s / Jinja2 on a grammar of like size",
                min(values["ratio_to_jinja2"]["median"] for values in found.values()),
            ),
            report.Claim("longest caption, characters", max(v["longest"] for v in found.values())),
        ],
        tables=[("captions", columns, [persona_row(*item) for item in found.items()])],
    )


def persona_row(name: str, values: Mapping[str, Any]) -> tuple[object, ...]:
    return (
        name,
        values["style"],
        values["captions_per_s"]["median"],
        values["jinja2_per_s"]["median"],
        values["ratio_to_jinja2"]["median"],
        values["distinct"],
        values["on_topic"],
        values["longest"],
    )


def main() -> None:
    parser = report.arguments(__doc__, rounds=5)
    parser.add_argument(
        "--captions",
        type=report.positive,
        default=CAPTIONS,
        help="of one persona on one prompt; default: %(default)s",
    )
    options = parser.parse_args()
    report.show("captions", measure(options.rounds, options.captions), as_json=options.json)


if __name__ == "__main__":
    main()
