"""Base images: versions, the leave to show a person, tombstones, and the log of what was done.

Every seed makes a version and none is ever overwritten. Events are append-only and chained by
hash; the database refuses to change or delete one. A purge takes versions and consents away and
leaves tombstones.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator
from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from backend.models.base import Base, UtcDateTime, new_id, now
from backend.models.persona import BaseImageStatus, CleanText

MAX_CANDIDATES = 8
"""How many versions one seed may make."""


class BaseImageVersionModel(Base):
    """One seeded base image; `look` holds the traits its model settled, for later pictures.

    `seed_group` is shared by the versions of one seed: the candidates that stand side by side.
    `original_sha256` is the upload as it was sent; it is private and never served.
    """

    __tablename__ = "base_image_versions"
    __table_args__ = (UniqueConstraint("persona_id", "n", name="uq_base_image_versions_n"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    persona_id: Mapped[str] = mapped_column(
        ForeignKey("personas.id", ondelete="CASCADE"), index=True
    )
    n: Mapped[int]
    seed_group: Mapped[str] = mapped_column(String(36), default=new_id, server_default="")
    parent: Mapped[int | None]
    sha256: Mapped[str] = mapped_column(String(64))
    original_sha256: Mapped[str | None] = mapped_column(String(64))
    mime: Mapped[str] = mapped_column(String(50))
    width: Mapped[int]
    height: Mapped[int]
    size_bytes: Mapped[int]
    method: Mapped[str] = mapped_column(String(20))
    provider: Mapped[str] = mapped_column(String(100))
    model: Mapped[str] = mapped_column(String(200))
    kind: Mapped[str] = mapped_column(String(20))
    device: Mapped[str] = mapped_column(String(100))
    seed: Mapped[int] = mapped_column(BigInteger)
    prompt: Mapped[str] = mapped_column(Text)
    look: Mapped[dict[str, Any]]
    receipt: Mapped[dict[str, Any]]
    prompt_report: Mapped[dict[str, Any]]
    seconds: Mapped[float]
    consent_id: Mapped[str | None] = mapped_column(String(36))
    created_by: Mapped[str] = mapped_column(String(100))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class ConsentModel(Base):
    """Whether an upload shows a real person, by whose leave, and until when."""

    __tablename__ = "consents"

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    persona_id: Mapped[str] = mapped_column(
        ForeignKey("personas.id", ondelete="CASCADE"), index=True
    )
    real_person: Mapped[bool]
    person: Mapped[str | None] = mapped_column(String(200))
    granted_by: Mapped[str | None] = mapped_column(String(200))
    note: Mapped[str | None] = mapped_column(Text)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_by: Mapped[str | None] = mapped_column(String(100))
    revocation_reason: Mapped[str | None] = mapped_column(Text)
    created_by: Mapped[str] = mapped_column(String(100))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)

    def objection(self, at: datetime) -> str | None:
        """Return why this leave does not hold at a time, in words; `None` where it does."""
        if self.revoked_at is not None:
            return f"was revoked on {self.revoked_at:%Y-%m-%d}"
        if self.expires_at is not None and self.expires_at <= at:
            return f"expired on {self.expires_at:%Y-%m-%d}"
        return None


class BaseImageTombstoneModel(Base):
    """What is left of a purged version: its number and hashes, who purged it and why.

    It outlives its persona, so it refers to it by value.
    """

    __tablename__ = "base_image_tombstones"

    id: Mapped[str] = mapped_column(String(36), primary_key=True, default=new_id)
    persona_id: Mapped[str] = mapped_column(String(36), index=True)
    n: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    original_sha256: Mapped[str | None] = mapped_column(String(64))
    method: Mapped[str] = mapped_column(String(20))
    reason: Mapped[str] = mapped_column(Text)
    purged_by: Mapped[str] = mapped_column(String(100))
    purged_at: Mapped[datetime] = mapped_column(UtcDateTime, default=now)


class BaseImageEventModel(Base):
    """One thing that was done, chained to the one before by `previous_hash`.

    It outlives its persona, so it refers to it by value. `services/audit_service.py` says what
    `hash` is the SHA-256 of.
    """

    __tablename__ = "base_image_events"
    __table_args__ = (Index("ix_base_image_events_persona_id", "persona_id", "sequence"),)

    sequence: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False
    )
    persona_id: Mapped[str] = mapped_column(String(36))
    action: Mapped[str] = mapped_column(String(20))
    actor: Mapped[str] = mapped_column(String(100))
    role: Mapped[str] = mapped_column(String(20))
    from_status: Mapped[str] = mapped_column(String(20))
    to_status: Mapped[str] = mapped_column(String(20))
    version: Mapped[int | None]
    reason: Mapped[str | None] = mapped_column(Text)
    request_id: Mapped[str | None] = mapped_column(String(100))
    details: Mapped[dict[str, Any]]
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    previous_hash: Mapped[str] = mapped_column(String(64), unique=True)
    hash: Mapped[str] = mapped_column(String(64), unique=True)


class MigrationNoteModel(Base):
    """What a migration found that somebody should know of, such as a missing image."""

    __tablename__ = "migration_notes"

    id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    persona_id: Mapped[str] = mapped_column(String(36))
    persona_name: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(String(20), index=True)
    detail: Mapped[str | None] = mapped_column(Text)


class ConsentCreate(BaseModel):
    """Whether a real person is shown and by whose leave, as said at an upload."""

    model_config = ConfigDict(extra="forbid")

    real_person: bool = Field(False, description="Whether the picture shows a real person.")
    person: Annotated[CleanText, Field(min_length=1, max_length=200)] | None = Field(
        None, description="Who is shown."
    )
    granted_by: Annotated[CleanText, Field(min_length=1, max_length=200)] | None = Field(
        None, description="By whose leave; required where a real person is shown."
    )
    note: Annotated[CleanText, Field(max_length=2_000)] | None = Field(
        None, description="Where the leave is kept, what it covers."
    )
    expires_at: AwareDatetime | None = Field(None, description="Until when the leave holds.")

    @model_validator(mode="after")
    def _a_real_person_gives_leave(self) -> Self:
        if self.real_person and not self.granted_by:
            raise ValueError("a real person is shown: `granted_by` has to say by whose leave")
        return self


class ConsentResponse(BaseModel):
    """A record of leave."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    real_person: bool
    person: str | None
    granted_by: str | None
    note: str | None
    expires_at: datetime | None
    revoked_at: datetime | None
    revoked_by: str | None
    revocation_reason: str | None
    created_by: str
    created_at: datetime


class BaseImageVersionResponse(BaseModel):
    """One version of a base image."""

    model_config = ConfigDict(from_attributes=True)

    n: int
    seed_group: str
    parent: int | None
    sha256: str
    mime: str
    width: int
    height: int
    size_bytes: int
    method: str
    provider: str
    model: str
    kind: str
    device: str
    seed: int
    prompt: str
    prompt_report: dict[str, Any]
    consent_id: str | None
    created_by: str
    created_at: datetime


class SeedFailure(BaseModel):
    """One of several candidates that could not be made."""

    seed: int
    code: str
    message: str


class BaseImageEventResponse(BaseModel):
    """One thing that was done to a base image."""

    model_config = ConfigDict(from_attributes=True)

    sequence: int
    persona_id: str
    action: str
    actor: str
    role: str
    from_status: str = Field(serialization_alias="from")
    to_status: str = Field(serialization_alias="to")
    version: int | None
    reason: str | None
    request_id: str | None
    details: dict[str, Any]
    at: datetime
    previous_hash: str
    hash: str


class BaseImageResponse(BaseModel):
    """Where a persona's base image stands, and what may be done now.

    `current_version` is the one seeded last; `candidates` are those that may be approved.
    """

    persona_id: str
    revision: int
    status: BaseImageStatus
    allowed_actions: list[str]
    current_version: int | None
    approved_version: int | None
    approved_sha256: str | None
    approved_by: str | None
    approved_at: datetime | None
    rejection_reason: str | None
    candidates: list[int]
    failures: list[SeedFailure]
    versions: list[BaseImageVersionResponse]
    consents: list[ConsentResponse]
