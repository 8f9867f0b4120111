"""Read what a batch is asked for with: one JSON body, or a prompt a line as it comes.

Lines are checked as they arrive and kept in a file until the last one is there, so that memory is
bounded, a request that is cut off asks for nothing, and no slow client holds the database's lock.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import IO, Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from backend.api.batch_schemas import BatchCreate, BatchOptions, BatchQuery
from backend.errors import InvalidRequest, StorageError, TooLarge
from backend.services.batch_service import MAX_ITEMS

MAX_JSON_BYTES = 32 * 1024**2
MAX_LINE_BYTES = 64 * 1024
"""Beyond what the longest prompt takes with every character escaped."""

MAX_LINES_BYTES = 512 * 1024**2
NDJSON = "application/x-ndjson"
_SPOOLED_BYTES = 1024**2


@dataclass(frozen=True, slots=True)
class Lines:
    """Prompts in a file, one JSON text a line; can be gone through once."""

    file: IO[bytes]
    digest: str

    def __iter__(self) -> Iterator[str]:
        """Read them, one at a time."""
        self.file.seek(0)
        return (json.loads(line) for line in self.file)


@dataclass(frozen=True, slots=True)
class BatchBody:
    """What was asked for.

    Attributes:
        prompts: those of the lines; `None` where they stand in `options`, as prompts or a template.
        asked: the whole of it as JSON values, short.
    """

    options: BatchOptions
    prompts: Lines | None
    asked: Any


@asynccontextmanager
async def read_batch(request: Request, query: BatchQuery) -> AsyncIterator[BatchBody]:
    """Read the body of a request for a batch to its end; lines are gone after the block.

    Args:
        request: its body is JSON, or one JSON text a line.
        query: the options that go with lines; a JSON body brings its own.

    Raises:
        TooLarge: more was sent than is read.
        InvalidRequest: it is neither, or not text, or there are no prompts or too many.
        RequestValidationError: a field of the JSON body is wrong.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == NDJSON:
        with tempfile.SpooledTemporaryFile(max_size=_SPOOLED_BYTES) as spool:
            digest = await _spool(request, spool)
            asked = [query.model_dump(mode="json", exclude_unset=True), digest]
            yield BatchBody(query, Lines(spool, digest), asked)
    elif kind == "application/json":
        _refuse_query(request)
        options = _validated(await _whole(request))
        yield BatchBody(options, None, options.model_dump())
    else:
        raise _faulty("body", f"must be application/json, or {NDJSON} with one prompt a line")


async def _whole(request: Request) -> bytes:
    body = bytearray()
    async for piece in _pieces(request):
        body += piece
        if len(body) > MAX_JSON_BYTES:
            raise TooLarge(
                f"the body is larger than {MAX_JSON_BYTES // 1024**2} MiB; send the prompts as "
                f"{NDJSON}.",
                {"limit_bytes": MAX_JSON_BYTES},
            )
    return bytes(body)


def _validated(body: bytes) -> BatchCreate:
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise _faulty("body", f"is not readable JSON: {exc}") from exc
    try:
        wanted = BatchCreate.model_validate(values)
    except ValidationError as exc:
        faults = exc.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError(
            [{**fault, "loc": ("body", *fault["loc"])} for fault in faults]
        ) from exc
    if (wanted.prompts is None) == (wanted.template is None):
        raise _faulty("prompts", "give either prompts or a template")
    if wanted.sample is not None and wanted.template is None:
        raise _faulty("sample", "goes with a template; prompts are all drawn")
    return wanted


async def _spool(request: Request, spool: IO[bytes]) -> str:
    """Copy the lines into a file, checked; return their SHA-256."""
    digest = hashlib.sha256()
    rest = b""
    read = kept = 0
    async for piece in _pieces(request):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            read += 1
            kept += _keep(line, read, spool, digest, kept)
        if len(rest) > MAX_LINE_BYTES:
            raise _long(read + 1)
    kept += _keep(rest, read + 1, spool, digest, kept)
    if not kept:
        raise _faulty("prompts", "has no lines; send one prompt a line, as a JSON text")
    return digest.hexdigest()


def _keep(line: bytes, number: int, spool: IO[bytes], digest: Any, kept: int) -> bool:
    """Check one line and keep it; a blank one is passed over."""
    line = line.strip()
    if not line:
        return False
    if len(line) > MAX_LINE_BYTES:
        raise _long(number)
    if kept >= MAX_ITEMS:
        raise _faulty("prompts", f"has more than {MAX_ITEMS:,} lines")
    try:
        prompt = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise _faulty(f"prompts.{number}", f"line {number} is not readable JSON: {exc}") from exc
    if not isinstance(prompt, str):
        raise _faulty(f"prompts.{number}", f"line {number} is no JSON text")
    digest.update(line + b"\n")
    try:
        spool.write(line + b"\n")
    except OSError as exc:
        raise StorageError(f"the prompts cannot be kept while they come: {exc.strerror}.") from exc
    return True


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    try:
        async for piece in request.stream():
            yield piece
    except ClientDisconnect as exc:
        raise _faulty("body", "was cut off") from exc


def _refuse_query(request: Request) -> None:
    names = sorted(set(request.query_params))
    if names:
        message = f"goes into the body; the query is for {NDJSON}"
        faults = [{"field": name, "message": message, "location": "query"} for name in names]
        raise InvalidRequest(f"{', '.join(names)}: {message}", {"errors": faults})


def _long(number: int) -> TooLarge:
    return TooLarge(
        f"line {number:,} is larger than {MAX_LINE_BYTES:,} bytes.",
        {"limit_bytes": MAX_LINE_BYTES, "line": number},
    )


def _faulty(field: str, message: str) -> InvalidRequest:
    return InvalidRequest(
        f"{field}: {message}",
        {"errors": [{"field": field, "message": message, "location": "body"}]},
    )
