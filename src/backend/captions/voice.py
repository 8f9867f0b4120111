"""A persona as the caption room sees it.

Invariant: a `Voice` holds clean, bounded text and nothing else, whatever the persona held. Types
are never trusted: a missing attribute, `None`, a number, an attribute that raises: absent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from backend.captions.appearance import Appearance, read_appearance
from backend.captions.words import clean, lexicon, locales

MAX_THEMES = 24
MAX_TRAITS = 24
_THEME_CHARACTERS = 80
_TRAIT_SEPARATORS = re.compile(r"[,;/\n|&]|\band\b", re.IGNORECASE)
_THEME_SEPARATORS = re.compile(r"[,;\n|]")


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

    appearance: Appearance = field(default_factory=Appearance)
    """What that description says, fact by fact."""

    locale: str = "en"
    """The language of the captions."""


def read_voice(persona: object) -> Voice:
    """Read a persona (any object, or a mapping) once.

    Args:
        persona: has, or lacks, `name`, `personality`, `content_themes`, `style_preferences`,
            `appearance_locked`, `base_appearance_description`. The preferences may name a
            `language`.
    """
    preferences = _field(persona, "style_preferences")
    personality = _field(persona, "personality")
    locale = read_locale(_field(preferences, "language") or _field(preferences, "locale"))
    locked = locked_appearance(persona)
    return Voice(
        name=clean(_field(persona, "name"), 120),
        personality=as_text(personality),
        traits=as_traits(personality),
        aesthetic=as_text(_field(preferences, "aesthetic")),
        voice_style=as_text(_field(preferences, "voice_style")),
        tone=as_text(_field(preferences, "tone")),
        themes=as_themes(_field(persona, "content_themes")),
        locked_appearance=locked,
        appearance=read_appearance(locked, locale),
        locale=locale,
    )


def read_locale(value: object) -> str:
    """Return the locale that "de", "de-AT", "German" or "Deutsch" names, else English."""
    named = as_text(value).casefold().replace("_", "-")
    code = named.split("-", 1)[0]
    for locale in locales():
        if code == locale or named in lexicon(locale)["names"]:
            return locale
    return "en"


def locked_appearance(persona: object) -> str:
    """Return the base appearance description where the appearance is locked, else ""."""
    locked = _field(persona, "appearance_locked")
    if not (isinstance(locked, int) and locked):
        return ""
    return clean(_field(persona, "base_appearance_description"))


def as_text(value: object) -> str:
    """Read a text; a list or set of texts is joined with commas."""
    return ", ".join(_texts(value))[:1_000]


def as_traits(value: object) -> tuple[str, ...]:
    """Read traits from a list, or from a text that separates them, each once."""
    parts = (part for text in _texts(value) for part in _TRAIT_SEPARATORS.split(text))
    return _each_once(parts, MAX_TRAITS)


def as_themes(value: object) -> tuple[str, ...]:
    """Read themes from a list or a comma-separated text; hashes before and stops after them go."""
    parts = _THEME_SEPARATORS.split(value) if isinstance(value, str) else _texts(value)
    trimmed = (
        clean(part, _THEME_CHARACTERS).lstrip("#@ ").rstrip(" .,;:") for part in parts if part
    )
    return _each_once(trimmed, MAX_THEMES)


def _each_once(parts: Iterable[str], limit: int) -> tuple[str, ...]:
    kept: dict[str, str] = {}
    for part in _texts(list(parts)):
        kept.setdefault(part.casefold(), part)
    return tuple(kept.values())[:limit]


def _texts(value: object) -> list[str]:
    """Return the non-empty clean texts in a text, list, tuple, set or mapping's keys."""
    if isinstance(value, str):
        values: Sequence[object] = [value]
    elif isinstance(value, list | tuple):
        values = list(value[:200])
    elif isinstance(value, set | frozenset):
        values = sorted((item for item in value if isinstance(item, str)), key=str)[:200]
    elif isinstance(value, dict):
        values = list(value)[:200]
    else:
        values = []
    return [text for text in (clean(item, 1_000) for item in values) if text]


def _field(owner: object, name: str) -> object:
    """Return an attribute or key, or None where it is missing or raises."""
    try:
        if isinstance(owner, Mapping):
            return owner.get(name)
        return getattr(owner, name, None)
    except Exception:  # noqa: BLE001  a persona is foreign code, and a caption comes out regardless
        return None
