"""Content-addressed blobs. A key is the SHA-256 of the bytes, so nothing is ever overwritten.

ab/cdef…                 a blob
thumbs/<sha256>/<name>   what was made of it and can be made again, behind its own SHA-256
tmp/                     writes that were never finished
damaged/                 what had other bytes than its name, moved aside
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from backend.errors import NotFound, StorageError
from backend.storage.bucket import open_bucket
from backend.storage.local import TEMPORARY, LocalFolder
from backend.storage.place import Entry, Place

_SHA256 = re.compile(r"[0-9a-f]{64}")
_BLOB = re.compile(r"([0-9a-f]{2})/([0-9a-f]{62})")
_DERIVED = re.compile(r"thumbs/([0-9a-f]{64})/[a-z0-9]+")
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class BlobEntry:
    """A stored blob, its bytes not yet looked at."""

    sha256: str
    size_bytes: int
    modified: datetime


def open_blobs(url: str | None, default: Path) -> BlobStore:
    """Open the blob store of a setting: `s3://bucket/prefix`, `file:///folder`, or the default.

    Raises:
        StorageError: it cannot be used.
    """
    if url is None:
        return BlobStore(default)
    if url.startswith("s3://"):
        return BlobStore(open_bucket(url))
    return BlobStore(Path(unquote(urlsplit(url).path)))


class BlobStore:
    """Blobs in a local folder or in a bucket.

    Args:
        place: a folder, or whatever else holds bytes.

    Raises:
        StorageError: from every method, where the place cannot be read or written.
    """

    def __init__(self, place: Path | Place) -> None:
        self.place: Place = LocalFolder(place) if isinstance(place, Path) else place
        self.folder = place if isinstance(place, Path) else None
        self.name = self.place.name

    async def put(self, data: bytes) -> str:
        """Store bytes, once; return their SHA-256 when they are safe and were read back.

        Bytes that are there already count as written now, which keeps `blobs check` from taking
        them away before a row refers to them. A damaged blob is replaced.
        """
        sha256 = await asyncio.to_thread(_digest, data)
        path = _path(sha256)
        for _ in range(_ATTEMPTS):
            if not await self.place.create(path, data):
                await self.place.touch(path)
            try:
                found = await self.place.read(path)
            except FileNotFoundError:
                continue  # a check took an old orphan away; write it again
            if found == data:
                return sha256
            await self.place.replace(path, data)
        raise StorageError(
            f"{self.name} gives back other bytes than it was given. Check its disk.",
            {"sha256": sha256},
        )

    async def get(self, sha256: str) -> bytes:
        """Return the bytes of a blob, checked against their hash.

        Raises:
            NotFound: there is no such blob.
            StorageError: the bytes are damaged.
        """
        data = await self._read(sha256)
        if await asyncio.to_thread(_digest, data) != sha256:
            raise StorageError(
                f"blob {sha256} in {self.name} is damaged: its bytes have another hash. "
                "Restore it from a backup.",
                {"sha256": sha256},
            )
        return data

    async def is_whole(self, sha256: str) -> bool:
        """Tell whether a blob's bytes have its hash.

        Raises:
            NotFound: there is no such blob.
        """
        return await asyncio.to_thread(_digest, await self._read(sha256)) == sha256

    async def _read(self, sha256: str) -> bytes:
        try:
            return await self.place.read(_path(sha256))
        except FileNotFoundError as exc:
            raise _missing(sha256) from exc

    async def get_range(self, sha256: str, start: int, end: int) -> bytes:
        """Return the bytes from `start` up to, not including, `end`; their hash is not checked.

        Raises:
            NotFound: there is no such blob.
        """
        try:
            return await self.place.read_range(_path(sha256), start, end)
        except FileNotFoundError as exc:
            raise _missing(sha256) from exc

    async def size(self, sha256: str) -> int:
        """Return how many bytes a blob has.

        Raises:
            NotFound: there is no such blob.
        """
        entry = await self.place.stat(_path(sha256))
        if entry is None:
            raise _missing(sha256)
        return entry.size_bytes

    async def exists(self, sha256: str) -> bool:
        """Tell whether there is such a blob, not whether it is whole."""
        return await self.place.stat(_path(sha256)) is not None

    async def delete(self, sha256: str) -> None:
        """Remove a blob, if it is there, and all that was made of it."""
        await self.place.delete(_path(sha256))
        await self.delete_derived(sha256)

    async def delete_older(self, sha256: str, than: datetime) -> bool:
        """Remove a blob unless it was put since, and all made of it; tell whether it went."""
        if not await self.place.delete_older(_path(sha256), than):
            return False
        await self.delete_derived(sha256)
        return True

    async def quarantine(self, sha256: str) -> None:
        """Move a damaged blob aside, where it can be looked at; its key is free again."""
        await self.place.move(_path(sha256), f"damaged/{sha256}-{secrets.token_hex(4)}")
        await self.delete_derived(sha256)

    async def list(self) -> AsyncIterator[BlobEntry]:
        """List all blobs, in no order."""
        async for entry in self.place.list():
            if match := _BLOB.fullmatch(entry.path):
                yield BlobEntry(match[1] + match[2], entry.size_bytes, entry.modified)

    async def temporary(self) -> tuple[Entry, ...]:
        """List what unfinished writes left behind; a write that goes on now is among them."""
        return tuple([entry async for entry in self.place.list(TEMPORARY)])

    async def delete_temporary(self, path: str, than: datetime) -> bool:
        """Remove a leftover that was written before a time; tell whether it went."""
        return await self.place.delete_older(path, than)

    async def put_derived(self, sha256: str, name: str, data: bytes) -> None:
        """Store what was made of a blob; where it was made before, that stays."""
        await self.place.create(_derived(sha256, name), hashlib.sha256(data).digest() + data)

    async def get_derived(self, sha256: str, name: str) -> bytes | None:
        """Return what was made of a blob, or None where it was not, or has come to harm."""
        path = _derived(sha256, name)
        try:
            stored = await self.place.read(path)
        except FileNotFoundError:
            return None
        if hashlib.sha256(stored[32:]).digest() == stored[:32]:
            return stored[32:]
        await self.place.delete(path)
        return None

    async def derived(self) -> set[str]:
        """Return the keys of the blobs of which something was made."""
        found = [_DERIVED.fullmatch(entry.path) async for entry in self.place.list("thumbs")]
        return {match[1] for match in found if match}

    async def delete_derived(self, sha256: str) -> None:
        """Remove all that was made of a blob."""
        async for entry in self.place.list(f"thumbs/{_checked(sha256)}"):
            await self.place.delete(entry.path)

    async def probe(self) -> None:
        """Write, read back and remove a throwaway file."""
        path, data = f"{TEMPORARY}/probe-{secrets.token_hex(16)}", secrets.token_bytes(1024)
        await self.place.create(path, data)
        try:
            found = await self.place.read(path)
        except FileNotFoundError as exc:
            raise StorageError(f"{self.name} loses what it is given.") from exc
        await self.place.delete(path)
        if found != data:
            raise StorageError(f"{self.name} gives back other bytes than it got.")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _checked(sha256: str) -> str:
    if not _SHA256.fullmatch(sha256):
        raise _missing(sha256)
    return sha256


def _path(sha256: str) -> str:
    return f"{_checked(sha256)[:2]}/{sha256[2:]}"


def _derived(sha256: str, name: str) -> str:
    return f"thumbs/{_checked(sha256)}/{name}"


def _missing(sha256: str) -> NotFound:
    return NotFound(f"there is no blob {sha256}.", {"sha256": sha256})
