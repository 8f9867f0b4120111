"""What a card is, and how its kind is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from backend.cards.document import Document
from backend.cards.faults import FIELD, Note, refusal, refuse

_FIELDS_V1 = ("description", "personality", "scenario", "first_mes", "mes_example")
_FIELDS_ELIZA = ("adjectives", "topics", "messageExamples", "postExamples", "style", "lore")


class CardFormat(StrEnum):
    """Whose form a document has."""

    V1 = "v1"
    V2 = "v2"
    V3 = "v3"
    ELIZA = "eliza"


SPECS = {"chara_card_v2": CardFormat.V2, "chara_card_v3": CardFormat.V3}


class Container(StrEnum):
    """What a document came in."""

    JSON = "json"
    PNG = "png"
    CHARX = "charx"


@dataclass(frozen=True, slots=True)
class Card:
    """A document and its kind."""

    format: CardFormat
    document: Document

    @property
    def data(self) -> Document:
        """Where its fields stand: in `data`, or at the top."""
        if self.format in (CardFormat.V1, CardFormat.ELIZA):
            return self.document
        data: Document = self.document["data"]
        return data


@dataclass(frozen=True, slots=True)
class CardFile:
    """A card as it was read from a file.

    Attributes:
        assets: what was packed into the file, by the path that the card calls it by; never a path
            of ours.
        picture: the picture that shows the character, undecoded, if there is one.
        ignored: what was left out.
    """

    card: Card
    container: Container
    assets: Mapping[str, bytes] = field(default_factory=dict)
    picture: bytes | None = None
    ignored: tuple[Note, ...] = ()


def recognise(document: Document, field: str = FIELD) -> Card:
    """Tell a document's kind.

    Raises:
        InvalidRequest: it is none that is read.
    """
    spec = document.get("spec")
    if isinstance(spec, str) and spec in SPECS:
        if not isinstance(document.get("data"), dict):
            refuse(f"says that it is a {spec}, but has no `data`", field)
        return Card(SPECS[spec], document)
    if spec is not None:
        refuse(f"is {_quoted(spec)}; chara_card_v2 and chara_card_v3 are read", field)
    if _is_eliza(document):
        return Card(CardFormat.ELIZA, document)
    if isinstance(document.get("name"), str) and any(name in document for name in _FIELDS_V1):
        return Card(CardFormat.V1, document)
    raise refusal("is JSON, but neither a character card nor an elizaOS character", field)


def _is_eliza(document: Mapping[str, Any]) -> bool:
    if "bio" in document:
        return True
    if any(name in document for name in _FIELDS_V1):
        return False
    return "name" in document and any(name in document for name in _FIELDS_ELIZA)


def _quoted(spec: object) -> str:
    return f"a card of the kind {spec[:40]!r}" if isinstance(spec, str) else "of no known kind"
