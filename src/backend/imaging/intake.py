"""Take in a picture from outside: checked, bounded, upright, sRGB, stripped and encoded anew.

Nothing is decoded before its container was walked and its size bounded, and what is kept was
written by us: neither metadata nor whatever was hidden behind the picture comes through. Pictures
above 9 megapixels are decoded in a process of their own, so that this one stays small and outlives
them; below that it is done here. One picture is in work at a time.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from backend.config import child_environment, inherited
from backend.errors import StorageError, TooLarge
from backend.imaging.pictures.apart import COMMAND, pack
from backend.imaging.pictures.container import (
    MIMES,
    Container,
    Format,
    refusal,
    refuse,
    signature,
)
from backend.imaging.pictures.jpeg import read_jpeg
from backend.imaging.pictures.png import read_png
from backend.imaging.pictures.redraw import SMALL_PIXELS, redraw
from backend.imaging.pictures.webp import read_webp

MAX_UPLOAD_BYTES = 20 * 1024**2
_TIMEOUT_S = 30.0
_PASSED_ON = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")

_READERS: Mapping[Format, Callable[[bytes], Container]] = {
    "PNG": read_png,
    "JPEG": read_jpeg,
    "WEBP": read_webp,
}
_one_at_a_time = threading.Lock()
_in_turn = ThreadPoolExecutor(1, thread_name_prefix="intake")


@dataclass(frozen=True, slots=True)
class AcceptedPicture:
    """A picture that may be stored and served.

    Attributes:
        data: a PNG or JPEG file without metadata, sRGB, upright.
        mime: its type, `image/png` or `image/jpeg`.
        width: pixels a row.
        height: rows.
        original_mime: the type of what was sent.
    """

    data: bytes
    mime: str
    width: int
    height: int
    original_mime: str


def accept_picture(data: bytes) -> AcceptedPicture:
    """Check a picture from outside and make it ours. Blocks: call it in a thread.

    Args:
        data: the whole file as it was sent.

    Raises:
        InvalidRequest: not a still PNG, JPEG or WebP of 256 to 8192 pixels a side and at most 40
            megapixels, or damaged; `details["errors"]` names the field `file`.
        TooLarge: more than 20 MiB.
    """
    check_size(len(data))
    name = signature(data)
    with _one_at_a_time:
        container = _READERS[name](data)
        small = container.width * container.height <= SMALL_PIXELS
        written, mime, width, height = redraw(container) if small else _redraw_apart(container)
    return AcceptedPicture(written, mime, width, height, MIMES[name])


async def accept_picture_in_turn(data: bytes) -> AcceptedPicture:
    """Do what `accept_picture` does without blocking; many wait in line, not in threads.

    Raises:
        InvalidRequest: as `accept_picture`.
        TooLarge: as `accept_picture`.
    """
    return await asyncio.get_running_loop().run_in_executor(_in_turn, accept_picture, data)


def check_size(length: int) -> None:
    """Refuse more bytes than are read; for whoever counts while a file streams in.

    Raises:
        TooLarge: more than 20 MiB.
    """
    if length > MAX_UPLOAD_BYTES:
        message = f"has more than {MAX_UPLOAD_BYTES // 1024**2} MiB; send a smaller picture"
        raise TooLarge(f"file: {message}", {"errors": [{"field": "file", "message": message}]})


def _redraw_apart(container: Container) -> tuple[bytes, str, int, int]:
    """Do what `redraw` does, in a process of its own.

    Raises:
        InvalidRequest: the pixels cannot be decoded, or not within the limits.
        StorageError: no process could be started.
    """
    environment = {"PYTHONPATH": child_environment({})["PYTHONPATH"]}
    environment |= {name: value for name in _PASSED_ON if (value := inherited(name))}
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and our own line
            [sys.executable, "-c", COMMAND],
            input=pack(container),
            capture_output=True,
            env=environment,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise refusal(f"took more than {_TIMEOUT_S:.0f} s to decode") from exc
    except OSError as exc:
        raise StorageError(f"no process could be started to decode a picture: {exc}") from exc
    header, _, data = done.stdout.partition(b"\n")
    if done.returncode or not header:
        refuse("cannot be decoded: its decoder gave up")
    answer = json.loads(header)
    if "refused" in answer:
        refuse(answer["refused"])
    return data, answer["mime"], answer["width"], answer["height"]
