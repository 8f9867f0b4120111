"""From a persona's words to a style and to modifiers.

Words count by token and stem, never by substring, so "update" is not tech and "compassionate" is
not passionate; a word in the scope of a negation ("not creative", "anything but formal") does not
count. Personality traits weigh 3 each, aesthetic 2, voice style 1; ties go by voice, then by
aesthetic, then to casual. The word lists of all locales are read, since personas mix languages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from types import MappingProxyType

from backend.captions.voice import Voice, as_text, as_traits
from backend.captions.words import lexicon, locales, stem, stem_set, tokens

STYLES = ("creative", "professional", "tech", "casual")
MODIFIERS = ("warm", "confident", "passionate", "analytical")
TRAIT_WEIGHT, AESTHETIC_WEIGHT, VOICE_WEIGHT = 3, 2, 1

_CLAUSE_END = re.compile(
    r"[,;.!?:()]|\b(?:yet|however|though|although|while|jedoch|obwohl)\b", re.IGNORECASE
)
_LONGEST_PHRASE = 3
_READ_CHARACTERS = 1_000

Phrase = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Mention:
    """A word or phrase that stands for a style or modifier, and whether it counts."""

    words: str
    names: frozenset[str]
    denied: bool


@dataclass(frozen=True, slots=True)
class Evidence:
    """A mention in one of a persona's fields."""

    field: str
    words: str
    style: str
    weight: int
    """How much it adds; 0 where it is denied."""


@dataclass(frozen=True, slots=True)
class StyleScores:
    """The style that won, every style's score, and what was counted."""

    style: str
    scores: Mapping[str, int]
    evidence: tuple[Evidence, ...] = ()


def score_styles(traits: object, aesthetic: object, voice_style: object) -> StyleScores:
    """Weigh a persona's words and name its style.

    Args:
        traits: a list of traits, or a text that separates them by commas.
        aesthetic: a text or a list of texts.
        voice_style: a text or a list of texts.
    """
    return _score(as_traits(traits), as_text(aesthetic), as_text(voice_style))


def score_voice(voice: Voice) -> StyleScores:
    """Weigh the words of a persona that was read."""
    return _score(voice.traits, voice.aesthetic, voice.voice_style)


def modifiers_of(*texts: object) -> tuple[str, ...]:
    """Return the modifiers that any of the texts names, in their fixed order."""
    named = frozenset().union(*(_counted(as_text(text), "modifiers") for text in texts))
    return tuple(modifier for modifier in MODIFIERS if modifier in named)


def styles_in(text: str) -> frozenset[str]:
    """Return the styles that a text names and does not deny."""
    return _counted(text, "styles")


def mentions(text: str, table: str) -> tuple[Mention, ...]:
    """Return what a text names of a table (`styles`, `modifiers`), denied or not, in its order."""
    return _mentions(text[:_READ_CHARACTERS], table)


@lru_cache(maxsize=1_024)
def _score(traits: tuple[str, ...], aesthetic: str, voice_style: str) -> StyleScores:
    fields = (
        *(("trait", trait, TRAIT_WEIGHT) for trait in traits),
        ("aesthetic", aesthetic, AESTHETIC_WEIGHT),
        ("voice", voice_style, VOICE_WEIGHT),
    )
    scores = dict.fromkeys(STYLES, 0)
    evidence: list[Evidence] = []
    for field, text, weight in fields:
        for style in _counted(text, "styles"):
            scores[style] += weight
        evidence += _evidence(field, text, weight)
    winner = _winner(scores, _counted(voice_style, "styles"), _counted(aesthetic, "styles"))
    return StyleScores(winner, MappingProxyType(scores), tuple(evidence))


def _evidence(field: str, text: str, weight: int) -> Iterator[Evidence]:
    """Yield what a field says for and against each style; a style counts once a field."""
    told: set[str] = set()
    for mention in mentions(text, "styles"):
        for style in sorted(mention.names):
            counts = not mention.denied and style not in told
            told |= {style} if counts else set()
            yield Evidence(field, mention.words, style, weight if counts else 0)


def _winner(scores: Mapping[str, int], *tie_breakers: frozenset[str]) -> str:
    best = max(scores.values())
    tied = [style for style in STYLES if scores[style] == best]
    if best == 0:
        return "casual"
    for named in tie_breakers:
        preferred = [style for style in tied if style in named]
        if len(preferred) == 1:
            return preferred[0]
    return tied[0] if len(tied) == 1 else "casual"


def _counted(text: str, table: str) -> frozenset[str]:
    return frozenset().union(*(m.names for m in mentions(text, table) if not m.denied))


@lru_cache(maxsize=4_096)
def _mentions(text: str, table: str) -> tuple[Mention, ...]:
    found: dict[str, Mention] = {}
    for locale in locales():
        for mention in _mentions_in(text, _table(table, locale), locale):
            found.setdefault(mention.words, mention)
    return tuple(found.values())


@dataclass(frozen=True, slots=True)
class _Table:
    entries: Mapping[Phrase, frozenset[str]]
    negators: frozenset[Phrase]
    affirmations: frozenset[Phrase]
    contrasts: frozenset[Phrase]


def _mentions_in(text: str, table: _Table, locale: str) -> Iterator[Mention]:
    for clause in _CLAUSE_END.split(text):
        raw = tokens(clause)
        words = [stem(token, locale) for token in raw]
        position, denied = 0, False
        while position < len(words):
            length, phrase = _longest(words, position, table)
            if phrase in table.negators:
                denied = True
            elif phrase in table.contrasts:
                denied = False
            elif phrase in table.entries:
                said = " ".join(raw[position : position + length])
                yield Mention(said, table.entries[phrase], denied)
            position += length


def _longest(words: Sequence[str], position: int, table: _Table) -> tuple[int, Phrase]:
    known = (table.entries, table.negators, table.affirmations, table.contrasts)
    for length in range(_LONGEST_PHRASE, 0, -1):
        phrase = tuple(words[position : position + length])
        if len(phrase) == length and any(phrase in listed for listed in known):
            return length, phrase
    word = words[position]
    return 1, ("not",) if word.endswith("n't") else (word,)


@cache
def _table(name: str, locale: str) -> _Table:
    words = lexicon(locale)
    entries: dict[Phrase, frozenset[str]] = {}
    for label, listed in words[name].items():
        for phrase in stem_set(listed, locale):
            entries[phrase] = entries.get(phrase, frozenset()) | {label}
    return _Table(
        entries, *(_scope(key, locale) for key in ("negators", "affirmations", "contrasts"))
    )


def _scope(key: str, locale: str) -> frozenset[Phrase]:
    """Return all locales' words of a kind, by one locale's stems: "not" denies "kreativ" too."""
    return frozenset().union(*(stem_set(lexicon(other)[key], locale) for other in locales()))
