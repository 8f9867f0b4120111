"""Pictures that are kept for an hour, for those who asked for an address instead of the bytes.

They belong to nobody's content: no row tells of them, and nothing else is ever made of them. Each
lies beside the blobs under a name of 256 random bits, which is all that somebody needs to read it.
What is older than an hour is not given out, and is deleted by whichever server looks next; servers
that share the blobs share these too.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import NamedTuple

from backend.errors import NotFound, StorageError
from backend.imaging.pictures.container import MIMES, signature
from backend.logs import get_logger
from backend.models.base import now
from backend.storage.blobs import BlobStore

LIFETIME = timedelta(hours=1)
SWEEP_EVERY_S = 300.0
_FOLDER = "passing"
_NAME = re.compile(r"[0-9a-f]{64}")

log = get_logger(__name__)


class PassingPicture(NamedTuple):
    """A picture's bytes, their type, and until when they are given out."""

    data: bytes
    mime: str
    expires_at: datetime


class PassingPictures:
    """Keeps pictures for a while.

    Args:
        blobs: beside which they lie.
        clock: tells the time.
    """

    def __init__(self, blobs: BlobStore, clock: Callable[[], datetime] = now) -> None:
        self._place = blobs.place
        self._clock = clock

    async def put(self, data: bytes) -> str:
        """Keep a picture; return its name.

        Raises:
            StorageError: it cannot be written.
        """
        name = secrets.token_hex(32)
        await self._place.create(f"{_FOLDER}/{name}", data)
        return name

    async def get(self, name: str) -> PassingPicture:
        """Return a picture that has not passed yet.

        Raises:
            NotFound: it has, or there never was one.
            StorageError: it cannot be read.
        """
        path = f"{_FOLDER}/{name}"
        entry = await self._place.stat(path) if _NAME.fullmatch(name) else None
        if entry is None or entry.modified + LIFETIME <= self._clock():
            raise _passed()
        try:
            data = await self._place.read(path)
        except FileNotFoundError as exc:
            raise _passed() from exc
        return PassingPicture(data, MIMES[signature(data)], entry.modified + LIFETIME)

    async def sweep(self) -> int:
        """Delete what has passed; return how many there were.

        Raises:
            StorageError: the place cannot be read or written.
        """
        before = self._clock() - LIFETIME
        found = [e.path async for e in self._place.list(_FOLDER) if e.modified <= before]
        for path in found:
            await self._place.delete(path)
        return len(found)

    @asynccontextmanager
    async def sweeping(self) -> AsyncIterator[None]:
        """Delete what passes, while the block lasts."""
        sweeper = asyncio.create_task(self._keep_sweeping())
        try:
            yield
        finally:
            sweeper.cancel()
            with suppress(asyncio.CancelledError):
                await sweeper

    async def _keep_sweeping(self) -> None:
        while True:
            try:
                await self.sweep()
            except StorageError as exc:
                log.warning("passing_pictures.not_swept", reason=exc.message)
            await asyncio.sleep(SWEEP_EVERY_S)


def _passed() -> NotFound:
    hour = int(LIFETIME.total_seconds() // 60)
    return NotFound(f"there is no such picture, or no more: it was kept for {hour} minutes.")
