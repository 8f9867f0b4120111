"""What an upload has to be, and what is left of it."""

from __future__ import annotations

import asyncio
import io
import struct
import time
import zlib

import pytest
from PIL import Image

from backend.errors import GatorError, InvalidRequest, TooLarge
from backend.imaging.intake import (
    MAX_UPLOAD_BYTES,
    AcceptedPicture,
    accept_picture,
    accept_picture_in_turn,
)
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
    png_of,
    portrait,
    swapped_profile,
    with_jpeg_segments,
    with_png_chunks,
)


def refusal(data: bytes) -> str:
    with pytest.raises(InvalidRequest) as caught:
        accept_picture(data)
    (error,) = caught.value.details["errors"]
    assert error["field"] == "file"
    assert caught.value.message == f"file: {error['message']}"
    return str(error["message"])


@pytest.mark.parametrize(
    ("kind", "options", "mime"),
    [
        ("PNG", {}, "image/png"),
        ("JPEG", {"quality": 95}, "image/jpeg"),
        ("JPEG", {"progressive": True}, "image/jpeg"),
        ("WEBP", {}, "image/jpeg"),
        ("WEBP", {"lossless": True}, "image/png"),
    ],
)
def test_the_three_formats_are_taken(kind: str, options: dict[str, object], mime: str) -> None:
    accepted = accept_picture(encoded(portrait(), kind, **options))
    assert (accepted.mime, accepted.width, accepted.height) == (mime, 320, 400)
    assert accepted.original_mime == f"image/{kind.lower()}"
    picture = opened(accepted.data)
    assert (f"image/{picture.format}".lower(), picture.mode) == (mime, "RGB")
    assert corners(picture) == [RED, LIME, BLUE, YELLOW]


def test_a_lossless_picture_keeps_every_pixel() -> None:
    picture = noise(300, 300)
    for data in (encoded(picture, "PNG"), encoded(picture, "WEBP", lossless=True)):
        assert opened(accept_picture(data).data).tobytes() == picture.tobytes()


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"", "empty"),
        (b"GIF89a" + bytes(100), "a GIF"),
        (b"%PDF-1.7\n", "a PDF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG"),
        (b"\xef\xbb\xbf <?xml version='1.0'?><svg/>", "an XML document"),
        (b"<!DOCTYPE HTML><script>alert(1)</script>", "a web page"),
        (b"BM" + bytes(100), "a BMP"),
        (b"\0\0\0\x20ftypavif" + bytes(50), "HEIC, AVIF"),
        (b"PK\3\4" + bytes(50), "a ZIP"),
        (b"just words", "not a picture"),
        (b"\x89PNG\r\n\x1a\n", "cut off"),
        (b"\xff\xd8\xff", "cut off"),
        (b"RIFF\4\0\0\0WEBP", "without pixels"),
    ],
)
def test_what_is_something_else_is_refused_by_its_name(data: bytes, named: str) -> None:
    assert named in refusal(data)


def test_a_signature_that_lies_is_refused() -> None:
    jpeg = encoded(portrait(), "JPEG")
    refusal(b"\x89PNG\r\n\x1a\n" + jpeg)
    refusal(b"RIFF" + struct.pack("<I", len(jpeg) + 4) + b"WEBP" + jpeg)
    refusal(b"\xff\xd8\xff" + encoded(portrait(), "PNG"))


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ((255, 400), "each side must have 256 to 8192"),
        ((400, 255), "each side must have 256 to 8192"),
        ((8193, 300), "each side must have 256 to 8192"),
        ((8192, 4883), "at most 40"),
        ((65_000, 65_000), "each side"),
        ((2**31 - 1, 2**31 - 1), "each side"),
        ((0, 0), "each side"),
    ],
)
def test_the_size_is_bounded_by_the_header_alone(size: tuple[int, int], said: str) -> None:
    assert said in refusal(png_of(*size, rows=0))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_the_size_is_bounded_in_the_other_formats_too(kind: str) -> None:
    assert "each side" in refusal(encoded(Image.new("RGB", (200, 300)), kind))
    assert "each side" in refusal(encoded(Image.new("RGB", (9000, 300)), kind))


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP"])
def test_a_picture_that_others_start_from_may_be_smaller(name: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 128), "teal").save(buffer, name)
    with pytest.raises(InvalidRequest, match="each side must have 256 to 8192"):
        accept_picture(buffer.getvalue())
    assert accept_picture(buffer.getvalue(), 16).height == 128
    with pytest.raises(InvalidRequest, match="each side must have 17 to 8192"):
        accept_picture(buffer.getvalue(), 17)


def test_the_smallest_and_the_largest_are_taken() -> None:
    assert accept_picture(png_of(256, 256)).width == 256
    large = accept_picture(png_of(8192, 4882))
    assert (large.width, large.height, large.mime) == (8192, 4882, "image/jpeg")


def test_twenty_mebibytes_are_taken_and_no_more() -> None:
    png = encoded(portrait(), "PNG")
    filled = with_png_chunks(png, png_chunk(b"teXt", bytes(MAX_UPLOAD_BYTES - len(png) - 12)))
    assert len(filled) == MAX_UPLOAD_BYTES
    assert accept_picture(filled).width == 320
    with pytest.raises(TooLarge) as caught:
        accept_picture(filled + b"\0")
    assert caught.value.details["errors"][0]["field"] == "file"


def test_animation_and_several_pictures_are_refused() -> None:
    frames = [portrait(), portrait().rotate(180)]
    many = {"save_all": True, "append_images": frames[1:]}
    assert "animated PNG" in refusal(encoded(frames[0], "PNG", **many))
    assert "animated WebP" in refusal(encoded(frames[0], "WEBP", **many))
    assert "several pictures" in refusal(encoded(frames[0], "MPO", **many))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_png_mode_becomes_eight_bit_rgb(mode: str) -> None:
    if mode == "I;16":
        samples = bytes(range(256)) * (320 * 400 * 2 // 256)
        source = Image.frombytes("I;16", (320, 400), samples)
        wanted = bytes(samples[1::2])
        assert opened(accept_picture(encoded(source, "PNG")).data).getchannel(0).tobytes() == wanted
        return
    source = portrait(mode=mode)
    found = opened(accept_picture(encoded(source, "PNG")).data)
    assert found.mode == "RGB"
    assert found.tobytes() == source.convert("RGB").tobytes()


@pytest.mark.parametrize(
    ("depth", "colour"),
    [
        *((depth, 0) for depth in (1, 2, 4, 8, 16)),
        *((depth, 3) for depth in (1, 2, 4, 8)),
        *((depth, colour) for depth in (8, 16) for colour in (2, 4, 6)),
    ],
)
@pytest.mark.parametrize("interlace", [0, 1])
def test_every_depth_and_colour_type_of_png_is_taken(
    depth: int, colour: int, interlace: int
) -> None:
    data = png_of(300, 301, depth=depth, colour=colour, interlace=interlace, rows=700)
    assert (accept_picture(data).width, accept_picture(data).mime) == (300, "image/png")


def test_a_palette_keeps_its_transparency() -> None:
    picture = portrait().quantize(16)
    data = encoded(picture, "PNG", transparency=picture.getpixel((20, 20)))
    found = opened(accept_picture(data).data)
    assert found.mode == "RGBA"
    assert found.getpixel((20, 20))[3] == 0  # type: ignore[index]
    assert found.getpixel((300, 20)) == (*LIME, 255)


@pytest.mark.parametrize(("depth", "level"), [(1, 1), (2, 2), (4, 9), (8, 200), (16, 51_400)])
def test_the_transparent_grey_is_found_at_every_depth(depth: int, level: int) -> None:
    line = bytes([level << (8 - depth) & 0xFF]) if depth <= 8 else struct.pack(">H", level)
    rows = (b"\0" + line.ljust(300 * max(depth, 8) // 8, b"\0")[: (300 * depth + 7) // 8]) * 300
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 300, 300, depth, 0, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"tRNS", struct.pack(">H", level))
    data += png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    found = opened(accept_picture(data).data)
    assert found.getpixel((0, 5))[3] == 0  # type: ignore[index]
    assert found.getpixel((250, 5)) == (0, 0, 0, 255)


def test_opaque_alpha_is_dropped_and_real_transparency_kept() -> None:
    assert opened(accept_picture(encoded(portrait(mode="RGBA"), "PNG")).data).mode == "RGB"
    half = portrait(mode="RGBA")
    half.putalpha(128)
    for kind in ("PNG", "WEBP"):
        accepted = accept_picture(encoded(half, kind))
        assert accepted.mime == "image/png"
        assert opened(accepted.data).getchannel("A").getextrema() == (128, 128)


def test_large_transparent_pictures_are_laid_on_white() -> None:
    accepted = accept_picture(encoded(Image.new("RGBA", (3100, 3000), (0, 0, 0, 0)), "PNG"))
    assert accepted.mime == "image/jpeg"
    assert opened(accepted.data).getextrema() == ((255, 255),) * 3


def test_cmyk_becomes_srgb() -> None:
    found = opened(accept_picture(encoded(portrait(mode="CMYK"), "JPEG", quality=95)).data)
    assert found.mode == "RGB"
    assert corners(found) == [RED, LIME, BLUE, YELLOW]


def test_an_rgb_profile_in_a_cmyk_file_is_ignored() -> None:
    data = encoded(portrait(mode="CMYK"), "JPEG", quality=95, icc_profile=swapped_profile())
    assert corners(opened(accept_picture(data).data)) == [RED, LIME, BLUE, YELLOW]


def test_previews_and_gain_maps_do_not_make_several_pictures() -> None:
    def index(kind: int) -> bytes:
        entries = struct.pack("<IIIHH", 0x030000, 1, 0, 0, 0)
        entries += struct.pack("<IIIHH", kind << 16, 1, 1, 0, 0)
        fields = struct.pack("<HHII", 0xB001, 4, 1, 2) + struct.pack("<HHII", 0xB002, 7, 32, 38)
        return b"MPF\0II*\0" + struct.pack("<IH", 8, 2) + fields + bytes(4) + entries

    jpeg = encoded(portrait(), "JPEG")
    assert accept_picture(with_jpeg_segments(jpeg, (0xE2, index(1)))).width == 320
    assert "several" in refusal(with_jpeg_segments(jpeg, (0xE2, index(2))))
    assert "several" in refusal(with_jpeg_segments(jpeg, (0xE2, index(0))))
    gain_map = (0xE1, b'http://ns.adobe.com/xap/1.0/\0<x hdrgm:Version="1.0"/>')
    assert accept_picture(with_jpeg_segments(jpeg, (0xE2, index(0)), gain_map)).width == 320


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_truncated_file_is_refused(kind: str) -> None:
    data = encoded(noise(300, 300), kind)
    for share in (0.1, 0.5, 0.9, 0.999):
        refusal(data[: int(len(data) * share)])


def test_pixels_that_end_early_are_refused() -> None:
    for rows in (1, 150, 299):
        assert "end early" in refusal(png_of(300, 300, rows=rows))
        assert "end early" in refusal(png_of(300, 300, interlace=1, rows=rows))


def test_a_wrong_checksum_is_refused() -> None:
    png = bytearray(encoded(noise(300, 300), "PNG"))
    png[len(png) // 2] ^= 1
    assert "checksum" in refusal(bytes(png))


def test_texts_are_neither_read_nor_limited() -> None:
    bomb = png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50 * 1024**2), 9))
    many = [png_chunk(b"iTXt", b"key%d\0\0\0\0\0value" % n) for n in range(5_000)]
    assert accept_picture(with_png_chunks(encoded(portrait(), "PNG"), bomb, *many)).width == 320
    comments = [(0xFE, b"x" * 60_000), (0xE1, exif(1)), (0xED, b"Photoshop 3.0\0" * 90)] * 100
    assert accept_picture(with_jpeg_segments(encoded(portrait(), "JPEG"), *comments)).width == 320


@pytest.mark.parametrize(
    "data",
    [
        with_png_chunks(encoded(portrait(), "PNG"), *[png_chunk(b"teXt", b"")] * 50_001),
        with_jpeg_segments(encoded(portrait(), "JPEG"), *[(0xFE, b"")] * 4_097),
        with_jpeg_segments(encoded(portrait(), "JPEG"), *[(0xDB, bytes(65)) for _ in range(4_050)]),
    ],
    ids=["chunks", "segments", "tables"],
)
def test_more_parts_than_a_picture_needs_are_refused(data: bytes) -> None:
    assert "more" in refusal(data)


def test_a_jpeg_of_too_many_passes_is_refused() -> None:
    jpeg = encoded(noise(300, 300), "JPEG", progressive=True)
    last = jpeg.rindex(b"\xff\xda")
    assert "passes" in refusal(jpeg[:-2] + jpeg[last:-2] * 40 + b"\xff\xd9")


def test_a_large_picture_that_is_damaged_is_refused_by_its_own_process() -> None:
    jpeg = bytearray(encoded(noise(3100, 3000), "JPEG"))
    start = jpeg.index(b"\xff\xc4") + 5
    jpeg[start : start + 16] = b"\xff" * 16
    assert "cannot be decoded" in refusal(bytes(jpeg))


def test_the_answer_is_the_same_every_time() -> None:
    data = encoded(noise(300, 300), "JPEG", exif=exif(6))
    assert accept_picture(data) == accept_picture(data)
    assert isinstance(accept_picture(data), AcceptedPicture)


def test_refusals_are_of_the_one_tree() -> None:
    with pytest.raises(GatorError):
        accept_picture(io.BytesIO(b"\xff\xd8\xff\xe0").getvalue())


async def test_many_wait_in_line_and_the_loop_goes_on() -> None:
    data = encoded(noise(600, 600), "PNG")
    waiting = asyncio.gather(*(accept_picture_in_turn(data) for _ in range(20)))
    longest, last = 0.0, time.monotonic()
    while not waiting.done():
        await asyncio.sleep(0.005)
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    assert len({accepted.data for accepted in await waiting}) == 1
    assert longest < 0.5
    with pytest.raises(InvalidRequest):
        await accept_picture_in_turn(b"nothing")
