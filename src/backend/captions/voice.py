"""A persona as the caption room sees it.

Invariant: a `Voice` holds clean, bounded text and nothing else, whatever the persona held. Types
are never trusted: a missing attribute, `None`, a number, an attribute that raises: absent. A
class's own methods are never called on a value, and no more is read than will be kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from heapq import nsmallest
from itertools import islice
from typing import Any

from backend.captions.appearance import Appearance, read_appearance
from backend.captions.words import READ_AT_MOST, clean, lexicon, locales, plain, tokens, unhashed

MAX_THEMES = 24
MAX_TRAITS = 24
_MAX_ITEMS = 200
_MAX_TEXT = 1_000
_THEME_CHARACTERS = 80
_LISTED = re.compile(r"[,;\n|]")
_JOINED = re.compile(r"[/&]|\band\b|\bund\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Voice:
    """What a persona's captions are made from."""

    name: str = ""
    personality: str = ""
    traits: tuple[str, ...] = ()
    aesthetic: str = ""
    voice_style: str = ""
    tone: str = ""
    themes: tuple[str, ...] = ()
    locked_appearance: str = ""
    """The approved description; empty until an appearance is locked."""

    locale: str = "en"
    appearance: Appearance = field(default_factory=Appearance)
    """The facts of the approved description."""


def read_voice(persona: object) -> Voice:
    """Read a persona (any object, or a mapping) once.

    Args:
        persona: has, or lacks, `name`, `personality`, `content_themes`, `style_preferences` (with
            `aesthetic`, `voice_style`, `tone`, `language` or `locale`), `appearance_locked`,
            `base_appearance_description`.
    """
    preferences = _field(persona, "style_preferences")
    personality = _field(persona, "personality")
    language = plain(_field(preferences, "language")) or _field(preferences, "locale")
    locale, locked = read_locale(language), locked_appearance(persona)
    return Voice(
        name=clean(_field(persona, "name"), 120),
        personality=as_text(personality),
        traits=as_traits(personality),
        aesthetic=as_text(_field(preferences, "aesthetic")),
        voice_style=as_text(_field(preferences, "voice_style")),
        tone=as_text(_field(preferences, "tone")),
        themes=as_themes(_field(persona, "content_themes")),
        locked_appearance=locked,
        locale=locale,
        appearance=read_appearance(locked, locale),
    )


def read_locale(value: object) -> str:
    """Return the locale that a tag or a language's name means ("de-AT", "German"), else English."""
    words = tokens(plain(value)[:_MAX_TEXT])
    for locale in locales() if words else ():
        if words[0] == locale or words[0] in lexicon(locale)["names"]:
            return locale
    return "en"


def locked_appearance(persona: object) -> str:
    """Return the base appearance description where the appearance is locked, else ""."""
    locked = _field(persona, "appearance_locked")
    if type(locked) not in {bool, int} or not locked:
        return ""
    return clean(_field(persona, "base_appearance_description"))


def as_text(value: object) -> str:
    """Read a text; a list or set of texts is joined with commas."""
    return clean(", ".join(_texts(value)), _MAX_TEXT)


def as_traits(value: object) -> tuple[str, ...]:
    """Read traits from a list, or from a text that separates them, each once.

    "kind and curious" are two; "not formal and stiff" is one, so that "stiff" stays denied.
    """
    return _each_once((trait for text in _texts(value) for trait in _traits_in(text)), MAX_TRAITS)


def as_themes(value: object) -> tuple[str, ...]:
    """Read themes from a list or a comma-separated text; hashes before and stops after them go."""
    if issubclass(type(value), str):
        parts: Iterable[str] = _LISTED.split(plain(value)[:READ_AT_MOST])
    else:
        parts = _texts(value)
    themes = (
        unhashed(clean(part, _THEME_CHARACTERS)).lstrip("#@ ").rstrip(" .,;:") for part in parts
    )
    return _each_once(themes, MAX_THEMES)


def _traits_in(text: str) -> Iterable[str]:
    for part in _LISTED.split(text):
        yield from (part,) if _denies(part) else _JOINED.split(part)


def _denies(text: str) -> bool:
    words = tokens(text)
    return not _negators().isdisjoint(words) or any(word.endswith("n't") for word in words)


@cache
def _negators() -> frozenset[str]:
    """Return every word that a negation of any locale begins with."""
    lists = (
        lexicon(locale)[name] for locale in locales() for name in ("negators", "hard_negators")
    )
    return frozenset(tokens(entry)[0] for listed in lists for entry in listed)


def _each_once(parts: Iterable[str], limit: int) -> tuple[str, ...]:
    kept: dict[str, str] = {}
    for part in parts:
        if text := clean(part, _MAX_TEXT):
            kept.setdefault(text.casefold(), text)
        if len(kept) == limit:
            break
    return tuple(kept.values())


def _texts(value: object) -> list[str]:
    """Return the non-empty clean texts in a text, list, tuple, set or mapping's keys.

    No more than a field's worth is read, however long the value is.
    """
    found: list[str] = []
    room = READ_AT_MOST
    for item in _items(value):
        text = clean(item, _MAX_TEXT)
        if text:
            found.append(text)
            room -= len(text)
        if room <= 0:
            break
    return found


def _items(value: Any) -> Iterable[object]:
    kind = type(value)
    if issubclass(kind, str):
        return (value,)
    for ordered in (list, tuple, dict):
        if issubclass(kind, ordered):
            return islice(ordered.__iter__(value), _MAX_ITEMS)
    for unordered in (set, frozenset):
        if issubclass(kind, unordered):
            return nsmallest(_MAX_ITEMS, (plain(item) for item in unordered.__iter__(value)))
    return ()


def _field(owner: object, name: str) -> object:
    """Return an attribute or key, or None where it is missing or raises."""
    try:
        if isinstance(owner, Mapping):
            return owner.get(name)
        return getattr(owner, name, None)
    except Exception:  # noqa: BLE001  a persona is foreign code, and a caption comes out regardless
        return None
