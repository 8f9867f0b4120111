"""From the database and the blobs to files that can be shown: the gallery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from backend.database.engine import Database
from backend.imaging.types import ModelCard
from backend.models.base import now
from backend.models.base_image import BaseImageVersionModel
from backend.models.batch import BatchItemModel
from backend.models.content import ContentModel
from backend.repositories.batches import BatchRepository
from backend.repositories.contents import ContentRepository
from backend.services.base_image_workflow import BaseImageWorkflow
from backend.services.gallery import (
    GalleryItem,
    GalleryPersona,
    GalleryPicture,
    GallerySummary,
    write_gallery,
)
from backend.storage.blobs import BlobStore


class ExportService:
    """Writes what was made in forms that leave the studio."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        base_images: BaseImageWorkflow,
        cards: Sequence[ModelCard],
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._base_images = base_images
        self._credits = {card.name: card.credit for card in cards}

    async def gallery(
        self, path: Path, batch_ids: Sequence[str], seconds: Mapping[str, float]
    ) -> GallerySummary:
        """Write one page with a section for each batch's persona.

        Args:
            path: where the page goes; replaced in one step.
            batch_ids: one batch a persona.
            seconds: wall time by stage, shown at the foot.

        Raises:
            StorageError: a blob is damaged, or the page cannot be written.
        """
        personas = [await self._persona(batch_id) for batch_id in batch_ids]
        items = [item for persona in personas for item in persona.items]
        summary = GallerySummary(
            created_at=now(),
            version=version("gator-studio"),
            personas=len(personas),
            images=sum(item.picture is not None for item in items),
            errors=sum(item.error is not None for item in items),
            devices=sorted({item.device for item in items if item.device}),
            seconds=seconds,
        )
        write_gallery(path, summary, personas)
        return summary

    async def _persona(self, batch_id: str) -> GalleryPersona:
        async with self._database.read() as session:
            repository = BatchRepository(session)
            batch, rows = await repository.get(batch_id), await repository.items(batch_id)
        base = await self._base_images.show(str(batch.persona_id))
        items = [await self._item(row) for row in rows]
        shown = next((v for v in base.versions if v.n == base.persona.approved_version), None)
        styles = [style for item in items if (style := item[1])]
        return GalleryPersona(
            name=base.persona.name,
            personality=base.persona.personality,
            style=styles[0] if styles else "",
            themes=tuple(base.persona.content_themes),
            appearance=base.persona.appearance,
            base_image=await self._picture(shown) if shown else None,
            base_image_status=base.persona.base_image_status,
            items=tuple(item for item, _ in items),
        )

    async def _item(self, item: BatchItemModel) -> tuple[GalleryItem, str]:
        """Return one item and the style of its caption."""
        if item.content_id is None:
            error = (item.error or {}).get("message", "was not made")
            return GalleryItem(prompt=item.prompt, seed=item.seed, error=error), ""
        async with self._database.read() as session:
            content = await ContentRepository(session).get(item.content_id)
        detail = content.caption_detail or {}
        shown = GalleryItem(
            prompt=item.prompt,
            picture=await self._picture(content),
            caption=content.caption,
            caption_origin=content.caption_origin,  # type: ignore[arg-type]
            caption_model=detail.get("model"),
            seed=content.seed,
            device=content.device,
            model=content.model,
            seconds=content.seconds,
            prompt_report=content.prompt_report,
        )
        return shown, str(detail.get("style", ""))

    async def _picture(self, row: ContentModel | BaseImageVersionModel) -> GalleryPicture:
        return GalleryPicture(
            data=await self._blobs.get(row.sha256),
            mime=row.mime,
            width=row.width,
            height=row.height,
            kind=row.kind,  # type: ignore[arg-type]
            credit=self._credits.get(row.model, ""),
        )
