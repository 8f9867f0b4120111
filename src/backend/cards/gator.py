"""Gator's own fields in a card: `extensions.gator`, or `settings.gator` of an elizaOS character.

    version     of this form
    persona     the persona's fields as they are, those without a home in a card among them
    read_from   by field, a digest of what the card itself says of it
    v3          of a V2 card, the fields that only V3 has
    kept        the document of the other family that the persona came from

A field counts only while the card still says what it said beside it. Where another program edited
the card, the edit counts, and the rest is still exact.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from backend.cards.card import Card, CardFormat
from backend.cards.document import Document, write_document
from backend.cards.faults import Note
from backend.cards.mapping import STYLES, Mapped, Values, mapped

KEY = "gator"
VERSION = 1
OWN = ("version", "persona", "read_from")
"""What an export writes anew; everything else under the key is kept."""

MAPPED = ("name", "appearance", "personality", "content_themes", *STYLES)
UNMAPPED = ("base_appearance_description", "image_style", "negative_prompt", "model_adapters")
"""Fields of a persona that a card has no home for."""

_TEXTS = frozenset({"name", "appearance", "personality", *STYLES, *UNMAPPED[:3]})


class PersonaFields(NamedTuple):
    """What a card makes a persona of, not checked by the persona's own schema yet.

    Attributes:
        values: fields of a persona.
        said: the same without what only the extension says; to fall back on.
        sources: which part of the card each came from.
    """

    values: Values
    said: Values
    sources: dict[str, str]
    notes: list[Note]


def persona_fields(card: Card) -> PersonaFields:
    """Read a card: what it says, and what Gator wrote beside it."""
    said = mapped(card)
    flat, sources = dict(said.values), dict(said.sources)
    notes = list(said.notes)
    extension = extension_of(card)
    own = extension.get("persona")
    styles: Values = {}
    if isinstance(own, dict):
        where = "settings.gator" if card.format is CardFormat.ELIZA else "extensions.gator"
        for field, value in _believed(said, extension, own).items():
            flat[field], sources[field] = value, where
        styles = _other_styles(own)
        if extension.get("version") != VERSION:
            notes.append(Note(where, f"is of another version than {VERSION}; read as far as known"))
        notes = [note for note in notes if note.field not in flat or sources[note.field] != where]
    return PersonaFields(_nested(flat, styles), _nested(said.values, {}), sources, notes)


def extension_of(card: Card) -> Document:
    """Return what stands under Gator's key; empty where nothing does."""
    found = card.data.get(_home(card.format))
    extension = found.get(KEY) if isinstance(found, dict) else None
    return extension if isinstance(extension, dict) else {}


def with_extension(card: Card, persona: Values, more: Mapping[str, Any]) -> None:
    """Write Gator's key into a card, whatever it says of the persona by now.

    Args:
        card: changed in place.
        persona: the fields of a persona, styles within `style_preferences`.
        more: what else goes there.
    """
    said = mapped(card).values
    home = card.data.setdefault(_home(card.format), {})
    kept = {key: value for key, value in extension_of(card).items() if key not in OWN}
    home[KEY] = {
        **kept,
        **more,
        "version": VERSION,
        "persona": persona,
        "read_from": {field: _digest(said[field]) for field in MAPPED if field in said},
    }


def without_own(card: Card) -> None:
    """Take out of a card what an export writes anew."""
    extension = extension_of(card)
    for key in OWN:
        extension.pop(key, None)
    home = card.data.get(_home(card.format))
    if isinstance(home, dict) and home.get(KEY) == {}:
        del home[KEY]


def _home(card_format: CardFormat) -> str:
    return "settings" if card_format is CardFormat.ELIZA else "extensions"


def _believed(said: Mapped, extension: Document, own: Document) -> Values:
    """Return the fields that the card does not contradict."""
    digests = extension.get("read_from")
    digests = digests if isinstance(digests, dict) else {}
    preferences = own.get("style_preferences")
    flat = {**own, **(preferences if isinstance(preferences, dict) else {})}
    found = {}
    for field in (*MAPPED, *UNMAPPED):
        value = flat.get(field)
        if value is None or (field in _TEXTS and not isinstance(value, str)):
            continue
        then = digests.get(field)
        now = _digest(said.values[field]) if field in said.values else None
        if field in UNMAPPED or then == now:
            found[field] = value
    return found


def _other_styles(own: Document) -> Values:
    preferences = own.get("style_preferences")
    if not isinstance(preferences, dict):
        return {}
    return {key: value for key, value in preferences.items() if key not in STYLES}


def _nested(flat: Values, other_styles: Values) -> Values:
    values = {field: value for field, value in flat.items() if field not in STYLES}
    styles = {field: flat[field] for field in STYLES if field in flat} | other_styles
    return {**values, **({"style_preferences": styles} if styles else {})}


def _digest(value: Any) -> str:
    return hashlib.sha256(write_document({"said": value})).hexdigest()[:16]
