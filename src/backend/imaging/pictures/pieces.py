"""The pixels of a bare picture, upright, in strips from the top: never twice in memory.

Pillow decodes PNG and JPEG whole, into 4 bytes a pixel; from there on one strip after the other is
cut, turned and coloured. A WebP is decoded in parts, and of a large progressive JPEG with colour of
half resolution, brightness and colour are decoded one after the other, since its decoder holds all
coefficients meanwhile.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

from PIL import Image

from backend.imaging.pictures.container import SMALL_PIXELS, Container, refuse
from backend.imaging.pictures.libwebp import Box, decode_webp

STRIP_ROWS = 64
"""Rows of a strip; a JPEG's restart interval can hold 504 at 8192 columns."""

_LOSSLESS_PARTS = 3

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_FROM_THE_END = (3, 4, 7, 8)
"""Orientations whose first row is the last row, or the last column, of what is stored."""

Cut = Callable[[Box], Image.Image]


def upright_size(container: Container) -> tuple[int, int]:
    """Return width and height as they are seen."""
    size = container.width, container.height
    return size if container.orientation < 5 else size[::-1]


def strips(container: Container, rows: int) -> Iterator[Image.Image]:
    """Decode a picture and yield it in strips of so many rows, the last one maybe smaller.

    They are in the mode that the decoder gave; what it said of transparency is in `info`.
    """
    height = upright_size(container)[1]
    step = _part_rows(container, rows)
    for top in range(0, height, step):
        yield from _cut(container, top, min(top + step, height), rows)


def _part_rows(container: Container, rows: int) -> int:
    """Return how many upright rows are decoded at once: a whole number of strips, or all.

    The decoder of lossless WebP needs 4 bytes a pixel for itself, the others little beside the
    picture. Each part costs it all that stands before.
    """
    height = upright_size(container)[1]
    if container.format != "WEBP" or not container.lossless or rows >= height:
        return height
    return -(-height // (_LOSSLESS_PARTS * rows)) * rows


def _cut(container: Container, top: int, bottom: int, rows: int) -> Iterator[Image.Image]:
    """Decode some upright rows and yield them in strips; when it ends, they are gone."""
    cut = _webp(container, top, bottom) if container.format == "WEBP" else _whole(container)
    turn = _TURNS.get(container.orientation)
    for start in range(top, bottom, rows):
        strip = cut(_stored(container, start, min(start + rows, bottom)))
        yield strip if turn is None else _turned(strip, turn)


def _turned(strip: Image.Image, turn: Image.Transpose) -> Image.Image:
    turned = strip.transpose(turn)
    turned.info = strip.info
    return turned


def _stored(container: Container, top: int, bottom: int) -> Box:
    """Return where rows of the upright picture are stored."""
    size = upright_size(container)[1]
    if container.orientation in _FROM_THE_END:
        top, bottom = size - bottom, size - top
    if container.orientation < 5:
        return 0, top, container.width, bottom
    return top, 0, bottom, container.height


def _webp(container: Container, top: int, bottom: int) -> Cut:
    left, upper, right, lower = _stored(container, top, bottom)
    left, upper = left // 2 * 2, upper // 2 * 2
    part = decode_webp(container, (left, upper, right, lower))

    def cut(box: Box) -> Image.Image:
        return part.crop((box[0] - left, box[1] - upper, box[2] - left, box[3] - upper))

    return cut


def _whole(container: Container) -> Cut:
    """Decode a PNG or a JPEG."""
    if container.halved_colour and container.width * container.height > SMALL_PIXELS:
        return _brightness_and_colour(container)
    with _opened(container) as picture:
        picture.load()
        return picture.crop


def _brightness_and_colour(container: Container) -> Cut:
    """Decode brightness alone, then brightness and colour at half size; put them together anew.

    At half size the decoder gives colour as it is stored. Widening it by a triangle is what the
    decoder does itself.
    """
    with _opened(container) as picture:
        picture.draft("L", picture.size)
        picture.load()
        brightness: Image.Image = picture
    with _opened(container) as half:
        half.draft("YCbCr", (half.width // 2, half.height // 2))
        half.load()
        colour = [half.getchannel("Cb"), half.getchannel("Cr")]
    del half

    def cut(box: Box) -> Image.Image:
        size = box[2] - box[0], box[3] - box[1]
        middle = box[0] / 2, box[1] / 2, box[2] / 2, box[3] / 2
        widened = [c.resize(size, Image.Resampling.BILINEAR, middle) for c in colour]
        return Image.merge("YCbCr", [brightness.crop(box), *widened])

    return cut


def _opened(container: Container) -> Image.Image:
    opened = Image.open(io.BytesIO(container.bare), formats=[container.format])
    if opened.size != (container.width, container.height):
        refuse("is damaged: its decoder reads another header")
    return opened
