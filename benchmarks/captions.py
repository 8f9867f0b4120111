"""Captions of the four example personas: how varied, how much on topic, how fit, and how quick.

A persona writes on one prompt again and again, with its memory, as it would over months; a window
is its last 30 posts. What repeats is counted over whole captions, topic and theme included. The
peers for speed are Tracery and Jinja2 on the same texts (caption_peers.py).
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, islice
from typing import Any

import report
from caption_peers import by_jinja2, by_tracery
from sacrebleu.metrics import BLEU

from backend.captions import grammar_check
from backend.captions.brief import Brief
from backend.captions.composer import Caption, compose
from backend.captions.drafts import desk_for
from backend.captions.health import measure as measure_health
from backend.captions.memory import WINDOW, Memory, opening_of, runs_of
from backend.captions.packs import Library
from backend.captions.platforms import ANY, platform_named
from backend.captions.scoring import score_voice
from backend.captions.seeds import mix
from backend.captions.topic import Topic, read_topic
from backend.captions.voice import Voice, read_voice
from backend.captions.words import content_stems, stems
from backend.models.persona import PersonaCreate
from backend.services.demo import examples_folder, read_personas, read_prompts

CAPTIONS = 1_000
GRAMMAR_CAPTIONS = 5_000
BLEU_EVERY = 5
TIMED = 3_000
RERANKED = 250
LIBRARY = Library()
PROMPTS = (
    "a quiet bookshop in the rain",
    "walking a dog through autumn leaves",
    "the city sleeps under snow",
    "celebrate small wins",
    "how will cities look tomorrow?",
    "red running shoes, studio light, 85mm",
)
"""One of each kind of topic, beside those of the demo."""

NAMES = (
    "x",
    "instagram",
    "threads",
    "bluesky",
    "mastodon",
    "linkedin",
    "tiktok",
    "youtube",
)


def measure(rounds: int, captions: int, grammar_captions: int) -> report.Report:
    """Measure every persona."""
    personas = read_personas(examples_folder() / "personas")
    prompts = [read_topic(prompt) for prompt in read_prompts(examples_folder() / "prompts.txt")]
    prompts += [read_topic(prompt) for prompt in PROMPTS]
    found = {
        persona.name: measure_persona(persona, prompts, rounds, captions) for persona in personas
    }
    errors = grammar_findings(personas, prompts, grammar_captions)
    return summed_up(found, errors, rounds, captions, grammar_captions)


def measure_persona(
    persona: PersonaCreate, topics: Sequence[Topic], rounds: int, captions: int
) -> dict[str, Any]:
    """Write on one prompt many times, then on many prompts; then time it."""
    voice = read_voice(persona)
    said = series(voice, topics[0], captions)
    texts = [caption.text for caption in said]
    mixed = [(topic, text) for topic in topics for text in written(voice, topic, 50)]
    briefs = [Brief(voice, topic) for topic in topics]
    return {
        "style": score_voice(voice).style,
        "distinct": len({" ".join(text.casefold().split()) for text in texts}) / len(texts),
        "collision_space": min(measure_health(brief, LIBRARY).collision_space for brief in briefs),
        "self_bleu_4": round(self_bleu(texts), 3),
        "openings_seen": round(openings_seen(texts), 4),
        "overlap": round(mean_overlap(texts), 3),
        "on_topic": share(mixed, lambda topic, text: shared_words(topic, text) >= 1),
        "on_topic_twice": share(mixed, said_twice),
        "within_limits": within_limits(voice, topics),
        **speeds(voice, topics[0], rounds),
    }


def series(voice: Voice, topic: Topic, count: int) -> list[Caption]:
    """Write captions one after the other, each remembered."""
    memory, said = Memory(), []
    for seed in range(count):
        caption = compose(Brief(voice, topic, seed), memory)
        memory.add(caption.said)
        said.append(caption)
    return said


def written(voice: Voice, topic: Topic, count: int) -> list[str]:
    return [compose(Brief(voice, topic, seed)).text for seed in range(count)]


def self_bleu(texts: Sequence[str]) -> float:
    """Return the mean BLEU-4 of captions against those of the window before them."""
    metric = BLEU(effective_order=True)
    scores = [
        metric.sentence_score(texts[index], texts[index - WINDOW : index]).score / 100
        for index in range(WINDOW, len(texts), BLEU_EVERY)
    ]
    return statistics.fmean(scores) if scores else 0.0


def openings_seen(texts: Sequence[str]) -> float:
    openings = [opening_of(text) for text in texts]
    seen = [openings[i] in openings[max(0, i - WINDOW) : i] for i in range(1, len(openings))]
    return statistics.fmean(seen)


def mean_overlap(texts: Sequence[str]) -> float:
    """Return the mean of each caption's largest share of four-word runs with one of the window."""
    runs = [runs_of(text) for text in texts]
    return statistics.fmean(
        max(len(runs[i] & other) for other in runs[max(0, i - WINDOW) : i]) / len(runs[i])
        for i in range(1, len(runs))
    )


def shared_words(topic: Topic, text: str) -> int:
    return len(content_stems(topic.prompt) & set(stems(text)))


def said_twice(topic: Topic, text: str) -> bool:
    """Tell whether two of the prompt's words are said, or the only one it has."""
    return shared_words(topic, text) >= min(2, len(content_stems(topic.prompt)))


def share(pairs: Sequence[tuple[Topic, str]], holds: Callable[[Topic, str], bool]) -> float:
    return sum(holds(*pair) for pair in pairs) / len(pairs)


def within_limits(voice: Voice, topics: Sequence[Topic]) -> float:
    fits = [
        platform.fits(compose(Brief(voice, topic, seed, platform)).text)
        for platform in map(platform_named, NAMES)
        for topic in topics
        for seed in range(5)
    ]
    return sum(fits) / len(fits)


def speeds(voice: Voice, topic: Topic, rounds: int) -> dict[str, Any]:
    """Time the grammar against its peers, and the whole choice among eight drafts by itself."""
    desk, nothing = desk_for(Brief(voice, topic), LIBRARY), Memory()
    ways = {
        "plain": per_second(
            lambda seed: desk.render(desk.draft(mix(seed), desk.choices, nothing), ANY)
        ),
        "jinja2": per_second(by_jinja2(desk)),
        "tracery": per_second(by_tracery(desk)),
        "reranked": lambda: reranked_per_second(voice, topic),
    }
    report.interleave(ways, 1)
    found = report.interleave(ways, rounds)
    return {
        "captions_per_s": {way: report.spread(values, 0) for way, values in found.items()},
        "ratio_to_jinja2": report.ratio(found["plain"], found["jinja2"]),
        "ratio_to_tracery": report.ratio(found["plain"], found["tracery"]),
    }


def per_second(writer: Callable[[int], str]) -> Callable[[], float]:
    def timed() -> float:
        gc.collect()  # Tracery's nodes refer to each other; each way clears away its own
        started = time.process_time()
        for seed in range(TIMED):
            writer(seed)
        return TIMED / (time.process_time() - started)

    return timed


def reranked_per_second(voice: Voice, topic: Topic) -> float:
    started = time.process_time()
    series(voice, topic, RERANKED)
    return RERANKED / (time.process_time() - started)


def grammar_findings(
    personas: Sequence[PersonaCreate], topics: Sequence[Topic], count: int
) -> list[str]:
    """Return what Harper says of captions of all personas on all prompts."""
    voices = [read_voice(persona) for persona in personas]
    pairs = [(voice, topic) for topic in topics for voice in voices]
    texts = (
        compose(Brief(voice, topic, seed)).text
        for seed, (voice, topic) in enumerate(islice(cycle(pairs), count))
    )
    names = [name for voice in voices for name in (voice.name, *voice.themes)]
    return [finding.detail for finding in grammar_check.check(texts, "en", names)]


def summed_up(
    found: Mapping[str, Mapping[str, Any]],
    errors: Sequence[str],
    rounds: int,
    captions: int,
    grammar_captions: int,
) -> report.Report:
    """Turn the personas' figures into claims on the worst of them."""

    def least(figure: str, part: str = "") -> float:
        return min(value[figure][part] if part else value[figure] for value in found.values())

    def most(figure: str) -> float:
        return max(value[figure] for value in found.values())

    slowest = min(value["captions_per_s"]["reranked"]["median"] for value in found.values())
    return report.Report(
        figures={
            "rounds": rounds,
            "captions": captions,
            "personas": dict(found),
            "harper": list(errors),
        },
        claims=[
            report.at_least(f"distinct of {captions:,}, one prompt", least("distinct"), 1),
            report.at_least("collision space, the least", least("collision_space"), 1e6),
            report.at_most("self-BLEU-4, window of 30", most("self_bleu_4"), 0.45),
            report.at_most("opening seen in the last 30", most("openings_seen"), 0.05),
            report.at_most("largest 4-gram overlap, mean", most("overlap"), 0.15),
            report.at_least("on topic: a content word of the prompt", least("on_topic"), 1),
            report.at_least("on topic: two content words", least("on_topic_twice"), 0.85),
            report.at_least("within limits, 8 platforms", least("within_limits"), 1),
            report.at_most(f"Harper findings in {grammar_captions:,}", len(errors), 0),
            report.at_least("captions/s, plain / Tracery", least("ratio_to_tracery", "median"), 10),
            report.at_least("captions/s, plain / Jinja2", least("ratio_to_jinja2", "median"), 1),
            report.at_least("captions/s, best of eight", slowest, 500),
        ],
        tables=[
            ("captions", ("persona", *COLUMNS), [row(*item) for item in found.items()]),
            ("captions a second", ("persona", *SPEEDS), [speed(*item) for item in found.items()]),
        ],
    )


COLUMNS = (
    "style",
    "distinct",
    "collision_space",
    "self_bleu_4",
    "openings_seen",
    "overlap",
    "on_topic",
    "on_topic_twice",
    "within_limits",
)
SPEEDS = ("plain", "jinja2", "tracery", "reranked")


def row(name: str, values: Mapping[str, Any]) -> tuple[object, ...]:
    return name, *(
        f"{values[column]:.3g}" if isinstance(values[column], float) else values[column]
        for column in COLUMNS
    )


def speed(name: str, values: Mapping[str, Any]) -> tuple[object, ...]:
    return name, *(values["captions_per_s"][way]["median"] for way in SPEEDS)


def main() -> None:
    parser = report.arguments(__doc__, rounds=5)
    parser.add_argument(
        "--captions",
        type=report.positive,
        default=CAPTIONS,
        help="of one persona on one prompt; default: %(default)s",
    )
    parser.add_argument(
        "--grammar-captions",
        type=report.positive,
        default=GRAMMAR_CAPTIONS,
        help="that the grammar checker reads; default: %(default)s",
    )
    options = parser.parse_args()
    found = measure(options.rounds, options.captions, options.grammar_captions)
    report.show("captions", found, as_json=options.json)


if __name__ == "__main__":
    main()
