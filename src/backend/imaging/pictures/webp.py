"""WebP's chunks, down to those that hold pixels."""

from __future__ import annotations

import struct

from backend.imaging.pictures.container import (
    MAX_PROFILE_BYTES,
    Container,
    bounded,
    orientation_of,
    refusal,
    refuse,
)

_MAX_CHUNKS = 1_000
_ANIMATED, _ALPHA = 0x02, 0x10
_KEPT = (b"VP8X", b"ICCP", b"ALPH", b"VP8 ", b"VP8L", b"EXIF")


def read_webp(data: bytes) -> Container:
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
    bounded(width, height)
    profile = chunks.get(b"ICCP", b"")
    return Container(
        "WEBP",
        _bare(chunks, width, height),
        width,
        height,
        lossless=lossless,
        orientation=orientation_of(chunks.get(b"EXIF", b"")),
        profile=profile if len(profile) <= MAX_PROFILE_BYTES else b"",
    )


def _chunks(data: bytes) -> dict[bytes, bytes]:
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        refuse("is a WebP that is cut off")
    found: dict[bytes, bytes] = {}
    position = 12
    for _ in range(_MAX_CHUNKS):
        if position + 8 > end:
            return found
        kind, length = struct.unpack_from("<4sI", data, position)
        if position + 8 + length > end:
            refuse("is a WebP that is cut off")
        body = data[position + 8 : position + 8 + length] if kind in _KEPT else b""
        if kind in (b"ANIM", b"ANMF") or (kind == b"VP8X" and body[:1] and body[0] & _ANIMATED):
            refuse("is an animated WebP; send a still picture")
        if kind in _KEPT:
            found.setdefault(kind, body)
        position += 8 + length + (length & 1)
    raise refusal(f"is a WebP of more than {_MAX_CHUNKS:,} chunks")


def _canvas(body: bytes) -> tuple[int, int]:
    if len(body) < 10:
        refuse("is a WebP whose header is damaged")
    return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")


def _lossy_size(body: bytes) -> tuple[int, int]:
    if len(body) < 10 or body[0] & 1 or body[3:6] != b"\x9d\x01\x2a":
        refuse("is a WebP whose header is damaged")
    width, height = struct.unpack_from("<HH", body, 6)
    return width & 0x3FFF, height & 0x3FFF


def _lossless_size(body: bytes) -> tuple[int, int]:
    if len(body) < 5 or body[0] != 0x2F:
        refuse("is a WebP whose header is damaged")
    bits = int.from_bytes(body[1:5], "little")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


def _bare(chunks: dict[bytes, bytes], width: int, height: int) -> bytes:
    parts = []
    if b"VP8L" in chunks:
        parts.append(_chunk(b"VP8L", chunks[b"VP8L"]))
    elif b"ALPH" in chunks:
        size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        parts.append(_chunk(b"VP8X", bytes([_ALPHA, 0, 0, 0]) + size))
        parts.append(_chunk(b"ALPH", chunks[b"ALPH"]))
        parts.append(_chunk(b"VP8 ", chunks[b"VP8 "]))
    else:
        parts.append(_chunk(b"VP8 ", chunks[b"VP8 "]))
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) & 1)
