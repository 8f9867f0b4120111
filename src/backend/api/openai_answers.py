"""Finished pictures in OpenAI's form."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request

from backend.api.openai_schemas import GatorImage, ImageDatum, ImagesAnswer, ImageWish, Usage
from backend.bootstrap import Studio
from backend.services.interactive import MadePicture

_QUALITIES = {None: "medium", "auto": "medium", "standard": "medium", "hd": "high"}


def quality_of(wanted: ImageWish) -> str:
    """Return the quality of a picture in OpenAI's present words."""
    return _QUALITIES.get(wanted.quality) or str(wanted.quality)


async def images_answer(
    request: Request, studio: Studio, wanted: ImageWish, made: Sequence[MadePicture]
) -> ImagesAnswer:
    """Make the answer; where addresses are asked for, what is not kept is kept for an hour.

    Raises:
        StorageError: it cannot be.
    """
    first = made[0].image
    return ImagesAnswer(
        created=int(time.time()),
        data=[await _datum(request, studio, wanted, one) for one in made],
        output_format=first["format"],
        quality=quality_of(wanted),
        size=f"{first['width']}x{first['height']}",
        safety_identifier=wanted.end_user,
        usage=usage_of(made),
    )


def gator_image(one: MadePicture) -> GatorImage:
    """Say what this studio knows of a picture."""
    image = one.image
    return GatorImage(
        content_id=one.content.id if one.content else None,
        sha256=hashlib.sha256(image["image_data"]).hexdigest(),
        without_base_image=one.without_base or None,
        receipt=dict(image["receipt"]),
        prompt_report=dict(image["prompt_report"]),
        **{name: image[name] for name in _TOLD},
    )


def encoded(data: bytes) -> str:
    """Return a picture's bytes as base64."""
    return base64.b64encode(data).decode("ascii")


def revised_prompt(image: Mapping[str, Any]) -> str | None:
    """Return the words that the model was given, where it is known."""
    words = image["prompt_report"].get("prompt") or image["receipt"].get("prompt")
    return words if isinstance(words, str) else None


def usage_of(made: Sequence[MadePicture]) -> Usage | None:
    """Add up the tokens of pictures; `None` unless all were counted."""
    counted = [one.image["receipt"].get("usage") for one in made]
    if not all(counted):
        return None
    details = [one["input_tokens_details"] for one in counted]
    return Usage.model_validate(
        {
            **{name: sum(one[name] for one in counted) for name in _TOKENS},
            "input_tokens_details": {
                name: sum(one[name] for one in details) for name in ("text_tokens", "image_tokens")
            },
        }
    )


_TOLD = ("width", "height", "seed", "model", "provider", "kind", "device")
_TOKENS = ("input_tokens", "output_tokens", "total_tokens")


async def _datum(
    request: Request, studio: Studio, wanted: ImageWish, one: MadePicture
) -> ImageDatum:
    image = one.image
    beside = {"revised_prompt": revised_prompt(image), "gator": gator_image(one)}
    if wanted.response_format != "url":
        return ImageDatum(b64_json=encoded(image["image_data"]), **beside)
    if one.content is not None:
        url = request.url_for("get_content_image", content_id=one.content.id)
    else:
        name = await studio.passing.put(image["image_data"])
        url = request.url_for("get_passing_picture", name=name)
    return ImageDatum(url=str(url), **beside)
