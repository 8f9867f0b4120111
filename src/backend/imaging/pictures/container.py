"""Read a picture's container by its own bytes, before any decoder sees it.

What comes out is the bare picture: the chunks that hold pixels and nothing else. Text, EXIF, XMP,
previews, private chunks and whatever follows the end are dropped unread, so that no decoder
spends memory or time on them. Size, animation and the number of passes are settled here as well.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Literal, NoReturn

from backend.errors import InvalidRequest

MIN_SIDE = 256
"""Of a base image."""

MIN_REFERENCE_SIDE = 16
"""Of a picture that others only start from, as small as any that is drawn."""

MAX_SIDE = 8_192
MAX_PIXELS = 40_000_000
SMALL_PIXELS = 9_000_000
"""More than 3840 x 2160 or 3000 x 3000; what all image models make."""

MAX_PROFILE_BYTES = 4 * 1024**2
"""The largest ICC profile that is read; printers' CMYK profiles have up to 2.7 MB."""

_XMP_ORIENTATION = re.compile(
    rb"""\btiff:Orientation\s*(?:=\s*["']\s*([1-8])\s*["']|>\s*([1-8])\s*</)"""
)

Format = Literal["PNG", "JPEG", "WEBP"]
MIMES: dict[Format, str] = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}

_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"GIF8", "a GIF"),
    (b"%PDF", "a PDF"),
    (b"BM", "a BMP"),
    (b"II*\0", "a TIFF"),
    (b"MM\0*", "a TIFF"),
    (b"\0\0\1\0", "an icon"),
    (b"<svg", "an SVG"),
    (b"<?xml", "an XML document"),
    (b"<!doctype html", "a web page"),
    (b"<html", "a web page"),
    (b"PK\3\4", "a ZIP archive"),
)


@dataclass(frozen=True, slots=True)
class Container:
    """A still picture whose size is bounded, not yet decoded.

    Attributes:
        parts: the same format again, with nothing but the pixels; views of what was sent, mostly.
        width: pixels a row, as stored; orientation is not applied.
        height: rows, as stored.
        lossless: whether the format kept every pixel as it was.
        bit_depth: bits a sample: 1, 2, 4, 8 or 16.
        orientation: EXIF's, 1 to 8.
        profile: an ICC profile of its colours, unchecked; empty where they are sRGB.
        halved_colour: whether it is a progressive JPEG whose colour has half the resolution.
    """

    format: Format
    parts: tuple[bytes | memoryview, ...]
    width: int
    height: int
    lossless: bool
    bit_depth: int = 8
    orientation: int = 1
    profile: bytes = b""
    halved_colour: bool = False

    @property
    def bare(self) -> bytes:
        """The parts in one; a copy, where they are several."""
        return b"".join(self.parts)


def refuse(message: str) -> NoReturn:
    """Refuse the upload, naming the field it came in."""
    raise refusal(message)


def refusal(message: str) -> InvalidRequest:
    """Return the error that refuses the upload."""
    return InvalidRequest(f"file: {message}", {"errors": [{"field": "file", "message": message}]})


def signature(data: bytes) -> Format:
    """Tell a picture's format by its first bytes.

    Raises:
        InvalidRequest: it is empty or something else, which is named where it is known.
    """
    if not data:
        refuse("is empty; send a PNG, JPEG or WebP picture")
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    start = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start[4:8] == b"ftyp":
        refuse("is a HEIC, AVIF or video file; send a PNG, JPEG or WebP picture")
    for beginning, name in _OTHERS:
        if start[: len(beginning)].lower() == beginning.lower():
            refuse(f"is {name}; send a PNG, JPEG or WebP picture")
    refuse("is not a picture that is taken; send a PNG, JPEG or WebP picture")


def bounded(width: int, height: int, min_side: int) -> None:
    """Refuse sizes that are too small for their purpose or too large to decode.

    Raises:
        InvalidRequest: a side or the product is out of bounds.
    """
    if min(width, height) < min_side or max(width, height) > MAX_SIDE:
        error = refusal(
            f"is {width} x {height} pixels; each side must have {min_side} to {MAX_SIDE}"
        )
        error.details |= {"width": width, "height": height}
        raise error
    if width * height > MAX_PIXELS:
        refuse(
            f"has {width * height / 1e6:.1f} megapixels; at most {MAX_PIXELS // 10**6} are taken"
        )


def orientation_of(exif: bytes, xmp: bytes = b"") -> int:
    """Return the orientation, 1 to 8, that EXIF asks for, or XMP where EXIF says nothing of it."""
    return _of_exif(exif) or _of_xmp(xmp) or 1


def _of_exif(exif: bytes) -> int | None:
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, start)
        for index in range(entries):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", tiff, start + 2 + 12 * index)
            if tag == 0x0112:
                return int(value) if kind == 3 and 1 <= value <= 8 else None
    except struct.error:
        pass
    return None


def _of_xmp(xmp: bytes) -> int | None:
    """Find the number where it stands; the text is not taken for XML."""
    found = _XMP_ORIENTATION.search(xmp)
    return int(found[1] or found[2]) if found else None
