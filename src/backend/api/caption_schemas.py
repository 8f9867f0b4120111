"""What requests for captions bring, and what answers about them hold."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from backend.api.schemas import Guidance, ModelName, Prompt, RequestBody, Seed, Side, Steps
from backend.captions.brief import Rating, TimeOfDay
from backend.models.persona import CleanText
from backend.services.content_generation_service import GenerationRequest

MAX_POSTS = 100
"""How many posts one request may ask for: prompts times `count`."""

LONGEST_CAPTION = 5_000
MAX_FACTS = 20

PlatformName = Annotated[
    str, Field(pattern=r"^[a-z]{1,20}(:[0-9]{1,7})?$", examples=["x", "mastodon:5000"])
]
Fact = Annotated[CleanText, Field(min_length=1, max_length=300)]
Locale = Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*$", examples=["de"])]
PersonaKey = Annotated[str, Field(examples=["0b8f4c8e-6a1d-4a39-9c55-0a7d7c1f6a11"])]

_OF_RATING = "Whom it is fit for: `sfw`, `moderate` or `nsfw`."
_OF_FACTS = "Sentences that a caption may repeat; nothing else in it is claimed."
_OF_TIME = "`morning`, `afternoon`, `evening` or `night`."
_OF_LOCALE = "The language, where it is not the persona's own; one without a pack reads as `en`."


class CaptionTerms(RequestBody):
    """What a caption is asked for beside persona, prompt and seed; all may be left out."""

    platforms: Literal["all"] | Annotated[list[PlatformName], Field(max_length=20)] = Field(
        default_factory=list,
        description="One idea in the form of each of these, or of `all`; a general form if left "
        "out. A Mastodon server with a limit of its own is `mastodon:5000`.",
        examples=["all", ["x", "instagram"]],
    )
    content_rating: Rating = Field("sfw", description=_OF_RATING)
    facts: Annotated[list[Fact], Field(max_length=MAX_FACTS)] = Field(
        default_factory=list,
        description=_OF_FACTS,
        examples=[["The market opens on 3 May."]],
    )
    time_of_day: TimeOfDay | None = Field(None, description=_OF_TIME)
    locale: Locale | None = Field(None, description=_OF_LOCALE)

    def request(self, **more: Any) -> GenerationRequest:
        """Return these terms as the services take them."""
        own = self.model_dump(include=set(CaptionTerms.model_fields))
        named = ("all",) if self.platforms == "all" else tuple(self.platforms)
        return GenerationRequest(**{**own, "platforms": named, **more})

    def checked_terms(self) -> dict[str, Any]:
        """Return these terms as a batch keeps them.

        Raises:
            InvalidRequest: a platform is not known.
        """
        request = self.request()
        request.named_platforms()
        return request.terms()


class CaptionCreate(CaptionTerms):
    """Captions to be written in a persona's voice; give `prompt` or `prompts`."""

    persona_id: PersonaKey
    prompt: Prompt | None = Field(None, examples=["a morning in the studio"])
    prompts: Annotated[list[Prompt], Field(min_length=1, max_length=MAX_POSTS)] | None = Field(
        None, examples=[["a morning in the studio", "rain on the roof"]]
    )
    seed: Seed | None = Field(
        None,
        description="Equal seeds give equal captions, as long as the persona says nothing between; "
        "the n-th on a prompt has `seed + n`.",
    )
    count: int = Field(1, ge=1, le=20, description="How many on each prompt.")
    remember: bool = Field(
        False,
        description="Whether the persona has said them from now on, and so never says them again. "
        "Otherwise they are a preview.",
    )

    @property
    def topics(self) -> list[str]:
        """The prompts, of which there is at least one."""
        return self.prompts or [str(self.prompt)]

    @model_validator(mode="after")
    def _asks_for_some(self) -> Self:
        if (self.prompt is None) == (self.prompts is None):
            raise ValueError("give prompt or prompts")
        if len(self.topics) * self.count > MAX_POSTS:
            raise ValueError(f"asks for more than {MAX_POSTS} posts, prompts times count")
        return self


class CaptionFinding(BaseModel):
    """What the gate said about a text."""

    model_config = ConfigDict(from_attributes=True)

    code: str = Field(examples=["claim"])
    detail: str
    severity: Literal["block", "flag"] = Field(
        "block", description="Whether it kept the text from going out, or only remarks on it."
    )
    rung: str | None = Field(
        None, description="Which language model's text it was; `null` for the templates'."
    )


class CaptionResponse(BaseModel):
    """A caption and how it came to be."""

    model_config = ConfigDict(from_attributes=True)

    text: str
    origin: Literal["llm", "template", "person"] = Field(description="Who wrote it.")
    platform: str = Field(description="Whose form it has; `any` for the general one.")
    locale: str = Field(examples=["en"])
    model: str | None = Field(description="The language model that wrote it.")
    rung: str | None = Field(description="Which of the configured endpoints that was.")
    seed: int
    style: str = Field(examples=["creative"])
    theme: str = Field(description="Which of the persona's themes it names.")
    scores: dict[str, int] = Field(description="How much the persona's words weigh to each style.")
    plan: str = Field(description="The order of its parts; empty where a model wrote it.")
    fragments: list[str] = Field(description="Its parts; empty where a model wrote it.")
    degraded_reason: str | None = Field(
        description="Why a configured language model did not write it."
    )
    findings: list[CaptionFinding] = Field(
        description="Of models' texts that were refused, and remarks on this one."
    )


class PostedCaption(CaptionResponse):
    """A caption among others."""

    prompt: str
    post: int = Field(description="Which post it is a form of, from 0.")


class CaptionsResponse(BaseModel):
    """Captions, post by post, each in the form of every platform asked for."""

    captions: list[PostedCaption]
    remembered: bool = Field(description="Whether the persona has said them from now on.")


class ExplainQuery(BaseModel):
    """A caption to be explained."""

    model_config = ConfigDict(extra="forbid")

    persona_id: PersonaKey = Field(description="Who speaks.")
    prompt: Prompt = Field(description="What about.", examples=["a morning in the studio"])
    seed: Seed | None = Field(None, description="Equal seeds give equal captions.")
    platform: PlatformName | None = Field(None, description="Whose limits apply.")
    content_rating: Rating = Field("sfw", description=_OF_RATING)
    facts: Annotated[list[Fact], Field(max_length=MAX_FACTS)] = Field([], description=_OF_FACTS)
    time_of_day: TimeOfDay | None = Field(None, description=_OF_TIME)
    locale: Locale | None = Field(None, description=_OF_LOCALE)

    def request(self) -> GenerationRequest:
        """Return this as the services take it."""
        return GenerationRequest.model_validate(self.model_dump())


class FragmentResponse(BaseModel):
    """One part of a caption, and how it came to be drawn."""

    model_config = ConfigDict(from_attributes=True)

    slot: str
    id: str
    weight: int = Field(description="Against the others; twice its own where the prompt matches.")
    matches_prompt: bool
    chance: float = Field(description="Of being drawn from what memory left.")
    choices: int = Field(description="How many could stand here.")
    left: int = Field(description="How many of them memory left: the least recently used.")
    last_used: int | None = Field(description="How many posts ago; `null` for never, as recalled.")


class CandidateResponse(BaseModel):
    """A draft that was compared with the others."""

    model_config = ConfigDict(from_attributes=True)

    text: str
    plan: str
    fragments: list[str]
    chosen: bool
    said_before: bool
    opens_alike: bool = Field(description="Opens like one of the recent posts.")
    overlap: float = Field(description="How much it repeats the likest recent post and itself.")
    why: str = Field(description="Why it won or lost.")


class RefusedResponse(BaseModel):
    """A text that the gate refused, so that another was drawn."""

    model_config = ConfigDict(from_attributes=True)

    text: str
    findings: list[CaptionFinding]


class ExplanationResponse(BaseModel):
    """How the template engine comes to a caption."""

    model_config = ConfigDict(from_attributes=True)

    caption: CaptionResponse
    modifiers: list[str] = Field(examples=[["warm"]])
    evidence: Any = Field(description="Which of the persona's words weigh towards which style.")
    topic: dict[str, str] = Field(description="What the prompt is about, and its grammar.")
    fragments: list[FragmentResponse]
    posts_recalled: int = Field(description="How many of the persona's posts it was compared with.")
    recent_openings: list[str] = Field(description="How those of late open, newest first.")
    candidates: list[CandidateResponse]
    refused: list[RefusedResponse]


class CaptionText(RequestBody):
    """A caption in a person's own words."""

    text: Annotated[CleanText, Field(min_length=1, max_length=LONGEST_CAPTION)] = Field(
        examples=["First coat of paint is on. The wall says hello."]
    )


class ContentCreate(CaptionTerms):
    """A picture and its caption, made together."""

    prompt: Prompt = Field(examples=["in a sunlit workshop, smiling"])
    seed: Seed | None = Field(None, description="The picture's and the caption's; else drawn.")
    model: ModelName | None = Field(None, description="An image model's name.")
    width: Side | None = Field(None, description="In pixels; the model's own if left out.")
    height: Side | None = Field(None, description="In pixels; the model's own if left out.")
    num_inference_steps: Steps | None = Field(None, description="The model's own if left out.")
    guidance_scale: Guidance | None = Field(None, description="The model's own if left out.")
    negative_prompt: Prompt | None = Field(None, description="What it must not show.")
    scheduler: ModelName | None = Field(None, description="Such as `ddim`.", examples=["ddim"])
    format: Literal["png", "jpeg", "webp", "avif"] | None = Field(
        None, description="How the picture is encoded; `png` if left out."
    )

    def image_options(self) -> dict[str, Any]:
        """Return what is the picture's alone."""
        mine = {*CaptionTerms.model_fields, "prompt", "seed"}
        return self.model_dump(exclude=mine, exclude_none=True)
