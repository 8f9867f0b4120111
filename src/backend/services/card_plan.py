"""A card that was read and checked, and the persona that it would make; nothing is stored yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from backend.cards.card import CardFile
from backend.cards.faults import Note, refusal
from backend.cards.gator import PersonaFields, persona_fields
from backend.cards.limits import MAX_FILE_BYTES
from backend.cards.mapping import kept_fields
from backend.cards.reading import read_card
from backend.cards.text import speakable
from backend.errors import GatorError
from backend.models.persona import PersonaCreate
from backend.services.persona_service import parse_persona, read_each, read_persona_file

MAX_TOLD = 200
"""How many fields a report lists; what is beyond is counted."""

_CARD_STARTS = (b"{", b"\x89PNG", b"PK\3\4", b"PK\5\6", b"\xff\xd8\xff")


@dataclass(frozen=True, slots=True)
class CardPlan:
    """What an import would do.

    Attributes:
        persona: as it would be written.
        sources: which part of the card each of its fields came from.
        kept: fields of the card that have no home in a persona; an export gives them back.
        ignored: what was left out, and why.
    """

    file: CardFile
    persona: PersonaCreate
    sources: dict[str, str]
    kept: tuple[str, ...]
    ignored: tuple[Note, ...]

    @property
    def spec_version(self) -> str | None:
        """The version that the card says it has."""
        version = self.file.card.document.get("spec_version")
        return None if version is None else speakable(str(version)[:20])


def plan_card(data: bytes) -> CardPlan:
    """Read a card and check the persona that it makes. Blocks: call it in a thread.

    Raises:
        InvalidRequest: it is no card that is read, or nobody can be made of it.
        TooLarge: it, or a part of it, is larger than is read.
    """
    file = read_card(data)
    fields = persona_fields(file.card)
    persona, dropped = _checked(fields)
    kept = tuple(kept_fields(file.card))
    told = [*file.ignored, *fields.notes, *dropped]
    return CardPlan(file, persona, fields.sources, _few(kept), tuple(_few_notes(told)))


def plan_files(paths: Sequence[Path]) -> list[PersonaCreate | CardPlan]:
    """Read persona files and cards, told apart by their bytes.

    Raises:
        InvalidRequest: one is faulty; all faults of all files are listed.
    """
    return read_each(paths, _plan_file)


def _plan_file(path: Path) -> PersonaCreate | CardPlan:
    try:
        with path.open("rb") as file:
            start = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
            if not start.startswith(_CARD_STARTS):
                return read_persona_file(path)
            file.seek(0)
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError:
        return read_persona_file(path)
    try:
        return plan_card(data)
    except GatorError as exc:
        raise type(exc)(f"{path}: {exc.message.removeprefix('file: ')}", exc.details) from exc


def _checked(fields: PersonaFields) -> tuple[PersonaCreate, list[Note]]:
    """Make a persona; what Gator wrote beside the card and is not valid any more is left out."""
    if "name" not in fields.values:
        raise refusal("is missing; a card without a name is nobody's", "name")
    values = dict(fields.values)
    try:
        PersonaCreate.model_validate(values)
    except ValidationError as exc:
        notes = []
        for fault in exc.errors():
            field = str(fault["loc"][0])
            values.pop(field, None)
            if field in fields.said:
                values[field] = fields.said[field]
            where = fields.sources.get(field, "extensions.gator")
            notes.append(Note(where, f"has a {field} that is not valid: {fault['msg']}"))
        return parse_persona(values, "file"), notes
    return PersonaCreate.model_validate(values), []


def _few(names: tuple[str, ...]) -> tuple[str, ...]:
    more = len(names) - MAX_TOLD
    names = tuple(speakable(name) for name in names[:MAX_TOLD])
    return names if more <= 0 else (*names, f"and {more:,} more")


def _few_notes(notes: list[Note]) -> list[Note]:
    more = len(notes) - MAX_TOLD
    short = [Note(speakable(n.field[:200]), speakable(n.reason[:500])) for n in notes[:MAX_TOLD]]
    return short if more <= 0 else [*short, Note("", f"and {more:,} more")]
