"""The process that decodes one large picture: what it needs in memory goes with it.

It is given the picture and nothing else: no environment but the import path, no files, limits on
memory and processor time. It answers with the picture, part by part as it is finished, or with the
refusal.
"""

from __future__ import annotations

import io
import json
import os
import resource
import sys
from typing import IO, Any

from backend.errors import InvalidRequest
from backend.imaging.pictures.container import Container
from backend.imaging.pictures.redraw import redraw

COMMAND = "from backend.imaging.pictures.apart import serve; serve()"
MEMORY_BYTES = 512 * 1024**2
CPU_S = 30


def send(container: Container, pipe: IO[bytes]) -> None:
    """Write what the process reads, and close: a line of JSON, the profile, the picture."""
    header = {
        "format": container.format,
        "width": container.width,
        "height": container.height,
        "lossless": container.lossless,
        "bit_depth": container.bit_depth,
        "orientation": container.orientation,
        "halved_colour": container.halved_colour,
        "profile_bytes": len(container.profile),
    }
    with pipe:
        pipe.write(json.dumps(header).encode() + b"\n" + container.profile)
        for part in container.parts:
            pipe.write(part)


def _receive(pipe: IO[bytes]) -> Container:
    values = json.loads(pipe.readline())
    profile = pipe.read(values.pop("profile_bytes"))
    return Container(**values, profile=profile, parts=(pipe.read(),))


def serve() -> None:
    """Read one picture from standard input, write the answer to standard output.

    The answer is written as it is made, so that it is not in memory twice.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    container = _receive(sys.stdin.buffer)
    try:
        answer = redraw(container, _send_part)._asdict()
    except InvalidRequest as exc:
        answer = {"refused": exc.message.removeprefix("file: ")}
    _send_part(b"")
    sys.stdout.buffer.write(json.dumps(answer).encode())
    sys.stdout.buffer.flush()
    os._exit(0)


def _send_part(part: bytes) -> None:
    sys.stdout.buffer.write(len(part).to_bytes(4) + part)


def receive(pipe: IO[bytes], buffer: io.BytesIO) -> dict[str, Any]:
    """Read the answer: parts of the picture into the buffer, until an empty one; then a JSON value.

    Returns:
        What the picture is, or why it was refused; nothing where the process ended before.
    """
    while length := int.from_bytes(pipe.read(4)):
        buffer.write(pipe.read(length))
    try:
        return dict(json.loads(pipe.read()))
    except ValueError:
        return {}
