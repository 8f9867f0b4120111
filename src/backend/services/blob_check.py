"""Hold the blobs against the tables: what is missing, damaged, left over or unfinished.

It may run beside a server at work. A blob is written before the row that refers to it, so what
nobody refers to is an orphan only by the look of it until a grace has passed; putting the same
bytes again starts the grace anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from backend.database.engine import Database
from backend.errors import NotFound
from backend.models.base import now
from backend.repositories.blob_references import BlobReferences
from backend.services.together import together
from backend.storage.blobs import BlobEntry, BlobStore

GRACE_S = 3_600.0
"""How long a blob may wait for its row, and a temporary file for its end."""

_READERS = 4


@dataclass(frozen=True, slots=True)
class BlobReport:
    """What was found, and what was done about it.

    Attributes:
        blobs: how many there are.
        bytes: how many bytes they have together.
        orphans: blobs that no row refers to.
        missing: blobs that a row refers to and that are not there.
        damaged: blobs whose bytes have another hash than their name.
        temporary: what unfinished writes left, by path.
        removed: orphans and temporary files that a repair took away; younger ones stay.
        quarantined: damaged blobs that a repair moved aside, to `damaged/`.
    """

    blobs: int
    bytes: int
    orphans: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    temporary: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    quarantined: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not (self.orphans or self.missing or self.damaged or self.temporary)


class BlobCheck:
    """Checks and mends a blob store."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs

    async def check(self, repair: bool = False, *, grace_s: float = GRACE_S) -> BlobReport:
        """Read every blob and every reference; with `repair`, mend what can be mended.

        Args:
            repair: remove orphans and temporary files older than the grace, move damaged blobs
                aside. What is missing has to come from a backup.
            grace_s: seconds a blob may wait for its row.

        Raises:
            StorageError: the blobs or the database cannot be read or written.
        """
        entries = [entry async for entry in self._blobs.list()]
        temporary = tuple(sorted(entry.path for entry in await self._blobs.temporary()))
        referenced = await self._references()
        held = {entry.sha256 for entry in entries}
        report = BlobReport(
            blobs=len(entries),
            bytes=sum(entry.size_bytes for entry in entries),
            orphans=tuple(sorted(held - referenced)),
            missing=await self._missing(referenced - held),
            damaged=await self._damaged(entries),
            temporary=temporary,
        )
        return (
            await self._repaired(report, now() - timedelta(seconds=grace_s)) if repair else report
        )

    async def _references(self) -> set[str]:
        async with self._database.read() as session:
            return await BlobReferences(session).all()

    async def _missing(self, suspects: Iterable[str]) -> tuple[str, ...]:
        """Look again: one may have been put, or purged, since the blobs were listed."""
        gone = [sha256 for sha256 in suspects if not await self._blobs.exists(sha256)]
        if not gone:
            return ()
        return tuple(sorted(set(gone) & await self._references()))

    async def _damaged(self, entries: Iterable[BlobEntry]) -> tuple[str, ...]:
        limit = asyncio.Semaphore(_READERS)

        async def damaged(sha256: str) -> bool:
            async with limit:
                return not await self._is_whole(sha256)

        hashes = sorted(entry.sha256 for entry in entries)
        found = await together(*(damaged(sha256) for sha256 in hashes))
        return tuple(sha256 for sha256, broken in zip(hashes, found, strict=True) if broken)

    async def _is_whole(self, sha256: str) -> bool:
        """Tell whether a blob's bytes are its own; one that was purged meanwhile counts as whole.

        Raises:
            StorageError: it cannot be read at all.
        """
        try:
            return await self._blobs.is_whole(sha256)
        except NotFound:
            return True

    async def _repaired(self, report: BlobReport, before: datetime) -> BlobReport:
        quarantined = []
        for sha256 in report.damaged:
            if not await self._is_whole(sha256):
                await self._blobs.quarantine(sha256)
                quarantined.append(sha256)
        removed = [
            sha256
            for sha256 in report.orphans
            if sha256 not in quarantined and await self._remove_orphan(sha256, before)
        ]
        removed += [
            path for path in report.temporary if await self._blobs.delete_temporary(path, before)
        ]
        await self._remove_stale_thumbnails()
        return replace(report, removed=tuple(removed), quarantined=tuple(quarantined))

    async def _remove_orphan(self, sha256: str, before: datetime) -> bool:
        async with self._database.read() as session:
            if await BlobReferences(session).has(sha256):
                return False
        return await self._blobs.delete_older(sha256, before)

    async def _remove_stale_thumbnails(self) -> None:
        for sha256 in await self._blobs.derived():
            if not await self._blobs.exists(sha256):
                await self._blobs.delete_derived(sha256)
