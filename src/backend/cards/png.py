"""Cards in PNG files: text chunks `ccv3` and `chara`, and assets in `chara-ext-asset_:`.

The picture is not decoded here. Writers that append without looking leave several chunks of a name,
and readers that take any one of them show an old card; here V3 goes before V2, the first chunk
before the others, and what was passed over is told.
"""

from __future__ import annotations

import binascii
import struct
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from backend.cards.faults import Note, refuse, refuse_size
from backend.cards.limits import (
    MAX_ASSET_BYTES,
    MAX_CHUNKS,
    MAX_ENTRIES,
    MAX_TEXT_CHUNK_BYTES,
    MAX_UNPACKED_BYTES,
)
from backend.cards.names import is_plain

SIGNATURE = b"\x89PNG\r\n\x1a\n"
KEYWORDS = ("ccv3", "chara")
ASSET = "chara-ext-asset_"

_TEXT = (b"tEXt", b"zTXt", b"iTXt")
_MAX_KEYWORD = 79
_MAX_DOCUMENTS = 4
"""How many chunks of one keyword are looked at; each may unpack to a whole document."""

_WHITE = b" \t\r\n\f\v"


class Chunk(NamedTuple):
    """A chunk of a PNG: its name, its body, and all of it as it stands in the file."""

    kind: bytes
    body: memoryview
    whole: memoryview


class PngTexts(NamedTuple):
    """What a PNG holds beside its picture.

    Attributes:
        documents: JSON with the keyword that it stood under; `ccv3` first.
        assets: packed files by their names.
        picture: the same PNG without these chunks.
    """

    documents: list[tuple[str, bytes]]
    assets: dict[str, bytes]
    picture: bytes
    ignored: list[Note]


def read_png(data: bytes) -> PngTexts:
    """Find the cards and assets of a PNG.

    Raises:
        InvalidRequest: it is cut off.
        TooLarge: it has too many chunks, or one of them is too large.
    """
    texts = _Texts()
    kept: list[bytes | memoryview] = [SIGNATURE]
    for chunk in _chunks(data):
        keyword = _keyword(chunk)
        if keyword is None:
            kept.append(chunk.whole)
        elif keyword in KEYWORDS:
            texts.add_document(keyword, chunk)
        else:
            texts.add_asset(keyword, chunk)
    documents = [(keyword, one) for keyword in KEYWORDS for one in texts.documents[keyword]]
    return PngTexts(documents, texts.assets, b"".join(kept), texts.ignored)


def write_png(picture: bytes, documents: Mapping[str, bytes], assets: Mapping[str, bytes]) -> bytes:
    """Put cards and assets into a PNG, in place of those that it has.

    Args:
        picture: a PNG file.
        documents: JSON by keyword, `ccv3` or `chara`.
        assets: files by name, of at most 62 characters of Latin-1.
    """
    bare = read_png(picture).picture
    packed = {f"{ASSET}:{name}": data for name, data in assets.items()} | dict(documents)
    texts = [_text_chunk(name, data) for name, data in packed.items()]
    chunks = [bytes(chunk.whole) for chunk in _chunks(bare)]
    return b"".join([SIGNATURE, *chunks[:-1], *texts, chunks[-1]])


def _text_chunk(keyword: str, data: bytes) -> bytes:
    name = keyword.encode("latin-1")
    if not 0 < len(name) <= _MAX_KEYWORD:
        raise ValueError(f"{keyword!r} is no keyword of a PNG's text")
    body = name + b"\0" + binascii.b2a_base64(data, newline=False)
    checksum = zlib.crc32(body, zlib.crc32(b"tEXt"))
    return struct.pack(">I4s", len(body), b"tEXt") + body + struct.pack(">I", checksum)


def _chunks(data: bytes) -> Iterator[Chunk]:
    view = memoryview(data)
    position = len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        if position + 12 > len(data):
            refuse("is a PNG that is cut off")
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            refuse("is a PNG that is cut off: a chunk claims more bytes than there are")
        yield Chunk(kind, view[position + 8 : end - 4], view[position:end])
        if kind == b"IEND":
            return
        position = end
    refuse_size(f"is a PNG of more than {MAX_CHUNKS:,} chunks")


def _keyword(chunk: Chunk) -> str | None:
    """Return the keyword of a text that matters here, as we spell it."""
    if chunk.kind not in _TEXT:
        return None
    name, zero, _ = bytes(chunk.body[: _MAX_KEYWORD + 1]).partition(b"\0")
    if not zero:
        return None
    keyword = name.decode("latin-1")
    if keyword.lower() in KEYWORDS:
        return keyword.lower()
    return keyword if keyword.startswith(ASSET) else None


class _Texts:
    """Takes the chunks that matter, one after the other, and never more than is allowed."""

    def __init__(self) -> None:
        self.documents: dict[str, list[bytes]] = {keyword: [] for keyword in KEYWORDS}
        self.assets: dict[str, bytes] = {}
        self.ignored: list[Note] = []
        self._looked_at: Counter[str] = Counter()
        self._asset_bytes = 0

    def add_document(self, keyword: str, chunk: Chunk) -> None:
        self._looked_at[keyword] += 1
        if self._looked_at[keyword] > _MAX_DOCUMENTS:
            reason = f"stands more than {_MAX_DOCUMENTS} times; the others were not looked at"
            if self._looked_at[keyword] == _MAX_DOCUMENTS + 1:
                self.ignored.append(Note(keyword, reason))
            return
        document = self._value(keyword, chunk, MAX_TEXT_CHUNK_BYTES)
        if document is not None:
            self.documents[keyword].append(document)

    def add_asset(self, keyword: str, chunk: Chunk) -> None:
        name = keyword.removeprefix(ASSET).removeprefix(":")
        data = self._value(keyword, chunk, MAX_ASSET_BYTES * 4 // 3 + 4)
        if data is None:
            return
        if not is_plain(name) or name in self.assets:
            self.ignored.append(Note(keyword, "is an asset of a name that is taken or unusable"))
            return
        self._asset_bytes += len(data)
        if len(self.assets) >= MAX_ENTRIES or self._asset_bytes > MAX_UNPACKED_BYTES:
            limit = f"{MAX_ENTRIES:,} assets or {MAX_UNPACKED_BYTES // 1024**2} MiB of them"
            refuse_size(f"has more than {limit}")
        self.assets[name] = data

    def _value(self, keyword: str, chunk: Chunk, limit: int) -> bytes | None:
        """Return what a text holds, out of its base64; `None` where it is damaged."""
        if len(chunk.body) > limit + 2 * _MAX_KEYWORD:
            refuse_size(f"has a chunk {keyword} of {len(chunk.body):,} bytes; {limit:,} are read")
        try:
            if zlib.crc32(chunk.body, zlib.crc32(chunk.kind)) != int.from_bytes(chunk.whole[-4:]):
                raise ValueError("its checksum is wrong")
            return _from_base64(_text(chunk, limit))
        except (ValueError, zlib.error) as exc:
            self.ignored.append(Note(keyword, f"is a chunk that cannot be read: {exc}"))
            return None


def _text(chunk: Chunk, limit: int) -> bytes:
    """Return the text of a chunk; image editors make zTXt and iTXt of what was tEXt."""
    rest = bytes(chunk.body).partition(b"\0")[2]
    if chunk.kind == b"tEXt":
        return rest
    if chunk.kind == b"zTXt":
        packed, text = rest[:1] == b"\0", rest[1:]
    else:  # iTXt: whether and how it is packed, two names, and the text
        packed, text = rest[:1] == b"\1", rest[2:].partition(b"\0")[2].partition(b"\0")[2]
        if not packed:
            return text
    if not packed or chunk.body[: len(ASSET)] == ASSET.encode():
        raise ValueError("it is packed in a way that is not read")
    inflater = zlib.decompressobj()
    unpacked = inflater.decompress(text, limit)
    if inflater.unconsumed_tail:
        raise ValueError(f"it unpacks to more than {limit:,} bytes")
    return unpacked


def _from_base64(text: bytes) -> bytes:
    bare = text.translate(None, _WHITE).rstrip(b"=")
    return binascii.a2b_base64(bare + b"=" * (-len(bare) % 4), strict_mode=True)
