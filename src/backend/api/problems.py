"""The edge where errors become answers: RFC 9457 problems, made from the one error tree.

Nothing internal leaks: a worker's traceback and whatever was not foreseen go to the log, and the
answer carries the request's id, by which they are found there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from backend.api.dialects import dialect_of
from backend.errors import Forbidden, GatorError, InvalidRequest, NotFound, StorageError, TooLarge
from backend.logs import get_logger

MEDIA_TYPE = "application/problem+json"
URN = "urn:gator:problem:"
UNFORESEEN = (
    "Something went wrong that was not foreseen; the log tells more under the request's id."
)
_PRIVATE_DETAILS = frozenset({"traceback"})

log = get_logger(__name__)


class Fault(BaseModel):
    """One faulty field of a request."""

    field: str = Field(description="Its name, nested ones with dots.", examples=["name"])
    message: str = Field(examples=["Field required"])
    location: str | None = Field(
        None, description="`body`, `query`, `path` or `header`, where known.", examples=["body"]
    )


class Problem(BaseModel):
    """An error, as RFC 9457 has it; an error's own details stand beside these fields."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="A URN that names the kind.", examples=[URN + "not_found"])
    title: str = Field(examples=["Not found"])
    status: int = Field(ge=400, le=599, examples=[404])
    detail: str = Field(description="What was wrong, and what to do.")
    instance: str = Field(description="The path that was asked for.")
    code: str = Field(description="The kind, in short; stable.", examples=["not_found"])
    request_id: str = Field(description="As in `X-Request-ID` and in the log.")
    retryable: bool = Field(description="Whether the same request may succeed later.")
    errors: list[Fault] = Field(description="Every faulty field; empty where no field is to blame.")


def problem_response(
    exc: GatorError, *, path: str, request_id: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Turn an error of the tree into an answer; under some paths in the words of other tools."""
    details = {k: v for k, v in exc.details.items() if k not in _PRIVATE_DETAILS}
    body = details | {
        "type": URN + exc.code,
        "title": _title(exc.code),
        "status": exc.http_status,
        "detail": exc.message,
        "instance": path,
        "code": exc.code,
        "request_id": request_id,
        "retryable": exc.retryable,
        "errors": details.get("errors", []),
    }
    sent = dict(headers or {})
    if "retry_after_s" in details:
        sent["Retry-After"] = str(max(1, round(float(details["retry_after_s"]))))
    if exc.http_status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        sent["Connection"] = "close"  # the rest of the body is not waited for
    if exc.http_status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        sent["Content-Range"] = f"bytes */{details['size_bytes']}"
    speak = dialect_of(path)
    status, body, more = speak(exc) if speak else (exc.http_status, body, {})
    # ASCII, since a message may quote text that UTF-8 cannot hold
    content = json.dumps(body, ensure_ascii=True, default=str)
    media_type = "application/json" if speak else MEDIA_TYPE
    return Response(content, status, {**sent, **more}, media_type=media_type)


def problems(
    *kinds: type[GatorError], has_body: bool = False, bare: bool = False
) -> dict[int | str, dict[str, Any]]:
    """Document the errors of a route: its own, and those that every route may give.

    Args:
        *kinds: what its service may raise.
        has_body: whether it reads a body, which can be too large.
        bare: whether it neither takes input nor touches what is stored.
    """
    common = (
        (Forbidden, GatorError) if bare else (InvalidRequest, Forbidden, StorageError, GatorError)
    )
    by_status: dict[int, list[type[GatorError]]] = {}
    for kind in dict.fromkeys((*kinds, *((TooLarge,) if has_body else ()), *common)):
        by_status.setdefault(kind.http_status, []).append(kind)
    return {status: _documented(by_status[status]) for status in sorted(by_status)}


def install_handlers(app: FastAPI) -> None:
    """Answer every error that a route raises with a problem."""
    app.add_exception_handler(GatorError, _on_gator_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_error)


async def _on_gator_error(request: Request, exc: Exception) -> Response:
    error = exc if isinstance(exc, GatorError) else GatorError(str(exc))
    if error.http_status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request.failed", code=error.code, reason=error.message, details=error.details)
    return _answer(request, error)


async def _on_invalid(request: Request, exc: Exception) -> Response:
    found = exc.errors() if isinstance(exc, RequestValidationError) else []
    faults = [_fault(error) for error in found]
    message = "; ".join(f"{fault['field']}: {fault['message']}" for fault in faults)
    return _answer(request, InvalidRequest(message, {"errors": faults}))


async def _on_http_error(request: Request, exc: Exception) -> Response:
    """Answer what the framework refuses by itself: no route, no such method, no readable body.

    What a route leaves without an answer, as there is nothing to say, is no error.
    """
    status = exc.status_code if isinstance(exc, HTTPException) else 500
    headers = exc.headers if isinstance(exc, HTTPException) else None
    path = request.url.path
    error: GatorError
    if status == HTTPStatus.NO_CONTENT:
        return Response(status_code=status)
    if status == HTTPStatus.NOT_FOUND:
        error = NotFound(f"there is nothing at {path}.")
    elif status == HTTPStatus.METHOD_NOT_ALLOWED:
        error = MethodNotAllowed(f"{request.method} is not for {path}.")
    elif status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        error = TooLarge(exc.detail if isinstance(exc, HTTPException) else "")
    elif status == HTTPStatus.BAD_REQUEST:
        message = "is not readable JSON"
        fault = {"field": "body", "message": message, "location": "body"}
        error = InvalidRequest(f"the body {message}.", {"errors": [fault]})
    else:
        error = GatorError(f"{request.method} {path} failed with HTTP status {status}.")
    return _answer(request, error, headers)


class MethodNotAllowed(GatorError):
    """There is something at this path, but not for this method; `Allow` lists those it has."""

    code = "method_not_allowed"
    http_status = 405


def _answer(
    request: Request, error: GatorError, headers: Mapping[str, str] | None = None
) -> Response:
    return problem_response(
        error, path=request.url.path, request_id=request.state.request_id, headers=headers
    )


def _fault(error: Mapping[str, Any]) -> dict[str, str]:
    location, *names = map(str, error["loc"])
    message = str(error["msg"])
    if error["type"] == "json_invalid":
        names = []
        message = f"is not readable JSON: {error['ctx']['error']} at {error['loc'][-1]}"
    return {"field": ".".join(names) or location, "message": message, "location": location}


def _documented(kinds: list[type[GatorError]]) -> dict[str, Any]:
    examples = {
        kind.code: {
            "summary": _title(kind.code),
            "value": {
                "type": URN + kind.code,
                "title": _title(kind.code),
                "status": kind.http_status,
                "detail": first_line(kind),
                "instance": "/api/v1/personas",
                "code": kind.code,
                "request_id": "5f0c2b9d8e7a41d3",
                "retryable": kind.retryable,
                "errors": [],
            },
        }
        for kind in kinds
    }
    return {
        "description": " · ".join(f"`{kind.code}`: {first_line(kind)}" for kind in kinds),
        "content": {
            MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}
        },
    }


def first_line(kind: type[GatorError]) -> str:
    """Return what a kind of error means, in a sentence for the API's document."""
    if kind is GatorError:
        return UNFORESEEN
    return (kind.__doc__ or "").strip().splitlines()[0].partition("; `details")[0]


def _title(code: str) -> str:
    return code.replace("_", " ").capitalize()
