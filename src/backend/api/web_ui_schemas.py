"""What scripts for AUTOMATIC1111's web UI send, and what they get.

Every field that those scripts send either does what it says, or has no say in these pictures, or is
refused where it would have one: a face that was to be restored and was not is worse than an error.
The web UI itself passes over what it does not know, which its users find out last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field, TypeAdapter, field_validator, model_validator

from backend.api.schemas import Guidance, ModelName, Prompt, RequestBody, Side, Steps
from backend.imaging.checks import PROMPT_LIMIT, SEED_LIMIT
from backend.models.persona import CleanText
from backend.services.interactive import MAX_PICTURES

CHECKPOINT = "sd_model_checkpoint"

_UNUSED = frozenset(
    {
        "comments",
        "denoising_strength",
        "do_not_save_grid",
        "do_not_save_samples",
        "eta",
        "firstphase_height",
        "firstphase_width",
        "force_task_id",
        "hr_checkpoint_name",
        "hr_negative_prompt",
        "hr_prompt",
        "hr_resize_x",
        "hr_resize_y",
        "hr_sampler_name",
        "hr_scale",
        "hr_scheduler",
        "hr_second_pass_steps",
        "hr_upscaler",
        "override_settings_restore_afterwards",
        "refiner_switch_at",
        "s_churn",
        "s_min_uncond",
        "s_noise",
        "s_tmax",
        "s_tmin",
        "save_images",
        "seed_resize_from_h",
        "seed_resize_from_w",
        "subseed",
    }
)
"""Fields without a say: how a second pass would go that is not made, what the web UI would save."""

_NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "alwayson_scripts": ({},),
    "disable_extra_networks": (False,),
    "enable_hr": (False,),
    "refiner_checkpoint": ("",),
    "restore_faces": (False,),
    "script_args": ([],),
    "script_name": ("",),
    "send_images": (True,),
    "styles": ([], [""]),
    "subseed_strength": (0,),
    "tiling": (False,),
}
"""Fields that would have a say, beside null, and the values at which they do not."""

_HARMLESS_SETTINGS = ("enable_pnginfo", "grid_", "return_", "samples_", "save_", "show_progress")
"""How settings begin that have no say in a picture."""


Words = Annotated[CleanText, Field(max_length=PROMPT_LIMIT)]
_model_name = TypeAdapter(ModelName)


class TextToImage(RequestBody):
    """Pictures from words; further fields are taken only where they have no say."""

    prompt: Prompt = Field(examples=["in a workshop, laughing"])
    negative_prompt: Words | None = None
    seed: int | None = Field(None, ge=-1, lt=SEED_LIMIT, description="-1 for one by chance.")
    steps: Steps | None = None
    cfg_scale: Guidance | None = None
    width: Side | None = None
    height: Side | None = None
    batch_size: int | None = Field(None, ge=1, le=MAX_PICTURES)
    n_iter: int | None = Field(
        None,
        ge=1,
        le=MAX_PICTURES,
        description=f"Times `batch_size` pictures; {MAX_PICTURES} at most in all.",
    )
    sampler_name: Words | None = Field(
        None, description="Used where it is one of ours, else the model's own is; `info` says."
    )
    sampler_index: Words | None = Field(None, description="The same, by its older name.")
    scheduler: Words | None = None
    override_settings: dict[str, Any] | None = Field(
        None,
        description=f"`{CHECKPOINT}` names a model, or a persona as `persona:<name>`.",
        examples=[{CHECKPOINT: "portrait"}],
    )

    @model_validator(mode="before")
    @classmethod
    def _without_unused(cls, values: object) -> object:
        """Drop what has no say, and refuse what would have."""
        if not isinstance(values, dict):
            return values
        for name, neutral in _NEUTRAL.items():
            given = values.get(name)
            if given is not None and given not in neutral:
                raise ValueError(f"{name} is not taken here, but for {neutral[0]!r}")
        return {k: v for k, v in values.items() if k not in _UNUSED and k not in _NEUTRAL}

    @field_validator("override_settings")
    @classmethod
    def _known_settings(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        given = value or {}
        for name in given:
            if name != CHECKPOINT and not name.startswith(_HARMLESS_SETTINGS):
                raise ValueError(f"{name[:80]!a} is not a setting that is taken here")
        model = given.get(CHECKPOINT) or None
        return {CHECKPOINT: _model_name.validate_python(model, strict=True)} if model else None

    @property
    def count(self) -> int:
        """How many pictures are asked for."""
        return (self.batch_size or 1) * (self.n_iter or 1)

    @property
    def checkpoint(self) -> str | None:
        """The model that is asked for, if one is."""
        return (self.override_settings or {}).get(CHECKPOINT)


class TextToImageAnswer(BaseModel):
    """Pictures as base64, what was asked for, and how they were made."""

    images: list[str]
    parameters: dict[str, Any] = Field(description="The request as it was understood.")
    info: str = Field(description="JSON as a text, as the web UI has it.")


class Checkpoint(BaseModel):
    """A model, or a persona that is asked for like one."""

    title: str = Field(description=f"What `{CHECKPOINT}` takes.", examples=["portrait"])
    model_name: str
    hash: str | None = None
    sha256: str | None = None
    filename: str
    config: str | None = None


class WebUiOptions(BaseModel):
    """The settings that scripts read."""

    sd_model_checkpoint: str = Field(description="The model that is used where none is named.")
    samples_format: str = "png"


class WebUiError(BaseModel):
    """An error in the web UI's form."""

    error: str
    detail: str
    body: str
    errors: str
