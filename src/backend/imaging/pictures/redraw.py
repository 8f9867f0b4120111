"""Decode a bare picture and encode it anew: upright, sRGB, eight bits, no metadata.

What comes out depends on the picture alone:

- up to 9 megapixels, lossless or transparent: PNG, every pixel and its transparency kept;
- everything else: JPEG, quality 95, full colour resolution; transparency is laid on white.

PNG is not used above that, because writing 40 megapixels takes seconds and up to 120 MB, and not
for what was a JPEG, because it would be six times as large and no better.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

from PIL import Image, ImageCms

from backend.imaging.pictures.container import MIMES, Container, Format, refusal, refuse

SMALL_PIXELS = 9_000_000
"""More than 3840 x 2160 or 3000 x 3000; what all image models make."""

_JPEG_QUALITY = 95
_UNDECODABLE = (
    OSError,
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    EOFError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    ImageCms.PyCMSError,
)
"""What Pillow's decoders raise on bytes that are not what their header says."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SPACES = {"L": "GRAY", "RGB": "RGB", "RGBA": "RGB", "CMYK": "CMYK"}


def redraw(container: Container) -> tuple[bytes, str, int, int]:
    """Return the new file, its MIME type, its width and its height.

    Raises:
        InvalidRequest: the pixels cannot be decoded.
    """
    try:
        with Image.open(io.BytesIO(container.bare), formats=[container.format]) as opened:
            if opened.size != (container.width, container.height):
                refuse("is damaged: its decoder reads another header")
            opened.load()
            picture = _srgb(_eight_bits(opened, container.bit_depth), container.profile)
        if container.orientation in _TURNS:
            picture = picture.transpose(_TURNS[container.orientation])
        return _encode(picture, lossless=container.lossless)
    except _UNDECODABLE as exc:
        raise refusal(f"is a {container.format} that cannot be decoded: {_reason(exc)}") from exc


def _reason(exc: BaseException) -> str:
    return "too little memory" if isinstance(exc, MemoryError) else str(exc) or type(exc).__name__


def _eight_bits(opened: Image.Image, bit_depth: int) -> Image.Image:
    """Return L, RGB, RGBA or CMYK of eight bits a sample."""
    transparent = opened.info.get("transparency")
    picture = opened
    if opened.mode == "I;16":
        picture = Image.frombytes("L", opened.size, opened.tobytes(), "raw", "L;16")
    if opened.mode == "1":
        return picture.convert("L" if transparent is None else "RGBA")
    if opened.mode == "P":
        return picture.convert("RGB" if transparent is None else "RGBA")
    if opened.mode == "LA":
        return picture.convert("RGBA")
    if transparent is not None:
        picture.info["transparency"] = _as_eight_bits(transparent, bit_depth)
        return picture.convert("RGBA")
    return picture


def _as_eight_bits(transparent: Any, bit_depth: int) -> int | tuple[int, ...]:
    """Scale the transparent colour as the decoder scaled the samples."""
    if isinstance(transparent, tuple):
        return tuple(_as_eight_bits(sample, bit_depth) for sample in transparent)  # type: ignore[misc]
    return min(int(transparent) * 255 // ((1 << bit_depth) - 1), 255)


def _srgb(picture: Image.Image, profile: bytes) -> Image.Image:
    """Return the picture in sRGB, RGB or RGBA; a profile that does not fit it is ignored."""
    target = "RGBA" if picture.mode == "RGBA" else "RGB"
    transform = _transform(picture.mode, target, profile) if profile else None
    if transform is None:
        return picture if picture.mode == target else picture.convert(target)
    if picture.mode == target:
        ImageCms.applyTransform(picture, transform, inPlace=True)
        return picture
    turned = ImageCms.applyTransform(picture, transform)
    return picture.convert(target) if turned is None else turned


def _transform(mode: str, target: str, profile: bytes) -> ImageCms.ImageCmsTransform | None:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != _SPACES[mode]:
            return None
        if (source.profile.profile_description or "").startswith("sRGB"):
            return None
        return ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            target,
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except _UNDECODABLE:
        return None


def _encode(picture: Image.Image, *, lossless: bool) -> tuple[bytes, str, int, int]:
    small = picture.width * picture.height <= SMALL_PIXELS
    transparent = picture.mode == "RGBA" and picture.getchannel("A").getextrema() != (255, 255)
    buffer = io.BytesIO()
    written: Format = "PNG" if small and (lossless or transparent) else "JPEG"
    if picture.mode == "RGBA" and not (transparent and written == "PNG"):
        picture = _on_white(picture) if transparent else picture.convert("RGB")
    picture.info.clear()
    if written == "PNG":
        picture.save(buffer, "PNG", compress_level=1)
    else:
        picture.save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return buffer.getvalue(), MIMES[written], picture.width, picture.height


def _on_white(picture: Image.Image) -> Image.Image:
    white = Image.new("RGB", picture.size, "white")
    white.paste(picture, mask=picture)
    return white
