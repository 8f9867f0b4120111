"""The limits that a caption keeps to, by platform.

They are the studio's own and on the safe side: where a platform counts in a way of its own, lengths
are counted the strict way, so that what fits here fits there.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from backend.errors import InvalidRequest

DEFAULT_LIMIT = 2_200
DEFAULT_HASHTAGS = 3
_LONGEST_TAG = 30


def _weighted(text: str) -> int:
    """Count as X does: two for every sign beyond Latin, Greek, Cyrillic and common punctuation."""
    return sum(1 if ord(char) < 0x1100 or 0x2000 <= ord(char) <= 0x201F else 2 for char in text)


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


@dataclass(frozen=True, slots=True)
class Platform:
    """A platform's limits, in its own unit of length."""

    name: str
    limit: int = DEFAULT_LIMIT
    max_hashtags: int = DEFAULT_HASHTAGS
    length: Callable[[str], int] = len

    def fits(self, text: str) -> bool:
        """Tell whether a text is short enough."""
        return self.length(text) <= self.limit


ANY = Platform("any")
PLATFORMS = {
    platform.name: platform
    for platform in (
        Platform("instagram", 2_200, 5),
        Platform("x", 280, 1, _weighted),
        Platform("threads", 500, 1, _bytes),
        Platform("bluesky", 300, 2),
        Platform("mastodon", 500, 3),
        Platform("linkedin", 3_000, 3),
        Platform("facebook", 5_000, 2),
        Platform("tiktok", 2_200, 5),
    )
}


def platform_named(name: str | None) -> Platform:
    """Return a platform's limits; no name gives those that hold where none is named.

    Raises:
        InvalidRequest: no such platform is known; the message lists those that are.
    """
    if not name:
        return ANY
    found = PLATFORMS.get(name.strip().casefold())
    if found is None:
        raise InvalidRequest(
            f"No platform is called {name[:40]!r}. Known: {', '.join(PLATFORMS)}.",
            {"platforms": list(PLATFORMS)},
        )
    return found


def hashtag(theme: str) -> str:
    """Return a theme as a valid CamelCase hashtag, "" where none can be made of it."""
    words = theme.replace("-", " ").replace("'", "").replace("’", "").split()
    if not words or not all(_is_taggable(word) for word in words):
        return ""
    tag = "".join(word[0].upper() + word[1:] for word in words)
    has_letter = any(char.isalpha() for char in tag)
    return f"#{tag}" if has_letter and len(tag) <= _LONGEST_TAG else ""


def _is_taggable(word: str) -> bool:
    return all(char.isalnum() or unicodedata.category(char) in {"Mn", "Mc"} for char in word)
