"""Delete bytes that nothing refers to any more, once what referred to them is gone.

It happens after that was committed: a process that ends in between leaves blobs that `gator blobs
check` names, never rows without their blobs.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from backend.database.engine import Database
from backend.repositories.blob_references import BlobReferences
from backend.repositories.events import EventRepository
from backend.storage.blobs import BlobStore

AT_ONCE = 50
"""How many are deleted while nothing can be added."""


async def drop_unreferenced(database: Database, blobs: BlobStore, hashes: Iterable[str]) -> None:
    """Delete those of some blobs that nothing refers to, and all that was made of them.

    Raises:
        StorageError: the database or the blobs cannot be used; those that are left are orphans.
    """
    left = iter(sorted(set(hashes)))
    while some := list(islice(left, AT_ONCE)):
        async with database.write() as session:
            await EventRepository(session).lock()  # seeds add references under this lock
            references = BlobReferences(session)
            await references.lock()
            for sha256 in some:
                if not await references.has(sha256):
                    await blobs.delete(sha256)
