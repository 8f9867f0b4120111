"""What holds blobs: a local folder or a bucket. Paths are relative, `/` between their parts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that is held: its path, its bytes, and when it was written or touched last."""

    path: str
    size_bytes: int
    modified: datetime


class Place(Protocol):
    """Holds bytes by path.

    Raises:
        StorageError: from every method, where the place cannot be read or written.
        FileNotFoundError: from those that read, where there is nothing at the path.
    """

    name: str

    async def create(self, path: str, data: bytes) -> bool:
        """Write durably, in one step; return False, and change nothing, where something is."""
        ...

    async def replace(self, path: str, data: bytes) -> None:
        """Write durably, in one step, over what is there."""
        ...

    async def read(self, path: str) -> bytes:
        """Return all bytes."""
        ...

    async def read_range(self, path: str, start: int, end: int) -> bytes:
        """Return the bytes from `start` up to, not including, `end`."""
        ...

    async def stat(self, path: str) -> Entry | None:
        """Return what is at a path, or None."""
        ...

    async def touch(self, path: str) -> bool:
        """Make something look as if it was written now; return False where nothing is."""
        ...

    async def delete(self, path: str) -> None:
        """Remove what is at a path, if anything is."""
        ...

    async def delete_older(self, path: str, than: datetime) -> bool:
        """Remove what is at a path unless it was written or touched since; tell whether it went."""
        ...

    async def move(self, path: str, to: str) -> None:
        """Give something another path, over what is there."""
        ...

    def list(self, prefix: str = "") -> AsyncIterator[Entry]:
        """List everything below a folder, in no order."""
        ...
