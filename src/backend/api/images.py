"""Pictures over HTTP: named by id alone, typed by us, never run as a page, cached for good."""

from __future__ import annotations

import re
from typing import Any

from fastapi import Request, Response

from backend.errors import GatorError

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cache-Control": "private, max-age=31536000, immutable",
}
_RANGE = re.compile(r"bytes\s*=\s*(\d{0,15})\s*-\s*(\d{0,15})")
_TYPES = ("image/png", "image/jpeg", "image/webp")

IMAGE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The picture's bytes; the strong `ETag` is their SHA-256.",
        "content": {
            mime: {"schema": {"type": "string", "contentMediaType": mime}} for mime in _TYPES
        },
    },
    206: {
        "description": "The part that `Range` asks for.",
        "content": {
            mime: {"schema": {"type": "string", "contentMediaType": mime}} for mime in _TYPES
        },
    },
    304: {"description": "`If-None-Match` names these very bytes."},
}


def image_response(request: Request, *, data: bytes, mime: str, sha256: str) -> Response:
    """Answer with a picture, with the part of it that is asked for, or with 304.

    Raises:
        RangeNotSatisfiable: the part lies beyond the end.
    """
    etag = f'"{sha256}"'
    headers = {**_HEADERS, "ETag": etag, "Accept-Ranges": "bytes"}
    known = (tag.strip() for tag in request.headers.get("if-none-match", "").split(","))
    if any(tag.removeprefix("W/") in (etag, "*") for tag in known):
        return Response(status_code=304, headers=headers)
    served = mime if mime in _TYPES else "application/octet-stream"
    part = _part(request.headers.get("range"), len(data))
    if part is None or request.headers.get("if-range", etag) != etag:
        return Response(data, media_type=served, headers=headers)
    if not part:
        raise RangeNotSatisfiable(f"the picture has {len(data)} bytes.", {"size_bytes": len(data)})
    headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{len(data)}"
    return Response(data[part.start : part.stop], 206, headers, media_type=served)


class RangeNotSatisfiable(GatorError):
    """The part of the picture that is asked for lies beyond its end."""

    code = "range_not_satisfiable"
    http_status = 416


def _part(header: str | None, size: int) -> range | None:
    """Return the bytes that `Range` asks for; `None` for all, an empty range for none there are.

    Several parts at once are not served as such, which RFC 9110 allows: the whole is.
    """
    match = _RANGE.fullmatch((header or "").strip())
    if not match or not (match[1] or match[2]):
        return None
    first, last = match[1], match[2]
    if not first:
        return range(max(0, size - int(last)), size)
    if last and int(last) < int(first):
        return None
    return range(min(int(first), size), min(int(last or size - 1) + 1, size))
