"""In which language a text is, as far as its small words and its script tell.

Cheap, and therefore sure of less than it could be: it speaks up only where a text is evidently in
another language. Short texts, lists of things and languages that it does not know pass.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backend.captions.words import tokens

FEWEST_WORDS = 6
"""In how many words a language can be told."""

_FEWEST_SMALL_WORDS = 3
_AS_MANY = 2
_FEWEST_LETTERS = 2
_READ_WORDS = 120


def _load() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("language.toml").read_text("utf-8"))


_LISTS = _load()
_LANGUAGES: tuple[str, ...] = tuple(_LISTS["words"])
_SCRIPTS: dict[str, tuple[re.Pattern[str], frozenset[str]]] = {
    name: (re.compile(f"[{letters}]"), frozenset(languages.split()))
    for name, (letters, languages) in _LISTS["scripts"].items()
}
_IN_A_SCRIPT = re.compile("|".join(letters.pattern for letters, _ in _SCRIPTS.values()))
_OF_WORD: dict[str, tuple[str, ...]] = {}
for _language, _words in _LISTS["words"].items():
    for _word in dict.fromkeys(_words.casefold().split()):
        _OF_WORD[_word] = (*_OF_WORD.get(_word, ()), _language)


def foreign_language(text: str, locale: str, words: Sequence[str] | None = None) -> str:
    """Return which other language (or script) a text is evidently in, "" where it may be its own.

    Args:
        text: a caption.
        locale: the language that it should be in, such as "en" or "de-AT".
        words: the text's tokens, where they are known already.
    """
    own = locale.partition("-")[0].partition("_")[0].casefold()
    script = _foreign_script(text, own)
    if script or own not in _LANGUAGES:
        return script
    counts = _counts(tokens(text) if words is None else words)
    if not counts:
        return ""
    best = max(_LANGUAGES, key=lambda language: counts.get(language, 0))
    evident = counts.get(best, 0) >= max(_FEWEST_SMALL_WORDS, _AS_MANY * counts.get(own, 0))
    return best if evident and best != own else ""


def _counts(words: Sequence[str]) -> dict[str, int]:
    """Return how many small words of each language there are; none where there are few words."""
    counts: dict[str, int] = {}
    if len(words) < FEWEST_WORDS:
        return counts
    for word in words[:_READ_WORDS]:
        for language in _OF_WORD.get(word, ()):
            counts[language] = counts.get(language, 0) + 1
    return counts


def _foreign_script(text: str, own: str) -> str:
    if text.isascii() or not _IN_A_SCRIPT.search(text):
        return ""
    letters = sum(char.isalpha() for char in text)
    for name, (found, languages) in _SCRIPTS.items():
        count = len(found.findall(text))
        if count >= _FEWEST_LETTERS and 2 * count > letters and own not in languages:
            return name
    return ""
