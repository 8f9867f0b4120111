"""`.charx`: a zip with `card.json` and what belongs to it.

The list of entries is bounded before it is read, every entry while it unpacks, and all together.
Nothing is unpacked into a folder.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import NamedTuple, NoReturn

from backend.cards.faults import Note, refusal, refuse, refuse_size
from backend.cards.limits import (
    MAX_ASSET_BYTES,
    MAX_DIRECTORY_BYTES,
    MAX_DOCUMENT_BYTES,
    MAX_ENTRIES,
    MAX_RATIO,
    MAX_UNPACKED_BYTES,
    RATIO_FREE_BYTES,
)
from backend.cards.names import is_plain

DOCUMENT = "card.json"
SIGNATURES = (b"PK\3\4", b"PK\5\6")

_END = b"PK\5\6"
_END_BYTES = 22
_LOCATOR = b"PK\6\7"
_LOCATOR_BYTES = 20
_MAX_COMMENT = 0xFFFF
_ENCRYPTED = 0x1
_LINK, _KIND = 0o120000, 0o170000
_BEGAN = (1980, 1, 1, 0, 0, 0)
_PIECE_BYTES = 64 * 1024


class Unpacked(NamedTuple):
    """What an archive holds.

    Attributes:
        document: the bytes of `card.json`.
        assets: everything else, by name.
    """

    document: bytes
    assets: dict[str, bytes]
    ignored: list[Note]


def has_archive(data: bytes) -> bool:
    """Tell whether bytes end as a zip does; some programs put one behind a JPEG."""
    return _end(data) is not None


def read_archive(data: bytes) -> Unpacked:
    """Unpack an archive into memory.

    Raises:
        InvalidRequest: it is no zip, is encrypted or damaged, or has no `card.json`.
        TooLarge: it has too many entries, or unpacks to more than is read, or is packed so tightly
            that only a bomb is.
    """
    _bound_directory(data)
    ignored: list[Note] = []
    assets: dict[str, bytes] = {}
    document: bytes | None = None
    room = MAX_UNPACKED_BYTES
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for entry in _entries(archive, ignored):
                is_card = entry.filename == DOCUMENT
                limit = MAX_DOCUMENT_BYTES if is_card else MAX_ASSET_BYTES
                unpacked = _unpack(archive, entry, min(limit, room))
                room -= len(unpacked)
                if is_card:
                    document = unpacked
                else:
                    assets[entry.filename] = unpacked
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as exc:
        raise refusal(f"is a zip that cannot be read: {exc}") from exc
    except (zlib.error, struct.error, OSError, LookupError) as exc:
        raise refusal(f"is a zip that is damaged: {exc}") from exc
    if document is None:
        refuse(f"is a zip without {DOCUMENT}; a .charx file has one")
    return Unpacked(document, assets, ignored)


def write_archive(document: bytes | None, assets: Mapping[str, bytes]) -> bytes:
    """Pack a card and what belongs to it; equal contents give equal bytes.

    Args:
        document: `card.json`; `None` for an archive of assets alone.
        assets: by plain name.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        if document is not None:
            _put(archive, DOCUMENT, document)
        for name in sorted(assets):
            if not is_plain(name):
                raise ValueError(f"{name!r} is no plain name")
            _put(archive, name, assets[name])
    return buffer.getvalue()


def read_assets(data: bytes) -> dict[str, bytes]:
    """Unpack an archive that `write_archive` made of assets alone."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


def _put(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    """Add a file, packed where that is worth it and would not pass for a bomb."""
    entry = zipfile.ZipInfo(name, _BEGAN)
    ratio = len(data) / max(1, len(zlib.compress(data, 1)))
    worth = 1.1 < ratio < MAX_RATIO / 2
    entry.compress_type = zipfile.ZIP_DEFLATED if worth else zipfile.ZIP_STORED
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, data)


def _end(data: bytes) -> int | None:
    """Return where an archive's last record stands."""
    at = data.rfind(_END, max(0, len(data) - _END_BYTES - _MAX_COMMENT))
    return at if 0 <= at <= len(data) - _END_BYTES else None


def _bound_directory(data: bytes) -> None:
    end = _end(data)
    if end is None:
        refuse("is a zip that is cut off: its list of entries is missing")
    if data[max(0, end - _LOCATOR_BYTES) : end].startswith(_LOCATOR):
        refuse("is a zip of the 64-bit form, which no card needs")
    entries, size = struct.unpack_from("<HI", data, end + 10)
    if entries > MAX_ENTRIES or size > MAX_DIRECTORY_BYTES:
        refuse_size(f"is a zip of {entries:,} entries; {MAX_ENTRIES:,} are read")


def _entries(archive: zipfile.ZipFile, ignored: list[Note]) -> list[zipfile.ZipInfo]:
    """Return the entries to unpack, each name once; the others are told of."""
    listed = archive.infolist()
    if len(listed) > MAX_ENTRIES:
        refuse_size(f"is a zip of {len(listed):,} entries; {MAX_ENTRIES:,} are read")
    taken: dict[str, zipfile.ZipInfo] = {}
    for entry in listed:
        if entry.flag_bits & _ENCRYPTED:
            refuse("is a zip that is encrypted; pack it without a password")
        if entry.is_dir():
            continue
        if fault := _fault(entry, taken):
            ignored.append(Note(entry.orig_filename[:200], fault))
        elif entry.filename == DOCUMENT and DOCUMENT in taken:
            refuse(f"is a zip that has {DOCUMENT} twice")
        else:
            taken[entry.filename] = entry
    return list(taken.values())


def _fault(entry: zipfile.ZipInfo, taken: Mapping[str, object]) -> str | None:
    if entry.filename != entry.orig_filename or not is_plain(entry.filename):
        return "has a name that leads elsewhere, or that some systems do not take"
    if (entry.external_attr >> 16) & _KIND == _LINK:
        return "is a link, not a file"
    if entry.filename in taken and entry.filename != DOCUMENT:
        return "is there twice; the first one counts"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is packed in a way that is not read"
    return None


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int) -> bytes:
    """Unpack one entry, piece by piece; what it says of its own size is not believed."""
    found = bytearray()
    if entry.file_size > limit:
        _refuse_unpacked(entry, limit)
    allowed = max(RATIO_FREE_BYTES, MAX_RATIO * entry.compress_size)
    with archive.open(entry) as packed:
        while piece := packed.read(_PIECE_BYTES):
            found += piece
            if len(found) > limit:
                _refuse_unpacked(entry, limit)
            if len(found) > allowed:
                refuse_size(f"is a zip that is packed more than {MAX_RATIO} to 1, as bombs are")
    return bytes(found)


def _refuse_unpacked(entry: zipfile.ZipInfo, limit: int) -> NoReturn:
    refuse_size(f"is a zip whose {entry.filename} unpacks to more than {limit:,} bytes")
