"""The basic form of AUTOMATIC1111's web API, which scripts of many years speak.

A sampler of ours is used where it is the same one, and the model takes it; else the model's own is,
and `info` says which it was. Of several pictures each has the seed of the one before plus one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request

from backend.api.dependencies import OpenStudio
from backend.api.hangup import while_connected
from backend.api.openai_answers import encoded, gator_image
from backend.api.spoken_errors import DRAWING, web_ui_errors
from backend.api.web_ui_schemas import (
    Checkpoint,
    TextToImage,
    TextToImageAnswer,
    WebUiOptions,
)
from backend.bootstrap import Studio
from backend.errors import ModelNotAvailable
from backend.imaging.checks import SEED_LIMIT
from backend.imaging.types import ImageRequest, ModelCard
from backend.services.interactive import MadePicture, PictureOrder, Plan, fresh_seed
from backend.services.subjects import Listed

router = APIRouter(prefix="/sdapi/v1", tags=["web UI"])

SAMPLERS: Mapping[str, str] = {
    "ddim": "ddim",
    "dpm++ 2m": "dpm++_2m",
    "euler": "euler",
    "euler a": "euler_a",
    "heun": "heun",
    "lms": "lms",
    "unipc": "unipc",
}
"""The web UI's samplers, in lower case, that are ours by another name."""

_ANY_SAMPLER = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
"""Families whose models take every sampler; others, such as Flux, were trained for one."""

USUAL_SEEDS = 2**32
"""Seeds by chance stay below it, since scripts keep them in 32 bits."""

_OWN_SAMPLER = "Automatic"


@router.post(
    "/txt2img",
    summary="Draw pictures from words, as the web UI does",
    responses=web_ui_errors(*DRAWING),
)
async def draw_for_web_ui(
    wanted: TextToImage, studio: OpenStudio, request: Request
) -> TextToImageAnswer:
    """Draw pictures of a model or a persona; who hangs up stops it."""
    plan = await studio.interactive.plan(_order(wanted))
    if sampler := _sampler(wanted, plan.card):
        options = {**plan.order.options, "scheduler": sampler}
        plan = await studio.interactive.plan(replace(plan.order, options=options))
    made = await while_connected(request, studio.interactive.make(plan))
    return TextToImageAnswer(
        images=[encoded(one.image["image_data"]) for one in made],
        parameters=wanted.model_dump(mode="json"),
        info=json.dumps(_info(wanted, plan, made), default=str),
    )


@router.get(
    "/sd-models",
    summary="List models and personas, as the web UI does",
    responses=web_ui_errors(),
)
async def list_web_ui_models(studio: OpenStudio) -> list[Checkpoint]:
    """Return the models that are usable now, and the personas whose look is approved."""
    return [_checkpoint(one) for one in await studio.subjects.all()]


@router.get(
    "/options",
    summary="Read settings, as the web UI has them",
    responses=web_ui_errors(),
)
async def get_web_ui_options(studio: OpenStudio) -> WebUiOptions:
    """Return the few settings that scripts read before they draw."""
    return WebUiOptions(sd_model_checkpoint=_default_model(studio))


def _order(wanted: TextToImage) -> PictureOrder:
    chance = wanted.seed is None or wanted.seed < 0
    seed = fresh_seed(USUAL_SEEDS) if chance else int(wanted.seed or 0)
    options = {
        "negative_prompt": wanted.negative_prompt or None,
        "num_inference_steps": wanted.steps,
        "guidance_scale": wanted.cfg_scale,
        "width": wanted.width,
        "height": wanted.height,
    }
    return PictureOrder(
        prompt=wanted.prompt,
        seeds=tuple((seed + i) % SEED_LIMIT for i in range(wanted.count)),
        model=wanted.checkpoint,
        options={name: value for name, value in options.items() if value is not None},
    )


def _sampler(wanted: TextToImage, card: ModelCard) -> str | None:
    """Return our name of the sampler that is asked for, where the model takes it."""
    if card.family not in _ANY_SAMPLER:
        return None
    if (wanted.scheduler or _OWN_SAMPLER).lower() != _OWN_SAMPLER.lower():
        return None
    return SAMPLERS.get((wanted.sampler_name or wanted.sampler_index or "").lower())


def _info(wanted: TextToImage, plan: Plan, made: Sequence[MadePicture]) -> dict[str, Any]:
    """Say how the pictures were made, in the web UI's words and then in ours."""
    first = made[0].image
    seeds = [one.image["seed"] for one in made]
    negative = str(plan.options.get("negative_prompt") or "")
    used = plan.options.get("scheduler")
    asked = wanted.sampler_name or wanted.sampler_index
    steps = plan.options.get("num_inference_steps") or plan.card.num_inference_steps
    guidance = plan.options.get("guidance_scale")
    told = {
        "prompt": wanted.prompt,
        "negative_prompt": negative,
        "seed": seeds[0],
        "subseed": -1,
        "subseed_strength": 0,
        "width": first["width"],
        "height": first["height"],
        "sampler_name": asked if used else _OWN_SAMPLER,
        "cfg_scale": plan.card.guidance_scale if guidance is None else guidance,
        "steps": steps,
        "batch_size": wanted.batch_size or 1,
        "restore_faces": False,
        "sd_model_name": first["model"],
        "sd_model_hash": None,
    }
    return {
        **told,
        "all_prompts": [wanted.prompt] * len(made),
        "all_negative_prompts": [negative] * len(made),
        "all_seeds": seeds,
        "all_subseeds": [-1] * len(made),
        "index_of_first_image": 0,
        "infotexts": [_infotext(told, seed) for seed in seeds],
        "gator": [gator_image(one).model_dump(mode="json") for one in made],
    }


def _infotext(told: Mapping[str, Any], seed: int) -> str:
    lines = [str(told["prompt"])]
    if told["negative_prompt"]:
        lines.append(f"Negative prompt: {told['negative_prompt']}")
    lines.append(
        f"Steps: {told['steps']}, Sampler: {told['sampler_name']}, "
        f"CFG scale: {told['cfg_scale']}, Seed: {seed}, "
        f"Size: {told['width']}x{told['height']}, Model: {told['sd_model_name']}"
    )
    return "\n".join(lines)


def _checkpoint(one: Listed) -> Checkpoint:
    return Checkpoint(title=one.name, model_name=one.name, filename=one.name)


def _default_model(studio: Studio) -> str:
    try:
        return studio.models.choose(ImageRequest("only the model", 0)).name
    except ModelNotAvailable:
        return ""
