"""Pictures become versions: their bytes are stored first, then one short transaction adds them."""

from __future__ import annotations

from typing import Any

from backend.database.engine import Database
from backend.models.base_image import BaseImageVersionModel, ConsentCreate, ConsentModel
from backend.models.persona import BaseImageStatus
from backend.services.approval import blob_path
from backend.services.base_image_moves import Move, Wanted, moving, named
from backend.services.seeding import Seeded
from backend.storage.blobs import BlobStore


class VersionStore:
    """Adds versions to personas."""

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs

    async def add(
        self,
        wanted: Wanted,
        seeded: Seeded,
        consent: ConsentCreate | None,
        *,
        keep_path: bool = False,
    ) -> None:
        """Store pictures as versions; the only step of a seed that changes anything.

        Args:
            wanted: who seeds, for the log.
            seeded: pictures of one persona.
            consent: the leave that they come with.
            keep_path: whether the row's path stays what it was.

        Raises:
            NotFound: the persona was deleted meanwhile.
            Conflict: another request has taken the key over.
        """
        await self._put(seeded)
        versions = [picture.version for picture in seeded.pictures]
        by_id = Wanted("seed", versions[0].persona_id, wanted.actor, None, wanted.request_id)
        async with moving(self._database, by_id) as move:
            await self._put(seeded)  # a purge may have taken one since; now none can
            if consent is not None:
                row = ConsentModel(
                    persona_id=move.persona.id,
                    created_by=wanted.actor.name,
                    **consent.model_dump(),
                )
                versions[0].consent_id = (await move.images.add_consent(row)).id
            await move.images.add_all(versions)
            if wanted.claim is not None:
                await wanted.claim.settle(move.session, str(versions[-1].n))
            await move.make(
                {} if keep_path else _changes(move, versions[-1]),
                version=versions[-1].n,
                details={
                    "method": versions[0].method,
                    "versions": named(versions),
                    "consent": versions[0].consent_id,
                    "failed": len(seeded.failures),
                },
            )

    async def _put(self, seeded: Seeded) -> None:
        for picture in seeded.pictures:
            hashes = [await self._blobs.put(data) for data in picture.blobs]
            picture.version.sha256 = hashes[0]
            picture.version.original_sha256 = hashes[1] if len(hashes) > 1 else None


def _changes(move: Move, newest: BaseImageVersionModel) -> dict[str, Any]:
    """Return what a seed changes in the row; beside an approved version, nothing that shows."""
    if move.target == BaseImageStatus.APPROVED.value:
        return {}
    return {"base_image_path": blob_path(newest.sha256), "rejection_reason": None}
