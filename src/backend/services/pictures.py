"""Thumbnails of stored pictures, made at the first request and kept."""

from __future__ import annotations

import asyncio

from backend.errors import InvalidRequest
from backend.imaging.thumbnails import WIDTHS, thumbnail
from backend.storage.blobs import BlobStore


class Pictures:
    """Gives out thumbnails; one is made at a time, each once."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._making = asyncio.Lock()

    async def ensure_thumbnail(self, sha256: str, width: int) -> bytes:
        """Return a stored picture's thumbnail, a WebP file.

        Args:
            sha256: the picture's blob.
            width: 256 or 768; a narrower picture keeps its own.

        Raises:
            InvalidRequest: another width.
            NotFound: there is no such blob.
            StorageError: the blob is damaged, or the place cannot be used.
        """
        if width not in WIDTHS:
            message = f"must be one of {', '.join(map(str, WIDTHS))}"
            raise InvalidRequest(
                f"width: {message}", {"errors": [{"field": "width", "message": message}]}
            )
        if (kept := await self._blobs.get_derived(sha256, str(width))) is not None:
            return kept
        async with self._making:
            if (kept := await self._blobs.get_derived(sha256, str(width))) is not None:
                return kept
            made = await asyncio.to_thread(thumbnail, await self._blobs.get(sha256), width)
            await self._blobs.put_derived(sha256, str(width), made)
        return made
