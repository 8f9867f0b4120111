"""What colours a PNG's numbers mean where it has no ICC profile: made into one, or refused.

`cICP` names primaries and curve by the numbers of ITU-T H.273; `gAMA` and `cHRM` give them as
measures. Either becomes a profile of one matrix and one curve, so that one engine converts all. The
curves of HDR have no place in eight bits without a choice that is not ours, and are refused.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import NamedTuple

from backend.imaging.pictures.container import refuse

Matrix = tuple[tuple[float, float, float], ...]
Curve = tuple[float, float, float, float, float]
"""Of ICC's third kind: exponent, then a, b, c, d: (ax + b)^exponent from d on, cx below."""


class Primaries(NamedTuple):
    """The x and y of white, red, green and blue."""

    white: tuple[float, float]
    red: tuple[float, float]
    green: tuple[float, float]
    blue: tuple[float, float]


_D65 = (0.3127, 0.3290)
_SRGB = Primaries(_D65, (0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
_PRIMARIES = {
    1: _SRGB,
    2: _SRGB,  # not specified
    5: Primaries(_D65, (0.64, 0.33), (0.29, 0.60), (0.15, 0.06)),
    6: Primaries(_D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    7: Primaries(_D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    9: Primaries(_D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    11: Primaries((0.314, 0.351), (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    12: Primaries(_D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
_SRGB_CURVE: Curve = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_VIDEO_CURVE: Curve = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
_CURVES: dict[int, Curve] = {
    1: _VIDEO_CURVE,
    2: _SRGB_CURVE,  # not specified
    4: (2.2, 1.0, 0.0, 0.0, 0.0),
    5: (2.8, 1.0, 0.0, 0.0, 0.0),
    6: _VIDEO_CURVE,
    8: (1.0, 1.0, 0.0, 0.0, 0.0),
    13: _SRGB_CURVE,
    14: _VIDEO_CURVE,
    15: _VIDEO_CURVE,
}
_HDR = {16: "PQ", 18: "HLG"}

_BRADFORD: Matrix = (
    (0.8951, 0.2664, -0.1614),
    (-0.7502, 1.7135, 0.0367),
    (0.0389, -0.0685, 1.0296),
)
_D50 = (0.9642, 1.0, 0.8249)
_NEAR = 0.002
_SRGB_GAMMA = 1 / 2.2
"""What is written for sRGB by those who do not say so; taken as sRGB, as libpng does."""


def profile_of(chunks: Mapping[str, bytes], *, grey: bool) -> bytes:
    """Return an ICC profile for what a PNG's chunks say of its colours; nothing where it is sRGB.

    Args:
        chunks: `cICP`, `sRGB`, `gAMA` and `cHRM`, as far as there are any; the first that is there
            holds. What is damaged is ignored.
        grey: whether the samples are of one channel.

    Raises:
        InvalidRequest: the colours are of HDR, of video's range, or of a kind that is not known.
    """
    code_points = chunks.get("cICP", b"")
    if len(code_points) == 4 and code_points[2] == 0:
        return _of_code_points(code_points, grey=grey)
    if "sRGB" in chunks:
        return b""
    curve, primaries = _curve(chunks.get("gAMA", b"")), _primaries(chunks.get("cHRM", b""))
    return _profile(primaries, curve, grey=grey)


def _of_code_points(code_points: bytes, *, grey: bool) -> bytes:
    primaries, curve, _, full_range = code_points
    if curve in _HDR:
        refuse(f"is an HDR picture ({_HDR[curve]}); send it in SDR, such as sRGB or Display P3")
    if full_range != 1:
        refuse("is a PNG of video's range of levels; send it in full range")
    if primaries not in _PRIMARIES or curve not in _CURVES:
        refuse(
            f"is a PNG of colours that are not known (cICP {primaries}, {curve}); send it in sRGB"
        )
    return _profile(_PRIMARIES[primaries], _CURVES[curve], grey=grey)


def _curve(chunk: bytes) -> Curve:
    gamma = int.from_bytes(chunk) / 100_000 if len(chunk) == 4 else 0.0
    if not 0.1 <= gamma <= 10:
        return _SRGB_CURVE
    return (1 / gamma, 1.0, 0.0, 0.0, 0.0)


def _primaries(chunk: bytes) -> Primaries:
    if len(chunk) != 32:
        return _SRGB
    values = [value / 100_000 for value in struct.unpack(">8I", chunk)]
    found = Primaries(*zip(values[::2], values[1::2], strict=True))
    return found if all(y > 0 and x + y <= 1 for x, y in found) else _SRGB


def _profile(primaries: Primaries, curve: Curve, *, grey: bool) -> bytes:
    plain = curve == _SRGB_CURVE
    if curve[1:] == (1.0, 0.0, 0.0, 0.0):
        plain = abs(curve[0] * _SRGB_GAMMA - 1) < 0.05
    known = all(
        abs(a - b) < _NEAR
        for one, other in zip(primaries, _SRGB, strict=True)
        for a, b in zip(one, other, strict=True)
    )
    if plain and (known or grey):
        return b""
    bent = b"para" + struct.pack(">4xHH", 3, 0) + b"".join(map(_fixed, curve))
    if grey:
        return _written(b"GRAY", {b"wtpt": _xyz(_D50), b"kTRC": bent})
    columns = _columns(primaries)
    if columns is None:
        return b""
    tags = {b"wtpt": _xyz(_D50)}
    for name, column in zip((b"r", b"g", b"b"), columns, strict=True):
        tags |= {name + b"XYZ": _xyz(column), name + b"TRC": bent}
    return _written(b"RGB ", tags)


def _columns(primaries: Primaries) -> Matrix | None:
    """Return the XYZ of red, green and blue under D50; `None` where they are of one line."""
    rows = tuple(zip(*((x / y, 1.0, (1 - x - y) / y) for x, y in primaries[1:]), strict=True))
    inverse = _inverse(rows)
    if inverse is None:
        return None
    x, y = primaries.white
    white = (x / y, 1.0, (1 - x - y) / y)
    shares = _times(inverse, white)
    cone, back = _times(_BRADFORD, white), _inverse(_BRADFORD)
    if back is None or min(map(abs, cone)) < 1e-6:
        return None
    scale = [new / old for new, old in zip(_times(_BRADFORD, _D50), cone, strict=True)]
    adapted = []
    for column, share in zip(zip(*rows, strict=True), shares, strict=True):
        seen = _times(_BRADFORD, tuple(value * share for value in column))
        adapted.append(_times(back, tuple(a * b for a, b in zip(seen, scale, strict=True))))
    return tuple(adapted) if max(abs(v) for c in adapted for v in c) < 100 else None


def _times(matrix: Matrix, vector: tuple[float, ...]) -> tuple[float, float, float]:
    first, second, third = (sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix)
    return first, second, third


def _inverse(matrix: Matrix) -> Matrix | None:
    (a, b, c), (d, e, f), (g, h, i) = matrix
    cofactors = (
        (e * i - f * h, c * h - b * i, b * f - c * e),
        (f * g - d * i, a * i - c * g, c * d - a * f),
        (d * h - e * g, b * g - a * h, a * e - b * d),
    )
    determinant = a * cofactors[0][0] + b * cofactors[1][0] + c * cofactors[2][0]
    if abs(determinant) < 1e-6:
        return None
    return tuple(tuple(value / determinant for value in row) for row in cofactors)  # type: ignore[misc]


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65_536))


def _xyz(values: tuple[float, float, float]) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(map(_fixed, values))


def _written(space: bytes, tags: Mapping[bytes, bytes]) -> bytes:
    """Return an ICC profile of version 4 for a display."""
    start = 132 + 12 * len(tags)
    table, data = b"", b""
    for name, body in tags.items():
        table += name + struct.pack(">II", start + len(data), len(body))
        data += body
    head = struct.pack(">I4xI4s4s4s", start + len(data), 0x04000000, b"mntr", space, b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + b"".join(map(_fixed, _D50))
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data
