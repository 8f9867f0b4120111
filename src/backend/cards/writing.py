"""Write a persona as a card.

Where the persona came from a card, that card is written again, and only the fields that were
changed since are other ones. What was changed is told by reading the kept card once more: no note
of it has to be kept in step.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from backend.cards.card import Card, CardFormat, recognise
from backend.cards.conversion import blank, converted
from backend.cards.document import Document, read_document, write_document
from backend.cards.gator import MAPPED, extension_of, with_extension, without_own
from backend.cards.mapping import STYLES, Values, bio_text, catalogue_tags, mapped, speaker_of
from backend.cards.secrets import without_secrets
from backend.cards.sections import rewritten, sections_of
from backend.cards.text import one_line, plain, texts, traits_of
from backend.errors import GatorError

_MOST_ROUNDS = 4
_STYLE_ITEM = {"voice_style": "voice", "tone": "tone", "aesthetic": "aesthetic"}


def kept_card(card: Card) -> Card:
    """Return what is kept of a card that was read: all but what an export writes anew."""
    kept = Card(card.format, copy.deepcopy(card.document))
    without_own(kept)
    return kept


def written_card(
    persona: Values,
    kept: Card | None,
    wanted: CardFormat,
    *,
    created: int | None = None,
    modified: int | None = None,
) -> Card:
    """Write a persona as a card of a format.

    Args:
        persona: its fields, as a persona file has them.
        kept: the card it came from.
        wanted: V2, V3 or elizaOS.
        created: when it was made, in seconds since 1970; for a V3 card that does not say.
        modified: when it was changed last; written only where the card was changed by it.
    """
    card = Card(wanted, copy.deepcopy(_base(kept, wanted).document))
    without_own(card)
    changed = _settle(card, persona)
    if wanted is CardFormat.V3 and (changed or kept is None):
        _date(card.data, created if kept is None else None, modified)
    more = _others(kept, wanted)
    with_extension(card, persona, more)
    document, _ = without_secrets(card.document, eliza=wanted is CardFormat.ELIZA)
    if more and not _fits(document):
        extension_of(card).pop("kept")
        document, _ = without_secrets(card.document, eliza=wanted is CardFormat.ELIZA)
    return Card(wanted, document)


def _base(kept: Card | None, wanted: CardFormat) -> Card:
    """Return the card to write into."""
    if kept is None:
        return blank(wanted)
    if _family(kept.format) == _family(wanted):
        return converted(kept, wanted)
    packed = extension_of(kept).get("kept")
    earlier = _packed_card(packed) if isinstance(packed, dict) else None
    if earlier is not None and _family(earlier.format) == _family(wanted):
        return converted(earlier, wanted)
    return converted(kept, wanted)


def _family(card_format: CardFormat) -> bool:
    return card_format is CardFormat.ELIZA


def _packed_card(packed: Document) -> Card | None:
    """Return the card that was packed below Gator's key, where it still is one."""
    document = packed.get("document")
    if not isinstance(document, dict):
        return None
    try:
        return recognise(document)
    except GatorError:
        return None


def _others(kept: Card | None, wanted: CardFormat) -> Document:
    """Return what goes below Gator's key of a card of the other family: the one that is kept."""
    if kept is None or _family(kept.format) == _family(wanted):
        return {}
    document = copy.deepcopy(kept.document)
    extension_of(Card(kept.format, document)).pop("kept", None)
    return {"kept": {"format": kept.format.value, "document": document}}


def _fits(document: Document) -> bool:
    """Tell whether a card could be read again: packed into one another they grow."""
    try:
        read_document(write_document(document))
    except GatorError:
        return False
    return True


def _date(data: Document, created: int | None, modified: int | None) -> None:
    if created is not None:
        data.setdefault("creation_date", created)
    if modified is not None:
        data["modification_date"] = modified


def _settle(card: Card, persona: Values) -> bool:
    """Write until the card says what the persona is; tell whether anything was written.

    A text in which something was replaced may be read in another way than before.
    """
    rounds = 0
    while rounds < _MOST_ROUNDS and _write_fields(card, persona):
        rounds += 1
    return rounds > 0


def _write_fields(card: Card, persona: Values) -> bool:
    """Write what differs from what the card says; tell whether anything did."""
    said, speaker = mapped(card).values, speaker_of(card)
    styles = persona.get("style_preferences") or {}
    wanted = {field: (styles if field in STYLES else persona).get(field) for field in MAPPED}
    writers = _ELIZA if card.format is CardFormat.ELIZA else _CARD
    changed = False
    for field, value in wanted.items():
        if _told(value, speaker) != _told(said.get(field), speaker):
            writers[field](card, field, value)
            changed = True
    return changed


def _told(value: Any, speaker: str) -> Any:
    """Return a value as two of them are compared: as a card says it; nothing is no text."""
    if isinstance(value, str):
        return one_line(plain(value, speaker)) or None
    if isinstance(value, list):
        return [_told(one, speaker) for one in value] or None
    return value or None


def _write_field(card: Card, field: str, value: Any) -> None:
    card.data[field] = value


def _write_tags(card: Card, _field: str, value: Any) -> None:
    card.data["tags"] = [*catalogue_tags(texts(card.data.get("tags"))), *(value or [])]


def _write_description(card: Card, field: str, value: Any) -> None:
    text = next(texts(card.data.get("description")), "")
    card.data["description"] = _relabelled(text, field, value)


def _write_bio(card: Card, field: str, value: Any) -> None:
    text = _relabelled(bio_text(card), field, value)
    card.data["bio"] = text if isinstance(card.data.get("bio"), str) else text.splitlines()


def _relabelled(text: str, field: str, value: Any) -> str:
    return rewritten(text, field, one_line(value or ""), sections_of(text).get(field, []))


def _write_adjectives(card: Card, field: str, value: Any) -> None:
    """Write traits as adjectives; prose is none, and goes where the character is described."""
    card.data["adjectives"] = traits_of(value or "")
    prose = "" if card.data["adjectives"] else value
    if prose or "personality" in sections_of(bio_text(card)):
        _write_bio(card, field, prose)


def _write_topics(card: Card, _field: str, value: Any) -> None:
    card.data["topics"] = list(value or [])


def _write_style(card: Card, field: str, value: Any) -> None:
    """Put a labelled guideline first; an older one of the same label goes."""
    style = card.data.get("style")
    style = dict(style) if isinstance(style, dict) else {}
    label = f"{_STYLE_ITEM[field]}:"
    listed = list(texts(style.get("all")))
    guideline = f"{label} {one_line(value or '')}"
    items = [one for one in listed if not one.strip().lower().startswith(label)]
    if value:
        items = listed if guideline in listed else [guideline, *items]
    card.data["style"] = {**style, "all": items}


_Writer = Callable[[Card, str, Any], None]

_CARD: Mapping[str, _Writer] = {
    "name": _write_field,
    "personality": _write_field,
    "content_themes": _write_tags,
    "appearance": _write_description,
    **dict.fromkeys(STYLES, _write_description),
}
_ELIZA: Mapping[str, _Writer] = {
    "name": _write_field,
    "personality": _write_adjectives,
    "content_themes": _write_topics,
    "appearance": _write_bio,
    **dict.fromkeys(STYLES, _write_style),
}
