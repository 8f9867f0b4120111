"""The one place that builds concrete objects and ties them together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from backend.captions.packs import Library
from backend.config import Settings
from backend.database.engine import Database
from backend.database.upgrade import upgrade
from backend.models.account import LOCAL_OWNER
from backend.services.ai_models import AIModelManager
from backend.services.audit_service import AuditService
from backend.services.base_image_workflow import BaseImageWorkflow
from backend.services.batch_captions import BatchCaptions
from backend.services.batch_figures import BatchFigures
from backend.services.batch_ledger import BatchLedger
from backend.services.batch_renderer import BatchRenderer
from backend.services.batch_runner import BatchRunner
from backend.services.batch_service import MAX_ITEMS, BatchService
from backend.services.batch_signals import BatchSignals
from backend.services.blob_check import BlobCheck
from backend.services.caption_memory import StoredCaptionMemory
from backend.services.caption_rewrites import CaptionRewrites
from backend.services.caption_service import CaptionService
from backend.services.card_service import CardService
from backend.services.claimant import claimant_name
from backend.services.content_generation_service import ContentGenerationService
from backend.services.content_maker import BatchContentMaker
from backend.services.content_service import ContentService
from backend.services.demo import Demo
from backend.services.export_service import ExportService
from backend.services.idempotency import IdempotencyKeys
from backend.services.interactive import InteractivePictures
from backend.services.legacy_images import LegacyImages, LegacyReport
from backend.services.passing_pictures import PassingPictures
from backend.services.persona_service import PersonaService
from backend.services.pictures import Pictures
from backend.services.prompt_sets import WILDCARDS
from backend.services.prompt_source import PromptSource
from backend.services.reproduction import ReproductionService
from backend.services.spending import CloudSpending, clouds
from backend.services.subjects import Subjects
from backend.services.template_service import TemplateService
from backend.services.version_store import VersionStore
from backend.storage.blobs import BlobStore, open_blobs
from backend.storage.home import prepare_home

__all__ = ["LOCAL_OWNER", "Studio", "open_studio", "upgrade_studio"]


@dataclass(frozen=True, slots=True)
class Studio:
    """Everything that the API and the CLI need, built and connected."""

    settings: Settings
    database: Database
    blobs: BlobStore
    blob_check: BlobCheck
    pictures: Pictures
    passing: PassingPictures
    subjects: Subjects
    interactive: InteractivePictures
    models: AIModelManager
    spending: CloudSpending
    personas: PersonaService
    cards: CardService
    base_images: BaseImageWorkflow
    audit: AuditService
    idempotency: IdempotencyKeys
    captions: ContentGenerationService
    captioning: CaptionService
    rewrites: CaptionRewrites
    contents: ContentService
    maker: BatchContentMaker
    reproductions: ReproductionService
    batches: BatchService
    runner: BatchRunner
    figures: BatchFigures
    prompts: PromptSource
    exports: ExportService
    demo: Demo

    async def close(self) -> None:
        """End the runner and the language models, then workers, then connections."""
        await self.rewrites.stop()
        await self.runner.stop()
        await self.captions.chain.aclose()
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
    database = Database(settings.effective_database_url)
    spending = CloudSpending.of(settings, database)
    models = AIModelManager(settings, cpu_slots=cpu_slots, clouds=clouds(settings, spending))
    try:
        await upgrade(database)
        await _legacy_images(settings, database).adopt_once()
        studio = _build(settings, database, models, spending)
    except BaseException:
        await models.close()
        await database.close()
        raise
    try:
        yield studio
    finally:
        await studio.close()


async def upgrade_studio(settings: Settings) -> tuple[str | None, str, LegacyReport]:
    """Bring a studio's database up to date; return the revisions before and after.

    Legacy images are looked for too, those that were missing before among them.

    Raises:
        StorageError: the home or the database cannot be used.
    """
    prepare_home(settings.home)
    database = Database(settings.effective_database_url)
    try:
        before, after = await upgrade(database)
        return before, after, await _legacy_images(settings, database).adopt()
    finally:
        await database.close()


def _legacy_images(settings: Settings, database: Database) -> LegacyImages:
    blobs = open_blobs(settings.blobs_url, settings.home / "blobs")
    return LegacyImages(database, VersionStore(database, blobs), settings.home)


def _build(
    settings: Settings, database: Database, models: AIModelManager, spending: CloudSpending
) -> Studio:
    blobs = open_blobs(settings.blobs_url, settings.home / "blobs")
    personas = PersonaService(database, blobs)
    base_images = BaseImageWorkflow(database, blobs, models, self_approval=settings.self_approval)
    memory = StoredCaptionMemory(database)
    library = Library.installed(settings.home / "packs")
    captions = ContentGenerationService(
        settings, template_service=TemplateService(library), memory=memory
    )
    signals = BatchSignals()
    batches = BatchService(database, models, signals)
    claimant = claimant_name()
    ledger = BatchLedger(database, models, claimant, blobs=blobs)
    runner = BatchRunner(
        ledger,
        BatchRenderer(models, blobs, spending, ledger),
        BatchCaptions(database, captions, claimant),
        models,
        signals,
    )
    exports = ExportService(database, blobs, base_images, models.cards())
    contents = ContentService(database, blobs)
    captions.maker = maker = BatchContentMaker(database, batches, runner)
    subjects = Subjects(database, models)
    return Studio(
        settings=settings,
        database=database,
        blobs=blobs,
        blob_check=BlobCheck(database, blobs),
        pictures=Pictures(blobs),
        passing=PassingPictures(blobs),
        subjects=subjects,
        interactive=InteractivePictures(database, blobs, models, spending, subjects),
        models=models,
        spending=spending,
        personas=personas,
        cards=CardService(database, blobs, base_images),
        base_images=base_images,
        audit=AuditService(database),
        idempotency=IdempotencyKeys(database),
        captions=captions,
        captioning=CaptionService(database, captions, memory),
        rewrites=CaptionRewrites(database, captions, settings.caption_rewrite),
        contents=contents,
        maker=maker,
        reproductions=ReproductionService(contents, blobs, models),
        batches=batches,
        runner=runner,
        figures=BatchFigures(database),
        prompts=PromptSource(settings.home / WILDCARDS, limit=MAX_ITEMS),
        exports=exports,
        demo=Demo(personas, base_images, batches, runner, exports),
    )
