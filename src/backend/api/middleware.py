"""What surrounds every request: its name, whom it comes from, and how much it may send.

From the outside in: `RequestContext` names the request, logs it and is the last resort for what
nobody foresaw; `LocalGuard` keeps other web pages out; `BodyLimit` bounds what is read.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus
from urllib.parse import SplitResult, urlsplit

import structlog
from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backend.api.problems import UNFORESEEN, problem_response
from backend.errors import Forbidden, GatorError, TooLarge
from backend.logs import get_logger

MAX_BODY_BYTES = 1024 * 1024
LINGER_BYTES = 32 * 1024 * 1024
LINGER_S = 10.0
REQUEST_ID = "X-Request-ID"
_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

log = get_logger(__name__)


class RequestContext:
    """Give each request an id, in the answer and in every log line, and a last resort."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request under its id."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = given if _SANE_REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        status: int | None = None
        started = time.perf_counter()

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, named)
            except Exception:  # the API's edge: logged in full, answered in brief
                log.exception("request.crashed", method=scope["method"], path=scope["path"])
                if status is None:
                    await _refuse(GatorError(UNFORESEEN), scope, receive, named)
            log.info(
                "request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                seconds=round(time.perf_counter() - started, 4),
            )


class LocalGuard:
    """Keep foreign web pages from driving a studio that trusts its own machine.

    A page that rebinds its name to 127.0.0.1 reaches a server there, but cannot hide its name in
    `Host`; so a server reached over loopback answers to loopback names only. And a request that
    changes something must come from no page at all or from one of this server's own.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse one that comes from elsewhere."""
        fault = _foreign(scope) if scope["type"] == "http" else None
        if fault:
            await _refuse(Forbidden(fault), scope, receive, send)
        else:
            await self._app(scope, receive, send)


class BodyLimit:
    """Refuse a body beyond the limit, by its declared length or while it is read.

    Args:
        app: what is served.
        limit_bytes: of all bodies but those of `larger`.
        larger: limits by the pattern of the path.
    """

    def __init__(
        self,
        app: ASGIApp,
        limit_bytes: int = MAX_BODY_BYTES,
        larger: Sequence[tuple[re.Pattern[str], int]] = (),
    ) -> None:
        self._app = app
        self._limit_bytes = limit_bytes
        self._larger = larger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request whose body stays within the limit."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = next((n for path, n in self._larger if path.fullmatch(scope["path"])), None)
        limit = self._limit_bytes if limit is None else limit
        receive, send = _lingering(receive, send)
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > limit:
            await _refuse(_too_large(limit), scope, receive, send)
            return
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > limit:
                # the framework lets its own exceptions through while it reads a body
                raise HTTPException(413, _too_large(limit).message)
            return message

        await self._app(scope, counted, send)


def _lingering(receive: Receive, send: Send) -> tuple[Receive, Send]:
    """Let a client that is still sending read its refusal, before the connection is closed.

    The answer goes out at once. What still comes is thrown away for a while, since a connection
    that is closed with bytes unread is reset, and the answer may be lost with it.
    """
    refused = ended = False

    async def receiving() -> Message:
        nonlocal ended
        message = await receive()
        ended = message["type"] != "http.request" or not message.get("more_body")
        return message

    async def rest() -> None:
        size = 0
        while size <= LINGER_BYTES and not ended:
            size += len((await receiving()).get("body", b""))

    async def sending(message: Message) -> None:
        nonlocal refused
        if message["type"] == "http.response.start":
            refused = message["status"] >= HTTPStatus.BAD_REQUEST and not ended
        if refused and message["type"] == "http.response.body" and not message.get("more_body"):
            await send({**message, "more_body": True})
            with suppress(TimeoutError):
                async with asyncio.timeout(LINGER_S):
                    await rest()
            message = {"type": "http.response.body", "body": b""}
        await send(message)

    return receiving, sending


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is larger than {limit:,} bytes.", {"limit_bytes": limit})


async def _refuse(exc: GatorError, scope: Scope, receive: Receive, send: Send) -> None:
    response = problem_response(exc, path=scope["path"], request_id=scope["state"]["request_id"])
    await response(scope, receive, send)


def _foreign(scope: Scope) -> str | None:
    """Return why a request is not one of ours, if it is not."""
    headers = Headers(scope=scope)
    host = headers.get("host", "")
    server = (scope.get("server") or ("", None))[0]
    if _is_loopback(server) and not _is_loopback(_split("//" + host).hostname or ""):
        return f"this studio serves its own machine and answers to localhost only, not to {host!r}."
    origin = headers.get("origin")
    if scope["method"] not in _SAFE_METHODS and origin and _split(origin).netloc != host:
        return f"a page of {origin} may not change anything in this studio."
    return None


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.hostname
    except ValueError:
        return urlsplit("")
    return parts


def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
