"""What requests for batches bring, and what answers about them hold."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from backend.api.caption_schemas import CaptionTerms
from backend.api.schemas import (
    AnyText,
    Guidance,
    ModelName,
    Prompt,
    RequestBody,
    Seed,
    Side,
    Steps,
)
from backend.imaging.checks import SIDE_LIMIT
from backend.models.batch import BatchState, ItemState
from backend.services.batch_service import MAX_ITEMS
from backend.services.prompt_sets import TEXT_LIMIT

MAX_WHOLE = 1_000
"""A batch of more items is read without them; they come by the page."""

MAX_SIZES = 16
SIDE_LEAST = 16


def _sides_in_bounds(size: str) -> str:
    if not all(SIDE_LEAST <= int(side) <= SIDE_LIMIT for side in size.split("x")):
        raise ValueError(f"each side must be {SIDE_LEAST} to {SIDE_LIMIT} pixels")
    return size


Size = Annotated[
    str,
    Field(pattern=r"^\d{2,4}x\d{2,4}$", examples=["512x768"]),
    AfterValidator(_sides_in_bounds),
]


class BatchOptions(RequestBody):
    """What holds for all items of a batch."""

    persona_id: str | None = Field(
        None,
        description="Whose pictures; its base image must be approved. Bare prompts if left out.",
        examples=["0b8f4c8e-6a1d-4a39-9c55-0a7d7c1f6a11"],
    )
    seed: Seed | None = Field(
        None, description="The batch's; each item's own is hashed from it. Drawn if left out."
    )
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=MAX_ITEMS)] | None = Field(
        None, description="Draw every prompt with each of these instead."
    )
    sizes: Annotated[list[Size], Field(min_length=1, max_length=MAX_SIZES)] | None = Field(
        None, description=f"Draw every prompt in each of these, at most {MAX_SIZES}."
    )
    captions: bool = Field(True, description="Whether each picture gets a caption.")
    priority: int = Field(0, ge=0, le=9, description="Higher goes strictly first.")
    weight: int = Field(
        1, ge=1, le=100, description="How often its turn comes, against your other batches."
    )
    allow_cloud: bool = Field(
        False,
        description="Whether prompts may be sent to the configured cloud, for money, where no "
        "device of this machine is left. Otherwise the batch pauses then.",
    )
    cloud_cap_usd: Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)] | None = Field(
        None, description="The most that the cloud may cost for this batch."
    )
    model: ModelName | None = Field(None, description="An image model's name.")
    width: Side | None = Field(None, description="In pixels; the model's own if left out.")
    height: Side | None = Field(None, description="In pixels; the model's own if left out.")
    num_inference_steps: Steps | None = Field(None, description="The model's own if left out.")
    guidance_scale: Guidance | None = Field(None, description="The model's own if left out.")
    negative_prompt: Prompt | None = Field(None, description="What pictures must not show.")
    scheduler: ModelName | None = Field(
        None, description="Such as `ddim`, `euler`, `unipc`.", examples=["ddim"]
    )
    format: Literal["png", "jpeg", "webp", "avif"] | None = Field(
        None, description="How pictures are encoded; `png` if left out."
    )

    def sides(self) -> list[tuple[int, int]] | None:
        """Return `sizes` as widths and heights in pixels."""
        if self.sizes is None:
            return None
        pairs = (size.split("x") for size in self.sizes)
        return [(int(width), int(height)) for width, height in pairs]


class BatchCreate(BatchOptions):
    """A batch of pictures: prompts × seeds × sizes; give `prompts` or a `template`."""

    prompts: Annotated[list[AnyText], Field(min_length=1, max_length=MAX_ITEMS)] | None = Field(
        None,
        description="One picture each, taken as they are. A prompt that cannot be drawn from "
        "becomes a failed item.",
        examples=[["in a sunlit workshop", "at a street market, smiling"]],
    )
    template: Annotated[str, Field(min_length=1, max_length=TEXT_LIMIT)] | None = Field(
        None,
        description="Prompts in dynamicprompts' grammar: `{a|b|c}`, `{2$$a|b|c}`, `__wildcard__`.",
        examples=["in a {red|blue} jacket, __places__"],
    )
    sample: Annotated[int, Field(ge=1, le=MAX_ITEMS)] | None = Field(
        None,
        description="How many prompts are drawn from the template by chance, by the batch's seed; "
        "all there are if left out.",
    )
    caption: CaptionTerms | None = Field(
        None, description="What the captions are asked for: platforms, facts, language, …"
    )


class BatchQuery(BatchOptions):
    """The options of a batch whose prompts come as `application/x-ndjson`."""

    model_config = ConfigDict(strict=False)


class BatchSummary(BaseModel):
    """A batch without its items."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    persona_id: str | None
    base_version: int | None
    created_by: str = Field(description="Whose batch it is.")
    seed: int
    options: dict[str, Any]
    captions: bool
    caption_terms: dict[str, Any] | None = Field(description="What its captions are asked for.")
    priority: int
    weight: int
    allow_cloud: bool
    cloud_cap_usd: float | None
    state: BatchState
    state_reason: str | None = Field(description="Why it is paused or was cancelled.")
    counts: dict[ItemState, int] = Field(description="How many items stand where.")
    total: int = Field(description="How many items there are.")
    cost_usd: float = Field(
        description="What clouds cost for it so far, with what is set aside for those being made."
    )
    created_at: datetime
    finished_at: datetime | None


class BatchItemResponse(BaseModel):
    """One item of a batch."""

    model_config = ConfigDict(from_attributes=True)

    position: int
    prompt: str
    seed: int
    options: dict[str, Any] | None = Field(description="What differs from the batch's, as a size.")
    state: ItemState
    attempts: int
    device: str | None = Field(description="Which device drew it.", examples=["cuda:0"])
    error: dict[str, Any] | None
    content_id: str | None
    started_at: datetime | None
    finished_at: datetime | None


class BatchProgress(BatchSummary):
    """A batch, and how far it is."""

    rate_per_s: float | None = Field(description="Items a second in the last while, if any.")
    seconds_left: float | None = Field(description="At that rate; `null` where it is not known.")
    items_url: str = Field(description="Where its items come by the page.")


class BatchResponse(BatchProgress):
    """A batch, how far it is, and its items where they are few."""

    items: list[BatchItemResponse] | None = Field(
        description=f"All of them in order, up to {MAX_WHOLE:,}; `null` where there are more: they "
        "come by the page from `items_url`."
    )


class ItemPage(BaseModel):
    """Some items of a batch, in order."""

    items: list[BatchItemResponse]
    next_after: int | None = Field(
        description="What `after` is for the page that follows; `null` on the last one."
    )


class AttemptResponse(BaseModel):
    """One attempt at an item that has ended."""

    model_config = ConfigDict(from_attributes=True)

    n: int = Field(description="1 for the first.")
    device: str | None = Field(examples=["cuda:0"])
    started_at: datetime | None
    ended_at: datetime
    error: dict[str, Any] | None = Field(description="`null` where it made the picture.")


class PromptsPreview(RequestBody):
    """A template to be looked at before it is made a batch of."""

    template: Annotated[str, Field(min_length=1, max_length=TEXT_LIMIT)] = Field(
        examples=["in a {red|blue} jacket, __places__"]
    )
    sample: Annotated[int, Field(ge=1, le=MAX_ITEMS)] | None = Field(
        None, description="As for a batch: so many by chance, else all in order."
    )
    seed: Seed = Field(0, description="Equal seeds give equal samples.")
    limit: int = Field(20, ge=1, le=200, description="How many are shown.")


class PromptsPreviewed(BaseModel):
    """What a template makes."""

    count: int = Field(description="How many combinations there are, exactly.")
    total: int = Field(description="How many prompts a batch would have: `sample`, or `count`.")
    prompts: list[str] = Field(description="The first of them.")
