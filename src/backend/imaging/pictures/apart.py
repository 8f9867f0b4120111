"""The process that decodes one large picture: what it needs in memory goes with it.

It is given the picture and nothing else: no environment but the import path, no files, limits on
memory and processor time. It answers with the finished picture or with the refusal.
"""

from __future__ import annotations

import json
import os
import resource
import sys

from backend.errors import InvalidRequest
from backend.imaging.pictures.container import Container
from backend.imaging.pictures.redraw import redraw

COMMAND = "from backend.imaging.pictures.apart import serve; serve()"
MEMORY_BYTES = 1_024 * 1024**2
CPU_S = 30


def pack(container: Container) -> bytes:
    """Return what the process reads: a line of JSON, the profile, the picture."""
    header = {
        "format": container.format,
        "width": container.width,
        "height": container.height,
        "lossless": container.lossless,
        "bit_depth": container.bit_depth,
        "orientation": container.orientation,
        "profile_bytes": len(container.profile),
    }
    return b"".join([json.dumps(header).encode(), b"\n", container.profile, container.bare])


def _unpack(packed: bytes) -> Container:
    header, _, rest = packed.partition(b"\n")
    values = json.loads(header)
    cut = values.pop("profile_bytes")
    return Container(**values, profile=rest[:cut], bare=rest[cut:])


def serve() -> None:
    """Read one picture from standard input, write the answer to standard output."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    container = _unpack(sys.stdin.buffer.read())
    try:
        data, mime, width, height = redraw(container)
        answer = {"mime": mime, "width": width, "height": height}
    except InvalidRequest as exc:
        data, answer = b"", {"refused": exc.message.removeprefix("file: ")}
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
    os._exit(0)
