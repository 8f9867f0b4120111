"""Personas that come as cards and leave as cards.

A card is read and checked first, then stored with its persona in one transaction: all of several,
or none. Its picture becomes a base image only where that is asked for, by the same way as an
upload, and is a draft then like any other. What leaves is what a persona file holds, the card it
came from, and a picture that is approved; keys, settings, consents and who did what stay here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from backend.cards.archive import read_assets, write_archive
from backend.cards.card import Card, CardFormat
from backend.cards.document import own_document, write_document
from backend.cards.faults import Note
from backend.cards.gator import MAPPED, UNMAPPED
from backend.cards.mapping import STYLES
from backend.cards.packing import card_archive, card_png
from backend.cards.writing import kept_card, written_card
from backend.database.engine import Database
from backend.errors import Conflict, InvalidRequest, TooLarge
from backend.imaging.pictures.still import still_png
from backend.models.account import Actor
from backend.models.base_image import ConsentCreate
from backend.models.persona import PersonaCreate, PersonaModel
from backend.models.persona_card import PersonaCardModel
from backend.repositories.blob_references import BlobReferences
from backend.repositories.persona_cards import PersonaCardRepository
from backend.repositories.personas import PersonaRepository
from backend.services.base_image_seeder import refuse_expired
from backend.services.base_image_view import BaseImageView
from backend.services.base_image_workflow import BaseImageWorkflow
from backend.services.card_plan import CardPlan, plan_card
from backend.services.leave import require_leave
from backend.storage.blobs import BlobStore

FIELDS = (*(field for field in MAPPED if field not in STYLES), "style_preferences", *UNMAPPED)
"""What of a persona goes into a card."""

_AT_ONCE = 2
"""How many cards are read or packed at a time; each may need a few hundred MiB."""


class CardKind(StrEnum):
    """As what a persona leaves."""

    V2 = "v2"
    V3 = "v3"
    PNG = "png"
    CHARX = "charx"
    ELIZA = "eliza"


_FORMATS = {CardKind.V2: CardFormat.V2, CardKind.ELIZA: CardFormat.ELIZA}
_FILES = {
    CardKind.PNG: ("image/png", ".png"),
    CardKind.CHARX: ("application/zip", ".charx"),
}


@dataclass(frozen=True, slots=True)
class ImportedCard:
    """What an import made.

    Attributes:
        plan: what it was made of.
        base_image: where the base image stands, if the card's picture was wanted as one.
        refusal: why the picture was not taken, if it was not.
    """

    persona: PersonaModel
    plan: CardPlan
    base_image: BaseImageView | None = None
    refusal: Note | None = None


@dataclass(frozen=True, slots=True)
class ExportedCard:
    """A file that holds a persona."""

    data: bytes
    media_type: str
    file_name: str


class CardService:
    """Imports and exports of one studio."""

    def __init__(
        self, database: Database, blobs: BlobStore, base_images: BaseImageWorkflow
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._base_images = base_images
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def import_card(
        self,
        data: bytes,
        *,
        actor: Actor,
        base_image: bool = False,
        consent: ConsentCreate | None = None,
        request_id: str | None = None,
    ) -> ImportedCard:
        """Make a persona of a card.

        Args:
            data: the file.
            actor: who imports.
            base_image: whether its picture becomes a candidate.
            consent: the leave that the picture comes with.
            request_id: for the audit log.

        Raises:
            InvalidRequest: it is no card that is read, or nobody can be made of it.
            TooLarge: more than is read.
        """
        refuse_expired(consent)
        async with self._turn:
            plan = await asyncio.to_thread(plan_card, data)
            (persona,) = await self.create_all([plan])
        if not base_image:
            return ImportedCard(persona, plan)
        return await self.seed(persona, plan, actor=actor, consent=consent, request_id=request_id)

    async def create_all(self, plans: Sequence[PersonaCreate | CardPlan]) -> list[PersonaModel]:
        """Store several personas with the cards they came from, all or none."""
        packed = [await self._packed(plan) for plan in plans]
        async with self._database.write() as session:
            await BlobReferences(session).hold()
            return [
                await self._store(session, plan, assets)
                for plan, assets in zip(plans, packed, strict=True)
            ]

    async def seed(
        self,
        persona: PersonaModel,
        plan: CardPlan,
        *,
        actor: Actor,
        consent: ConsentCreate | None = None,
        request_id: str | None = None,
    ) -> ImportedCard:
        """Make the picture of a card a candidate; one that is not accepted is told of."""
        picture = plan.file.picture
        if picture is None:
            return ImportedCard(
                persona, plan, refusal=Note("picture", "did not come with the card")
            )
        try:
            view = await self._base_images.seed_upload(
                persona.id, picture, actor=actor, consent=consent, request_id=request_id
            )
        except (InvalidRequest, TooLarge) as exc:
            reason = exc.message.removeprefix("file: ")
            return ImportedCard(persona, plan, refusal=Note("picture", reason))
        return ImportedCard(view.persona, plan, view)

    async def export(self, name_or_id: str, kind: CardKind) -> ExportedCard:
        """Write a persona as a card.

        Raises:
            NotFound: there is no such persona.
            Conflict: as PNG, and there is no approved picture that may be shown.
        """
        async with self._database.read() as session:
            persona = await PersonaRepository(session).find(name_or_id)
            row = await PersonaCardRepository(session).of(persona.id)
            picture_hash = await _picture_hash(session, persona, kind)
        with_files = kind in _FILES
        picture = await self._blobs.get(picture_hash) if picture_hash else None
        assets = row.assets_sha256 if row is not None and with_files else None
        archive = await self._blobs.get(assets) if assets else None
        async with self._turn:
            data = await asyncio.to_thread(_written, persona, row, kind, picture, archive)
        media_type, extension = _FILES.get(kind, ("application/json", f".{kind}.json"))
        return ExportedCard(data, media_type, f"persona-{persona.id}{extension}")

    async def _packed(self, plan: PersonaCreate | CardPlan) -> bytes | None:
        if isinstance(plan, PersonaCreate) or not plan.file.assets:
            return None
        packed = await asyncio.to_thread(write_archive, None, plan.file.assets)
        await self._blobs.put(packed)  # the long part of it, before the transaction
        return packed

    async def _store(
        self, session: AsyncSession, plan: PersonaCreate | CardPlan, assets: bytes | None
    ) -> PersonaModel:
        new = plan if isinstance(plan, PersonaCreate) else plan.persona
        values = new.model_dump(mode="json")
        persona = await PersonaRepository(session).add(PersonaModel(**values))
        if isinstance(plan, CardPlan):
            card = kept_card(plan.file.card)
            row = PersonaCardModel(
                persona_id=persona.id,
                format=card.format.value,
                document=write_document(card.document).decode(),
                assets_sha256=None if assets is None else await self._blobs.put(assets),
            )
            PersonaCardRepository(session).add(row)
        return persona


async def _picture_hash(session: AsyncSession, persona: PersonaModel, kind: CardKind) -> str | None:
    """Return the approved picture that goes into the file, if it may be shown."""
    if kind not in _FILES:
        return None
    try:
        await require_leave(session, persona, persona.approved_version)
    except Conflict:
        if kind is CardKind.PNG:
            raise
        return None
    return persona.approved_sha256


def _written(
    persona: PersonaModel,
    row: PersonaCardModel | None,
    kind: CardKind,
    picture: bytes | None,
    archive: bytes | None,
) -> bytes:
    """Write the file; takes its time."""
    kept = None
    if row is not None:
        kept = Card(CardFormat(row.format), own_document(row.document))
    card = written_card(
        _fields_of(persona),
        kept,
        _FORMATS.get(kind, CardFormat.V3),
        created=int(persona.created_at.timestamp()),
        modified=int(persona.updated_at.timestamp()),
    )
    if kind not in _FILES:
        return write_document(card.document)
    assets = read_assets(archive) if archive else {}
    png = still_png(picture) if picture else None
    if kind is CardKind.PNG and png is not None:
        return card_png(card, png, assets)
    return card_archive(card, png, assets)


def _fields_of(persona: PersonaModel) -> dict[str, Any]:
    values = {field: getattr(persona, field) for field in FIELDS}
    return {field: value for field, value in values.items() if value is not None}
