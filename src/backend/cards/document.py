"""JSON from strangers, bounded before it is parsed, and given back as it was.

Depth and number of values are counted on the bytes, since a parser would spend the memory first.
A lone surrogate, which JSON can write and UTF-8 cannot, is kept and written as an escape again.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from backend.cards.faults import FIELD, Note, refuse, refuse_size
from backend.cards.limits import (
    MAX_DEPTH,
    MAX_DOCUMENT_BYTES,
    MAX_TEXT_CHARACTERS,
    MAX_VALUES,
)

Document = dict[str, Any]

_MAX_TOKENS = 5 * MAX_VALUES
"""Texts, brackets and commas; no document of so few values has more."""

_BOM = b"\xef\xbb\xbf"
_TOKENS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?+|[\[\]{},]', re.DOTALL)


def read_document(data: bytes, field: str = FIELD) -> tuple[Document, list[Note]]:
    """Parse a JSON object; return it and what was left out.

    Args:
        data: UTF-8, with or without a byte order mark.
        field: what it is called in a refusal.

    Raises:
        InvalidRequest: it is no JSON object, or nested too deep, or holds what JSON cannot give
            back, such as a number beyond all bounds.
        TooLarge: it, a text in it, or the number of its values is larger than is read.
    """
    if len(data) > MAX_DOCUMENT_BYTES:
        refuse_size(f"has more than {MAX_DOCUMENT_BYTES // 1024**2} MiB of JSON", field)
    _bound(data, field)
    notes: list[Note] = []

    def paired(pairs: list[tuple[str, Any]]) -> Document:
        made = dict(pairs)
        if len(made) != len(pairs) and not notes:
            notes.append(Note(field, "has a key twice in one object; the last one counts"))
        return made

    try:
        text = data.removeprefix(_BOM).decode()
        found = json.loads(
            text, object_pairs_hook=paired, parse_constant=_no_number, parse_float=_finite
        )
    except UnicodeDecodeError:
        refuse("is not UTF-8 text", field)
    except ValueError as exc:
        refuse(f"is not readable JSON: {exc}", field)
    if not isinstance(found, dict):
        refuse("is JSON, but no object", field)
    _bound_texts(found, field)
    return found, notes


def write_document(document: Mapping[str, Any]) -> bytes:
    """Write JSON as UTF-8; as ASCII where a text holds what UTF-8 cannot."""
    try:
        return json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        return json.dumps(document, allow_nan=False).encode()


def own_document(text: str) -> Document:
    """Parse what `write_document` wrote; it was bounded when it came."""
    found: Document = json.loads(text)
    return found


def walk(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value with its dotted path, without recursion."""
    waiting = [(path, value)]
    while waiting:
        at, one = waiting.pop()
        yield at, one
        if isinstance(one, dict):
            waiting += [(f"{at}.{key}" if at else key, inner) for key, inner in one.items()]
        elif isinstance(one, list):
            waiting += [(f"{at}[{i}]", inner) for i, inner in enumerate(one)]


def _bound(data: bytes, field: str) -> None:
    """Count brackets and commas outside of texts."""
    depth = values = 0
    for count, token in enumerate(_TOKENS.finditer(data)):
        sign = data[token.start()]
        if sign in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                refuse(f"is nested more than {MAX_DEPTH} deep", field)
        elif sign in b"]}":
            depth -= 1
        values += sign in b"[{,"
        if values > MAX_VALUES or count > _MAX_TOKENS:
            refuse_size(f"has more than {MAX_VALUES:,} values", field)


def _bound_texts(document: Document, field: str) -> None:
    for path, value in walk(document):
        if isinstance(value, str) and len(value) > MAX_TEXT_CHARACTERS:
            if not value.startswith("data:"):
                refuse_size(f"{path} has more than {MAX_TEXT_CHARACTERS:,} characters", field)
        elif isinstance(value, dict) and any(len(key) > MAX_TEXT_CHARACTERS for key in value):
            refuse_size(f"{path or 'it'} has a key that is too long", field)


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is beyond all bounds")
    return value
