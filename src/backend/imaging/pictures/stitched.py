"""Write a JPEG strip by strip, so that a picture need not be in memory as a whole.

Every strip is encoded by itself; between two strips stands a restart marker, at which a decoder
begins anew, as each strip does. All strips have the same tables, so the first one's serve for all.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator

from PIL import Image

_QUALITY = 95
_BLOCK = 8
_SCAN, _RESTARTS, _FRAME = b"\xff\xda", b"\xff\xdd", b"\xff\xc0"


def jpeg_of(strips: Iterator[Image.Image], width: int, height: int) -> Iterator[bytes]:
    """Yield the parts of a JPEG of quality 95 and full colour resolution.

    Args:
        strips: RGB or YCbCr, as wide as the picture; all but the last of the same height, which 8
            divides.
        width: pixels a row.
        height: rows of all strips together.
    """
    for index, strip in enumerate(strips):
        head, pixels = _parted(strip)
        if index:
            yield bytes((0xFF, 0xD0 + (index - 1) % 8))
        else:
            yield _head(head, width, height, strip.height)
        yield pixels
    yield b"\xff\xd9"


def _parted(strip: Image.Image) -> tuple[bytes, bytes]:
    """Encode a strip; return what stands before its pixels, and its pixels."""
    buffer = io.BytesIO()
    strip.save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
    data = buffer.getbuffer()
    start = bytes(data[:4096]).index(_SCAN)
    start += 2 + int.from_bytes(data[start + 2 : start + 4])
    return bytes(data[:start]), bytes(data[start:-2])


def _head(head: bytes, width: int, height: int, rows: int) -> bytes:
    """Make a strip's beginning that of the whole picture."""
    if rows == height:
        return head
    frame, scan = head.index(_FRAME), head.index(_SCAN)
    blocks = -(-width // _BLOCK) * -(-rows // _BLOCK)
    restarts = _RESTARTS + struct.pack(">HH", 4, blocks)
    sized = head[: frame + 5] + struct.pack(">H", height) + head[frame + 7 : scan]
    return sized + restarts + head[scan:]
