"""What the import of a card brings and answers."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, WithJsonSchema

from backend.api.schemas import Upload
from backend.cards.card import CardFormat, Container
from backend.models.base_image import BaseImageResponse
from backend.models.persona import PersonaResponse
from backend.services.card_service import ImportedCard

CARD_BODY: dict[str, Any] = {
    "type": "object",
    "title": "Card",
    "description": "A Character Card V1, V2 or V3, or an elizaOS character; unknown fields are "
    "kept. At most 8 MiB.",
    "additionalProperties": True,
    "example": {
        "spec": "chara_card_v2",
        "spec_version": "2.0",
        "data": {
            "name": "Ondine",
            "description": "Hair: silver\nEyes: grey",
            "personality": "patient, curious",
            "tags": ["sea"],
            "extensions": {},
        },
    },
}


class CardUpload(Upload):
    """A form with a character card; its file name is not read.

    The other fields are for its picture, where it becomes a base image.
    """

    file: Annotated[
        str,
        WithJsonSchema({"type": "string", "format": "binary"}),
        Field(description="JSON, a PNG with a card in it, or a .charx; at most 32 MiB."),
    ]


class CardNote(BaseModel):
    """Something of a card that was not taken."""

    field: str
    reason: str


class CardImportResponse(BaseModel):
    """What was made of a card."""

    persona: PersonaResponse
    format: CardFormat = Field(description="What the card was read as.")
    container: Container = Field(description="What it came in.")
    spec_version: str | None = Field(description="The version that the card says it has.")
    sources: dict[str, str] = Field(
        description="By field of the persona, the part of the card that it came from."
    )
    kept: list[str] = Field(
        description="Fields that a persona has no home for; an export gives them back."
    )
    ignored: list[CardNote] = Field(description="What was left out, and why.")
    base_image: BaseImageResponse | None = Field(
        description="Where the base image stands, if the picture was wanted and accepted."
    )

    @classmethod
    def of(cls, imported: ImportedCard) -> Self:
        """Tell of an import."""
        plan = imported.plan
        notes = [*plan.ignored, *([imported.refusal] if imported.refusal else [])]
        return cls(
            persona=PersonaResponse.model_validate(imported.persona),
            format=plan.file.card.format,
            container=plan.file.container,
            spec_version=plan.spec_version,
            sources=plan.sources,
            kept=list(plan.kept),
            ignored=[CardNote(field=note.field, reason=note.reason) for note in notes],
            base_image=imported.base_image.response() if imported.base_image else None,
        )
