"""WebP through the decoding interface of the libwebp that Pillow brings along.

Pillow itself decodes every WebP as an animation: into two canvases, from which it copies twice,
which is 645 MiB for 40 megapixels. Here the pixels are written once, straight into the memory that
Pillow then reads, and any part of them may be asked for alone. The functions are looked up in
Pillow's own extension, so that they are those of the library it was linked with.
"""

from __future__ import annotations

import ctypes
import mmap
from functools import cache

import PIL._webp
from PIL import Image

from backend.imaging.pictures.container import Container

Box = tuple[int, int, int, int]
"""Left, top, right and bottom, in pixels as stored."""

_ABI_VERSION = 0x0208
_RGBA = 1
_FAULTS = (
    "",
    "too little memory",
    "a parameter is wrong",
    "its bitstream is damaged",
    "it has a feature that is not known",
    "it is cut off",
    "it was given up",
    "it is cut off",
)


class _Features(ctypes.Structure):
    """WebPBitstreamFeatures."""

    _fields_ = (
        ("width", ctypes.c_int),
        ("height", ctypes.c_int),
        ("has_alpha", ctypes.c_int),
        ("has_animation", ctypes.c_int),
        ("format", ctypes.c_int),
        ("padding", ctypes.c_uint32 * 5),
    )


class _Rgba(ctypes.Structure):
    """WebPRGBABuffer."""

    _fields_ = (("rgba", ctypes.c_void_p), ("stride", ctypes.c_int), ("size", ctypes.c_size_t))


class _Yuva(ctypes.Structure):
    """WebPYUVABuffer, which is not used, but is the larger one in the union."""

    _fields_ = (
        ("planes", ctypes.c_void_p * 4),
        ("strides", ctypes.c_int * 4),
        ("sizes", ctypes.c_size_t * 4),
    )


class _Samples(ctypes.Union):
    _fields_ = (("rgba", _Rgba), ("yuva", _Yuva))


class _Output(ctypes.Structure):
    """WebPDecBuffer."""

    _fields_ = (
        ("colorspace", ctypes.c_int),
        ("width", ctypes.c_int),
        ("height", ctypes.c_int),
        ("is_external_memory", ctypes.c_int),
        ("samples", _Samples),
        ("padding", ctypes.c_uint32 * 4),
        ("private_memory", ctypes.c_void_p),
    )


class _Options(ctypes.Structure):
    """WebPDecoderOptions."""

    _fields_ = (
        ("bypass_filtering", ctypes.c_int),
        ("no_fancy_upsampling", ctypes.c_int),
        ("use_cropping", ctypes.c_int),
        ("crop_left", ctypes.c_int),
        ("crop_top", ctypes.c_int),
        ("crop_width", ctypes.c_int),
        ("crop_height", ctypes.c_int),
        ("use_scaling", ctypes.c_int),
        ("scaled_width", ctypes.c_int),
        ("scaled_height", ctypes.c_int),
        ("use_threads", ctypes.c_int),
        ("dithering_strength", ctypes.c_int),
        ("flip", ctypes.c_int),
        ("alpha_dithering_strength", ctypes.c_int),
        ("padding", ctypes.c_uint32 * 5),
    )


class _Config(ctypes.Structure):
    """WebPDecoderConfig."""

    _fields_ = (("input", _Features), ("output", _Output), ("options", _Options))


class _Library:
    """The three functions, with their types."""

    def __init__(self, path: str) -> None:
        library = ctypes.CDLL(path)
        self.initialise = library.WebPInitDecoderConfigInternal
        self.initialise.argtypes = (ctypes.POINTER(_Config), ctypes.c_int)
        self.features = library.WebPGetFeaturesInternal
        self.features.argtypes = (
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.POINTER(_Features),
            ctypes.c_int,
        )
        self.decode = library.WebPDecode
        self.decode.argtypes = (ctypes.c_char_p, ctypes.c_size_t, ctypes.POINTER(_Config))


@cache
def _library() -> _Library:
    return _Library(PIL._webp.__file__)


def decode_webp(container: Container, box: Box) -> Image.Image:
    """Return a part of a WebP as RGBA, or as RGBX where it has no transparency.

    Only the part is held; a lossless picture costs its decoder 4 bytes a pixel of the whole beside.

    Args:
        container: the bare picture.
        box: what is wanted; left and top must be even.

    Raises:
        ValueError: its header says something else than its container, or it is damaged.
    """
    library, config = _library(), _Config()
    if not library.initialise(ctypes.byref(config), _ABI_VERSION):
        raise ValueError("libwebp has another interface than the one that is known")
    size = len(container.bare)
    _check(library.features(container.bare, size, ctypes.byref(config.input), _ABI_VERSION))
    if (config.input.width, config.input.height) != (container.width, container.height):
        raise ValueError("its decoder reads another header")
    width, height = box[2] - box[0], box[3] - box[1]
    pixels = mmap.mmap(-1, 4 * width * height)  # not filled with zeros, as a bytearray is
    _point(config, pixels, box)
    _check(library.decode(container.bare, size, ctypes.byref(config)))
    mode = "RGBA" if config.input.has_alpha else "RGBX"
    return Image.frombuffer(mode, (width, height), pixels, "raw", mode, 0, 1)  # type: ignore[arg-type]


def _point(config: _Config, pixels: mmap.mmap, box: Box) -> None:
    """Say which part is wanted, and where it is to be written."""
    width, height = box[2] - box[0], box[3] - box[1]
    options, output = config.options, config.output
    options.use_cropping = 1
    options.crop_left, options.crop_top = box[:2]
    options.crop_width, options.crop_height = width, height
    output.colorspace = _RGBA
    output.is_external_memory = 1
    start = ctypes.addressof(ctypes.c_char.from_buffer(pixels))
    output.samples.rgba = _Rgba(start, 4 * width, len(pixels))


def _check(status: int) -> None:
    if status:
        raise ValueError(_FAULTS[status] if status < len(_FAULTS) else f"libwebp says {status}")
