"""JPEG's segments, down to those that hold pixels."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

from backend.imaging.pictures.container import (
    MAX_PROFILE_BYTES,
    MIN_SIDE,
    Container,
    bounded,
    orientation_of,
    refusal,
    refuse,
)

_MAX_SEGMENTS = 4_096
_MAX_TABLE_BYTES = 256 * 1024
_MAX_SCANS = 32
"""Encoders write up to 14; each costs a pass over the whole picture."""

_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_HALVED = ((2, 2), (1, 1), (1, 1))
_MAX_DECODER_BYTES = 220_000_000
"""Two bytes a coefficient and the picture; 22 megapixels where all colours have all pixels."""

_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
"""A marker; 0xFF00 and the restarts 0xFFD0 to 0xFFD7 belong to the pixels."""

_END, _START, _SCAN, _TEMPORARY = 0xD9, 0xD8, 0xDA, 0x01
_TABLES = (0xC4, 0xDB, 0xDD)
_FRAMES = (0xC0, 0xC1, 0xC2)
_PROGRESSIVE = 0xC2
_UNTAKEN = (0xC3, *range(0xC5, 0xD0), 0xDE, 0xDF)


@dataclass(slots=True)
class _Reading:
    """What was found so far."""

    min_side: int
    kept: list[bytes | memoryview] = field(default_factory=lambda: [b"\xff\xd8"])
    frame: tuple[int, int, int] | None = None
    sampling: tuple[tuple[int, int], ...] = ()
    colour_ids: bytes = b""
    adobe_transform: int | None = None
    kinds: set[str] = field(default_factory=set)
    scans: int = 0
    table_bytes: int = 0
    exif: bytes = b""
    xmp: bytes = b""
    gain_map: bool = False
    pictures: bytes = b""
    profile: dict[int, bytes] = field(default_factory=dict)
    profile_parts: int = 0


def read_jpeg(data: bytes, min_side: int = MIN_SIDE) -> Container:
    """Walk the segments, keep tables, frame and scans, and leave the others out.

    Raises:
        InvalidRequest: damaged, cut off, several pictures in one, or out of bounds.
    """
    reading = _Reading(min_side)
    view = memoryview(data)
    position = 2
    for _ in range(_MAX_SEGMENTS):
        match = _MARKER.search(data, position)
        if match is None:
            refuse("is a JPEG that is cut off")
        if reading.scans:
            reading.kept.append(view[position : match.start()])
        marker, position = match[1][0], match.end()
        if marker == _END:
            return _finished(reading)
        if marker in (_START, _TEMPORARY):
            continue
        end = position + int.from_bytes(data[position : position + 2])
        if end < position + 2 or end > len(data):
            refuse("is a JPEG that is cut off")
        _take(reading, marker, data[position + 2 : end])
        position = end
    raise refusal(f"is a JPEG of more than {_MAX_SEGMENTS:,} segments")


def _take(reading: _Reading, marker: int, body: bytes) -> None:
    if marker in _UNTAKEN:
        refuse("is a lossless, hierarchical or arithmetic JPEG; send an ordinary one")
    if marker in _FRAMES:
        _take_frame(reading, marker, body)
    elif marker == _SCAN:
        _count_scan(reading)
    elif marker in _TABLES:
        reading.table_bytes += len(body)
        if reading.table_bytes > _MAX_TABLE_BYTES:
            refuse("is a JPEG with more tables than a picture needs")
    elif not _take_application(reading, marker, body):
        return
    reading.kept.append(struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body)


def _take_frame(reading: _Reading, marker: int, body: bytes) -> None:
    if reading.frame is not None:
        refuse("is a JPEG with several frames")
    if len(body) < 6 or len(body) != 6 + 3 * body[5] or body[5] not in (1, 3, 4):
        refuse("is a JPEG whose header is damaged")
    precision, height, width = struct.unpack_from(">BHH", body)
    if precision != 8:
        refuse(f"is a JPEG of {precision} bits a sample; 8 are taken")
    bounded(width, height, reading.min_side)
    factors = [(byte >> 4, byte & 15) for byte in body[7::3]]
    if not all(1 <= across <= 4 and 1 <= down <= 4 for across, down in factors):
        refuse("is a JPEG whose header is damaged")
    reading.frame = (width, height, marker)
    reading.sampling, reading.colour_ids = tuple(factors), body[6::3]


def _count_scan(reading: _Reading) -> None:
    if reading.frame is None:
        refuse("is a JPEG whose header is missing")
    reading.scans += 1
    if reading.scans > (_MAX_SCANS if reading.frame[2] == _PROGRESSIVE else 4):
        refuse("is a JPEG with more passes than a picture needs")


def _take_application(reading: _Reading, marker: int, body: bytes) -> bool:
    """Read what an application segment says; return whether a decoder needs it too."""
    if marker == 0xE1:
        if body.startswith(b"Exif\0\0"):
            reading.exif = reading.exif or body
        elif body.startswith(_XMP):
            reading.xmp = reading.xmp or body
        reading.gain_map |= b"hdrgm:Version" in body
    elif marker == 0xE2 and body.startswith(b"MPF\0"):
        reading.pictures = reading.pictures or body[4:]
    elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\0") and len(body) > 14:
        reading.profile_parts = body[13]
        reading.profile.setdefault(body[12], body[14:])
    known = {0xE0: b"JFIF\0", 0xEE: b"Adobe"}.get(marker)
    if known is None or not body.startswith(known) or known.decode() in reading.kinds:
        return False
    reading.kinds.add(known.decode())
    if marker == 0xEE and len(body) >= 12:
        reading.adobe_transform = body[11]
    return True


def _finished(reading: _Reading) -> Container:
    if reading.frame is None or not reading.scans:
        refuse("is a JPEG without pixels")
    if not reading.gain_map and _shows_several(reading.pictures):
        refuse("holds several pictures (MPO); send one")
    width, height, marker = reading.frame
    halved = marker == _PROGRESSIVE and _is_halved(reading)
    if marker == _PROGRESSIVE and not halved:
        _check_coefficients(width, height, reading.sampling)
    return Container(
        "JPEG",
        (*reading.kept, b"\xff\xd9"),
        width,
        height,
        lossless=False,
        orientation=orientation_of(reading.exif, reading.xmp),
        profile=_profile(reading),
        halved_colour=halved,
    )


def _is_halved(reading: _Reading) -> bool:
    """Tell whether it is brightness and, at half the resolution, colour; as libjpeg tells it."""
    if "JFIF" in reading.kinds:
        brightness_first = True
    elif reading.adobe_transform is not None:
        brightness_first = reading.adobe_transform == 1
    else:
        brightness_first = reading.colour_ids == b"\1\2\3"
    return brightness_first and reading.sampling == _HALVED


def _check_coefficients(width: int, height: int, sampling: tuple[tuple[int, int], ...]) -> None:
    """Refuse what its decoder, which holds all coefficients, would need too much memory for.

    Raises:
        InvalidRequest: naming how large it may be.
    """
    most = max(across for across, _ in sampling), max(down for _, down in sampling)
    area = sum(across * down for across, down in sampling) / (most[0] * most[1])
    bytes_each = 2 * area + (1 if len(sampling) == 1 else 4)
    if width * height * bytes_each > _MAX_DECODER_BYTES:
        largest = int(_MAX_DECODER_BYTES / bytes_each / 1e6)
        refuse(
            f"is a progressive JPEG of {width * height / 1e6:.1f} megapixels; with its colour "
            f"resolution at most {largest} are taken. Save it as a baseline JPEG"
        )


def _profile(reading: _Reading) -> bytes:
    wanted = range(1, reading.profile_parts + 1)
    if any(part not in reading.profile for part in wanted):
        return b""
    profile = b"".join(reading.profile[part] for part in wanted)
    return profile if len(profile) <= MAX_PROFILE_BYTES else b""


def _shows_several(index: bytes) -> bool:
    """Tell whether a multi-picture index lists more than the picture and its previews."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(index[:4])
    if order is None:
        return False
    try:
        (start,) = struct.unpack_from(f"{order}I", index, 4)
        (entries,) = struct.unpack_from(f"{order}H", index, start)
        for entry in range(entries):
            tag, _, size, offset = struct.unpack_from(f"{order}HHII", index, start + 2 + 12 * entry)
            if tag == 0xB002:
                kinds = [
                    struct.unpack_from(f"{order}I", index, offset + at)[0] >> 16 & 0xFF
                    for at in range(0, min(size, 1_600), 16)
                ]
                return any(kind != 1 for kind in kinds[1:])
    except struct.error:
        pass
    return False
