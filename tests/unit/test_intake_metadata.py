"""What an upload says about itself: heeded where it turns or colours the picture, then gone."""

from __future__ import annotations

import pytest
from PIL import Image, ImageCms, PngImagePlugin

from backend.imaging.intake import accept_picture
from tests.fixtures.pictures import (
    BLUE,
    LIME,
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
    with_jpeg_segments,
    with_png_chunks,
)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(kind: str, orientation: int) -> None:
    stored = turned_for(portrait(), orientation)
    accepted = accept_picture(encoded(stored, kind, exif=exif(orientation)))
    assert (accepted.width, accepted.height) == (320, 400)
    assert corners(opened(accepted.data)) == [RED, LIME, BLUE, YELLOW]


def metadata(picture: Image.Image) -> dict[str, object]:
    plain = {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    return {key: value for key, value in picture.info.items() if key not in plain}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_no_metadata_is_left(kind: str) -> None:
    xmp = b"<x:xmpmeta>SecretPlace</x:xmpmeta>"
    options: dict[str, object] = {"exif": exif(6, place=True), "dpi": (300, 300), "xmp": xmp}
    if kind == "PNG":
        texts = PngImagePlugin.PngInfo()
        texts.add_text("Author", "SecretName")
        texts.add_itxt("XML:com.adobe.xmp", xmp.decode())
        texts.add_text("Comment", "SecretNote", zip=True)
        options |= {"pnginfo": texts}
    if kind == "JPEG":
        options |= {"comment": "SecretNote"}
    data = encoded(portrait(), kind, icc_profile=swapped_profile(), **options)
    assert b"SecretCamera" in data
    accepted = accept_picture(data)
    picture = opened(accepted.data)
    assert metadata(picture) == {}
    assert not picture.getexif()
    assert b"Secret" not in accepted.data
    assert b"Exif" not in accepted.data
    assert b"ICC" not in accepted.data


def test_what_hides_behind_the_picture_is_dropped() -> None:
    for kind in ("PNG", "JPEG", "WEBP"):
        accepted = accept_picture(encoded(noise(300, 300), kind) + b"PK\3\4<script>evil</script>")
        assert b"evil" not in accepted.data


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_an_embedded_profile_is_converted_to_srgb(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(portrait(), kind, icc_profile=swapped_profile(), **options)
    assert corners(opened(accept_picture(data).data))[:2] == [LIME, RED]


def test_a_profile_is_converted_under_transparency_and_in_grey() -> None:
    picture = portrait(mode="RGBA")
    picture.putalpha(120)
    accepted = accept_picture(encoded(picture, "PNG", icc_profile=swapped_profile()))
    assert opened(accepted.data).getpixel((20, 20)) == (0, 255, 0, 120)
    accepted = accept_picture(encoded(portrait(mode="L"), "PNG", icc_profile=swapped_profile()))
    assert opened(accepted.data).convert("L").tobytes() == portrait(mode="L").tobytes()


def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize(
    "profile",
    [
        b"not a profile",
        srgb()[:200],
        bytes(200),
        ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(),
        srgb()[:128] + b"\xff" * 3000,
        swapped_profile().replace(b"XYZ ", b"\xff\xff\xff\xff"),
        b"\0" * (5 * 1024**2),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_broken_profile_is_ignored(kind: str, profile: bytes) -> None:
    data = encoded(portrait(), kind, icc_profile=profile)
    assert corners(opened(accept_picture(data).data)) == [RED, LIME, BLUE, YELLOW]


@pytest.mark.parametrize(
    "block",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12" * 50,
        b"Exif\0\0" + b"\xff" * 3000,
        exif(3)[:-9],
    ],
)
def test_broken_exif_is_ignored(block: bytes) -> None:
    jpeg = with_jpeg_segments(encoded(portrait(), "JPEG"), (0xE1, block))
    assert accept_picture(jpeg).height == 400
    png = with_png_chunks(encoded(portrait(), "PNG"), png_chunk(b"eXIf", block[6:]))
    assert accept_picture(png).height == 400
