"""A card's texts as a persona's: no macros, no signs that are not text, and not too long."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

USER = "the user"

_CHARACTER = re.compile(r"(?i)\{\{\s*(?:char|name|agentname|bot)\s*\}\}|<(?:bot|char|character)>")
_USER = re.compile(r"(?i)\{\{\s*(?:user\d*|persona)\s*\}\}|<user>")
_MACRO = re.compile(r"\{\{[^{}]{0,2000}\}\}")
_UNSPEAKABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_BLANKS = re.compile(r"[ \t]{2,}")
_SEPARATORS = re.compile(r"[,;\n]")
_SENTENCE_END = re.compile(r"[.!?。！？](?:\s|$)")
_TRAIT_CHARACTERS, _TRAIT_WORDS = 40, 5
_ENDS = re.compile(r"[.!?…。！？]\s|[,;]\s|\s")


def speakable(text: str) -> str:
    """Return a text without what a terminal or UTF-8 would trip over."""
    return _UNSPEAKABLE.sub("", text)


def plain(text: str, name: str) -> str:
    """Return a text with its macros filled in or taken out.

    Args:
        text: as the card has it.
        name: what `{{char}}` stands for.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _CHARACTER.sub(lambda _: name, text)
    text = _MACRO.sub("", _USER.sub(USER, text))
    return _BLANKS.sub(" ", speakable(text)).strip()


def shortened(text: str, limit: int) -> str:
    """Return a text that is no longer than a limit, cut after a sentence or a word."""
    if len(text) <= limit:
        return text
    cut = text[: limit + 1]
    ends = [match.start() + (not match[0].isspace()) for match in _ENDS.finditer(cut)]
    sentences = [match.start() + 1 for match in re.finditer(r"[.!?…。！？]\s", cut)]
    for places in (sentences, ends):
        if places and limit // 2 < places[-1] <= limit:
            return cut[: places[-1]].rstrip()
    return text[:limit].rstrip()


def one_line(text: str) -> str:
    """Return a text without line breaks."""
    return " ".join(text.split())


def texts(value: Any) -> Iterator[str]:
    """Yield the texts of a text or a list of texts; whatever else stands there is passed over."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        yield from (one for one in value if isinstance(one, str))


def traits_of(text: str) -> list[str]:
    """Return the traits that a text lists; none where it is prose."""
    parts = [part.strip() for part in _SEPARATORS.split(text) if part.strip()]
    if _SENTENCE_END.search(text):
        return []
    short = all(len(part) <= _TRAIT_CHARACTERS and part.count(" ") < _TRAIT_WORDS for part in parts)
    return parts if short and parts else []


def first_text(values: Iterable[Any]) -> str:
    """Return the first that is a text and not blank."""
    return next((one for one in values if isinstance(one, str) and one.strip()), "")


def distinct(values: Iterable[str], *, longest: int, most: int) -> list[str]:
    """Return short texts, each once, without regard to case."""
    found: dict[str, str] = {}
    for value in values:
        if value and len(value) <= longest:
            found.setdefault(value.casefold(), value)
    return list(found.values())[:most]
