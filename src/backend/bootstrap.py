"""The one place that builds concrete objects and ties them together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from backend.config import Settings
from backend.database.engine import Database
from backend.database.upgrade import upgrade
from backend.services.ai_models import AIModelManager
from backend.services.base_image_workflow import BaseImageWorkflow
from backend.services.batch_service import BatchService
from backend.services.content_generation_service import ContentGenerationService
from backend.services.content_service import ContentService
from backend.services.demo import Demo
from backend.services.export_service import ExportService
from backend.services.persona_service import PersonaService
from backend.storage.blobs import BlobStore
from backend.storage.home import prepare_home

LOCAL_OWNER = "owner"
"""Who acts until there are accounts."""


@dataclass(frozen=True, slots=True)
class Studio:
    """Everything that the API and the CLI need, built and connected."""

    settings: Settings
    database: Database
    blobs: BlobStore
    models: AIModelManager
    personas: PersonaService
    base_images: BaseImageWorkflow
    captions: ContentGenerationService
    contents: ContentService
    batches: BatchService
    exports: ExportService
    demo: Demo

    async def close(self) -> None:
        """End workers, then connections."""
        await self.models.close()
        await self.database.close()


@asynccontextmanager
async def open_studio(settings: Settings, *, cpu_slots: int = 1) -> AsyncIterator[Studio]:
    """Open the studio of a home folder: made, proven writable and brought up to date first.

    Args:
        settings: what the user configured.
        cpu_slots: how many CPU slots `GATOR_DEVICES=auto` gives on a machine without a GPU.

    Raises:
        StorageError: the home or the database cannot be used.
        ConfigurationError: a setting names what is not there.
    """
    prepare_home(settings.home)
    models = AIModelManager(settings, cpu_slots=cpu_slots)
    database = Database(settings.effective_database_url)
    try:
        await upgrade(database)
        studio = _build(settings, database, models)
    except BaseException:
        await models.close()
        await database.close()
        raise
    try:
        yield studio
    finally:
        await studio.close()


def _build(settings: Settings, database: Database, models: AIModelManager) -> Studio:
    blobs = BlobStore(settings.home / "blobs")
    personas = PersonaService(database)
    base_images = BaseImageWorkflow(database, blobs, models)
    captions = ContentGenerationService(settings)
    batches = BatchService(database, blobs, models, captions)
    exports = ExportService(database, blobs, base_images, models.cards())
    return Studio(
        settings=settings,
        database=database,
        blobs=blobs,
        models=models,
        personas=personas,
        base_images=base_images,
        captions=captions,
        contents=ContentService(database, blobs, captions),
        batches=batches,
        exports=exports,
        demo=Demo(personas, base_images, batches, exports),
    )
