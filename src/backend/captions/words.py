"""Words as the caption room sees them: cleaned text, tokens, stems, word lists.

Invariant: nothing here raises on any value; `clean` is the only way in for text that a user wrote.
What is dropped is named by code point, not by Python's Unicode tables, which differ from one
version to the next.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import regex
from snowballstemmer.english_stemmer import EnglishStemmer
from snowballstemmer.german_stemmer import GermanStemmer

PACKS = Path(__file__).parent / "packs"
"""The folder of the shipped locales."""

READ_AT_MOST = 4_000
"""Characters of a text that are looked at."""

_LONGEST_STEMMED = 40
_STEMMERS = {"english": EnglishStemmer(), "german": GermanStemmer()}
_ONE_AT_A_TIME = Lock()
_HASHES = re.compile(r"(?<!\w)[#＃]+(?=\w)")
_TOKEN = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_HIDDEN = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u2069\ufeff\ufff0-\uffff\ud800-\udfff\ufdd0-\ufdef\U000e0001"
    + "".join(
        f"{chr(plane * 0x10000 + 0xFFFE)}-{chr(plane * 0x10000 + 0xFFFF)}" for plane in range(1, 17)
    )
    + "]|(?<![\U0001f3f4\U000e0020-\U000e007f])[\U000e0020-\U000e007f]+"
)
"""Control signs, lone surrogates, what turns the writing direction, what no reader sees."""

_GRAPHEME = regex.compile(r"\X")


def clean(value: object, limit: int = 600) -> str:
    """Turn any value into one printable line of at most `limit` characters; no string gives "".

    What is cut is cut between words wherever there is a space to cut at.
    """
    text = plain(value)[:READ_AT_MOST]
    return shorten(" ".join(_HIDDEN.sub("", text).split()), limit)


def plain(value: object) -> str:
    """Return a text as it is, freed of its class's own methods; "" for anything else."""
    return str.__str__(value) if issubclass(type(value), str) else ""


def unhashed(text: str) -> str:
    """Return a text whose words are no hashtags; "C#" keeps its sign."""
    return _HASHES.sub("", text) if "#" in text or "＃" in text else text


def printable(text: str) -> str:
    """Return a text of several lines without the signs that no reader sees and no store takes."""
    return _HIDDEN.sub("", text)


def shorten(text: str, limit: int) -> str:
    """Cut at the last space within `limit`; a text without spaces between two whole characters."""
    if len(text) <= limit:
        return text
    cut = text.rfind(" ", 0, limit + 1)
    if cut > 0:
        return text[:cut].rstrip(" ,;:-–—")
    end = 0
    for grapheme in _GRAPHEME.finditer(text, 0, limit + 1):
        if grapheme.end() > limit:
            break
        end = grapheme.end()
    return text[:end]


def tokens(text: str) -> list[str]:
    """Split into lower-case words; hyphens and underscores separate, apostrophes do not."""
    return [match.casefold().replace("’", "'") for match in _TOKEN.findall(text)]


@lru_cache(maxsize=32_768)
def stem(word: str, locale: str = "en") -> str:
    """Reduce a word to what its forms share: trends, trend → trend."""
    if len(word) > _LONGEST_STEMMED:
        return word
    with _ONE_AT_A_TIME:
        stemmed: str = _STEMMERS[lexicon(locale)["stemmer"]].stemWord(word)
    return stemmed


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
    """Return the shipped locales, English first."""
    found = sorted(path.parent.name for path in PACKS.glob("*/lexicon.toml"))
    return ("en", *(name for name in found if name != "en"))


@cache
def lexicon(locale: str = "en") -> Mapping[str, Any]:
    """Return a locale's word lists, read once; English for a locale that is not shipped."""
    if locale not in locales():
        return lexicon("en")
    return tomllib.loads((PACKS / locale / "lexicon.toml").read_text("utf-8"))


@cache
def stop_words(locale: str = "en") -> frozenset[str]:
    """Return the words that carry no topic."""
    return word_set("stop", locale=locale)


@cache
def word_set(*path: str, locale: str = "en") -> frozenset[str]:
    """Return one of a lexicon's word lists, by its path there; empty where it has none.

    A word with "ß" is there as it is written and as `casefold` makes it.
    """
    found: Any = lexicon(locale)
    for name in path:
        found = found.get(name, {})
    return frozenset(found) | {word.casefold() for word in found}


def stem_set(words: Iterable[str], locale: str = "en") -> frozenset[tuple[str, ...]]:
    """Return each entry (a word or a short phrase) as a tuple of stems."""
    return frozenset(stems(word, locale) for word in words)
