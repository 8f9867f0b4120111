"""Which field of a card is which of a persona.

`docs/character-cards.md` has it as a table. What is read here is written back by `writing.py`, and
only where it was changed; everything else in a card has no home in a persona and is kept as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from backend.cards.card import Card, CardFormat
from backend.cards.faults import Note
from backend.cards.sections import LABELS, LOOKED_AT, joined, rest_of, sections_of
from backend.cards.text import distinct, first_text, one_line, plain, shortened, texts

NAME_LIMIT = 100
WORDS_LIMIT = 2_000
THEME_LIMIT, MAX_THEMES = 80, 50
STYLE_LIMIT = 200
STYLES = ("aesthetic", "voice_style", "tone")

Values = dict[str, Any]

_CATALOGUE = frozenset(
    {"nsfw", "sfw", "nsfl", "oc", "original_character", "multiple_characters", "fictional"}
    | {"male", "female", "nonbinary", "non-binary", "anypov", "malepov", "femalepov"}
    | {"english", "multilingual", "character", "chatbot", "tavern", "sillytavern", "risuai"}
    | {"lorebook", "v2", "v3"}
)
"""Tags that file a card in a catalogue; nobody speaks about them."""

_STYLE_LABEL = re.compile(r"\s*(voice|voice style|tone|aesthetic)\s*:\s*(.+)", re.IGNORECASE)
_STYLE_OF = {"voice": "voice_style", "voice style": "voice_style"}


class Mapped(NamedTuple):
    """What a card says of a persona.

    Attributes:
        values: name, appearance, personality, content_themes, and the three styles by their names.
        sources: which part of the card each came from.
    """

    values: Values
    sources: dict[str, str]
    notes: list[Note]


def mapped(card: Card) -> Mapped:
    """Read out of a card what a persona has a home for; a field that is silent is left out.

    Looks and personality a persona cannot do without: where a card says nothing of them, its name
    stands for them, which is told.
    """
    return _from_eliza(card) if card.format is CardFormat.ELIZA else _from_card(card)


def kept_fields(card: Card) -> list[str]:
    """Return the fields that say something and have no home in a persona."""
    used = {"name", "description", "personality", "tags"}
    if card.format is CardFormat.ELIZA:
        used = {"name", "bio", "adjectives", "topics", "style"}
    nested = card.format in (CardFormat.V2, CardFormat.V3)
    found = [
        f"data.{key}" if nested else key
        for key, value in card.data.items()
        if key not in used | {"extensions"} and value not in (None, "", [], {})
    ]
    if nested:
        found += [key for key in card.document if key not in ("spec", "spec_version", "data")]
    extensions = card.data.get("extensions")
    if isinstance(extensions, dict):
        where = "data.extensions" if nested else "extensions"
        found += [f"{where}.{key}" for key in extensions if key != "gator"]
    return [name[:200] for name in found]


def _from_card(card: Card) -> Mapped:
    data = card.data
    where = "" if card.format is CardFormat.V1 else "data."
    draft = _Draft(speaker_of(card))
    draft.name(first_text([data.get("name"), card.document.get("name")]), f"{where}name")
    description = first_text([data.get("description")])
    personality = first_text([data.get("personality")])
    tags = list(texts(data.get("tags")))
    draft.description(description, f"{where}description", own_personality=bool(personality))
    draft.words("personality", personality, f"{where}personality")
    draft.words("personality", ", ".join(tags), f"{where}tags")
    draft.themes(_themes(tags, draft.notes, f"{where}tags"), f"{where}tags")
    _tell_odd(data, ("name", "description", "personality"), where, draft.notes)
    return draft.done()


def _from_eliza(card: Card) -> Mapped:
    data = card.data
    draft = _Draft(speaker_of(card))
    draft.name(first_text([data.get("name")]), "name")
    adjectives = ", ".join(one.strip() for one in texts(data.get("adjectives")))
    draft.description(bio_text(card), "bio", own_personality=bool(adjectives))
    draft.words("personality", adjectives, "adjectives")
    draft.themes(texts(data.get("topics")), "topics")
    style = data.get("style")
    guidelines = style.get("all") if isinstance(style, dict) else None
    draft.styles(list(texts(guidelines)))
    _tell_odd(data, ("name", "bio"), "", draft.notes)
    return draft.done()


def speaker_of(card: Card) -> str:
    """Return what `{{char}}` stands for: the nickname, else the name."""
    data = card.data
    extensions = data.get("extensions")
    gator = extensions.get("gator") if isinstance(extensions, dict) else None
    only_v3 = gator.get("v3") if isinstance(gator, dict) else None
    nickname = only_v3.get("nickname") if isinstance(only_v3, dict) else None
    own = None if card.format is CardFormat.V1 else data.get("nickname")
    names = [own, nickname, data.get("name"), card.document.get("name")]
    return first_text(names)


def bio_text(card: Card) -> str:
    """Return an elizaOS character's biography as one text, a statement a line."""
    return "\n".join(texts(card.data.get("bio")))


class _Draft:
    """Collects values; the first that says something counts."""

    def __init__(self, speaker: str) -> None:
        self.notes: list[Note] = []
        self._values: Values = {}
        self._sources: dict[str, str] = {}
        self._speaker = one_line(plain(speaker[:LOOKED_AT], "")) or "the character"

    def name(self, text: str, source: str) -> None:
        self._set("name", one_line(plain(text[:LOOKED_AT], "")), source, NAME_LIMIT)

    def words(self, field: str, text: str, source: str, limit: int = WORDS_LIMIT) -> None:
        self._set(field, plain(text[:LOOKED_AT], self._speaker), source, limit)

    def description(self, text: str, source: str, *, own_personality: bool) -> None:
        """Read what a free description says; what is left of it is personality or looks."""
        found = sections_of(text)
        rest = rest_of(text[:LOOKED_AT], found).strip()
        for field in LABELS:
            if field in found and not (field == "personality" and own_personality):
                limit = STYLE_LIMIT if field in STYLES else WORDS_LIMIT
                self.words(field, joined(found[field]), f"{source}, where it says so", limit)
        self.words("appearance", rest, source)
        if not own_personality:
            self.words("personality", rest, source)

    def themes(self, themes: Iterable[str], source: str) -> None:
        clean = (one_line(plain(one[:LOOKED_AT], self._speaker)).lstrip("#") for one in themes)
        found = distinct(clean, longest=THEME_LIMIT, most=MAX_THEMES)
        if found:
            self._values["content_themes"] = found
            self._sources["content_themes"] = source

    def styles(self, guidelines: list[str]) -> None:
        """Read labelled guidelines as what they say, and the others as the voice."""
        free = []
        for one in guidelines:
            if match := _STYLE_LABEL.fullmatch(one[:LOOKED_AT]):
                field = _STYLE_OF.get(match[1].lower(), match[1].lower())
                self.words(field, match[2], "style.all", STYLE_LIMIT)
            else:
                free.append(one.strip())
        self.words("voice_style", _as_many("; ", free, STYLE_LIMIT), "style.all", STYLE_LIMIT)

    def done(self) -> Mapped:
        """Return what was collected, with the name where a persona needs words and has none."""
        for field in ("appearance", "personality"):
            if field not in self._values and "name" in self._values:
                self._values[field] = self._values["name"]
                self._sources[field] = self._sources["name"]
                reason = "is not said; the name stands for it until somebody writes it"
                self.notes.append(Note(field, reason))
        return Mapped(self._values, self._sources, self.notes)

    def _set(self, field: str, text: str, source: str, limit: int) -> None:
        if not text or field in self._values:
            return
        self._values[field] = shortened(text, limit)
        self._sources[field] = source
        if len(text) > limit:
            reason = f"is longer than {limit:,} characters; the persona has the beginning"
            self.notes.append(Note(source.partition(",")[0], f"{reason}, the card is kept whole"))


def _as_many(separator: str, parts: list[str], limit: int) -> str:
    """Join as many parts as fit."""
    text = ""
    for part in parts:
        longer = f"{text}{separator}{part}" if text else part
        if len(longer) > limit:
            break
        text = longer
    return text


def catalogue_tags(tags: Iterable[str]) -> list[str]:
    """Return those tags that file a card, and are no themes."""
    return [tag for tag in tags if tag.strip().casefold().replace(" ", "_") in _CATALOGUE]


def _themes(tags: list[str], notes: list[Note], source: str) -> list[str]:
    filed = catalogue_tags(tags)
    if filed:
        reason = f"files the card and is no theme: {', '.join(filed)[:200]}"
        notes.append(Note(source, reason))
    return [tag for tag in tags if tag not in filed]


def _tell_odd(data: Values, fields: Iterable[str], where: str, notes: list[Note]) -> None:
    for field in fields:
        value = data.get(field)
        if value is not None and not isinstance(value, str | list):
            notes.append(Note(f"{where}{field}", f"is no text but {type(value).__name__}"))
