"""Turn a card of one format into one of another.

V1, V2 and V3 differ in what they may say, so nothing is lost between them: what only V3 knows goes
below `extensions.gator.v3` of a V2 card, and back. Between cards and elizaOS characters only what
means the same is carried over; the rest stays in the document that is kept.
"""

from __future__ import annotations

import copy
import re
from typing import Any

from backend.cards.card import SPECS, Card, CardFormat
from backend.cards.dialogue import as_dialogue, as_examples
from backend.cards.document import Document
from backend.cards.text import first_text, texts, traits_of

FIELDS_V1 = ("name", "description", "personality", "scenario", "first_mes", "mes_example")
_TEXTS_V2 = ("creator_notes", "system_prompt", "post_history_instructions")
_MORE_V2 = ("creator", "character_version")
ONLY_V3 = (
    "assets",
    "nickname",
    "creator_notes_multilingual",
    "source",
    "group_only_greetings",
    "creation_date",
    "modification_date",
)
_CHAR, _USER = re.compile(r"(?i)\{\{char\}\}|<bot>"), re.compile(r"(?i)\{\{user\}\}|<user>")
_NAME = re.compile(r"(?i)\{\{(?:name|agentname)\}\}")
_SPEC = {card_format: spec for spec, card_format in SPECS.items()}
_SPEC_VERSION = {CardFormat.V2: "2.0", CardFormat.V3: "3.0"}


def blank(wanted: CardFormat) -> Card:
    """Return a card of V2, V3 or elizaOS that says nothing yet, with every field it must have."""
    if wanted is CardFormat.ELIZA:
        keys = ("bio", "adjectives", "topics", "messageExamples", "postExamples", "plugins")
        style: Document = {"all": [], "chat": [], "post": []}
        return Card(wanted, {"name": "", **{key: [] for key in keys}, "style": style})
    return _with_defaults({"data": {}}, wanted)


def converted(card: Card, wanted: CardFormat) -> Card:
    """Return a copy of a card in another format; of its own format, as it is."""
    document = copy.deepcopy(card.document)
    if card.format is wanted:
        return Card(wanted, document)
    if wanted is CardFormat.ELIZA:
        return _to_eliza(card)
    if card.format is CardFormat.ELIZA:
        return _from_eliza(card, wanted)
    if card.format is CardFormat.V1:
        document = _nested(document)
    data: Document = document["data"]
    if wanted is CardFormat.V2:
        _put_v3_aside(data)
    else:
        _take_v3_back(data)
    return _with_defaults(document, wanted)


def _nested(document: Document) -> Document:
    """Return a V1 card with its fields below `data`; those of other programs stay at the top."""
    data = {key: document.pop(key) for key in (*FIELDS_V1, *_MORE_V1) if key in document}
    return {**document, "data": data}


_MORE_V1 = (*_TEXTS_V2, *_MORE_V2, "alternate_greetings", "character_book", "tags", "extensions")
"""Fields of V2 that many programs write into a V1 card as well."""


def _with_defaults(document: Document, wanted: CardFormat) -> Card:
    """Fill in what the format cannot do without."""
    data = document["data"]
    for key in (*FIELDS_V1, *_TEXTS_V2, *_MORE_V2):
        data.setdefault(key, "")
    lists = ["tags", "alternate_greetings"]
    if wanted is CardFormat.V3:
        lists.append("group_only_greetings")
    for key in lists:
        data.setdefault(key, [])
    if not isinstance(data.get("extensions"), dict):
        data["extensions"] = {}
    if wanted is CardFormat.V3:
        for entry in _entries(data):
            entry.setdefault("use_regex", False)
    rest = {k: v for k, v in document.items() if k not in ("spec", "spec_version", "data")}
    head = {"spec": _SPEC[wanted], "spec_version": _SPEC_VERSION[wanted], "data": data}
    return Card(wanted, {**head, **rest})


def _entries(data: Document) -> list[Document]:
    book = data.get("character_book")
    entries = book.get("entries") if isinstance(book, dict) else None
    return [one for one in entries if isinstance(one, dict)] if isinstance(entries, list) else []


def _put_v3_aside(data: Document) -> None:
    only = {key: data.pop(key) for key in ONLY_V3 if key in data}
    if only:
        extensions = data.get("extensions")
        extensions = extensions if isinstance(extensions, dict) else {}
        gator = extensions.get("gator")
        data["extensions"] = {
            **extensions,
            "gator": {**(gator if isinstance(gator, dict) else {}), "v3": only},
        }


def _take_v3_back(data: Document) -> None:
    extensions = data.get("extensions")
    gator = extensions.get("gator") if isinstance(extensions, dict) else None
    only = gator.pop("v3", None) if isinstance(gator, dict) else None
    if isinstance(only, dict):
        data.update({key: only[key] for key in ONLY_V3 if key in only and key not in data})


def _to_eliza(card: Card) -> Card:
    data, made = card.data, blank(CardFormat.ELIZA)
    character = made.document
    personality = first_text([data.get("personality")])
    character["name"] = first_text([data.get("name")])
    character["adjectives"] = traits_of(personality)
    character["bio"] = [
        _for_eliza(line, first_text([data.get("nickname")]))
        for field in (
            "description",
            "scenario",
            *(() if traits_of(personality) else ("personality",)),
        )
        for line in _lines(data.get(field))
    ]
    character["topics"] = list(texts(data.get("tags")))
    character["messageExamples"] = as_examples(first_text([data.get("mes_example")]))
    if system := first_text([data.get("system_prompt")]):
        character["system"] = system
    return made


def _from_eliza(card: Card, wanted: CardFormat) -> Card:
    character, made = card.document, blank(wanted)
    said: dict[str, Any] = {
        "name": first_text([character.get("name")]),
        "description": _NAME.sub("{{char}}", "\n".join(texts(character.get("bio")))),
        "personality": ", ".join(texts(character.get("adjectives"))),
        "tags": list(texts(character.get("topics"))),
        "system_prompt": first_text([character.get("system")]),
        "mes_example": as_dialogue(character.get("messageExamples")),
    }
    made.data.update(said)
    return made


def _lines(value: Any) -> list[str]:
    return [line.strip() for text in texts(value) for line in text.splitlines() if line.strip()]


def _for_eliza(line: str, nickname: str) -> str:
    return _CHAR.sub(lambda _: nickname or "{{name}}", _USER.sub("{{user1}}", line))
