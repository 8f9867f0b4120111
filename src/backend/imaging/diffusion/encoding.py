"""From pixels to a file; equal pixels give equal bytes, and no file carries metadata."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, features

from backend.errors import UnsupportedTask

PNG_COMPRESS_LEVEL = 1

_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "png": {"compress_level": PNG_COMPRESS_LEVEL},
    "jpeg": {"quality": 92, "subsampling": "4:4:4"},
    "webp": {"quality": 90, "method": 4},
    "avif": {"quality": 80, "speed": 8, "max_threads": 1},  # threads would change the bytes
}


def check_format(name: str) -> None:
    """Refuse a format that this installation of Pillow cannot write.

    Raises:
        UnsupportedTask: AVIF or WebP was left out of Pillow when it was built.
    """
    if name in ("avif", "webp") and not features.check(name):
        raise UnsupportedTask(
            f"this installation of Pillow writes no {name.upper()}; ask for png or jpeg.",
            {"format": name},
        )


def encode_picture(pixels: np.ndarray[Any, np.dtype[np.uint8]], name: str) -> bytes:
    """Encode a picture.

    Args:
        pixels: (height, width, 3), RGB.
        name: `png`, `jpeg`, `webp` or `avif`.
    """
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, name, **_OPTIONS[name])
    return buffer.getvalue()
