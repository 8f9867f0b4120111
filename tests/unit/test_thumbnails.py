"""Thumbnails: two widths, never larger than the picture, the same bytes every time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from PIL import Image

from backend.errors import InvalidRequest, NotFound
from backend.imaging.thumbnails import MIME, WIDTHS, thumbnail
from backend.services.pictures import Pictures
from backend.storage.blobs import BlobStore
from tests.fixtures.pictures import encoded, noise, opened, portrait


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_thumbnail_is_as_wide_as_asked(kind: str, width: int) -> None:
    data = encoded(portrait(1600, 2000), kind)
    found = opened(thumbnail(data, width))
    assert (found.format, found.size) == ("WEBP", (width, width * 5 // 4))
    assert MIME == "image/webp"
    for at, colour in (((0.1, 0.1), (255, 0, 0)), ((0.9, 0.9), (255, 255, 0))):
        pixel = found.getpixel((int(width * at[0]), int(found.height * at[1])))
        assert all(abs(a - b) < 16 for a, b in zip(pixel, colour, strict=False))  # type: ignore[arg-type]


def test_a_small_picture_is_never_blown_up() -> None:
    assert opened(thumbnail(encoded(portrait(300, 400), "PNG"), 768)).size == (300, 400)


def test_equal_pictures_give_equal_bytes() -> None:
    data = encoded(noise(900, 900), "JPEG")
    assert thumbnail(data, 256) == thumbnail(data, 256)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK"])
def test_every_mode_is_taken(mode: str) -> None:
    data = encoded(portrait(900, 900, mode), "JPEG" if mode == "CMYK" else "PNG")
    assert opened(thumbnail(data, 256)).width == 256


def test_transparency_stays() -> None:
    data = encoded(Image.new("RGBA", (600, 600), (255, 0, 0, 0)), "PNG")
    assert opened(thumbnail(data, 256)).getchannel("A").getextrema() == (0, 0)


def test_a_very_flat_picture_keeps_a_row() -> None:
    assert opened(thumbnail(encoded(Image.new("RGB", (2000, 2)), "PNG"), 256)).size == (256, 1)


async def test_a_thumbnail_is_made_once(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path / "blobs")
    sha256 = await blobs.put(encoded(noise(900, 900), "PNG"))
    pictures = Pictures(blobs)
    first, second = await asyncio.gather(*(pictures.ensure_thumbnail(sha256, 256) for _ in "ab"))
    assert first == second == await blobs.get_derived(sha256, "256")
    (path,) = (tmp_path / "blobs" / "thumbs" / sha256).iterdir()
    written = path.stat().st_mtime_ns
    assert await Pictures(blobs).ensure_thumbnail(sha256, 256) == first
    assert path.stat().st_mtime_ns == written


async def test_a_damaged_thumbnail_is_made_anew(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path / "blobs")
    sha256 = await blobs.put(encoded(noise(900, 900), "PNG"))
    made = await Pictures(blobs).ensure_thumbnail(sha256, 256)
    path = tmp_path / "blobs" / "thumbs" / sha256 / "256"
    path.write_bytes(path.read_bytes()[:-1])
    assert await Pictures(blobs).ensure_thumbnail(sha256, 256) == made


async def test_other_widths_and_other_blobs_are_refused(tmp_path: Path) -> None:
    pictures = Pictures(BlobStore(tmp_path / "blobs"))
    with pytest.raises(InvalidRequest, match="256, 768"):
        await pictures.ensure_thumbnail("0" * 64, 257)
    with pytest.raises(NotFound):
        await pictures.ensure_thumbnail("0" * 64, 256)
    with pytest.raises(NotFound):
        await pictures.ensure_thumbnail("../../etc/passwd", 256)
