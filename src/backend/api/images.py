"""Pictures over HTTP: named by id alone, typed by us, never run as a page, cached for good."""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cache-Control": "private, max-age=31536000, immutable",
}
_TYPES = ("image/png", "image/jpeg", "image/webp")

IMAGE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The picture's bytes; the strong `ETag` is their SHA-256.",
        "content": {
            mime: {"schema": {"type": "string", "contentMediaType": mime}} for mime in _TYPES
        },
    },
    304: {"description": "`If-None-Match` names these very bytes."},
}


def image_response(request: Request, *, data: bytes, mime: str, sha256: str) -> Response:
    """Answer with a picture, or with 304 where the client has it."""
    etag = f'"{sha256}"'
    headers = {**_HEADERS, "ETag": etag}
    known = (tag.strip() for tag in request.headers.get("if-none-match", "").split(","))
    if any(tag.removeprefix("W/") in (etag, "*") for tag in known):
        return Response(status_code=304, headers=headers)
    served = mime if mime in _TYPES else "application/octet-stream"
    return Response(data, media_type=served, headers=headers)
