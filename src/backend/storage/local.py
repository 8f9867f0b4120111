"""A local folder that keeps what it was given, through a power cut too.

Bytes go to a file under `tmp/`, are synced, and are linked to their path, which fails where
something stands there already; then the folder is synced. A process that is killed leaves either
nothing or a whole file, and perhaps a leftover under `tmp/`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

from backend.errors import StorageError
from backend.storage.place import Entry

TEMPORARY = "tmp"
_Paths = list[str]
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class LocalFolder:
    """Holds bytes in a folder, made where it is missing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"the blob folder {folder}"
        with self._errors(missing=True):
            folder.mkdir(parents=True, exist_ok=True)

    async def create(self, path: str, data: bytes) -> bool:
        """Write durably, in one step; return False, and change nothing, where something is."""
        return await asyncio.to_thread(self._write, path, data, over=False)

    async def replace(self, path: str, data: bytes) -> None:
        """Write durably, in one step, over what is there."""
        await asyncio.to_thread(self._write, path, data, over=True)

    async def read(self, path: str) -> bytes:
        """Return all bytes."""
        return await asyncio.to_thread(self._read, path, 0, -1)

    async def read_range(self, path: str, start: int, end: int) -> bytes:
        """Return the bytes from `start` up to, not including, `end`."""
        return await asyncio.to_thread(self._read, path, start, max(end - start, 0))

    async def stat(self, path: str) -> Entry | None:
        """Return what is at a path, or None."""
        return await asyncio.to_thread(self._stat, path)

    async def touch(self, path: str) -> bool:
        """Make something look as if it was written now; return False where nothing is."""
        return await asyncio.to_thread(self._touch, path)

    async def delete(self, path: str) -> None:
        """Remove what is at a path, if anything is."""
        await asyncio.to_thread(self._delete, path)

    async def delete_older(self, path: str, than: datetime) -> bool:
        """Remove what is at a path unless it was written or touched since; tell whether it went."""
        return await asyncio.to_thread(self._delete_older, path, than)

    async def move(self, path: str, to: str) -> None:
        """Give something another path, over what is there."""
        await asyncio.to_thread(self._move, path, to)

    async def list(self, prefix: str = "") -> AsyncIterator[Entry]:
        """List everything below a folder, in no order."""
        for path in await asyncio.to_thread(self._files, prefix):
            entry = await asyncio.to_thread(self._stat, path)
            if entry is not None:
                yield entry

    @contextlib.contextmanager
    def _errors(self, *, missing: bool = False) -> Iterator[None]:
        """Translate errors; that something is missing only where nothing may be."""
        try:
            yield
        except OSError as exc:
            if isinstance(exc, FileNotFoundError) and not missing:
                raise
            raise StorageError(f"{self.name} {why(exc)}", {"folder": str(self.folder)}) from exc

    def _write(self, path: str, data: bytes, *, over: bool) -> bool:
        target = self.folder / path
        with self._errors(missing=True):
            part = self._folder_of(f"{TEMPORARY}/x") / f"{secrets.token_hex(16)}.part"
            try:
                _write_synced(part, data)
                parent = self._folder_of(path)
                written = over or _link(part, target)
                if over:
                    part.replace(target)
                _sync_folder(parent)
            finally:
                part.unlink(missing_ok=True)
        return written

    def _folder_of(self, path: str) -> Path:
        """Make the folder that a path is in, durably."""
        parent = (self.folder / path).parent
        missing = [p for p in (parent, *parent.parents) if not p.exists()]
        parent.mkdir(parents=True, exist_ok=True)
        for made in reversed(missing):
            _sync_folder(made.parent)
        return parent

    def _read(self, path: str, start: int, length: int) -> bytes:
        with self._errors(), (self.folder / path).open("rb") as file:
            file.seek(start)
            return file.read(length)

    def _stat(self, path: str) -> Entry | None:
        try:
            with self._errors():
                found = (self.folder / path).stat()
        except FileNotFoundError:
            return None
        return Entry(path, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))

    def _touch(self, path: str) -> bool:
        try:
            with self._errors():
                os.utime(self.folder / path)
        except FileNotFoundError:
            return False
        return True

    def _delete(self, path: str) -> None:
        target = self.folder / path
        with self._errors():
            target.unlink(missing_ok=True)
            if target.parent.exists():
                _sync_folder(target.parent)

    def _delete_older(self, path: str, than: datetime) -> bool:
        # It is taken aside first: who touched it before is seen, who comes later writes it again.
        entry = self._stat(path)
        if entry is None or entry.modified >= than:
            return False
        aside = f"{TEMPORARY}/{secrets.token_hex(16)}.part"
        self._move(path, aside)
        entry = self._stat(aside)
        if entry is not None and entry.modified >= than:
            self._move(aside, path)
            return False
        self._delete(aside)
        return True

    def _move(self, path: str, to: str) -> None:
        with self._errors():
            parent = self._folder_of(to)
            (self.folder / path).replace(self.folder / to)
            _sync_folder(parent)
            _sync_folder((self.folder / path).parent)

    def _files(self, prefix: str) -> _Paths:
        root = self.folder / prefix
        with self._errors():
            if not root.exists():
                return []
            return [
                (Path(folder) / name).relative_to(self.folder).as_posix()
                for folder, _, names in os.walk(root, onerror=_raise)
                for name in names
            ]


def why(exc: OSError) -> str:
    """Say what is wrong with a folder and what to do."""
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return "is full. Make room or set GATOR_HOME or GATOR_BLOBS_URL elsewhere."
    if exc.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return "cannot be written or read. Change its permissions."
    return f"cannot be used: {exc.strerror or exc}."


def _raise(exc: OSError) -> None:
    raise exc


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _link(part: Path, target: Path) -> bool:
    """Give a file its path unless something has it; file systems without links look first."""
    try:
        os.link(part, target)
    except FileExistsError:
        return False
    except OSError as exc:
        if exc.errno not in _NO_LINKS:
            raise
        if target.exists():
            return False
        part.rename(target)
    return True


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as exc:
        if exc.errno not in (errno.EINVAL, errno.ENOTSUP):  # network folders that cannot
            raise
    finally:
        os.close(handle)
