"""A bucket: S3, or whatever speaks its protocol, through obstore.

Keys, region and endpoint come from the standard `AWS_` variables, which obstore reads itself. A
write is one request, so it is there as a whole or not at all.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import ObjectStore, S3Store

from backend.config import inherited
from backend.errors import StorageError
from backend.storage.place import Entry

if TYPE_CHECKING:
    from obstore.store import ClientConfig

_RETRIES = 3
_RETRY_TIMEOUT = timedelta(seconds=30)


class Bucket:
    """Holds bytes in an object store.

    Args:
        store: obstore's, with its prefix.
        name: what errors call it.
    """

    def __init__(self, store: ObjectStore, name: str) -> None:
        self._store = store
        self.name = name

    async def create(self, path: str, data: bytes) -> bool:
        """Write durably, in one step; return False, and change nothing, where something is."""
        try:
            with self._errors(missing=True):
                await obstore.put_async(self._store, path, data, mode="create", use_multipart=False)
        except FileExistsError:
            return False
        return True

    async def replace(self, path: str, data: bytes) -> None:
        """Write durably, in one step, over what is there."""
        with self._errors(missing=True):
            await obstore.put_async(self._store, path, data, use_multipart=False)

    async def read(self, path: str) -> bytes:
        """Return all bytes."""
        with self._errors():
            return bytes(await (await obstore.get_async(self._store, path)).bytes_async())

    async def read_range(self, path: str, start: int, end: int) -> bytes:
        """Return the bytes from `start` up to, not including, `end`."""
        if end <= start:
            return b""
        with self._errors():
            return bytes(await obstore.get_range_async(self._store, path, start=start, end=end))

    async def stat(self, path: str) -> Entry | None:
        """Return what is at a path, or None."""
        try:
            with self._errors():
                return _entry(await obstore.head_async(self._store, path))
        except FileNotFoundError:
            return None

    async def touch(self, path: str) -> bool:
        """Make something look as if it was written now: by writing it again."""
        try:
            await self.replace(path, await self.read(path))
        except FileNotFoundError:
            return False
        return True

    async def delete(self, path: str) -> None:
        """Remove what is at a path, if anything is."""
        with contextlib.suppress(FileNotFoundError), self._errors():
            await obstore.delete_async(self._store, path)

    async def delete_older(self, path: str, than: datetime) -> bool:
        """Remove what is at a path unless it was written since; tell whether it went.

        A bucket cannot do both in one step: what is written between the look and the removal is
        lost, a matter of milliseconds.
        """
        entry = await self.stat(path)
        if entry is None or entry.modified >= than:
            return False
        await self.delete(path)
        return True

    async def move(self, path: str, to: str) -> None:
        """Give something another path, over what is there."""
        with self._errors():
            await obstore.rename_async(self._store, path, to)

    async def list(self, prefix: str = "") -> AsyncIterator[Entry]:
        """List everything below a folder, in no order."""
        with self._errors(missing=True):
            async for found in obstore.list(self._store, prefix or None):
                for meta in found:
                    yield _entry(meta)

    @contextlib.contextmanager
    def _errors(self, *, missing: bool = False) -> Iterator[None]:
        """Translate errors; that something is missing only where nothing may be: the bucket is."""
        try:
            yield
        except AlreadyExistsError as exc:
            raise FileExistsError(str(exc)) from exc
        except (PermissionDeniedError, UnauthenticatedError) as exc:
            raise StorageError(
                f"{self.name} refuses access. Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and "
                "the bucket's policy."
            ) from exc
        except (BaseError, OSError, ValueError) as exc:
            if isinstance(exc, FileNotFoundError) and not missing:
                raise
            raise StorageError(
                f"{self.name} does not answer as it should. Check GATOR_BLOBS_URL, AWS_REGION and "
                f"AWS_ENDPOINT_URL: {str(exc).partition(chr(10))[0][:300]}"
            ) from exc


def open_bucket(url: str) -> Bucket:
    """Open `s3://bucket/prefix`.

    Raises:
        StorageError: the standard variables do not make a store.
    """
    endpoints = (inherited(name) or "" for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT"))
    options: ClientConfig = {
        "allow_http": any(endpoint.startswith("http://") for endpoint in endpoints),
        "timeout": timedelta(seconds=60),
        "connect_timeout": timedelta(seconds=5),
    }
    try:
        store = S3Store.from_url(
            url,
            client_options=options,
            retry_config={"max_retries": _RETRIES, "retry_timeout": _RETRY_TIMEOUT},
        )
    except (BaseError, ValueError) as exc:
        raise StorageError(f"GATOR_BLOBS_URL {url} cannot be opened: {exc}") from exc
    return Bucket(store, f"the bucket {url}")


def _entry(meta: obstore.ObjectMeta) -> Entry:
    return Entry(meta["path"], meta["size"], meta["last_modified"])
