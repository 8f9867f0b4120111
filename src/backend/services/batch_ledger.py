"""The runner's side of the database: outcomes go in, orders come out, in one transaction.

A picture's row, its item's state, the item's history, the batch's counts and the next claim are
committed together. Many outcomes share a commit, so that its price does not grow with the number
of devices.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from backend.database.engine import Database
from backend.errors import Conflict, GatorError, NotFound
from backend.imaging.types import ImageRequest
from backend.models.batch import BatchModel, BatchState, ItemState
from backend.repositories.base_images import BaseImageRepository
from backend.repositories.batches import BatchRepository
from backend.repositories.blob_references import BlobReferences
from backend.repositories.claims import Claimed, Ended, Try, Waiting
from backend.repositories.personas import PersonaRepository
from backend.repositories.queue import QueueRepository, enter
from backend.services.ai_models import AIModelManager
from backend.services.leave import require_leave
from backend.services.persona_look import adapter_options, look_options
from backend.storage.blobs import BlobStore

LEASE = timedelta(seconds=30)

DROPPED = {"code": "storage", "message": "its bytes were dropped with another persona's"}


@dataclass(frozen=True, slots=True)
class Order:
    """A claimed item with all that is needed to draw it.

    Attributes:
        batch: as it was when the item was claimed.
        look: options that make the picture this persona's.
        kind: of the model that is to draw it; empty where there is none.
    """

    item: Claimed
    batch: BatchModel
    look: Mapping[str, Any]
    kind: str

    @property
    def options(self) -> dict[str, Any]:
        """The options of the image: the look's, then the batch's, then the item's own."""
        return {**self.look, **self.batch.options, **self.item.options}


class Survey(NamedTuple):
    """What a look at the queue found.

    Attributes:
        waiting: batches with items to claim.
        ripe: batches that may have captions to write, or have come to their end.
        held: the items that this process still holds.
    """

    waiting: Sequence[Waiting]
    ripe: Sequence[str]
    held: set[str]


class BatchLedger:
    """Claims, keeps and settles items for one process.

    Args:
        database: where the queue is.
        models: who is asked which model would draw.
        claimant: the process's name.
        lease: for how long an item is held without a sign of life.
        blobs: looked at for the bytes of what ended, since somebody may have dropped them; left
            out where nobody drops any.
    """

    def __init__(
        self,
        database: Database,
        models: AIModelManager,
        claimant: str,
        lease: timedelta = LEASE,
        blobs: BlobStore | None = None,
    ) -> None:
        self._database = database
        self._models = models
        self._claimant = claimant
        self.lease = lease
        self._blobs = blobs

    async def survey(self) -> Survey:
        """Return what can be claimed, and what this process still holds.

        Raises:
            StorageError: the database does not answer.
        """
        async with self._database.read() as session:
            queue = QueueRepository(session)
            return Survey(
                await queue.waiting(), await queue.ripe(), await queue.held_by(self._claimant)
            )

    async def batches(self, batch_ids: Sequence[str]) -> list[BatchModel]:
        """Return batches as they stand, in the order asked for.

        Raises:
            NotFound: one is not there.
            StorageError: the database does not answer.
        """
        async with self._database.read() as session:
            repository = BatchRepository(session)
            return [await repository.get(batch_id) for batch_id in batch_ids]

    async def extend(self) -> None:
        """Lease again what this process holds.

        Raises:
            StorageError: the database does not answer.
        """
        async with self._database.write() as session:
            await QueueRepository(session).extend(self._claimant, self.lease)

    async def claimants(self) -> list[str]:
        """Return everybody else who holds an item.

        Raises:
            StorageError: the database does not answer.
        """
        async with self._database.read() as session:
            found = await QueueRepository(session).claimants()
        return [name for name in found if name != self._claimant]

    async def take_back(self, gone: Sequence[str]) -> list[str]:
        """Queue again what nobody works on any more; return the batches.

        Args:
            gone: processes that have certainly ended; leases of others have to expire.

        Raises:
            StorageError: the database does not answer.
        """
        async with self._database.read() as session:
            batch_ids = await QueueRepository(session).abandoned(gone)
        if batch_ids:
            async with self._database.write() as session:
                queue = QueueRepository(session)
                for batch in (await queue.lock(batch_ids)).values():
                    await queue.take_back(batch, gone)
        return batch_ids

    async def exchange(self, ended: Iterable[Ended], plan: Mapping[str, int]) -> list[Order]:
        """Write outcomes down and claim items.

        Args:
            ended: outcomes of any batches; late ones are dropped.
            plan: how many items of which batch to claim.

        Raises:
            StorageError: the database cannot be written; nothing was.
        """
        by_batch: defaultdict[str, list[Ended]] = defaultdict(list)
        for one in ended:
            by_batch[one.item.batch_id].append(one)
        orders: list[Order] = []
        async with self._database.write() as session:
            queue = QueueRepository(session)
            batches = await queue.lock({*by_batch, *plan})
            for batch_id, group in by_batch.items():
                if batch_id in batches:
                    await self._settle(session, batches[batch_id], group)
            for batch_id, count in plan.items():
                if batch_id in batches:
                    orders += await self._claim(session, batches[batch_id], count)
        return orders

    async def reserve(self, batch_id: str, microusd: int) -> bool:
        """Set the price of a cloud's picture aside; `False` where it would pass the batch's cap.

        A negative price gives back what was set aside.

        Raises:
            StorageError: the database does not answer.
        """
        async with self._database.write() as session:
            return await QueueRepository(session).reserve(batch_id, microusd)

    async def _settle(
        self, session: AsyncSession, batch: BatchModel, ended: Sequence[Ended]
    ) -> None:
        refusal = None
        if any(one.state == ItemState.DONE for one in ended):
            refusal = await _refusal(session, batch)
        if refusal:
            kept = [_refused(one, refusal) for one in ended]
        else:
            await BlobReferences(session).hold()
            kept = [await self._with_its_bytes(one) for one in ended]
        await QueueRepository(session).settle(batch, kept)

    async def _with_its_bytes(self, one: Ended) -> Ended:
        """Return an outcome; as a picture to be made again where its bytes were dropped since.

        Equal bytes are one blob, which goes with the last persona that refers to it.
        """
        if one.content is None or self._blobs is None:
            return one
        if await self._blobs.exists(one.content["sha256"]):
            return one
        last = replace(one.tries[-1], error=DROPPED)
        return Ended(one.item, ItemState.QUEUED, (*one.tries[:-1], last))

    async def _claim(self, session: AsyncSession, batch: BatchModel, count: int) -> list[Order]:
        """Claim items of a batch; those of a persona that may not be shown now fail at once."""
        queue = QueueRepository(session)
        claimed = await queue.claim(batch, count, self._claimant, self.lease)
        if not claimed:
            return []
        if refusal := await _refusal(session, batch):
            failed = [
                Ended(item, ItemState.FAILED, (Try(None, described(refusal)),)) for item in claimed
            ]
            await queue.settle(batch, failed)
            return []
        look, kind = await self._look(session, batch)
        return [Order(item, batch, look, kind) for item in claimed]

    async def _look(self, session: AsyncSession, batch: BatchModel) -> tuple[dict[str, Any], str]:
        """Return what makes a picture this persona's, and the kind of model that is to draw it."""
        if batch.persona_id is None:
            return {}, self._kind(batch.options)
        persona = await PersonaRepository(session).get(batch.persona_id)
        version = await BaseImageRepository(session).find(persona.id, batch.base_version)
        kind = self._kind({**adapter_options(persona), **batch.options})
        return {**look_options(persona, kind), "look": version.look if version else {}}, kind

    def _kind(self, options: Mapping[str, Any]) -> str:
        """Return the kind of model that draws a batch; each item says what is wrong with none."""
        try:
            return self._models.choose(ImageRequest.from_call("only the model", options)).kind
        except GatorError:
            return ""


def close_finished(batch: BatchModel) -> None:
    """End a locked batch whose items have all ended and have their captions."""
    open_items = batch.items_queued + batch.items_running
    captioned = not batch.captions or batch.caption_position >= batch.total
    if batch.state in (BatchState.QUEUED, BatchState.RUNNING) and not open_items and captioned:
        enter(batch, BatchState.DONE)


def described(error: Exception) -> dict[str, Any]:
    """Return an error as an item keeps it."""
    code = error.code if isinstance(error, GatorError) else GatorError.code
    return {"code": code, "message": str(error) or type(error).__name__}


async def _refusal(session: AsyncSession, batch: BatchModel) -> GatorError | None:
    """Return why a batch's persona may not be shown any more, if so."""
    if batch.persona_id is None:
        return None
    try:
        persona = await PersonaRepository(session).get(batch.persona_id)
        await require_leave(session, persona, batch.base_version)
    except (Conflict, NotFound) as exc:
        return exc
    return None


def _refused(ended: Ended, refusal: GatorError) -> Ended:
    """Return a picture's outcome as the failure that it is where it may not be kept."""
    if ended.state != ItemState.DONE:
        return ended
    last = ended.tries[-1]
    told = Try(last.device, described(refusal), last.started_at, last.ended_at)
    return Ended(ended.item, ItemState.FAILED, (*ended.tries[:-1], told))
