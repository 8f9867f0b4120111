"""The limits that a caption keeps to, by platform, and the hashtags that a platform links.

The limits are data (`platforms.toml`), each with the page it is from. Where a platform's way of
counting is not published, lengths are counted so that what fits here fits there.
"""

from __future__ import annotations

import datetime as dt
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import cast

import regex

from backend.captions.lengths import UNITS, Unit, utf8
from backend.errors import InvalidRequest

DEFAULT_LIMIT = 2_200
DEFAULT_HASHTAGS = 3
READABLE_TAG = 30
"""Characters, with the hash, beyond which no tag is made: nobody reads it."""

_INSTANCE_LIMITS = range(280, 100_001)
_NAMED = re.compile(r"([a-z]+)(?::([0-9]{1,7}))?")
_DATA = Path(__file__).with_name("platforms.toml")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a limit is from."""

    says: str
    title: str
    url: str
    read: dt.date
    quoted: bool = False
    """Read as others quote the page, not on the page itself."""


@dataclass(frozen=True, slots=True)
class Platform:
    """A platform's limits, in its own unit of length."""

    name: str
    limit: int = DEFAULT_LIMIT
    max_hashtags: int = DEFAULT_HASHTAGS
    unit: Unit = "utf16"
    max_bytes: int | None = None
    longest_tag: int = 100
    forbidden: str = ""
    """Signs that the platform refuses."""
    per_instance: bool = False
    sources: tuple[Source, ...] = field(default=(), compare=False, repr=False)

    def length(self, text: str) -> int:
        """Return a text's length as the platform counts it."""
        return UNITS[self.unit](text)

    def fits(self, text: str) -> bool:
        """Tell whether a text is short enough."""
        if self.max_bytes is not None and utf8(text) > self.max_bytes:
            return False
        return self.length(text) <= self.limit


def _read() -> tuple[dict[str, Platform], tuple[str, ...]]:
    """Return the platforms by name, and the names that "all" means."""
    platforms: dict[str, Platform] = {}
    named_by_all = []
    for entry in tomllib.loads(_DATA.read_text("utf-8"))["platform"]:
        if entry.pop("all", False):
            named_by_all.append(entry["name"])
        sources = tuple(Source(**source) for source in entry.pop("sources"))
        platforms[entry["name"]] = Platform(**entry, sources=sources)
    return platforms, tuple(named_by_all)


ANY = Platform("any")
PLATFORMS, _ALL = _read()
EVERYWHERE: tuple[Platform, ...] = tuple(PLATFORMS[name] for name in _ALL)
"""What "all platforms" means."""


def platform_named(name: str | None) -> Platform:
    """Return a platform's limits; no name gives those that hold where none is named.

    Args:
        name: such as "x"; of a platform whose servers differ also with a limit: "mastodon:5000".

    Raises:
        InvalidRequest: no such platform is known (the message lists those that are), or its limit
            is no one's to choose.
    """
    if not name or not name.strip():
        return ANY
    match = _NAMED.fullmatch(name.strip().casefold())
    found = PLATFORMS.get(match[1]) if match else None
    if match is None or found is None:
        raise InvalidRequest(
            f"No platform is called {name[:40]!r}. Known: {', '.join(PLATFORMS)}.",
            {"platforms": list(PLATFORMS)},
        )
    return found if match[2] is None else _with_limit(found, int(match[2]))


def _with_limit(platform: Platform, limit: int) -> Platform:
    if not platform.per_instance:
        raise InvalidRequest(f"The limit of {platform.name} is {platform.limit} everywhere.")
    if limit not in _INSTANCE_LIMITS:
        lowest, highest = _INSTANCE_LIMITS[0], _INSTANCE_LIMITS[-1]
        raise InvalidRequest(f"A limit is a number from {lowest} to {highest}, not {limit}.")
    return replace(platform, name=f"{platform.name}:{limit}", limit=limit)


def platforms_named(names: str | Iterable[str]) -> tuple[Platform, ...]:
    """Return several platforms, each once; "all" stands for those that `EVERYWHERE` lists.

    Args:
        names: a list, or a text with commas; where one platform is named twice, the last counts,
            so that "all, mastodon:5000" says which Mastodon is meant.

    Raises:
        InvalidRequest: one of them is not known.
    """
    found: dict[str, Platform] = {}
    for name in names.split(",") if isinstance(names, str) else names:
        every = name.strip().casefold() == "all"
        for platform in EVERYWHERE if every else (platform_named(name),):
            found[platform.name.partition(":")[0]] = platform
    return tuple(found.values())


# A letter with its marks; joiners shape letters in Persian and Indic scripts.
_TAG_SIGNS = r"\p{L}\p{M}\p{Nd}_\u200c\u00b7\u30fb"
_TAG = regex.compile(rf"(?<![\w&/#＃])[#＃]([{_TAG_SIGNS}]*[\p{{L}}][{_TAG_SIGNS}]*)")
_TAG_WORD = regex.compile(r"[\p{L}\p{M}\p{Nd}\u200c]+")
_BETWEEN_WORDS = re.compile(r"[\s_/,:;|·・–—-]+")
_SILENT = str.maketrans("", "", "'’‘\"“”„()!?\u200d\ufe0e\ufe0f")
_JOINED_SCRIPTS = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}]")
_AND = {"en": "And", "de": "Und"}


def hashtags_in(text: str) -> tuple[str, ...]:
    """Return the hashtags of a text, without the hash, as platforms link them."""
    if "#" not in text and "＃" not in text:
        return ()
    return tuple(cast("list[str]", _TAG.findall(text)))


@lru_cache(maxsize=4096)
def hashtag(words: str, platform: Platform = ANY, locale: str = "en") -> str:
    """Return a phrase as a hashtag that the platform links, "" where none can be made of it.

    Each word begins with a capital, so that screen readers read words; what is spelled with
    capitals stays. An ampersand is spoken. A sign that changes the meaning (C++, 50%) makes none.

    Args:
        words: a theme, such as "machine learning".
        platform: whose rules apply.
        locale: the language in which an ampersand is spoken.
    """
    phrase = words.lstrip("#＃ ").translate(_SILENT).replace("&", f" {_AND.get(locale, '')} ")
    parts = [part.rstrip(".") for part in _BETWEEN_WORDS.split(phrase) if part.rstrip(".")]
    if not parts or not all(_TAG_WORD.fullmatch(part) for part in parts):
        return ""
    shouted = len(parts) > 1 and phrase.isupper()
    parts = [_capitalized(part, shouted=shouted and len(part) > 2) for part in parts]
    separate = any(_stands_apart(part) for part in parts)
    tag = "#" + ("_" if separate else "").join(parts)
    longest = min(READABLE_TAG, platform.longest_tag + 1)
    return tag if len(tag) <= longest and hashtags_in(tag) == (tag[1:],) else ""


def hashtags(
    phrases: Iterable[str], platform: Platform = ANY, locale: str = "en"
) -> tuple[str, ...]:
    """Return the hashtags of some phrases, none twice, as many as the platform takes."""
    found: dict[str, str] = {}
    for phrase in phrases:
        tag = hashtag(phrase, platform, locale)
        if tag:
            found.setdefault(tag.casefold(), tag)
    return tuple(found.values())[: platform.max_hashtags]


def _capitalized(word: str, *, shouted: bool) -> str:
    """Begin a word with a capital, unless it has its own ("iPhone", "NASA")."""
    if shouted:
        return word[0] + word[1:].lower()
    if word[1:] != word[1:].lower():
        return word
    first = word[0].upper()
    return (first if len(first) == 1 else word[0]) + word[1:]


def _stands_apart(word: str) -> bool:
    """Tell whether a word is of a script that has neither capitals nor words run together."""
    first = next((char for char in word if char.isalpha()), "a")
    return first.lower() == first.upper() and not _JOINED_SCRIPTS.match(first)
