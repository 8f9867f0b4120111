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

PACKS = Path(__file__).parent / "packs"
_READ_AT_MOST = 4_000
_TOKEN = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_BIDI_CONTROLS = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
_VOWELS = frozenset("aeiouy")


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


@lru_cache(maxsize=8192)
def stem(word: str) -> str:
    """Reduce an English word to what its common forms share: trends, trend → trend."""
    word = word.removesuffix("'s")
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for suffix in ("ing", "ed", "ly"):
        root = word.removesuffix(suffix)
        if root != word and len(root) > 2 and _VOWELS & set(root):
            word = root[:-1] if suffix != "ly" and _doubled(root) else root
            break
    return word[:-1] if len(word) > 3 and word.endswith("e") else word


def _doubled(root: str) -> bool:
    return root[-1] == root[-2] and root[-1] not in "lsz"


def stems(text: str) -> tuple[str, ...]:
    """Return the stems of a text's words, in order."""
    return tuple(stem(token) for token in tokens(text))


def content_words(text: str) -> list[str]:
    """Return the words that carry meaning: three letters or more (or capitals) and no stop word."""
    stop = stop_words()
    found = []
    for match in _TOKEN.findall(text):
        word = match.casefold().replace("’", "'")
        is_acronym = len(match) == 2 and match.isupper()
        if (len(word) > 2 or is_acronym or not word.isascii()) and word not in stop:
            found.append(word)
    return found


def content_stems(text: str) -> frozenset[str]:
    """Return the stems of the words that carry meaning."""
    return frozenset(stem(word) for word in content_words(text))


@cache
def lexicon(locale: str = "en") -> dict[str, Any]:
    """Return a locale's word lists, read once."""
    return tomllib.loads((PACKS / locale / "lexicon.toml").read_text("utf-8"))


@cache
def stop_words(locale: str = "en") -> frozenset[str]:
    """Return the words that carry no topic."""
    return frozenset(lexicon(locale)["stop"])


def word_set(*path: str) -> frozenset[str]:
    """Return one of the lexicon's word lists, by its path there."""
    found: Any = lexicon()
    for name in path:
        found = found[name]
    return frozenset(found)


def stem_set(words: Iterable[str]) -> frozenset[tuple[str, ...]]:
    """Return each entry (a word or a short phrase) as a tuple of stems."""
    return frozenset(stems(word) for word in words)
