"""Content-addressed blobs. A key is the SHA-256 of the bytes, so nothing is ever overwritten."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore

from backend.errors import NotFound, StorageError


class BlobStore:
    """Blobs in a local folder.

    Raises:
        StorageError: from every method, where the folder cannot be read or written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self._store = LocalStore(prefix=folder.absolute(), mkdir=True)
        except (BaseError, OSError) as exc:
            raise StorageError(f"the blob folder {folder} cannot be used: {exc}") from exc

    async def put(self, data: bytes) -> str:
        """Store bytes, once; return their SHA-256."""
        sha256 = hashlib.sha256(data).hexdigest()
        try:
            await self._store.put_async(_path(sha256), data, mode="create")
        except AlreadyExistsError:
            return sha256
        except (BaseError, OSError) as exc:
            raise StorageError(f"a blob could not be written to {self.folder}: {exc}") from exc
        return sha256

    async def get(self, sha256: str) -> bytes:
        """Return the bytes of a blob, checked against their hash.

        Raises:
            NotFound: there is no such blob.
            StorageError: the bytes are damaged.
        """
        try:
            data = bytes(await (await self._store.get_async(_path(sha256))).bytes_async())
        except FileNotFoundError as exc:
            raise NotFound(f"there is no blob {sha256}.", {"sha256": sha256}) from exc
        except (BaseError, OSError) as exc:
            raise StorageError(f"blob {sha256} could not be read: {exc}") from exc
        if hashlib.sha256(data).hexdigest() != sha256:
            raise StorageError(
                f"blob {sha256} in {self.folder} is damaged: its bytes have another hash. "
                "Restore it from a backup.",
                {"sha256": sha256},
            )
        return data

    async def probe(self) -> None:
        """Write, read back and remove a throwaway blob."""
        path, data = f"probe-{secrets.token_hex(16)}", secrets.token_bytes(1024)
        try:
            await self._store.put_async(path, data, mode="create")
            found = bytes(await (await self._store.get_async(path)).bytes_async())
            await self._store.delete_async(path)
        except (BaseError, OSError) as exc:
            raise StorageError(f"the blob folder {self.folder} cannot be used: {exc}") from exc
        if found != data:
            raise StorageError(f"the blob folder {self.folder} gives back other bytes than it got.")


def _path(sha256: str) -> str:
    return f"{sha256[:2]}/{sha256[2:]}"
