"""Errors in the words of the tools that ask: OpenAI's under `/v1`, the web UI's under `/sdapi`.

A client for OpenAI reads `error.message`, `type`, `param` and `code`, and decides by the status
whether to ask again; a problem document would reach its user as "Error code: 422" alone. What is
the request's fault is a 400 there, and a spent budget a 429. Its SDKs also ask again after every
409 and 5xx, three times in all; `x-should-retry` says where that is in vain, so that a picture that
fails for good is not drawn thrice.

What users of other servers of this form complain of is that they speak it halfway: 200 with an
address that is empty, or `usage` with half of its fields. So all that stands under these paths has
the form, also what the server's edge refuses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from backend.errors import (
    ContentRejected,
    GatorError,
    ModelNotAvailable,
    ProviderRateLimited,
    SpendingCapReached,
)

_OPENAI = re.compile(r"/v1(/.*)?")
_WEB_UI = re.compile(r"/sdapi(/.*)?")

_THEIR_FAULT = frozenset({400, 402, 406, 409, 412, 422, 428})
_STATUSES: Mapping[type[GatorError], int] = {SpendingCapReached: 429, ProviderRateLimited: 429}
_TYPES: Mapping[int, str] = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
}
_CODES: Mapping[type[GatorError], str] = {
    ContentRejected: "content_policy_violation",
    ModelNotAvailable: "model_not_found",
    ProviderRateLimited: "rate_limit_exceeded",
    SpendingCapReached: "insufficient_quota",
}
_PARAMS = {
    "file": "image",
    "format": "output_format",
    "height": "size",
    "reference": "image",
    "width": "size",
}
"""What the fields of our own requests are called there."""

_SIZES = ("width", "max_side", "multiple_of")

Spoken = tuple[int, dict[str, Any], dict[str, str]]
"""Status, body and headers of an answer."""


Speak = Callable[[GatorError], Spoken]


def dialect_of(path: str) -> Speak | None:
    """Return the form that errors have under a path, where it is not a problem document."""
    if _OPENAI.fullmatch(path):
        return openai_error
    return web_ui_error if _WEB_UI.fullmatch(path) else None


def _status(kind: type[GatorError]) -> int:
    """Return the status that an OpenAI client understands for a kind of error."""
    known = next((status for one, status in _STATUSES.items() if issubclass(kind, one)), None)
    if known is not None:
        return known
    return 400 if kind.http_status in _THEIR_FAULT else kind.http_status


def _code(kind: type[GatorError]) -> str:
    """Return the code of a kind of error, OpenAI's own where it has one."""
    return next((code for one, code in _CODES.items() if issubclass(kind, one)), kind.code)


def openai_body(exc: GatorError) -> dict[str, Any]:
    """Return an error as OpenAI words it; streams send it in their midst."""
    status = _status(type(exc))
    code = _code(type(exc))
    usual = "invalid_request_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
    kind = code if code == "insufficient_quota" else _TYPES.get(status, usual)
    error = {"message": exc.message, "type": kind, "param": _param(exc), "code": code}
    return {"error": error}


def openai_error(exc: GatorError) -> Spoken:
    """Return an error as an answer in OpenAI's form."""
    retry = {"x-should-retry": "true" if exc.retryable else "false"}
    return _status(type(exc)), openai_body(exc), retry


def web_ui_error(exc: GatorError) -> Spoken:
    """Return an error as the web UI words it, whose scripts show `detail` or `errors`."""
    told = {"error": type(exc).__name__, "detail": exc.message, "body": "", "errors": exc.message}
    return exc.http_status, told, {}


def _param(exc: GatorError) -> str | None:
    faults = exc.details.get("errors") or [{}]
    named = faults[0].get("field") or exc.details.get("field")
    if named is None and isinstance(exc, ModelNotAvailable):
        named = "model"
    if named is None and any(name in exc.details for name in _SIZES):
        named = "size"
    return None if named is None else _PARAMS.get(str(named), str(named))
