"""Colours that a PNG names without an ICC profile, and orientation that stands in XMP alone."""

from __future__ import annotations

import struct
import zlib

import pytest
from PIL import Image

from backend.errors import InvalidRequest
from backend.imaging.intake import accept_picture
from tests.fixtures.pictures import (
    BLUE,
    LIME,
    RED,
    YELLOW,
    corners,
    encoded,
    exif,
    opened,
    png_chunk,
    portrait,
    swapped_profile,
    turned_for,
    with_png_chunks,
)

SRGB = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
P3 = (0.3127, 0.3290, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)


def gama(gamma: float) -> bytes:
    return png_chunk(b"gAMA", struct.pack(">I", round(gamma * 100_000)))


def chrm(*values: float) -> bytes:
    return png_chunk(b"cHRM", struct.pack(">8I", *(round(v * 100_000) for v in values)))


def cicp(*values: int) -> bytes:
    return png_chunk(b"cICP", bytes(values))


def seen(colour: object, *chunks: bytes, mode: str = "RGB") -> tuple[int, ...]:
    """What becomes of a plain picture of one colour with these chunks."""
    data = with_png_chunks(encoded(Image.new(mode, (256, 256), colour), "PNG"), *chunks)  # type: ignore[arg-type]
    return opened(accept_picture(data).data).getpixel((9, 9))  # type: ignore[return-value]


def srgb_level(linear: float) -> int:
    bent = 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055
    return round(255 * bent)


def near(found: tuple[int, ...], wanted: tuple[int, ...], by: int = 2) -> bool:
    return all(abs(a - b) <= by for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("gamma", [1.0, 1 / 1.8, 1 / 2.6])
def test_a_gamma_is_converted(gamma: float) -> None:
    wanted = tuple(srgb_level((level / 255) ** (1 / gamma)) for level in (60, 128, 200))
    assert near(seen((60, 128, 200), gama(gamma)), wanted)
    assert near(seen((60, 128, 200), gama(gamma), chrm(*SRGB)), wanted)


def test_a_gamma_is_converted_in_grey_in_a_palette_and_under_transparency() -> None:
    wanted = srgb_level(128 / 255)
    assert near(seen(128, gama(1), mode="L"), (wanted,) * 3)
    assert near(seen((128, 90), gama(1), mode="LA"), (wanted, wanted, wanted, 90))
    assert near(seen((128, 128, 128, 90), gama(1), mode="RGBA"), (wanted, wanted, wanted, 90))
    palette = Image.new("RGB", (256, 256), (128, 128, 128)).quantize(2)
    data = with_png_chunks(encoded(palette, "PNG"), gama(1))
    assert near(opened(accept_picture(data).data).getpixel((9, 9)), (wanted,) * 3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "chunks",
    [
        (),
        (gama(0.45455),),
        (gama(0.45455), chrm(*SRGB)),
        (png_chunk(b"sRGB", b"\0"), gama(1)),
        (cicp(1, 13, 0, 1), gama(1)),
        (cicp(2, 2, 0, 1),),
        (png_chunk(b"gAMA", bytes(4)),),
        (png_chunk(b"gAMA", b"\xff"),),
        (chrm(*(0,) * 8),),
        (chrm(0.3, 0.3, *(0.5, 0.4) * 3),),
        (chrm(0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9),),
        (png_chunk(b"cHRM", b"short"),),
        (cicp(12, 13, 1, 1),),
        (png_chunk(b"cICP", b"\x0c"),),
    ],
)
def test_srgb_and_what_is_damaged_leave_every_level_as_it_is(chunks: tuple[bytes, ...]) -> None:
    assert seen((60, 128, 200), *chunks) == (60, 128, 200)


@pytest.mark.parametrize(
    "chunks", [(cicp(12, 13, 0, 1),), (gama(0.45455), chrm(*P3)), (chrm(*P3),)]
)
def test_display_p3_is_converted(chunks: tuple[bytes, ...]) -> None:
    """Linear P3 to linear sRGB is a matrix: (1.2249, -0.2249, 0), (-0.0421, 1.0421, 0), …"""
    assert near(seen((200, 100, 100), *chunks), (214, 93, 97), by=3)
    assert near(seen((128, 128, 128), *chunks), (128, 128, 128), by=2)
    assert seen((255, 255, 255), *chunks) == (255, 255, 255)


def test_rec_2020_is_converted() -> None:
    """A colour inside sRGB, put into Rec. 2020 and back."""
    linear = [((level / 255 + 0.055) / 1.055) ** 2.4 for level in (180, 120, 90)]
    rows = ((0.6274, 0.3293, 0.0433), (0.0691, 0.9195, 0.0114), (0.0164, 0.0880, 0.8956))
    wide = [sum(a * b for a, b in zip(row, linear, strict=True)) for row in rows]
    video = tuple(round(255 * (1.099 * level**0.45 - 0.099)) for level in wide)
    assert near(seen(video, cicp(9, 14, 0, 1)), (180, 120, 90))


@pytest.mark.parametrize(
    ("chunk", "said"),
    [
        (cicp(9, 16, 0, 1), r"HDR picture \(PQ\)"),
        (cicp(9, 18, 0, 1), r"HDR picture \(HLG\)"),
        (cicp(1, 13, 0, 0), "video's range"),
        (cicp(99, 13, 0, 1), "cICP 99, 13"),
        (cicp(1, 99, 0, 1), "cICP 1, 99"),
    ],
)
def test_what_has_no_place_in_srgb_is_refused_in_words(chunk: bytes, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        seen((1, 2, 3), chunk)


def test_an_icc_profile_goes_before_the_chunks() -> None:
    data = encoded(portrait(), "PNG", icc_profile=swapped_profile())
    for chunk in (gama(1), cicp(9, 16, 0, 1)):
        found = opened(accept_picture(with_png_chunks(data, chunk)).data)
        assert corners(found)[:2] == [LIME, RED]


def xmp(orientation: object, *, element: bool = False) -> bytes:
    attribute = "" if element else f' tiff:Orientation="{orientation}"'
    inside = f"<tiff:Orientation>{orientation}</tiff:Orientation>" if element else ""
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description '
        f'xmlns:tiff="http://ns.adobe.com/tiff/1.0/"{attribute}>{inside}</rdf:Description>'
        "</rdf:RDF></x:xmpmeta>"
    ).encode()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("element", [False, True])
def test_orientation_is_read_from_xmp(kind: str, orientation: int, element: bool) -> None:
    stored, packet = turned_for(portrait(), orientation), xmp(orientation, element=element)
    if kind == "PNG":
        chunk = png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet)
        data = with_png_chunks(encoded(stored, kind), chunk)
    else:
        data = encoded(stored, kind, xmp=packet)
    accepted = accept_picture(data)
    assert corners(opened(accepted.data)) == [RED, LIME, BLUE, YELLOW]


def test_a_deflated_xmp_is_read_and_bounded() -> None:
    def chunk(text: bytes) -> bytes:
        deflated = zlib.compress(text, 9)
        return png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + deflated)

    data = encoded(portrait(), "PNG")
    assert accept_picture(with_png_chunks(data, chunk(xmp(6)))).width == 400
    assert accept_picture(with_png_chunks(data, chunk(bytes(1024**2) + xmp(6)))).width == 320
    broken = png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0broken")
    assert accept_picture(with_png_chunks(data, broken)).width == 320


def test_exif_goes_before_xmp_and_nonsense_is_ignored() -> None:
    data = encoded(portrait(), "JPEG", xmp=xmp(6), exif=exif(1))
    assert accept_picture(data).width == 320
    for nonsense in ("9", "0", "66", "", "six"):
        assert accept_picture(encoded(portrait(), "JPEG", xmp=xmp(nonsense))).width == 320
