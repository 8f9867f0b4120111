"""WebP's chunks, down to those that hold pixels."""

from __future__ import annotations

import struct

from backend.imaging.pictures.container import (
    MAX_PROFILE_BYTES,
    MIN_SIDE,
    Container,
    bounded,
    orientation_of,
    refusal,
    refuse,
)

_MAX_CHUNKS = 1_000
_ANIMATED, _ALPHA = 0x02, 0x10
_KEPT = (b"VP8X", b"ICCP", b"ALPH", b"VP8 ", b"VP8L", b"EXIF", b"XMP ")


def read_webp(data: bytes, min_side: int = MIN_SIDE) -> Container:
    """Walk the chunks, keep those of the one still picture and leave the others out.

    Raises:
        InvalidRequest: damaged, cut off, animated or out of bounds.
    """
    chunks = _chunks(data)
    lossless = b"VP8L" in chunks
    if lossless == (b"VP8 " in chunks):
        refuse("is a WebP without pixels")
    width, height = _lossless_size(chunks[b"VP8L"]) if lossless else _lossy_size(chunks[b"VP8 "])
    if b"VP8X" in chunks and _canvas(chunks[b"VP8X"]) != (width, height):
        refuse("is a WebP whose header is damaged")
    bounded(width, height, min_side)
    profile = bytes(chunks.get(b"ICCP", b""))
    return Container(
        "WEBP",
        _bare(chunks, width, height),
        width,
        height,
        lossless=lossless,
        orientation=orientation_of(
            bytes(chunks.get(b"EXIF", b"")), bytes(chunks.get(b"XMP ", b""))
        ),
        profile=profile if len(profile) <= MAX_PROFILE_BYTES else b"",
    )


def _chunks(data: bytes) -> dict[bytes, memoryview]:
    view = memoryview(data)
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        refuse("is a WebP that is cut off")
    found: dict[bytes, memoryview] = {}
    position = 12
    for _ in range(_MAX_CHUNKS):
        if position + 8 > end:
            return found
        kind, length = struct.unpack_from("<4sI", data, position)
        if position + 8 + length > end:
            refuse("is a WebP that is cut off")
        body = view[position + 8 : position + 8 + length] if kind in _KEPT else view[:0]
        if kind in (b"ANIM", b"ANMF") or (kind == b"VP8X" and length and body[0] & _ANIMATED):
            refuse("is an animated WebP; send a still picture")
        if kind in _KEPT:
            found.setdefault(kind, body)
        position += 8 + length + (length & 1)
    raise refusal(f"is a WebP of more than {_MAX_CHUNKS:,} chunks")


def _canvas(body: memoryview) -> tuple[int, int]:
    if len(body) < 10:
        refuse("is a WebP whose header is damaged")
    return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")


def _lossy_size(body: memoryview) -> tuple[int, int]:
    if len(body) < 10 or body[0] & 1 or bytes(body[3:6]) != b"\x9d\x01\x2a":
        refuse("is a WebP whose header is damaged")
    width, height = struct.unpack_from("<HH", body, 6)
    return width & 0x3FFF, height & 0x3FFF


def _lossless_size(body: memoryview) -> tuple[int, int]:
    if len(body) < 5 or body[0] != 0x2F:
        refuse("is a WebP whose header is damaged")
    bits = int.from_bytes(body[1:5], "little")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _bare(
    chunks: dict[bytes, memoryview], width: int, height: int
) -> tuple[bytes | memoryview, ...]:
    parts: list[bytes | memoryview] = []
    if b"VP8L" in chunks:
        parts += _chunk(b"VP8L", chunks[b"VP8L"])
    else:
        if b"ALPH" in chunks:
            size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
            parts += _chunk(b"VP8X", bytes([_ALPHA, 0, 0, 0]) + size)
            parts += _chunk(b"ALPH", chunks[b"ALPH"])
        parts += _chunk(b"VP8 ", chunks[b"VP8 "])
    length = 4 + sum(map(len, parts))
    return (b"RIFF" + struct.pack("<I", length) + b"WEBP", *parts)


def _chunk(kind: bytes, body: bytes | memoryview) -> list[bytes | memoryview]:
    return [kind + struct.pack("<I", len(body)), body, b"\0" * (len(body) & 1)]
