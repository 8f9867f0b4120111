"""Draw a bare picture anew: upright, sRGB, eight bits, no metadata.

What comes out depends on the picture alone:

- up to 9 megapixels, lossless or transparent: PNG, every pixel and its transparency kept;
- everything else: JPEG, quality 95, full colour resolution; transparency is laid on white.

PNG is not used above that, because writing 40 megapixels takes seconds and up to 120 MB, and not
for what was a JPEG, because it would be six times as large and no better. What is larger is drawn
in strips; nothing but the decoded picture is held as a whole.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from PIL import Image, ImageCms

from backend.imaging.pictures.container import (
    MIMES,
    SMALL_PIXELS,
    Container,
    Format,
    refusal,
)
from backend.imaging.pictures.pieces import STRIP_ROWS, strips, upright_size
from backend.imaging.pictures.stitched import jpeg_of

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

_SPACES = {"L": "GRAY", "RGB": "RGB", "RGBA": "RGB", "CMYK": "CMYK"}


Write = Callable[[bytes], object]


class Redrawn(NamedTuple):
    """What a new file is."""

    mime: str
    width: int
    height: int


def redraw(container: Container, write: Write) -> Redrawn:
    """Write the new file.

    Args:
        container: the bare picture.
        write: takes one part of the file after the other; worthless if this fails.

    Raises:
        InvalidRequest: the pixels cannot be decoded.
    """
    width, height = upright_size(container)
    small = width * height <= SMALL_PIXELS
    try:
        drawn = _drawn(container, height if small else STRIP_ROWS)
        if small:
            written = _write_small(next(drawn), write, lossless=container.lossless)
        else:
            written = _write_jpeg(drawn, width, height, write)
    except _UNDECODABLE as exc:
        raise refusal(f"is a {container.format} that cannot be decoded: {_reason(exc)}") from exc
    return Redrawn(MIMES[written], width, height)


def _reason(exc: BaseException) -> str:
    return "too little memory" if isinstance(exc, MemoryError) else str(exc) or type(exc).__name__


def _drawn(container: Container, rows: int) -> Iterator[Image.Image]:
    """Yield a picture in upright strips of sRGB and eight bits, without metadata.

    They are RGB, RGBA, or YCbCr, which a JPEG holds anyway.
    """
    colours = _Colours(container.profile)
    for strip in strips(container, rows):
        drawn = colours.srgb(_eight_bits(strip, container.bit_depth))
        drawn.info = {}
        yield drawn


def _eight_bits(strip: Image.Image, bit_depth: int) -> Image.Image:
    """Return L, RGB, RGBA, CMYK or YCbCr of eight bits a sample."""
    transparent = strip.info.get("transparency")
    picture = strip
    if strip.mode == "I;16":
        picture = Image.frombytes("L", strip.size, strip.tobytes(), "raw", "L;16")
    if strip.mode == "1":
        return picture.convert("L" if transparent is None else "RGBA")
    if strip.mode == "P":
        return picture.convert("RGB" if transparent is None else "RGBA")
    if strip.mode == "LA":
        return picture.convert("RGBA")
    if strip.mode == "RGBX":
        return picture.convert("RGB")
    if transparent is not None:
        picture.info["transparency"] = _as_eight_bits(transparent, bit_depth)
        return picture.convert("RGBA")
    return picture


def _as_eight_bits(transparent: Any, bit_depth: int) -> int | tuple[int, ...]:
    """Scale the transparent colour as the decoder scaled the samples."""
    if isinstance(transparent, tuple):
        return tuple(_as_eight_bits(sample, bit_depth) for sample in transparent)  # type: ignore[misc]
    return min(int(transparent) * 255 // ((1 << bit_depth) - 1), 255)


class _Colours:
    """Turns colours into sRGB by one profile; one that does not fit is ignored."""

    def __init__(self, profile: bytes) -> None:
        self._profile = profile
        self._transforms: dict[str, ImageCms.ImageCmsTransform | None] = {}

    def srgb(self, picture: Image.Image) -> Image.Image:
        """Return a picture in sRGB; the one that is given may be changed."""
        if picture.mode == "YCbCr":
            if not self._profile:
                return picture
            picture = picture.convert("RGB")
        mode, target = picture.mode, "RGBA" if picture.mode == "RGBA" else "RGB"
        if mode not in self._transforms:
            self._transforms[mode] = _transform(mode, target, self._profile)
        transform = self._transforms[mode]
        if transform is None:
            return picture if mode == target else picture.convert(target)
        if mode == target:
            ImageCms.applyTransform(picture, transform, inPlace=True)
            return picture
        turned = ImageCms.applyTransform(picture, transform)
        return picture.convert(target) if turned is None else turned


def _transform(mode: str, target: str, profile: bytes) -> ImageCms.ImageCmsTransform | None:
    if not profile:
        return None
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


def _write_small(picture: Image.Image, write: Write, *, lossless: bool) -> Format:
    """Write a picture as PNG where that keeps something, else as JPEG."""
    if not lossless and not _transparent(picture):
        return _write_jpeg(iter([picture]), *picture.size, write)
    if picture.mode == "RGBA" and not _transparent(picture):
        picture = picture.convert("RGB")
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    write(buffer.getvalue())
    return "PNG"


def _write_jpeg(drawn: Iterator[Image.Image], width: int, height: int, write: Write) -> Format:
    for part in jpeg_of(map(_flat, drawn), width, height):
        write(part)
    return "JPEG"


def _transparent(picture: Image.Image) -> bool:
    return picture.mode == "RGBA" and picture.getchannel("A").getextrema() != (255, 255)


def _flat(picture: Image.Image) -> Image.Image:
    """Lay transparency on white."""
    if not _transparent(picture):
        return picture.convert("RGB") if picture.mode == "RGBA" else picture
    white = Image.new("RGB", picture.size, "white")
    white.paste(picture, mask=picture)
    return white
