"""Take in a picture from outside: checked, bounded, upright, sRGB, stripped and encoded anew.

Nothing is decoded before its container was walked and its size bounded, and what is kept was
written by us: neither metadata nor whatever was hidden behind the picture comes through. Pictures
above 9 megapixels are decoded in a process of their own, so that this one stays small and outlives
them; below that it is done here. One picture is in work at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from backend.config import child_environment, inherited
from backend.errors import StorageError, TooLarge
from backend.imaging.pictures.apart import COMMAND, receive, send
from backend.imaging.pictures.container import (
    MIMES,
    MIN_SIDE,
    SMALL_PIXELS,
    Container,
    Format,
    refuse,
    signature,
)
from backend.imaging.pictures.jpeg import read_jpeg
from backend.imaging.pictures.png import read_png
from backend.imaging.pictures.redraw import Redrawn, redraw
from backend.imaging.pictures.webp import read_webp

MAX_UPLOAD_BYTES = 20 * 1024**2
_TIMEOUT_S = 30.0
_PASSED_ON = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")

_READERS: Mapping[Format, Callable[[bytes, int], Container]] = {
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


def accept_picture(data: bytes, min_side: int = MIN_SIDE) -> AcceptedPicture:
    """Check a picture from outside and make it ours. Blocks: call it in a thread.

    Args:
        data: the whole file as it was sent.
        min_side: pixels that each side must have; of a base image where left out.

    Raises:
        InvalidRequest: not a still PNG, JPEG or WebP of `min_side` to 8192 pixels a side and at
            most 40 megapixels, or damaged; `details["errors"]` names the field `file`.
        TooLarge: more than 20 MiB.
    """
    check_size(len(data))
    name = signature(data)
    with _one_at_a_time:
        container = _READERS[name](data, min_side)
        small = container.width * container.height <= SMALL_PIXELS
        buffer = io.BytesIO()
        redrawn = redraw(container, buffer.write) if small else _redraw_apart(container, buffer)
    return AcceptedPicture(buffer.getvalue(), *redrawn, MIMES[name])


async def accept_picture_in_turn(data: bytes, min_side: int = MIN_SIDE) -> AcceptedPicture:
    """Do what `accept_picture` does without blocking; many wait in line, not in threads.

    Raises:
        InvalidRequest: as `accept_picture`.
        TooLarge: as `accept_picture`.
    """
    return await asyncio.get_running_loop().run_in_executor(
        _in_turn, accept_picture, data, min_side
    )


def check_size(length: int) -> None:
    """Refuse more bytes than are read; for whoever counts while a file streams in.

    Raises:
        TooLarge: more than 20 MiB.
    """
    if length > MAX_UPLOAD_BYTES:
        message = f"has more than {MAX_UPLOAD_BYTES // 1024**2} MiB; send a smaller picture"
        raise TooLarge(f"file: {message}", {"errors": [{"field": "file", "message": message}]})


def _redraw_apart(container: Container, buffer: io.BytesIO) -> Redrawn:
    """Do what `redraw` does, in a process of its own.

    Raises:
        InvalidRequest: the pixels cannot be decoded, or not within the limits.
        StorageError: no process could be started.
    """
    environment = {"PYTHONPATH": child_environment({})["PYTHONPATH"]}
    environment |= {name: value for name in _PASSED_ON if (value := inherited(name))}
    try:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own line
            [sys.executable, "-c", COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
    except OSError as exc:
        raise StorageError(f"no process could be started to decode a picture: {exc}") from exc
    began = time.monotonic()
    limit = threading.Timer(_TIMEOUT_S, process.kill)
    limit.start()
    try:
        answer = _talk(process, container, buffer)
    finally:
        limit.cancel()
        process.kill()
        process.wait()
    if time.monotonic() - began >= _TIMEOUT_S:
        refuse(f"took more than {_TIMEOUT_S:.0f} s to decode")
    if not answer:
        refuse("cannot be decoded: its decoder gave up")
    if "refused" in answer:
        refuse(answer["refused"])
    return Redrawn(**answer)


def _talk(
    process: subprocess.Popen[bytes], container: Container, buffer: io.BytesIO
) -> dict[str, Any]:
    """Hand the picture over and read the answer; it reads all before it writes."""
    assert process.stdin  # noqa: S101 - a pipe
    assert process.stdout  # noqa: S101 - a pipe
    with process.stdout:
        with contextlib.suppress(BrokenPipeError):
            send(container, process.stdin)
        return receive(process.stdout, buffer)
