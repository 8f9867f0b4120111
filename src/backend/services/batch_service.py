"""Batches: many prompts, every one of which ends as a picture or as an error.

A batch is committed before the first pixel. Each item is rendered with its own seed, and its
picture, row and state are committed together, so a run that is cut off loses only what was being
drawn; running the batch again goes on where it ended. The number of the attempt fences late
writers: a result of an attempt that another has overtaken is dropped. Captions follow in the order
of the prompts, so that what a caption must not repeat does not depend on which device was faster.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from backend.database.engine import Database
from backend.errors import GatorError, InvalidRequest, StorageError
from backend.imaging.types import PROMPT_LIMIT, SEED_LIMIT, ImageRequest, ModelCard, item_seed
from backend.models.base import now
from backend.models.batch import BatchItemModel, BatchModel, ItemState
from backend.models.persona import PersonaModel
from backend.repositories.base_images import BaseImageRepository
from backend.repositories.batches import BatchRepository
from backend.repositories.blob_references import BlobReferences
from backend.repositories.contents import ContentRepository
from backend.repositories.personas import PersonaRepository
from backend.services.ai_models import AIModelManager
from backend.services.content_generation_service import (
    ContentGenerationService,
    ContentType,
    GenerationRequest,
)
from backend.services.content_service import RECENT_CAPTIONS, caption_detail, content_of
from backend.services.idempotency import Claim
from backend.services.leave import require_leave
from backend.services.persona_look import adapter_options, look_options
from backend.storage.blobs import BlobStore

ATTEMPTS = 2
"""How often an item is tried where the failure is of a kind that may pass."""

IN_FLIGHT_PER_DEVICE = 4
MAX_ITEMS = 1_000

Advance = Callable[[], None]


class BatchView(NamedTuple):
    """A batch, its items in order, and how many stand where."""

    batch: BatchModel
    items: Sequence[BatchItemModel]
    counts: Mapping[ItemState, int]


class BatchService:
    """Creates batches and runs them."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        models: AIModelManager,
        captions: ContentGenerationService,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._models = models
        self._captions = captions

    async def create(
        self,
        name_or_id: str,
        prompts: Sequence[str],
        *,
        seed: int | None = None,
        captions: bool = True,
        reuse: bool = False,
        claim: Claim | None = None,
        **options: Any,
    ) -> BatchView:
        """Write a batch down; nothing is rendered yet.

        A prompt that cannot be drawn from becomes a failed item at once; the others go on.

        Args:
            name_or_id: a persona whose base image is approved.
            prompts: one picture each.
            seed: the batch's; each item's own is hashed from it and the position.
            captions: whether each picture gets one.
            reuse: return the batch that an equal request made before, where there is one.
            claim: the request's key, which is to name the batch.
            **options: `model`, `width`, `height`, `num_inference_steps`, … for all items.

        Raises:
            NotFound: there is no such persona.
            Conflict: its base image is not approved, or the leave to show it does not hold.
            InvalidRequest: an option is wrong, or there are no prompts or too many.
            ModelError: there is no such model or adapter, or it cannot make that size.
        """
        _check_prompts(prompts)
        self._check_options(options)
        seed = secrets.randbelow(SEED_LIMIT) if seed is None else seed
        async with self._database.write() as session:
            persona = await PersonaRepository(session).find(name_or_id)
            await require_leave(session, persona, persona.approved_version)
            key = _request_key(persona, prompts, seed, options) if reuse else None
            repository = BatchRepository(session)
            batch = await repository.with_key(key) if key else None
            if batch is None:
                self._check_options({**adapter_options(persona), **options})
                batch = BatchModel(
                    persona_id=persona.id,
                    base_version=persona.approved_version,
                    request_key=key,
                    seed=seed,
                    options=options,
                    captions=captions,
                )
                await repository.add(batch, [_item(p, seed, i) for i, p in enumerate(prompts)])
            if claim is not None:
                await claim.settle(session, batch.id)
        return await self.show(batch.id)

    async def show(self, batch_id: str) -> BatchView:
        """Return a batch as it stands.

        Raises:
            NotFound: there is none.
        """
        async with self._database.read() as session:
            repository = BatchRepository(session)
            return BatchView(
                await repository.get(batch_id),
                await repository.items(batch_id),
                await repository.counts(batch_id),
            )

    async def page(self, *, limit: int, offset: int = 0) -> tuple[Sequence[BatchModel], int]:
        """Return a page of batches, newest first, and how many there are."""
        async with self._database.read() as session:
            return await BatchRepository(session).page(limit=limit, offset=offset)

    async def unfinished(self) -> Sequence[str]:
        """Return the ids of batches to go on with, oldest first."""
        async with self._database.read() as session:
            return await BatchRepository(session).unfinished()

    async def retry_failed(self, batch_id: str) -> BatchView:
        """Queue again the items that failed for a reason that may pass, and open the batch.

        Items whose prompt was refused stay failed, since the same prompt is refused again.

        Raises:
            NotFound: there is no such batch.
        """
        async with self._database.write() as session:
            repository = BatchRepository(session)
            batch = await repository.get(batch_id)
            again = [i for i in await repository.items(batch_id) if _may_pass(i)]
            for item in again:
                item.state = ItemState.QUEUED
                item.error = None
                item.finished_at = None
            if again:
                batch.finished_at = None
        return await self.show(batch_id)

    async def run(self, batch_id: str) -> BatchView:
        """Render what is not rendered, caption what has no caption, and close the batch."""
        await self.render(batch_id)
        await self.caption(batch_id)
        return await self.show(batch_id)

    async def render(self, batch_id: str, advance: Advance = lambda: None) -> None:
        """Render every item that is not finished; call `advance` after each.

        Items are placed round the devices in the order of the prompts.
        """
        async with self._database.write() as session:
            repository = BatchRepository(session)
            batch = await repository.get(batch_id)
            await repository.requeue_running(batch_id)
            items = [i for i in await repository.items(batch_id) if i.state == ItemState.QUEUED]
        if not items:
            return
        devices = self._models.devices()
        common = {**await self._look(batch), **batch.options}
        places = asyncio.Semaphore(IN_FLIGHT_PER_DEVICE * len(devices))

        async def one(item: BatchItemModel) -> None:
            async with places:
                home = devices[item.position % len(devices)].device_id
                await self._render_item(batch, item, {**common, "device_id": home})
                advance()

        try:
            async with asyncio.TaskGroup() as group:
                for item in items:
                    group.create_task(one(item))
        except* GatorError as faults:
            raise faults.exceptions[0] from None

    async def caption(self, batch_id: str, advance: Advance = lambda: None) -> None:
        """Write the captions that are missing, in order, and close the batch."""
        view = await self.show(batch_id)
        for item in view.items if view.batch.captions and view.batch.persona_id else ():
            if item.content_id:
                await self._caption_item(view.batch, item)
                advance()
        if view.batch.finished_at is None:
            async with self._database.write() as session:
                (await BatchRepository(session).get(batch_id)).finished_at = now()

    def _check_options(self, options: Mapping[str, Any]) -> ModelCard:
        """Refuse what no item could be made with, before anything is written."""
        return self._models.choose(ImageRequest.from_call("the options alone are checked", options))

    async def _look(self, batch: BatchModel) -> dict[str, Any]:
        """Return what makes a picture this persona's: its words, its name, its approved look."""
        if batch.persona_id is None:
            return {}
        async with self._database.read() as session:
            persona = await PersonaRepository(session).get(batch.persona_id)
            version = await BaseImageRepository(session).find(persona.id, batch.base_version)
        options = {**adapter_options(persona), **batch.options}
        return {
            **look_options(persona, self._kind(options)),
            "look": version.look if version else {},
        }

    def _kind(self, options: Mapping[str, Any]) -> str:
        """Return the kind of model that draws a batch; each item says what is wrong with none."""
        try:
            return self._check_options(options).kind
        except GatorError:
            return ""

    async def _render_item(
        self, batch: BatchModel, item: BatchItemModel, options: Mapping[str, Any]
    ) -> None:
        for remaining in reversed(range(ATTEMPTS)):
            attempt = await self._start_item(item)
            if attempt is None:
                return
            try:
                await self._check_leave(batch)
                result = await self._models.generate_image(
                    item.prompt, **{**options, "seed": item.seed}
                )
                await self._finish_item(batch, item, attempt, result)
            except StorageError:
                raise
            except Exception as exc:  # noqa: BLE001 - the edge of a batch item
                if remaining and isinstance(exc, GatorError) and exc.retryable:
                    continue
                await self._fail_item(item, attempt, exc)
            return

    async def _check_leave(self, batch: BatchModel) -> None:
        async with self._database.read() as session:
            await _require_leave_still(session, batch)

    async def _start_item(self, item: BatchItemModel) -> int | None:
        """Begin an attempt and return its number; `None` where the item is done meanwhile."""
        async with self._database.write() as session:
            row = await BatchRepository(session).lock_item(item.id)
            if row.state == ItemState.DONE:
                return None
            row.state = ItemState.RUNNING
            row.attempts += 1
            row.started_at = now()
            return row.attempts

    async def _fail_item(self, item: BatchItemModel, attempt: int, error: Exception) -> None:
        async with self._database.write() as session:
            row = await BatchRepository(session).lock_item(item.id)
            if row.attempts != attempt:
                return
            row.state = ItemState.FAILED
            row.error = _described(error)
            row.finished_at = now()

    async def _finish_item(
        self, batch: BatchModel, item: BatchItemModel, attempt: int, result: Mapping[str, Any]
    ) -> None:
        """Keep a result; one that comes after a newer attempt began is dropped."""
        sha256 = await self._blobs.put(result["image_data"])
        async with self._database.write() as session:
            await _require_leave_still(session, batch)
            row = await BatchRepository(session).lock_item(item.id)
            if row.attempts != attempt:
                return
            await BlobReferences(session).hold()
            await self._blobs.put(result["image_data"])  # it may have been dropped since
            content = await ContentRepository(session).add(content_of(batch, item, sha256, result))
            row.state = ItemState.DONE
            row.content_id = content.id
            row.error = None
            row.finished_at = now()

    async def _caption_item(self, batch: BatchModel, item: BatchItemModel) -> None:
        async with self._database.read() as session:
            content = await ContentRepository(session).get(str(item.content_id))
            if content.caption is not None:
                return
            persona = await PersonaRepository(session).get(str(batch.persona_id))
            recent = await ContentRepository(session).recent_captions(persona.id, RECENT_CAPTIONS)
        request = GenerationRequest(
            persona_id=persona.id,
            content_type=ContentType.IMAGE,
            prompt=item.prompt,
            seed=item.seed,
        )
        result = await self._captions.generate_caption(persona, request, recent=recent)
        async with self._database.write() as session:
            content = await ContentRepository(session).get(content.id)
            content.caption = result.text
            content.caption_origin = result.origin.value
            content.caption_detail = caption_detail(result)
            content.captioned_at = now()


def _check_prompts(prompts: Sequence[str]) -> None:
    if not 1 <= len(prompts) <= MAX_ITEMS:
        message = f"has {len(prompts)} entries; 1 to {MAX_ITEMS:,} are taken"
        raise InvalidRequest(
            f"prompts: {message}", {"errors": [{"field": "prompts", "message": message}]}
        )


async def _require_leave_still(session: AsyncSession, batch: BatchModel) -> None:
    """Refuse to go on with a batch whose look was taken back since it was begun."""
    if batch.persona_id is not None:
        persona = await PersonaRepository(session).get(batch.persona_id)
        await require_leave(session, persona, batch.base_version)


def _request_key(
    persona: PersonaModel, prompts: Sequence[str], seed: int, options: Mapping[str, Any]
) -> str:
    asked = [persona.id, persona.approved_version, list(prompts), seed, dict(options)]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _item(prompt: str, seed: int, position: int) -> BatchItemModel:
    """Make an item; one whose prompt is refused is born failed, its text made storable."""
    own = item_seed(seed, position)
    try:
        ImageRequest.from_call(prompt, {"seed": own})
    except InvalidRequest as exc:
        return BatchItemModel(
            position=position,
            prompt=_storable(prompt),
            seed=own,
            state=ItemState.FAILED,
            error={"code": exc.code, "message": exc.message},
            finished_at=now(),
        )
    return BatchItemModel(position=position, prompt=prompt, seed=own, state=ItemState.QUEUED)


def _described(error: Exception) -> dict[str, str]:
    code = error.code if isinstance(error, GatorError) else GatorError.code
    return {"code": code, "message": str(error) or type(error).__name__}


def _may_pass(item: BatchItemModel) -> bool:
    return item.state == ItemState.FAILED and (item.error or {}).get("code") != InvalidRequest.code


def _storable(prompt: str) -> str:
    """Replace what no database stores as text, and keep the beginning."""
    text = prompt.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    return text[:PROMPT_LIMIT]
