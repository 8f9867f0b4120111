"""From a persona's words to a style and to modifiers.

Words count by token and stem, never by substring, so "update" is not tech and "compassionate" is
not passionate; a word in the scope of a negation ("not creative", "anything but formal") does not
count. Personality traits weigh 3 each, aesthetic 2, voice style 1; ties go by voice, then by
aesthetic, then to casual.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from backend.captions.voice import Voice, as_text, as_traits
from backend.captions.words import lexicon, stem_set, stems

STYLES = ("creative", "professional", "tech", "casual")
MODIFIERS = ("warm", "confident", "passionate", "analytical")
TRAIT_WEIGHT, AESTHETIC_WEIGHT, VOICE_WEIGHT = 3, 2, 1

_CLAUSE_END = re.compile(r"[,;.!?:()]|\b(?:yet|however|though|although|while)\b", re.IGNORECASE)
_LONGEST_PHRASE = 3


@dataclass(frozen=True, slots=True)
class StyleScores:
    """The style that won and every style's score."""

    style: str
    scores: Mapping[str, int]


def score_styles(traits: object, aesthetic: object, voice_style: object) -> StyleScores:
    """Weigh a persona's words and name its style.

    Args:
        traits: a list of traits, or a text that separates them by commas.
        aesthetic: a text or a list of texts.
        voice_style: a text or a list of texts.
    """
    by_trait = [styles_in(trait) for trait in as_traits(traits)]
    by_aesthetic = styles_in(as_text(aesthetic))
    by_voice = styles_in(as_text(voice_style))
    scores = {
        style: TRAIT_WEIGHT * sum(style in named for named in by_trait)
        + AESTHETIC_WEIGHT * (style in by_aesthetic)
        + VOICE_WEIGHT * (style in by_voice)
        for style in STYLES
    }
    return StyleScores(_winner(scores, by_voice, by_aesthetic), MappingProxyType(scores))


def score_voice(voice: Voice) -> StyleScores:
    """Weigh the words of a persona that was read."""
    return score_styles(voice.traits, voice.aesthetic, voice.voice_style)


def modifiers_of(*texts: object) -> tuple[str, ...]:
    """Return the modifiers that any of the texts names, in their fixed order."""
    named = frozenset().union(*(_named_in(as_text(text), "modifiers") for text in texts))
    return tuple(modifier for modifier in MODIFIERS if modifier in named)


def styles_in(text: str) -> frozenset[str]:
    """Return the styles that a text names and does not deny."""
    return _named_in(text, "styles")


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


def _named_in(text: str, table: str) -> frozenset[str]:
    entries, negators, affirmations = _table(table)
    found: set[str] = set()
    for clause in _CLAUSE_END.split(text):
        words = stems(clause)
        position, denied = 0, False
        while position < len(words):
            length, phrase = _longest(words, position, entries, negators, affirmations)
            if phrase in negators:
                denied = True
            elif phrase in entries and not denied:
                found |= entries[phrase]
            elif words[position] == "but":
                denied = False
            position += length
    return frozenset(found)


def _longest(
    words: Sequence[str],
    position: int,
    *tables: Mapping[tuple[str, ...], object] | frozenset[tuple[str, ...]],
) -> tuple[int, tuple[str, ...]]:
    for length in range(_LONGEST_PHRASE, 0, -1):
        phrase = tuple(words[position : position + length])
        if len(phrase) == length and any(phrase in table for table in tables):
            return length, phrase
    word = words[position]
    return 1, ("not",) if word.endswith("n't") else (word,)


@cache
def _table(
    name: str,
) -> tuple[
    Mapping[tuple[str, ...], frozenset[str]], frozenset[tuple[str, ...]], frozenset[tuple[str, ...]]
]:
    words = lexicon()
    entries: dict[tuple[str, ...], frozenset[str]] = {}
    for label, listed in words[name].items():
        for phrase in stem_set(listed):
            entries[phrase] = entries.get(phrase, frozenset()) | {label}
    return entries, stem_set(words["negators"]), stem_set(words["affirmations"])
