"""Words as the caption room sees them: cleaned text, tokens, stems, word lists.

Invariant: nothing here raises on any string; `clean` is the only way in for text that a user wrote.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterable
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import snowballstemmer

PACKS = Path(__file__).parent / "packs"
_READ_AT_MOST = 4_000
_TOKEN = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_BIDI_CONTROLS = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
SNOWBALL = {"en": "english", "de": "german"}
"""The stemmer of each locale, by the name that Snowball gives it."""

LONGEST_WORD = 60


def clean(value: object, limit: int = 600) -> str:
    """Turn any value into one printable line of at most `limit` characters; no string gives "".

    Control signs, lone surrogates and signs that turn the writing direction go; what is cut is cut
    between words wherever there is a space to cut at.
    """
    if not isinstance(value, str):
        return ""
    text = str.__str__(value)[:_READ_AT_MOST]
    shown = (" " if char.isspace() else char for char in text if _is_shown(char))
    return shorten(" ".join("".join(shown).split()), limit)


def printable(text: str) -> str:
    """Return a text of several lines without the signs that no reader sees and no store takes."""
    return "".join(char for char in text if char == "\n" or _is_shown(char))


def _is_shown(char: str) -> bool:
    if char.isspace():
        return True
    return char not in _BIDI_CONTROLS and unicodedata.category(char) not in {"Cc", "Cs", "Cn"}


def shorten(text: str, limit: int) -> str:
    """Cut at the last space within `limit`; a text without spaces between two whole characters."""
    if len(text) <= limit:
        return text
    head = text[: limit + 1]
    cut = head.rfind(" ")
    if cut > 0:
        return head[:cut].rstrip(" ,;:-–—")
    end = limit
    while end > 1 and (unicodedata.category(text[end]) in {"Mn", "Me", "Mc", "Cf", "Sk"}):
        end -= 1
    return text[:end].rstrip("\u200d\ufe0f")


def tokens(text: str) -> list[str]:
    """Split into lower-case words; hyphens and underscores separate, apostrophes do not."""
    return [match.casefold().replace("’", "'") for match in _TOKEN.findall(text)]


@lru_cache(maxsize=16_384)
def stem(word: str, locale: str = "en") -> str:
    """Reduce a word to what its common forms share, by Snowball's rules: trending → trend."""
    word = word[:LONGEST_WORD].removesuffix("'s")
    stemmed: str = _stemmer(locale).stemWord(word)
    return stemmed


@cache
def _stemmer(locale: str) -> Any:
    return snowballstemmer.stemmer(SNOWBALL.get(locale, "english"))


def stems(text: str, locale: str = "en") -> tuple[str, ...]:
    """Return the stems of a text's words, in order."""
    return tuple([stem(token, locale) for token in tokens(text)])


def content_words(text: str, locale: str = "en") -> list[str]:
    """Return the words that carry meaning: three letters or more (or capitals) and no stop word."""
    stop = stop_words(locale)
    found = []
    for match in _TOKEN.findall(text):
        word = match.casefold().replace("’", "'")
        is_acronym = len(match) == 2 and match.isupper()
        if (len(word) > 2 or is_acronym or not word.isascii()) and word not in stop:
            found.append(word)
    return found


def content_stems(text: str, locale: str = "en") -> frozenset[str]:
    """Return the stems of the words that carry meaning."""
    return frozenset([stem(word, locale) for word in content_words(text, locale)])


@cache
def locales() -> tuple[str, ...]:
    """Return the locales that have word lists."""
    return tuple(sorted(path.parent.name for path in PACKS.glob("*/lexicon.toml")))


@cache
def lexicon(locale: str = "en") -> dict[str, Any]:
    """Return a locale's word lists, read once; English ones for a locale that has none."""
    known = locale if locale in locales() else "en"
    return tomllib.loads((PACKS / known / "lexicon.toml").read_text("utf-8"))


@cache
def stop_words(locale: str = "en") -> frozenset[str]:
    """Return the words that carry no topic."""
    return frozenset(lexicon(locale)["stop"])


@cache
def word_set(*path: str, locale: str = "en") -> frozenset[str]:
    """Return one of the lexicon's word lists, by its path there; empty where there is none."""
    found: Any = lexicon(locale)
    for name in path:
        found = found.get(name, {})
    return frozenset(found)


def stem_set(words: Iterable[str], locale: str = "en") -> frozenset[tuple[str, ...]]:
    """Return each entry (a word or a short phrase) as a tuple of stems."""
    return frozenset(stems(word, locale) for word in words)
