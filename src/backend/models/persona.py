"""Personas: the table, the state of the base image, and the schemas of the API and of files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from sqlalchemy import CheckConstraint, String, Text, false, text
from sqlalchemy.orm import Mapped, mapped_column

from backend.models.base import Base, UtcDateTime, new_id, now

MAX_DEPTH = 5
"""How deep the values of a persona's own style keys may be nested."""


class BaseImageStatus(str, Enum):  # noqa: UP042 - the bases are part of the contract
    """Where a persona's base image stands."""

    PENDING_UPLOAD = "pending_upload"
    DRAFT = "draft"
    APPROVED = "approved"
    REJECTED = "rejected"


class PersonaModel(Base):
    """One persona. `appearance_locked` holds exactly while the base image is approved.

    What was approved is the bytes: `approved_version`, `approved_sha256`, by whom and when.
    """

    __tablename__ = "personas"
    __table_args__ = (
        CheckConstraint(
            "appearance_locked = (base_image_status = 'approved')", name="locked_iff_approved"
        ),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(100))
    appearance: Mapped[str] = mapped_column(Text)
    personality: Mapped[str] = mapped_column(Text)
    content_themes: Mapped[list[str]] = mapped_column(default=list, server_default=text("'[]'"))
    style_preferences: Mapped[dict[str, Any]] = mapped_column(
        default=dict, server_default=text("'{}'")
    )
    base_appearance_description: Mapped[str | None] = mapped_column(Text)
    image_style: Mapped[str | None] = mapped_column(Text)
    negative_prompt: Mapped[str | None] = mapped_column(Text)
    model_adapters: Mapped[list[dict[str, Any]] | None]
    base_image_path: Mapped[str | None] = mapped_column(String(500))
    base_image_status: Mapped[str] = mapped_column(
        String(20),
        index=True,
        default=BaseImageStatus.PENDING_UPLOAD.value,
        server_default=BaseImageStatus.PENDING_UPLOAD.value,
    )
    appearance_locked: Mapped[bool] = mapped_column(default=False, server_default=false())
    approved_version: Mapped[int | None]
    approved_sha256: Mapped[str | None] = mapped_column(String(64))
    approved_by: Mapped[str | None] = mapped_column(String(100))
    approved_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    rejection_reason: Mapped[str | None] = mapped_column(Text)
    revision: Mapped[int] = mapped_column(default=1, server_default=text("1"))
    created_at: Mapped[datetime] = mapped_column(
        UtcDateTime, default=now, server_default=text("CURRENT_TIMESTAMP")
    )
    updated_at: Mapped[datetime] = mapped_column(
        UtcDateTime, default=now, onupdate=now, server_default=text("CURRENT_TIMESTAMP")
    )

    __mapper_args__ = {  # noqa: RUF012 - SQLAlchemy's own form
        "version_id_col": revision
    }


def _text(value: str) -> str:
    value = value.strip()
    bad = next((c for c in value if _is_unspeakable(c)), None)
    if bad:
        raise ValueError(f"holds U+{ord(bad):04X}, which is not text")
    return value


def _is_unspeakable(character: str) -> bool:
    code = ord(character)
    return (code < 32 and character not in "\t\n\r") or code == 127 or 0xD800 <= code <= 0xDFFF


def _refuse_unstorable(value: object, depth: int = 0) -> None:
    """Refuse what JSON or a database would not give back as it was."""
    if depth > MAX_DEPTH:
        raise ValueError(f"is nested more than {MAX_DEPTH} deep")
    if isinstance(value, str):
        _text(value)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"holds {value}, which is not a number")
    elif isinstance(value, Mapping | list):
        parts = value if isinstance(value, list) else [*value.keys(), *value.values()]
        for part in parts:
            _refuse_unstorable(part, depth + 1)


CleanText = Annotated[str, AfterValidator(_text)]
Name = Annotated[CleanText, Field(min_length=1, max_length=100)]
Words = Annotated[CleanText, Field(min_length=1, max_length=2_000)]
Style = Annotated[CleanText, Field(min_length=1, max_length=500)]
Theme = Annotated[CleanText, Field(min_length=1, max_length=80)]


class StylePreferences(BaseModel):
    """How the persona speaks and what it likes to look at; own keys are kept."""

    model_config = ConfigDict(extra="allow")

    aesthetic: CleanText = Field("", max_length=200, examples=["minimal, bright"])
    voice_style: CleanText = Field("", max_length=200, examples=["playful"])
    tone: CleanText = Field("", max_length=200, examples=["warm"])

    @model_validator(mode="after")
    def _own_keys_can_be_stored(self) -> Self:
        _refuse_unstorable(self.model_extra)
        return self


class ModelAdapter(BaseModel):
    """A LoRA or another adapter that the persona's pictures are made with."""

    model_config = ConfigDict(extra="forbid")

    name: Name = Field(examples=["watercolour"])
    weight: float = Field(1.0, ge=-2, le=2, allow_inf_nan=False)


class PersonaCreate(BaseModel):
    """A persona as written by a user: in a file, over the API or on the page."""

    model_config = ConfigDict(extra="forbid")

    name: Name = Field(examples=["Mira Solano"])
    appearance: Words = Field(examples=["long wavy red hair, pale skin, round glasses"])
    personality: Words = Field(
        description="Comma-separated traits.", examples=["creative, warm, curious"]
    )
    content_themes: list[Theme] = Field(
        default_factory=list, max_length=50, examples=[["street art", "colour"]]
    )
    style_preferences: StylePreferences = Field(default_factory=StylePreferences)
    base_appearance_description: Words | None = None
    image_style: Style | None = Field(
        None, description="Words that every picture's prompt ends with.", examples=["film grain"]
    )
    negative_prompt: Words | None = Field(
        None, description="What no picture should show.", examples=["text, watermark"]
    )
    model_adapters: list[ModelAdapter] | None = Field(None, max_length=8)
    base_image_status: Literal[BaseImageStatus.PENDING_UPLOAD] = Field(
        BaseImageStatus.PENDING_UPLOAD,
        description="Always `pending_upload`: the workflow alone moves it on.",
    )


class PersonaUpdate(BaseModel):
    """Changes to a persona. Fields left out stay; while the appearance is locked it cannot change.

    `base_image_status` is known so that it can be refused by name: only the approval workflow
    moves it.
    """

    model_config = ConfigDict(extra="forbid")

    name: Name | None = None
    appearance: Words | None = None
    personality: Words | None = None
    content_themes: list[Theme] | None = Field(None, max_length=50)
    style_preferences: StylePreferences | None = None
    base_appearance_description: Words | None = None
    image_style: Style | None = None
    negative_prompt: Words | None = None
    model_adapters: list[ModelAdapter] | None = Field(None, max_length=8)
    base_image_status: BaseImageStatus | None = Field(
        None, description="Not the client's to set; any value is refused."
    )


class PersonaResponse(BaseModel):
    """A persona as it is stored."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    name: str
    appearance: str
    personality: str
    content_themes: list[str]
    style_preferences: dict[str, Any]
    base_appearance_description: str | None
    image_style: str | None
    negative_prompt: str | None
    model_adapters: list[ModelAdapter] | None
    base_image_path: str | None
    base_image_status: BaseImageStatus
    appearance_locked: bool
    approved_version: int | None
    approved_sha256: str | None
    approved_by: str | None
    approved_at: datetime | None
    rejection_reason: str | None
    revision: int
    created_at: datetime
    updated_at: datetime
