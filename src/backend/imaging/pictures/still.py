"""A picture of our own as a PNG of a size that can be passed around."""

from __future__ import annotations

import io

from PIL import Image

MAX_STILL_SIDE = 2_048
_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF")


def still_png(data: bytes) -> bytes:
    """Return a picture as PNG, of at most 2048 pixels a side; a PNG within that as it is.

    Args:
        data: a file of our own making; uploads go through `intake` first.
    """
    with Image.open(io.BytesIO(data), formats=_FORMATS) as opened:
        largest = max(opened.size)
        if opened.format == "PNG" and largest <= MAX_STILL_SIDE:
            return data
        opened.draft("RGB", (MAX_STILL_SIDE, MAX_STILL_SIDE))
        picture: Image.Image = opened
        if picture.mode not in ("L", "RGB", "RGBA"):
            picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
        if largest > MAX_STILL_SIDE:
            picture.thumbnail((MAX_STILL_SIDE, MAX_STILL_SIDE), Image.Resampling.LANCZOS)
        picture.info.clear()
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
    return buffer.getvalue()
