"""Read a form with one file, as it arrives, into bounded memory.

The file is the part that is named `file`, whatever its own file name says, or whether it has one;
that name is not read at all. What is beyond the cap is refused in the moment it is passed.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, NamedTuple

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser
from starlette.requests import ClientDisconnect

from backend.errors import InvalidRequest, TooLarge

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_FILE_BYTES = 20 * 1024**2
MAX_FIELD_BYTES = 16 * 1024
MAX_PARTS = 32
MAX_HEADER_BYTES = 512 * 1024
"""Of a part; a file name as long as this is nobody's, and is not a reason to refuse."""

OVERHEAD_BYTES = 1024**2
"""What a form may hold beside the file."""

_SPOOLED_BYTES = 1024**2
_PARAMETER = re.compile(rb';\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)\s*=\s*("(?:\\.|[^"\\])*"|[^;]*)')
_BOUNDARY = re.compile(rb'(?i)multipart/form-data\b.*?;\s*boundary=("([^"]{1,70})"|([^;\s]{1,70}))')


class Form(NamedTuple):
    """A form that was read: the file, rewound, if it has one, and the other fields' text."""

    file: IO[bytes] | None
    fields: Mapping[str, str]

    def digest(self) -> str:
        """Return the file's SHA-256, and rewind it."""
        found = hashlib.sha256()
        if self.file is not None:
            while piece := self.file.read(_SPOOLED_BYTES):
                found.update(piece)
            self.file.seek(0)
        return found.hexdigest()


class Parts(NamedTuple):
    """Names of parts that mean something.

    Attributes:
        aliases: other names that a part may have, and its own.
        refused: parts that are not read, as they may be large, and why.
    """

    aliases: Mapping[str, str] = MappingProxyType({})
    refused: Mapping[str, str] = MappingProxyType({})


NOTHING_KNOWN = Parts()


@asynccontextmanager
async def read_form(
    request: Request,
    *,
    file_field: str = "file",
    parts: Parts = NOTHING_KNOWN,
    limit_bytes: int = MAX_FILE_BYTES,
) -> AsyncIterator[Form]:
    """Read a `multipart/form-data` body to its end; the file is gone after the block.

    Args:
        request: the form.
        file_field: the name of the part that is the file.
        parts: what else is known of parts by their names.
        limit_bytes: of the file.

    Raises:
        TooLarge: the file, or the body, is larger than is read.
        InvalidRequest: the body is no such form, or a field is there twice, or is refused.
    """
    match = _BOUNDARY.match(request.headers.get("content-type", "").encode("latin-1"))
    if not match:
        raise _faulty("body", f"must be multipart/form-data with a field `{file_field}`")
    with tempfile.SpooledTemporaryFile(max_size=_SPOOLED_BYTES) as spool:
        reader = _Reader(spool, file_field, parts, limit_bytes)
        await _parse(request, match[2] or match[3], reader)
        spool.seek(0)
        yield Form(spool if reader.has_file else None, reader.texts())


async def _parse(request: Request, boundary: bytes, reader: _Reader) -> None:
    parser = MultipartParser(
        boundary,
        reader.callbacks(),
        max_header_count=MAX_PARTS,
        max_header_size=MAX_HEADER_BYTES,
    )
    try:
        async for piece in request.stream():
            parser.write(piece)
        parser.finalize()
    except FormParserError as exc:
        raise _faulty("body", f"is not readable multipart/form-data: {exc}") from exc
    except ClientDisconnect as exc:
        raise _faulty("body", "was cut off") from exc
    if not reader.ended:
        raise _faulty("body", "ends before its form does")


class _Reader:
    """Takes a parser's parts: the file into the spool, the fields into memory."""

    def __init__(self, spool: IO[bytes], file_field: str, known: Parts, limit_bytes: int) -> None:
        self.ended = False
        self.has_file = False
        self._spool = spool
        self._file_field = file_field
        self._known = known
        self._limit_bytes = limit_bytes
        self._file_bytes = 0
        self._parts = 0
        self._fields: dict[str, bytearray] = {}
        self._into: bytearray | None = None
        self._header = bytearray()
        self._value = bytearray()
        self._disposition = b""

    def callbacks(self) -> MultipartCallbacks:
        """Return the methods under the names that the parser calls them by."""
        return {
            "on_part_begin": self._on_part_begin,
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_end": self._on_end,
        }

    def texts(self) -> dict[str, str]:
        """Return the fields as text.

        Raises:
            InvalidRequest: one is not UTF-8.
        """
        found = {}
        for name, value in self._fields.items():
            try:
                found[name] = value.decode()
            except UnicodeDecodeError as exc:
                raise _faulty(name, "is not UTF-8 text") from exc
        return found

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise _faulty("body", f"has more than {MAX_PARTS} parts")
        self._disposition = b""
        self._header.clear()
        self._value.clear()

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _on_headers_finished(self) -> None:
        name = _name(self._disposition)
        if name is None:
            raise _faulty("body", "has a part without a name")
        name = self._known.aliases.get(name, name)
        if reason := self._known.refused.get(name):
            raise _faulty(name, reason)
        if name in self._fields or (name == self._file_field and self.has_file):
            raise _faulty(name, "is there twice")
        if name == self._file_field:
            self.has_file, self._into = True, None
        else:
            self._into = self._fields[name] = bytearray()

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._into is not None:
            self._into += data[start:end]
            if len(self._into) > MAX_FIELD_BYTES:
                raise TooLarge(f"a field of the form is larger than {MAX_FIELD_BYTES:,} bytes.")
            return
        self._file_bytes += end - start
        if self._file_bytes > self._limit_bytes:
            raise TooLarge(
                f"the file is larger than {self._limit_bytes // 1024**2} MiB.",
                {"limit_bytes": self._limit_bytes, "field": self._file_field},
            )
        self._spool.write(data[start:end])

    def _on_end(self) -> None:
        self.ended = True


def _name(disposition: bytes) -> str | None:
    """Return the name in a part's `Content-Disposition`; a file name is passed over."""
    for key, value in _PARAMETER.findall(disposition):
        if key.lower() == b"name":
            text = value.strip()
            if text.startswith(b'"'):
                text = re.sub(rb"\\(.)", rb"\1", text[1:-1])
            return str(text.decode("utf-8", "replace"))[:200]
    return None


def _faulty(field: str, message: str) -> InvalidRequest:
    return InvalidRequest(
        f"{field}: {message}",
        {"errors": [{"field": field, "message": message, "location": "body"}]},
    )
