"""What an OpenAI client sends for a picture, and what it gets.

Every field that OpenAI's images routes know is known here. One that this studio cannot honour is
refused by its name and with the reason, instead of being passed over in silence: whoever asks for
a transparent background is not given a white one. Fields of our own are those that vLLM-Omni takes
too: `seed`, `negative_prompt`, `num_inference_steps`, `guidance_scale`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from backend.api.schemas import Guidance, Prompt, RequestBody, Seed, Steps
from backend.models.persona import CleanText
from backend.services.interactive import MAX_PICTURES
from backend.services.subjects import PERSONA

MAX_PARTIAL_IMAGES = 3
EFFORTS = {
    "auto": 1.0,
    "standard": 1.0,
    "low": 0.5,
    "medium": 1.0,
    "high": 1.5,
    "hd": 1.5,
    "xhigh": 2.0,
    "max": 2.0,
}
"""How many steps a quality stands for, against the model's own number."""

_SIZE = re.compile(r"auto|\d{2,4}x\d{2,4}")


def _size(value: str) -> str:
    if not _SIZE.fullmatch(value):
        raise ValueError("must be auto, or width x height in pixels such as 512x768")
    return value


Size = Annotated[
    str,
    AfterValidator(_size),
    WithJsonSchema({"type": "string", "pattern": f"^({_SIZE.pattern})$"}),
]
EndUser = Annotated[CleanText, Field(max_length=512)]
Model = Annotated[
    CleanText,
    Field(
        min_length=1,
        max_length=300,
        description=f"A model's name, or `{PERSONA}` and a persona's name or id. The best there "
        "is, if left out.",
        examples=["portrait"],
    ),
]
_SVG = "Not taken: pictures here are pixels."
_GIF = "Not taken: pictures here stand still."
_WHOLE = "Not taken: the whole picture is drawn anew."


class ImageWish(RequestBody):
    """What both images routes take."""

    prompt: Prompt = Field(examples=["in a workshop, laughing"])
    model: Model | None = None
    n: int | None = Field(None, ge=1, le=MAX_PICTURES, description="How many; one, if left out.")
    size: Size | None = Field(
        None, description="`auto`, as if left out: the model's own size.", examples=["512x512"]
    )
    quality: Literal["auto", "standard", "low", "medium", "high", "hd", "xhigh", "max"] | None = (
        Field(
            None,
            description="`low` takes half of the model's own steps, `high` and `hd` half as many "
            "more, `xhigh` and `max` twice as many.",
        )
    )
    background: Literal["auto", "opaque"] | None = Field(
        None, description="Pictures here have no transparency."
    )
    response_format: Literal["b64_json", "url"] | None = Field(
        None,
        description="`b64_json`, if left out. An address is good for an hour, or for good "
        "where the picture is kept.",
    )
    output_format: Literal["png", "jpeg", "webp"] | None = Field(
        None, description="`png`, if left out."
    )
    stream: bool | None = Field(
        None, description="Send the picture, and what it looks like on the way, as events."
    )
    partial_images: int | None = Field(
        None,
        ge=0,
        le=MAX_PARTIAL_IMAGES,
        description="With `stream`: how many small pictures to send on the way, at most.",
    )
    user: EndUser | None = Field(None, description="Who asked you; the log names them.")
    safety_identifier: EndUser | None = Field(None, description="The same, by its newer name.")
    seed: Seed | None = Field(
        None, description="Equal seeds give equal pictures; of several, each has its own from it."
    )
    negative_prompt: Prompt | None = None
    num_inference_steps: Steps | None = None
    guidance_scale: Guidance | None = None
    output_compression: None = Field(
        None, description="Not taken: the studio chooses how files are compressed."
    )
    complexity: None = Field(None, description="Not taken: models here do not plan their pictures.")
    frame_count: None = Field(None, description=_GIF)
    frame_duration_ms: None = Field(None, description=_GIF)
    svg: None = Field(None, description=_SVG)

    @field_validator("*", mode="before")
    @classmethod
    def _not_taken(cls, value: object, info: ValidationInfo) -> object:
        """Refuse a field that only null may be given for, with its reason."""
        field = cls.model_fields[info.field_name or ""]
        if field.annotation is type(None) and value is not None:
            raise ValueError(f"is n{(field.description or '').removeprefix('N')}")
        return value

    @property
    def count(self) -> int:
        """How many pictures are asked for."""
        return self.n or 1

    @property
    def end_user(self) -> str | None:
        """Who asked whoever asks."""
        return self.safety_identifier or self.user or None


class ImageCreate(ImageWish):
    """A picture from words."""

    moderation: Literal["auto"] | None = Field(
        None, description="What may be shown is the studio's to set, not a request's."
    )
    style: None = Field(None, description="Not taken: say the style in the prompt.")


class ImageEdit(ImageWish):
    """A form with a picture to start from; its file name is not read."""

    image: Annotated[
        str,
        WithJsonSchema({"type": "string", "format": "binary"}),
        Field(
            description="One PNG, JPEG or WebP, at most 20 MiB, 16 to 8192 pixels a side, 40 MP; "
            "`image[]` is understood too."
        ),
    ]
    input_fidelity: Literal["low", "high"] | None = Field(
        None,
        description="`low`, as if left out: as far from the picture as the model is used to. "
        "`high` stays closer.",
    )
    mask: None = Field(None, description=_WHOLE)
    markup: None = Field(None, description=_WHOLE)


class GatorImage(BaseModel):
    """What this studio knows of a picture, beside what OpenAI's form has."""

    content_id: str | None = Field(
        description="Under `/api/v1/content`, where it is kept; `null` where it is not."
    )
    sha256: str
    width: int
    height: int
    seed: int
    model: str = Field(description="The model that drew it.")
    provider: str
    kind: str
    device: str
    without_base_image: str | None = Field(
        description="Why it was not started from the persona's base image, if it should have been."
    )
    receipt: dict[str, Any] = Field(description="How it was made.")
    prompt_report: dict[str, Any] = Field(description="How its words were taken.")


class ImageDatum(BaseModel):
    """One picture."""

    b64_json: str | None = None
    url: str | None = None
    revised_prompt: str | None = Field(None, description="The words that the model was given.")
    gator: GatorImage


class InputTokens(BaseModel):
    """Tokens of a prompt, by what they are of."""

    text_tokens: int
    image_tokens: int


class Usage(BaseModel):
    """Tokens, as the cloud that drew has counted them."""

    input_tokens: int
    input_tokens_details: InputTokens
    output_tokens: int
    total_tokens: int


class ImagesAnswer(BaseModel):
    """Pictures, in the order of their seeds."""

    created: int = Field(description="Seconds of the epoch.")
    background: Literal["opaque"] = "opaque"
    data: list[ImageDatum]
    output_format: str
    quality: str
    size: str
    safety_identifier: str | None = None
    usage: Usage | None = Field(
        None, description="Only where a cloud drew and counted; models here count no tokens."
    )


class ModelObject(BaseModel):
    """A model, or a persona that is asked for like one."""

    id: str = Field(examples=["portrait"])
    object: Literal["model"] = "model"
    created: int = Field(description="Seconds of the epoch; 0 where nobody knows.")
    owned_by: str = Field(description="The provider of a model; `gator` for a persona.")


class ModelList(BaseModel):
    """All that can be asked for by name."""

    object: Literal["list"] = "list"
    data: list[ModelObject]


class OpenAIErrorDetail(BaseModel):
    """What was wrong."""

    message: str
    type: str = Field(examples=["invalid_request_error"])
    param: str | None = Field(description="The field that is to blame, if one is.")
    code: str | None = Field(
        description="The kind, in short; stable.", examples=["model_not_found"]
    )


class OpenAIError(BaseModel):
    """An error in OpenAI's form."""

    model_config = ConfigDict(extra="forbid")

    error: OpenAIErrorDetail
