"""What an images endpoint answered with: read in bounds, checked, and its errors put into ours."""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import openai
from PIL import Image, UnidentifiedImageError

from backend.errors import (
    ContentRejected,
    GatorError,
    ProviderError,
    ProviderNotConfigured,
    ProviderRateLimited,
    ProviderTimeout,
)
from backend.imaging.cloud.retrying import Passing, retry_after

MAX_IMAGE_BYTES = 64 * 1024**2
MAX_ANSWER_BYTES = MAX_IMAGE_BYTES * 4 // 3 + 64 * 1024
MAX_PIXELS = 40_000_000
MAX_TOKENS = 2**40
CHARGED = {"may_be_charged": True}
"""Said of a failure after which the provider may well send a bill."""

_POLICY = ("content_policy", "content policy", "moderation", "content_filter", "safety system")
_POLICY_CODES = frozenset({"ResponsibleAIPolicyViolation", "contentFilter"})
_PASSING_STATUS = frozenset({408, 409, 425, 429})


def place_of(base_url: str) -> str:
    """Return an endpoint as messages name it: without a password, path or query."""
    parts = urlsplit(base_url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


class Answered(NamedTuple):
    """What an answer holds: the picture, or its address instead, and the tokens it counts."""

    data: bytes | None
    url: str | None
    usage: dict[str, Any] | None


def picture_of(body: bytes) -> Answered:
    """Return the picture that an answer holds, or the address it gives instead.

    Raises:
        ProviderError: neither is there, or the picture is no base64.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise ProviderError("the endpoint's answer is not JSON.", CHARGED) from exc
    data = answer.get("data") if isinstance(answer, dict) else None
    first = data[0] if isinstance(data, list) and data else None
    encoded, url = (
        (first.get("b64_json"), first.get("url")) if isinstance(first, dict) else (None, None)
    )
    if isinstance(encoded, str) and encoded:
        try:
            return Answered(base64.b64decode(encoded, validate=True), None, _usage(answer))
        except (binascii.Error, ValueError) as exc:
            raise ProviderError(f"the endpoint's b64_json is not base64: {exc}", CHARGED) from exc
    if isinstance(url, str) and url:
        return Answered(None, url, _usage(answer))
    raise ProviderError("the endpoint answered with neither b64_json nor a URL.", CHARGED)


def _usage(answer: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the tokens that an answer counts, where it does so in full; others count in part."""
    told = answer.get("usage")
    parts = told.get("input_tokens_details") if isinstance(told, dict) else None
    if not isinstance(told, dict) or not isinstance(parts, dict):
        return None
    usage = {name: told.get(name) for name in ("input_tokens", "output_tokens", "total_tokens")}
    details = {name: parts.get(name) for name in ("text_tokens", "image_tokens")}
    counts = [*usage.values(), *details.values()]
    if not all(isinstance(count, int) and 0 <= count < MAX_TOKENS for count in counts):
        return None
    return {**usage, "input_tokens_details": details}


def measured(data: bytes) -> tuple[str, int, int]:
    """Read format and size from the header; nothing is decoded before its size is bounded.

    Raises:
        ProviderError: it is no picture, or one too large.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                message = f"the endpoint sent {width}x{height} pixels, too many."
                raise ProviderError(message, CHARGED)
            image.load()
            return str(image.format).lower(), width, height
    except (
        UnidentifiedImageError,
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
    ) as exc:
        raise ProviderError(f"the endpoint sent no PNG, JPEG or WebP: {exc}", CHARGED) from exc


def translated(exc: openai.APIError, base_url: str) -> GatorError | Passing:
    """Put the SDK's error into ours; one after which to ask again is `Passing`."""
    place = place_of(base_url)
    where: dict[str, Any] = {"base_url": place}
    if isinstance(exc, openai.APITimeoutError):
        return Passing(ProviderTimeout(f"{place} did not answer in time.", where | CHARGED))
    if isinstance(exc, openai.APIStatusError):
        return _of_status(exc, place, where)
    if isinstance(exc, openai.APIConnectionError):
        cause = exc.__cause__
        unsent = type(cause).__name__ in ("ConnectError", "ConnectTimeout")
        details = where if unsent else where | CHARGED
        return Passing(ProviderError(f"{place} cannot be reached: {cause or exc}", details))
    return ProviderError(f"{place} failed: {exc.message[:500]}", where | CHARGED)


def _of_status(
    exc: openai.APIStatusError, place: str, where: Mapping[str, Any]
) -> GatorError | Passing:
    status = exc.status_code
    message = exc.message[:500]
    wait = retry_after(exc.response.headers.get("retry-after"))
    if status in (401, 403):
        # its words are not passed on, for some providers quote the key
        return ProviderNotConfigured(
            f"{place} refuses the key (HTTP status {status}); set GATOR_CLOUD_API_KEY.", where
        )
    if status == 404:
        return ProviderNotConfigured(
            f"{place} has no such model or path; check GATOR_CLOUD_MODEL and "
            f"GATOR_CLOUD_BASE_URL: {message}",
            where,
        )
    if status == 429:
        waiting = {} if wait is None else {"retry_after_s": wait}
        limited = ProviderRateLimited(f"{place} asks to wait.", {**where, **waiting})
        spent = exc.code in ("insufficient_quota", "billing_hard_limit_reached")
        return limited if spent else Passing(limited, wait)
    if status < 500 and _is_policy(exc):
        return ContentRejected(f"{place} refuses this prompt by its policy: {message}", where)
    error = ProviderError(f"{place} failed with HTTP status {status}: {message}", where)
    passes = status >= 500 or status in _PASSING_STATUS
    if exc.response.headers.get("x-should-retry") in ("true", "false"):  # OpenAI and Gator say so
        passes = exc.response.headers["x-should-retry"] == "true"
    return Passing(error, wait) if passes else error


def _is_policy(exc: openai.APIStatusError) -> bool:
    said = f"{exc.code or ''} {exc.type or ''} {exc.message}".lower()
    return exc.code in _POLICY_CODES or any(word in said for word in _POLICY)
