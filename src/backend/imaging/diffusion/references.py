"""Start a picture from another one: by an IP-Adapter where the model has one, else image to image.

Image to image uses the pipeline that diffusers links to the model's own. It is made of the same
parts, so it takes no memory of its own and sees the adapters that are switched on.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import diffusers
from PIL import Image, ImageOps

from backend.errors import InvalidRequest, UnsupportedTask
from backend.imaging.diffusion import ip_adapter
from backend.imaging.diffusion.residency import Resident
from backend.imaging.pictures.container import MAX_PIXELS
from backend.imaging.selection import strength_of
from backend.imaging.types import ImageRequest, ModelCard

_FORMATS = ("PNG", "JPEG", "WEBP")


@dataclass(frozen=True, slots=True)
class Start:
    """What a picture starts from.

    Attributes:
        pipeline: the one to call.
        arguments: what its call takes beside words, size and steps.
        receipt: what a receipt says of it.
    """

    pipeline: Any
    arguments: Mapping[str, Any] = field(default_factory=dict)
    receipt: Mapping[str, Any] = field(default_factory=dict)


def start_of(resident: Resident, request: ImageRequest, card: ModelCard) -> Start:
    """Choose the pipeline of a request, and make its reference ready.

    Raises:
        InvalidRequest: the reference cannot be decoded, or is too large.
        UnsupportedTask: the model's family cannot start from a picture.
        ModelLoadFailed: the model's IP-Adapter does not load.
    """
    if request.reference is None:
        ip_adapter.lay_aside(resident)
        return Start(resident.pipeline)
    strength = strength_of(request, card)
    width, height = request.width or card.width, request.height or card.height
    picture = decode(request.reference, width, height)
    about = {"sha256": hashlib.sha256(request.reference).hexdigest(), "strength": strength}
    if card.ip_adapter:
        about["way"] = "ip_adapter"
        about["ip_adapter_fingerprint"] = ip_adapter.put_on(resident, card, 1 - strength)
        return Start(resident.pipeline, {"ip_adapter_image": picture}, {"reference": about})
    about["way"] = "image_to_image"
    return Start(
        _image_to_image(resident, card),
        {"image": picture, "strength": strength},
        {"reference": about},
    )


def decode(data: bytes, width: int, height: int) -> Image.Image:
    """Decode a picture and bring it to a size, cut evenly at two sides where the shape differs.

    Args:
        data: a PNG, JPEG or WebP file.
        width: pixels a row of the result.
        height: rows of the result.

    Raises:
        InvalidRequest: it cannot be decoded, or has too many pixels.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise _faulty(
                    f"has {opened.width * opened.height / 1e6:.1f} megapixels; at most "
                    f"{MAX_PIXELS // 10**6} are taken"
                )
            upright = ImageOps.exif_transpose(opened)
            if upright.has_transparency_data:
                upright = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
            picture = upright.convert("RGB")
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as exc:
        raise _faulty(f"cannot be decoded: {exc}") from exc
    return ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)


def _image_to_image(resident: Resident, card: ModelCard) -> Any:
    if resident.image_to_image is None:
        try:
            pipeline = diffusers.AutoPipelineForImage2Image.from_pipe(resident.pipeline)
        except ValueError as exc:
            raise UnsupportedTask(
                f"model {card.name!r} cannot start from a reference: there is no image-to-image "
                f"pipeline for {type(resident.pipeline).__name__}.",
                {"model": card.name},
            ) from exc
        pipeline.set_progress_bar_config(disable=True)
        resident.image_to_image = pipeline
    return resident.image_to_image


def _faulty(message: str) -> InvalidRequest:
    return InvalidRequest(
        f"reference: {message}", {"errors": [{"field": "reference", "message": message}]}
    )
