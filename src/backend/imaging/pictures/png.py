"""PNG's chunks, down to those that hold pixels."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

from backend.imaging.pictures.colours import profile_of
from backend.imaging.pictures.container import (
    MAX_PROFILE_BYTES,
    MIN_SIDE,
    Container,
    bounded,
    orientation_of,
    refusal,
    refuse,
)

_Bytes = bytes | memoryview

_MAX_CHUNKS = 50_000
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""Adam7: first column, first row, then a pixel every so many columns and rows."""

_STEP_BYTES = 64 * 1024
_MAX_CHECKED_BYTES = 160_000_000
"""40 megapixels of RGBA; inflating more twice, as 16 bits would be, takes too long."""

_KEPT = (b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"eXIf", b"cICP", b"sRGB", b"gAMA", b"cHRM")
_XMP = b"XML:com.adobe.xmp\0"
_MAX_XMP_BYTES = 1024**2
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def read_png(data: bytes, min_side: int = MIN_SIDE) -> Container:
    """Walk the chunks, check those that hold pixels and leave the others out.

    Raises:
        InvalidRequest: damaged, cut off, animated or out of bounds.
    """
    kept, pixels = _chunks(data, min_side)
    if not pixels:
        refuse("is a PNG without pixels")
    header = kept["IHDR"]
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    size = _size(width, height, depth * _SAMPLES[colour], interlaced)
    if size <= _MAX_CHECKED_BYTES and not _fills(pixels, size):
        refuse("is a PNG whose pixels end early")
    parts: list[_Bytes] = [_SIGNATURE, *_chunk(b"IHDR", [header])]
    for name in ("PLTE", "tRNS"):
        if name in kept:
            parts += _chunk(name.encode(), [kept[name]])
    parts += [*_chunk(b"IDAT", pixels), *_chunk(b"IEND", [])]
    return Container(
        "PNG",
        tuple(parts),
        width,
        height,
        lossless=True,
        bit_depth=depth,
        orientation=orientation_of(kept.get("eXIf", b""), _xmp(kept.get("iTXt", b""))),
        profile=_profile(kept.get("iCCP", b""))
        or profile_of(kept, grey=colour == 0 and "tRNS" not in kept),
    )


def _chunks(data: bytes, min_side: int) -> tuple[dict[str, bytes], list[memoryview]]:
    """Return the first chunk of each name that matters, and all those of pixels."""
    view = memoryview(data)
    kept: dict[str, bytes] = {}
    pixels: list[memoryview] = []
    position = len(_SIGNATURE)
    for _ in range(_MAX_CHUNKS):
        if position + 12 > len(data):
            refuse("is a PNG that is cut off")
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            refuse("is a PNG that is cut off")
        body = view[position + 8 : end - 4]
        if not kept and kind != b"IHDR":
            refuse("is a PNG whose header is missing")
        if kind == b"IEND":
            return kept, pixels
        _check_chunk(kind, body, view[end - 4 : end])
        if kind == b"IHDR":
            _check_header(body, min_side)
        if kind == b"IDAT":
            pixels.append(body)
        elif kind in _KEPT or (kind == b"iTXt" and body[: len(_XMP)] == _XMP):
            kept.setdefault(kind.decode(), bytes(body))
        position = end
    raise refusal(f"is a PNG of more than {_MAX_CHUNKS:,} chunks")


def _check_chunk(kind: bytes, body: memoryview, checksum: memoryview) -> None:
    if kind in (b"acTL", b"fcTL", b"fdAT"):
        refuse("is an animated PNG; send a still picture")
    critical = kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT")
    if not critical and not kind[:1].islower():
        refuse("is a PNG with a chunk that no reader knows")
    if critical and zlib.crc32(body, zlib.crc32(kind)) != int.from_bytes(checksum):
        refuse("is a PNG that is damaged: a checksum is wrong")
    if kind in (b"PLTE", b"tRNS") and not 0 < len(body) <= 768:
        refuse("is a PNG with a palette that is damaged")


def _check_header(body: memoryview, min_side: int) -> None:
    if len(body) != 13:
        refuse("is a PNG whose header is damaged")
    width, height, depth, colour, compression, filtering, interlace = struct.unpack(
        ">IIBBBBB", body
    )
    bounded(width, height, min_side)
    if depth not in _DEPTHS.get(colour, ()) or compression or filtering or interlace > 1:
        refuse("is a PNG whose header is damaged")


def _size(width: int, height: int, bits: int, interlaced: int) -> int:
    """Return how many bytes the pixels have when inflated, a filter byte before each row."""
    total = 0
    for left, top, across, down in _PASSES if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        total += rows * (1 + -(-columns * bits // 8))
    return total


def _fills(pixels: list[memoryview], wanted: int) -> bool:
    """Tell whether the chunks inflate to that many bytes; decoders leave the rest black."""
    inflater = zlib.decompressobj()
    try:
        for piece in pixels:
            for start in range(0, len(piece), _STEP_BYTES):  # what is left over is copied each time
                left: bytes | memoryview = piece[start : start + _STEP_BYTES]
                while left and wanted > 0:
                    wanted -= len(inflater.decompress(left, _STEP_BYTES))
                    left = inflater.unconsumed_tail
        if wanted > 0:
            wanted -= len(inflater.flush())
    except zlib.error:
        return False
    return wanted <= 0


def _chunk(kind: bytes, bodies: Sequence[_Bytes]) -> list[_Bytes]:
    checksum = zlib.crc32(kind)
    for body in bodies:
        checksum = zlib.crc32(body, checksum)
    length = sum(map(len, bodies))
    return [struct.pack(">I4s", length, kind), *bodies, struct.pack(">I", checksum)]


def _profile(chunk: bytes) -> bytes:
    """Return the profile of an iCCP chunk: name, zero, method 0, deflated; or nothing."""
    _, _, rest = chunk.partition(b"\0")
    if rest[:1] != b"\0":
        return b""
    inflater = zlib.decompressobj()
    try:
        profile = inflater.decompress(rest[1:], MAX_PROFILE_BYTES)
    except zlib.error:
        return b""
    return b"" if inflater.unconsumed_tail else profile


def _xmp(chunk: bytes) -> bytes:
    """Return the text of an iTXt chunk: name, whether and how deflated, two more names, text."""
    deflated, rest = chunk[len(_XMP) : len(_XMP) + 1], chunk[len(_XMP) + 2 :]
    text = rest.partition(b"\0")[2].partition(b"\0")[2]
    if deflated != b"\1":
        return text
    try:
        return zlib.decompressobj().decompress(text, _MAX_XMP_BYTES)
    except zlib.error:
        return b""
