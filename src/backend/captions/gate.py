"""What any caption must pass, whoever wrote it.

Invariants: the gate only judges. It never edits a caption, it reads nothing but the text, the brief
and what was said lately, and each finding says what was found. What the user said is the user's:
figures, claims and odd signs that stand in the brief may stand in the caption, and a topic that the
caption quotes is left out where its own words are weighed.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

from backend.captions.answers import gives_orders, leftovers_in, links_in, obeys, phrases_in
from backend.captions.appearance import contradictions
from backend.captions.brief import RATINGS, Brief, Rating
from backend.captions.claims import Kind, claims_in
from backend.captions.language import foreign_language
from backend.captions.lengths import utf8
from backend.captions.memory import Memory
from backend.captions.platforms import Platform, hashtags_in
from backend.captions.topic import Topic
from backend.captions.words import content_stems, stem, tokens

TOO_ALIKE = 0.4
"""Which share of a text's runs of four words may not stand in one recent caption, but for the
topic's own. Captions of one persona on one prompt share a tenth at most, in 1,740 of the engine's;
one that was worked over shares more than a half."""

_FEWEST_WORDS = 2
_FEWEST_BYTES = 12
_SHOWN = 5
_QUOTED_WORDS = 3
_LONG_STEM = 5
_CODES: dict[Kind, str] = {
    "experience": "claimed_experience",
    "number": "invented_number",
    "health": "health_promise",
    "money": "money_promise",
    "proof": "claimed_proof",
}
_UMLAUTS = str.maketrans("äöüéèêàáíóúñç", "aoueeeaaiounc")
_BAD_TAG = re.compile(
    r"(?<![\w&/])(?:[#＃]{2,}\w*|[#＃][^\W\d_]\w*(?:[&+/]|-(?=\w)|\.(?=[^\W\d_]{2})|['’](?!s\b)(?=\w))\w*)"
)

Severity = Literal["block", "flag"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that the gate found in a caption."""

    code: str
    detail: str
    severity: Severity = "block"
    """Whether it keeps the caption back, or is for a person to look at."""


def judge(text: str, brief: Brief, memory: Memory) -> tuple[Finding, ...]:
    """Return what is wrong with a caption; nothing where it passes.

    Args:
        text: the caption.
        brief: what it was to be about, and on which terms.
        memory: what this persona said lately.
    """
    words = tokens(text)
    if not words:
        return (Finding("empty", f"there is no word in {text.strip()[:20]!r}"),)
    source = brief.source
    return (
        *_length(text, words, brief.platform),
        *_tags(text, brief.platform),
        *_answer(text, words, brief.topic, source),
        *_claims(text, words, source),
        *_subject(text, words, brief),
        *_likeness(text, brief.topic, memory),
        *_appearance(text, brief),
        *_rating(words, brief),
    )


def passes(findings: Sequence[Finding]) -> bool:
    """Tell whether a caption with these findings may go out."""
    return not any(finding.severity == "block" for finding in findings)


def explain(findings: Sequence[Finding]) -> str:
    """Return findings as one line."""
    return "; ".join(f"{finding.code}: {finding.detail}" for finding in findings)


def _length(text: str, words: Sequence[str], platform: Platform) -> Iterator[Finding]:
    if len(words) < _FEWEST_WORDS and utf8(text.strip()) < _FEWEST_BYTES:
        yield Finding("too_short", repr(text.strip()))
    length = platform.length(text)
    if length > platform.limit:
        yield Finding("too_long", f"{length} of {platform.limit} ({platform.name})")
    elif not platform.fits(text):
        yield Finding("too_long", f"{utf8(text)} of {platform.max_bytes} bytes ({platform.name})")
    refused = [sign for sign in platform.forbidden if sign in text]
    if refused:
        yield Finding("forbidden_sign", f"{' '.join(refused)} ({platform.name})")


def _tags(text: str, platform: Platform) -> Iterator[Finding]:
    if "#" not in text and "＃" not in text:
        return
    tags = hashtags_in(text)
    if len(tags) > platform.max_hashtags:
        yield Finding("too_many_hashtags", f"{len(tags)} of {platform.max_hashtags}")
    folded = [tag.casefold() for tag in tags]
    twice = sorted({tag for tag in folded if folded.count(tag) > 1})
    if twice:
        yield Finding("doubled_hashtag", ", ".join(f"#{tag}" for tag in twice[:_SHOWN]))
    bad = [match[0] for match in _BAD_TAG.finditer(text)]
    bad += [f"#{tag}" for tag in tags if len(tag) > platform.longest_tag]
    if bad:
        yield Finding("bad_hashtag", ", ".join(bad[:_SHOWN]))


def _answer(text: str, words: Sequence[str], topic: Topic, source: str) -> Iterator[Finding]:
    said = ("", _unquoted(text, topic)) if gives_orders(topic.prompt) else (source, text)
    phrases = phrases_in(said[1], words, said[0])
    for code, found in (*phrases, *leftovers_in(text, words, source)):
        yield Finding(code, repr(found))
    links = links_in(text, source)
    if links:
        yield Finding("invented_link", ", ".join(links[:_SHOWN]))


def _claims(text: str, words: Sequence[str], source: str) -> Iterator[Finding]:
    found: dict[str, list[str]] = {}
    for claim in claims_in(text, source, words):
        found.setdefault(_CODES[claim.kind], []).append(claim.text)
    for code, claims in found.items():
        yield Finding(code, ", ".join(claims[:_SHOWN]))


def _subject(text: str, words: Sequence[str], brief: Brief) -> Iterator[Finding]:
    """Find what is in another language, on another topic, or done as the topic says."""
    topic, locale = brief.topic, brief.voice.locale
    asked = _words_of(topic.prompt)
    own = [word for word in words if word not in asked]
    language = foreign_language(text, locale, own)
    in_prompt = language and foreign_language(topic.prompt, locale) == language
    if language:
        yield Finding("foreign_language", language, "flag" if in_prompt else "block")
    if obeys(_unquoted(text, topic), topic.prompt):
        yield Finding("off_topic", "it does what the prompt says instead of being about it")
    elif not _names(text, words, topic, locale):
        foreign = bool(foreign_language(topic.prompt, locale))
        yield Finding(
            "off_topic", f"no word of {topic.text[:60]!r}", "flag" if foreign else "block"
        )


def _likeness(text: str, topic: Topic, memory: Memory) -> Iterator[Finding]:
    if memory.said(text):
        yield Finding("repeated", "an identical caption was posted before")
        return
    if memory.opening(text):
        yield Finding("opening_seen", repr(" ".join(text.split()[:4])))
    overlap = memory.overlap(_unquoted(text, topic))
    if overlap > TOO_ALIKE:
        yield Finding("too_alike", f"{overlap:.0%} of its runs of four words are in a recent one")


def _appearance(text: str, brief: Brief) -> Iterator[Finding]:
    voice = brief.voice
    for contradiction in contradictions(text, voice.appearance, voice.locale):
        yield Finding("contradicts_appearance", contradiction)


def _rating(words: Sequence[str], brief: Brief) -> Iterator[Finding]:
    ratings = _rated_words(brief.voice.locale)
    allowed = RATINGS.index(brief.rating)
    above = [word for word in words if word in ratings and RATINGS.index(ratings[word]) > allowed]
    if above:
        listed = ", ".join(dict.fromkeys(above[:_SHOWN]))
        yield Finding("rating", f"{listed}: beyond {brief.rating}?", "flag")


@cache
def _ratings() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("ratings.toml").read_text("utf-8"))


@cache
def _rated_words(locale: str) -> dict[str, Rating]:
    """Return the words that ask for a rating, in a language and in English."""
    lists = _ratings()
    own = lists.get(locale, lists["en"])
    rated: dict[str, Rating] = {}
    for words in (lists["en"], own):
        for rating in RATINGS[1:]:
            rated |= {word.casefold(): rating for word in words[rating]}
    return {word: rating for word, rating in rated.items() if word not in own["harmless"]}


@lru_cache(maxsize=256)
def _words_of(prompt: str) -> frozenset[str]:
    return frozenset(tokens(prompt))


def _unquoted(text: str, topic: Topic) -> str:
    """Return a text without the topic, or without as much of its beginning as it quotes."""
    parts = topic.text.split()
    lowered = text.lower()
    for length in range(len(parts), _QUOTED_WORDS - 1, -1):
        phrase = " ".join(parts[:length]).lower()
        at = lowered.find(phrase)
        if at >= 0 and len(lowered) == len(text):
            return f"{text[:at]} … {text[at + len(phrase) :]}"
    return text


def _names(text: str, words: Sequence[str], topic: Topic, locale: str) -> bool:
    """Tell whether a text has a content word of the topic, in whatever form or compound."""
    stems = _topic_stems(topic.text if gives_orders(topic.prompt) else topic.prompt, locale)
    if not stems:
        return True
    folded = text.casefold().translate(_UMLAUTS)
    if any(len(root) >= _LONG_STEM and root in folded for root in stems):
        return True
    beginnings = {root[:2] for root in stems}
    return any(
        word[:2].translate(_UMLAUTS) in beginnings and _root(stem(word, locale)) in stems
        for word in words
    )


@lru_cache(maxsize=256)
def _topic_stems(topic: str, locale: str) -> frozenset[str]:
    return frozenset(_root(found) for found in content_stems(topic, locale))


def _root(found: str) -> str:
    """Return a stem as it stands in the word's other forms: happi(ness) as happ."""
    root = found.translate(_UMLAUTS)
    return root[:-1] if len(root) > _LONG_STEM and root.endswith(("i", "y")) else root
