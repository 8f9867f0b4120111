"""Pictures that are decoded apart and drawn in strips look as if they had been drawn in one."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageStat

from backend.errors import InvalidRequest
from backend.imaging.intake import AcceptedPicture, accept_picture
from backend.imaging.pictures.apart import receive
from backend.imaging.pictures.libwebp import decode_webp
from backend.imaging.pictures.png import read_png
from backend.imaging.pictures.webp import read_webp
from tests.fixtures.pictures import (
    BLUE,
    LIME,
    PNG_SIGNATURE,
    RED,
    YELLOW,
    corners,
    encoded,
    exif,
    noise,
    opened,
    png_chunk,
    portrait,
    swapped_profile,
    turned_for,
)

WIDTH, HEIGHT = 3_001, 3_003
"""More than 9 megapixels; no side is a whole number of strips or blocks."""


def accepted(data: bytes) -> AcceptedPicture:
    found = accept_picture(data)
    assert found.mime == "image/jpeg"
    return found


def difference(one: Image.Image, other: Image.Image) -> float:
    """How far two pictures are apart on the mean, of 255."""
    assert (one.mode, one.size) == (other.mode, other.size)
    return max(ImageStat.Stat(ImageChops.difference(one, other)).mean)


def soft(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Colours that change slowly, so that JPEG keeps them."""
    return noise(64, 64, mode).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(
    ("kind", "options", "orientation"),
    [
        ("PNG", {"compress_level": 1}, 3),
        ("JPEG", {"quality": 95}, 4),
        ("JPEG", {"quality": 95, "progressive": True}, 6),
        ("WEBP", {"quality": 95, "method": 0}, 5),
        *(("WEBP", {"lossless": True, "quality": 0, "method": 0}, turn) for turn in (1, 3, 7, 8)),
    ],
)
def test_a_large_picture_is_upright_and_whole(
    kind: str, options: dict[str, Any], orientation: int
) -> None:
    upright = soft(WIDTH, HEIGHT)
    upright.paste(portrait(400, 400), (0, 0))
    data = encoded(turned_for(upright, orientation), kind, exif=exif(orientation), **options)
    found = accepted(data)
    assert (found.width, found.height) == (WIDTH, HEIGHT)
    picture = opened(found.data)
    assert difference(picture, upright) < 2
    assert corners(picture.crop((0, 0, 400, 400))) == [RED, LIME, BLUE, YELLOW]


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "RGBA"])
def test_a_large_png_of_every_mode_is_drawn_in_strips(mode: str) -> None:
    picture = soft(WIDTH, HEIGHT).convert(mode)
    found = opened(accepted(encoded(picture, "PNG", compress_level=1)).data)
    limit = 40 if mode in ("1", "P") else 2  # of single dots JPEG keeps less
    assert difference(found, picture.convert("RGB")) < limit


@pytest.mark.parametrize("mode", ["CMYK", "L"])
def test_a_large_jpeg_of_every_mode_is_drawn_in_strips(mode: str) -> None:
    picture = soft(WIDTH, HEIGHT).convert(mode)
    data = encoded(picture, "JPEG", quality=95)
    wanted = opened(data).convert("RGB")
    assert difference(opened(accepted(data).data), wanted) < 2


def test_a_profile_is_converted_strip_by_strip() -> None:
    for options in ({}, {"progressive": True}):
        data = encoded(portrait(WIDTH, HEIGHT), "JPEG", icc_profile=swapped_profile(), **options)
        assert corners(opened(accepted(data).data))[:2] == [LIME, RED]


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_a_progressive_jpeg_is_decoded_as_pillow_decodes_it(subsampling: int) -> None:
    picture = soft(WIDTH, HEIGHT)
    data = encoded(picture, "JPEG", progressive=True, quality=90, subsampling=subsampling)
    assert difference(opened(accepted(data).data), opened(data)) < 1


@pytest.mark.parametrize("options", [{"quality": 60}, {"lossless": True}])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_webp_is_decoded_as_pillow_decodes_it(mode: str, options: dict[str, Any]) -> None:
    data = encoded(noise(301, 303, mode), "WEBP", **options)
    container = read_webp(data)
    wanted = opened(data)
    whole = decode_webp(container, (0, 0, 301, 303))
    assert whole.convert(mode).tobytes() == wanted.tobytes()
    if "lossless" in options:
        part = decode_webp(container, (64, 100, 301, 202))
        assert part.convert(mode).tobytes() == wanted.crop((64, 100, 301, 202)).tobytes()


def test_a_webp_with_another_size_inside_is_refused() -> None:
    data = bytearray(encoded(portrait(), "WEBP", lossless=True))
    container = read_webp(bytes(data))
    data[21:25] = (int.from_bytes(data[21:25], "little") + 1).to_bytes(4, "little")
    other = read_webp(bytes(data))
    assert other.width == container.width + 1
    with pytest.raises(ValueError, match=r"header|cut off|damaged"):
        decode_webp(other.__class__("WEBP", other.parts, 320, 400, lossless=True), (0, 0, 320, 400))


def test_a_progressive_jpeg_that_needs_too_much_memory_is_refused_in_words() -> None:
    full = encoded(Image.new("RGB", (6_000, 4_000)), "JPEG", progressive=True, subsampling=0)
    with pytest.raises(
        InvalidRequest, match=r"progressive JPEG of 24\.0 megapixels; .* at most 22"
    ):
        accept_picture(full)
    halved = encoded(Image.new("RGB", (6_000, 4_000)), "JPEG", progressive=True)
    assert accepted(halved).width == 6_000


def test_one_large_chunk_is_checked_in_no_time() -> None:
    """What is left of a chunk must not be copied for every step of its inflation."""
    data = encoded(soft(2_990, 2_990), "PNG", compress_level=1)
    start = data.index(b"IDAT") - 4
    bodies, at = [], start
    while data[at + 4 : at + 8] == b"IDAT":
        length = int.from_bytes(data[at : at + 4])
        bodies.append(data[at + 8 : at + 8 + length])
        at += 12 + length
    one = data[:start] + png_chunk(b"IDAT", b"".join(bodies)) + data[at:]
    assert one.startswith(PNG_SIGNATURE)
    assert len(bodies) > 1
    began = time.process_time()
    split = read_png(data)
    took = time.process_time() - began
    began = time.process_time()
    joined = read_png(one)
    assert time.process_time() - began < 3 * took + 0.2
    assert split.bare == joined.bare


def test_an_answer_that_ends_early_counts_as_none() -> None:
    whole = (3).to_bytes(4) + b"abc" + bytes(4) + b'{"mime": "image/jpeg"}'
    buffer = io.BytesIO()
    assert receive(io.BytesIO(whole), buffer) == {"mime": "image/jpeg"}
    assert buffer.getvalue() == b"abc"
    for cut in (0, 2, 5, 7, 9, 11, 20):
        assert receive(io.BytesIO(whole[:cut]), io.BytesIO()) == {}
