"""Thumbnails: WebP, two widths, never larger than the picture, the same bytes every time."""

from __future__ import annotations

import io

from PIL import Image

WIDTHS = (256, 768)
MIME = "image/webp"
_FORMATS = ("PNG", "JPEG", "WEBP")
_QUALITY = 80


def thumbnail(data: bytes, width: int) -> bytes:
    """Return a picture as WebP, as wide as asked or as it is, whichever is less.

    Args:
        data: a PNG, JPEG or WebP file of our own making; uploads go through `intake` first.
        width: pixels a row.
    """
    with Image.open(io.BytesIO(data), formats=_FORMATS) as opened:
        height = max(round(opened.height * width / opened.width), 1)
        if opened.width > width:
            opened.draft("RGB", (width * 2, height * 2))
        picture: Image.Image = opened
        if picture.mode not in ("RGB", "RGBA"):
            picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
        if picture.width > width:
            size = (width, height)
            picture = picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
        picture.info.clear()
        buffer = io.BytesIO()
        picture.save(buffer, "WEBP", quality=_QUALITY, method=4)
    return buffer.getvalue()


def recoded(data: bytes, name: str) -> bytes:
    """Return a small picture of our own making in another format.

    Args:
        data: a WebP file.
        name: `png`, `jpeg` or `webp`.
    """
    if name == "webp":
        return data
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(data), formats=("WEBP",)) as picture:
        picture.convert("RGB").save(buffer, name)
    return buffer.getvalue()
