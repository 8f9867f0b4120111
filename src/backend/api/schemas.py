"""What requests bring and answers hold, beside the schemas that the tables' own modules have."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    WithJsonSchema,
)

from backend.imaging.checks import PROMPT_LIMIT, SEED_LIMIT, SIDE_LIMIT
from backend.models.base_image import MAX_CANDIDATES, ConsentCreate
from backend.models.persona import CleanText, Words

T = TypeVar("T")

Seed = Annotated[int, Field(ge=0, lt=SEED_LIMIT, examples=[7])]
Side = Annotated[int, Field(ge=16, le=SIDE_LIMIT, examples=[512])]
Steps = Annotated[int, Field(ge=1, le=500, examples=[8])]
Guidance = Annotated[float, Field(ge=0, le=50, allow_inf_nan=False, examples=[1.5])]
Strength = Annotated[float, Field(ge=0.01, le=0.99, allow_inf_nan=False, examples=[0.6])]
ModelName = Annotated[CleanText, Field(min_length=1, max_length=200, examples=["portrait"])]
Prompt = Annotated[CleanText, Field(min_length=1, max_length=PROMPT_LIMIT)]


def _any_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be text, not {type(value).__name__}")
    return value


AnyText = Annotated[str, PlainValidator(_any_text), WithJsonSchema({"type": "string"})]
"""Text as it came: one bad prompt fails as an item of its batch and leaves the others unharmed."""


class RequestBody(BaseModel):
    """A body that is taken literally: no unknown field, no guess at a type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Page(BaseModel, Generic[T]):
    """A page of a longer list."""

    items: list[T]
    total: int = Field(description="How many there are in all.")
    limit: int
    offset: int


class Listing(BaseModel, Generic[T]):
    """A whole list."""

    items: list[T]


class Seeding(RequestBody):
    """How base images are made; all may be left out."""

    count: Annotated[int, Field(ge=1, le=MAX_CANDIDATES)] = Field(
        1, description="Candidates that are made side by side; approval picks one."
    )
    seed: Seed | None = None
    model: ModelName | None = None
    prompt: Prompt | None = Field(
        None, description="What it shows beside the persona; a plain portrait if left out."
    )
    reference: bool = Field(
        False, description="Start from the approved version's picture, else from the current one's."
    )
    width: Side | None = None
    height: Side | None = None


class SeedLocally(Seeding):
    """How base images are made here; all may be left out."""

    strength: Strength | None = Field(
        None, description="With `reference`: how far to go from it, 0.01 to 0.99."
    )
    num_inference_steps: Steps | None = None
    guidance_scale: Guidance | None = None


class SeedInCloud(Seeding):
    """How base images are made by the configured cloud; all may be left out.

    With `reference`, the picture that is started from is sent there.
    """


class Upload(BaseModel):
    """A form with a picture; its file name is not read.

    The other fields say whether it shows a real person, and by whose leave.
    """

    model_config = ConfigDict(extra="forbid")

    file: Annotated[
        str,
        WithJsonSchema({"type": "string", "format": "binary"}),
        Field(description="PNG, JPEG or WebP, at most 20 MiB, 256 to 8192 pixels a side, 40 MP."),
    ]
    consent_real_person: bool | None = Field(
        None, description="Taken for true where the consent says who is shown or by whose leave."
    )
    consent_subject: str | None = Field(None, description="Who is shown.")
    consent_granted_by: str | None = Field(None, description="By whose leave.")
    consent_note: str | None = Field(None, description="Where the leave is kept, what it covers.")
    consent_expires_at: datetime | None = Field(
        None, description="Until when the leave holds; UTC where it names no zone."
    )

    def consent(self) -> ConsentCreate | None:
        """Return the leave that was given; `None` where none of its fields was.

        Raises:
            ValidationError: a real person is shown, but nobody gave leave.
        """
        given = self.model_dump(exclude={"file"}, exclude_none=True)
        if not given:
            return None
        named = {name.removeprefix("consent_"): value for name, value in given.items()}
        if "subject" in named:
            named["person"] = named.pop("subject")
        named.setdefault("real_person", "person" in named or "granted_by" in named)
        expires = named.get("expires_at")
        if expires is not None and expires.tzinfo is None:
            named["expires_at"] = expires.replace(tzinfo=UTC)
        return ConsentCreate.model_validate(named)


class Approve(RequestBody):
    """Which version is approved."""

    version: Annotated[int, Field(ge=1, lt=2**31)] | None = Field(
        None, description="One of the current candidates; the last is meant if it is left out."
    )
    likeness_attestation: bool = Field(
        False, description="Required of an upload: it shows this persona, and may be used so."
    )


class Reason(RequestBody):
    """Why it is done; the audit log keeps it."""

    reason: Words = Field(examples=["the hair is too dark"])


class ModelResponse(BaseModel):
    """An image model and what it does when a request leaves things open."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    provider: str
    kind: str
    loaded: bool = Field(description="Whether it can be used now.")
    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float
    fixed_size: bool
    max_side: int
    family: str
    credit: str


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"
    version: str


class Readiness(BaseModel):
    """The studio can work."""

    status: Literal["ready"] = "ready"
    checks: dict[str, str] = Field(
        examples=[{"database": "ok", "blobs": "ok", "devices": "cpu:0, cpu:1"}]
    )
