"""Batches: many prompts, every one of which ends as a picture or as an error.

A batch is committed before the first pixel, whole or not at all. Who asked for it may cancel, pause
and resume it, and nobody else but an owner. What is written here is done by the `BatchRunner` of
this process, or of another on the same database.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from decimal import ROUND_FLOOR, Decimal
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from backend.database.engine import Database
from backend.errors import Conflict, Forbidden, InvalidRequest, NotFound
from backend.imaging.checks import SEED_LIMIT
from backend.imaging.types import ImageRequest
from backend.models.account import LOCAL_OWNER, Actor, Role
from backend.models.batch import (
    ACTIVE,
    ENDED,
    MICRO,
    BatchItemAttemptModel,
    BatchItemModel,
    BatchModel,
    BatchState,
    ItemState,
)
from backend.models.persona import PersonaModel
from backend.repositories.batches import BatchRepository
from backend.repositories.personas import PersonaRepository
from backend.repositories.queue import QueueRepository, enter
from backend.services.ai_models import AIModelManager
from backend.services.batch_events import follow
from backend.services.batch_intake import (
    MAX_ITEMS,
    Expansion,
    Prompts,
    PromptSpool,
    Size,
    check_expansion,
    most_prompts,
)
from backend.services.batch_signals import BatchSignals
from backend.services.batch_views import BatchEvent, BatchSummaryView, BatchView, summary_of
from backend.services.idempotency import Claim
from backend.services.leave import require_leave
from backend.services.persona_look import adapter_options

__all__ = ["MAX_ITEMS", "BatchEvent", "BatchService", "BatchSummaryView", "BatchView"]

HIGHEST_PRIORITY = 9


class BatchService:
    """Creates batches, tells of them, and changes what is to become of them."""

    def __init__(self, database: Database, models: AIModelManager, signals: BatchSignals) -> None:
        self._database = database
        self._models = models
        self._signals = signals

    async def create(
        self,
        name_or_id: str | None,
        prompts: Prompts,
        *,
        actor: Actor = LOCAL_OWNER,
        seed: int | None = None,
        seeds: Sequence[int] | None = None,
        sizes: Sequence[Size] | None = None,
        captions: bool = True,
        caption_terms: Mapping[str, Any] | None = None,
        priority: int = 0,
        weight: int = 1,
        allow_cloud: bool = False,
        cloud_cap_usd: Decimal | None = None,
        reuse: bool = False,
        claim: Claim | None = None,
        **options: Any,
    ) -> BatchSummaryView:
        """Write a batch down; nothing is rendered yet.

        A prompt that cannot be drawn from becomes a failed item at once; the others go on.

        Args:
            name_or_id: a persona whose base image is approved; `None` for pictures of nobody.
            prompts: one picture each, for every seed and size; read once, as they come.
            actor: who asks.
            seed: the batch's; each item's own is hashed from it and the position.
            seeds: the items' own, for every prompt alike.
            sizes: width and height, for every prompt alike.
            captions: whether each picture of a persona gets one.
            caption_terms: what captions are asked for beside the prompt, such as the platforms.
            priority: 0 to 9; a higher one goes strictly first.
            weight: how often this batch's turn comes, against the actor's other ones.
            allow_cloud: whether a cloud may draw what no device is left for.
            cloud_cap_usd: what this batch's pictures may cost; `None` for no cap of its own.
            reuse: return the batch that an equal request made before, where there is one.
            claim: the request's key, which is to name the batch.
            **options: `model`, `width`, `height`, `num_inference_steps`, … for all items.

        Raises:
            NotFound: there is no such persona.
            Conflict: its base image is not approved, or the leave to show it does not hold.
            InvalidRequest: an option is wrong, or there are no prompts or too many.
            ModelError: there is no such model or adapter, or it cannot make that size.
            StorageError: it cannot be written; nothing was.
        """
        _check_numbers(priority, weight, cloud_cap_usd)
        seed = secrets.randbelow(SEED_LIMIT) if seed is None else seed
        expansion = Expansion(seed, tuple(seeds or ()), tuple(sizes or ()))
        check_expansion(expansion)
        self._check_options(options, expansion.sizes)
        async with self._database.read() as session:
            persona = await _persona(session, name_or_id)
        if persona is not None:
            self._check_options({**adapter_options(persona), **options}, expansion.sizes)
        batch = BatchModel(
            seed=seed,
            options=options,
            captions=captions and name_or_id is not None,
            caption_terms=dict(caption_terms or {}) or None,
            created_by=actor.name,
            priority=priority,
            weight=weight,
            allow_cloud=allow_cloud,
            cloud_cap_microusd=_microusd(cloud_cap_usd),
        )
        with PromptSpool() as spool:
            await spool.take(prompts, most_prompts(expansion))
            batch = await self._write(batch, name_or_id, spool, expansion, reuse=reuse, claim=claim)
        self._signals.ring([batch.id])
        return await self.summary(batch.id)

    async def show(self, batch_id: str) -> BatchView:
        """Return a batch with all its items; fit for a small one.

        Raises:
            NotFound: there is none.
        """
        async with self._database.read() as session:
            repository = BatchRepository(session)
            batch = await repository.get(batch_id)
            return BatchView(batch, await repository.items(batch_id), batch.counts)

    async def summary(self, batch_id: str) -> BatchSummaryView:
        """Return how far a batch is, without its items.

        Raises:
            NotFound: there is none.
        """
        async with self._database.read() as session:
            repository = BatchRepository(session)
            batch = await repository.get(batch_id)
            runs = batch.state == BatchState.RUNNING
            return summary_of(batch, await repository.rate_per_s(batch_id) if runs else None)

    async def items(
        self,
        batch_id: str,
        *,
        limit: int,
        after: int | None = None,
        state: ItemState | None = None,
    ) -> list[BatchItemModel]:
        """Return a page of a batch's items, in the order of the prompts.

        Args:
            batch_id: whose items.
            limit: how many at most.
            after: the position of the last item of the page before.
            state: only items in it.

        Raises:
            NotFound: there is no such batch.
        """
        async with self._database.read() as session:
            repository = BatchRepository(session)
            await repository.get(batch_id)
            found = await repository.items_after(batch_id, limit=limit, after=after, state=state)
            return list(found)

    async def attempts(self, batch_id: str, position: int) -> list[BatchItemAttemptModel]:
        """Return the attempts at one item that have ended, the first one first.

        Raises:
            NotFound: there is no such batch, or no such item in it.
        """
        async with self._database.read() as session:
            repository = BatchRepository(session)
            await repository.get(batch_id)
            return list(await repository.attempts(batch_id, position))

    async def page(self, *, limit: int, offset: int = 0) -> tuple[Sequence[BatchModel], int]:
        """Return a page of batches, newest first, and how many there are."""
        async with self._database.read() as session:
            return await BatchRepository(session).page(limit=limit, offset=offset)

    async def totals(self) -> dict[ItemState, int]:
        """Count the items of all batches by state."""
        async with self._database.read() as session:
            return await BatchRepository(session).totals()

    async def events(self, batch_id: str, after: int = 0) -> AsyncIterator[BatchEvent]:
        """Yield what happened after an event, then what happens, until the batch has ended.

        Of several changes of one item only the latest is told.

        Args:
            batch_id: of which batch.
            after: the number of the last event that is known; 0 for all.

        Raises:
            NotFound: there is no such batch, or it was deleted meanwhile.
        """
        async for event in follow(self._database, self._signals, batch_id, after):
            yield event

    async def cancel(self, batch_id: str, *, actor: Actor) -> BatchSummaryView:
        """End a batch: what is queued is not drawn, what is being drawn is stopped.

        Raises:
            NotFound: there is no such batch.
            Forbidden: it is another user's.
            Conflict: it has ended.
        """
        async with self._database.write() as session:
            batch = await _own(session, batch_id, actor)
            _require_state(batch, "cancel", (*ACTIVE, BatchState.PAUSED.value))
            await QueueRepository(session).cancel_items(batch)
            enter(batch, BatchState.CANCELLED, f"cancelled by {actor.name}")
        return await self._told(batch_id)

    async def cancel_all(self, actor: Actor) -> list[str]:
        """Cancel every batch of one user that has not ended; return their ids."""
        open_states = (*ACTIVE, BatchState.PAUSED.value)
        async with self._database.write() as session:
            ids = await BatchRepository(session).of_actor(actor.name, open_states)
            queue = QueueRepository(session)
            locked = await queue.lock(ids)
            cancelled = [b for b in locked.values() if b.state not in ENDED]
            for batch in cancelled:
                await queue.cancel_items(batch)
                enter(batch, BatchState.CANCELLED, f"cancelled by {actor.name}")
        self._signals.ring(batch.id for batch in cancelled)
        return [batch.id for batch in cancelled]

    async def pause(self, batch_id: str, *, actor: Actor) -> BatchSummaryView:
        """Take no more items of a batch; what is being drawn is finished.

        Raises:
            NotFound: there is no such batch.
            Forbidden: it is another user's.
            Conflict: it is paused already, or has ended.
        """
        async with self._database.write() as session:
            batch = await _own(session, batch_id, actor)
            _require_state(batch, "pause", ACTIVE)
            enter(batch, BatchState.PAUSED, f"paused by {actor.name}")
        return await self._told(batch_id)

    async def resume(self, batch_id: str, *, actor: Actor) -> BatchSummaryView:
        """Go on with a paused batch.

        Raises:
            NotFound: there is no such batch.
            Forbidden: it is another user's.
            Conflict: it is not paused.
        """
        async with self._database.write() as session:
            batch = await _own(session, batch_id, actor)
            _require_state(batch, "resume", (BatchState.PAUSED.value,))
            enter(batch, BatchState.RUNNING if batch.started_at else BatchState.QUEUED)
        return await self._told(batch_id)

    async def retry_failed(self, batch_id: str, *, actor: Actor = LOCAL_OWNER) -> BatchSummaryView:
        """Queue again the items that failed for a reason that may pass, and open the batch.

        Items whose prompt was refused stay failed, since the same prompt is refused again.

        Raises:
            NotFound: there is no such batch.
            Forbidden: it is another user's.
            Conflict: it was cancelled.
        """
        async with self._database.write() as session:
            batch = await _own(session, batch_id, actor)
            again = tuple(s.value for s in BatchState if s != BatchState.CANCELLED)
            _require_state(batch, "retry", again)
            count = await QueueRepository(session).retry_failed(batch, InvalidRequest.code)
            if count and batch.state == BatchState.DONE:
                enter(batch, BatchState.RUNNING)
                batch.finished_at = None
        return await self._told(batch_id)

    async def _write(
        self,
        batch: BatchModel,
        name_or_id: str | None,
        spool: PromptSpool,
        expansion: Expansion,
        *,
        reuse: bool,
        claim: Claim | None,
    ) -> BatchModel:
        """Write a batch and its items in one transaction, or find the one that is there."""
        async with self._database.write() as session:
            repository = BatchRepository(session)
            persona = await _persona(session, name_or_id)
            if persona is not None:
                batch.persona_id, batch.base_version = persona.id, persona.approved_version
            if reuse:
                terms = [batch.caption_terms] if batch.caption_terms else []
                batch.request_key = spool.request_key(
                    (batch.persona_id, batch.base_version),
                    (batch.seed, expansion.seeds, expansion.sizes, batch.options, *terms),
                )
                if there := await repository.with_key(batch.request_key):
                    return there
            batch.items_failed = spool.refused * expansion.count
            batch.items_queued = spool.prompts * expansion.count - batch.items_failed
            batch.event_seq = batch.state_seq = batch.items_failed + 1
            await repository.add(batch)
            for rows in spool.rows(batch.id, expansion):
                await repository.add_items(rows)
            if claim is not None:
                await claim.settle(session, batch.id)
            return batch

    async def _told(self, batch_id: str) -> BatchSummaryView:
        self._signals.ring([batch_id])
        return await self.summary(batch_id)

    def _check_options(self, options: Mapping[str, Any], sizes: Sequence[Size]) -> None:
        """Refuse what no item could be made with, before anything is written."""
        for size in sizes or (None,):
            own = {} if size is None else {"width": size[0], "height": size[1]}
            asked = ImageRequest.from_call("the options alone are checked", {**options, **own})
            self._models.choose(asked)


async def _persona(session: AsyncSession, name_or_id: str | None) -> PersonaModel | None:
    """Return whom a batch shows, if anybody, and may show now."""
    if name_or_id is None:
        return None
    persona = await PersonaRepository(session).find(name_or_id)
    await require_leave(session, persona, persona.approved_version)
    return persona


async def _own(session: AsyncSession, batch_id: str, actor: Actor) -> BatchModel:
    """Return a batch, locked, that an actor may change."""
    batch = (await QueueRepository(session).lock([batch_id])).get(batch_id)
    if batch is None:
        raise NotFound(f"there is no batch {batch_id!r}.", {"batch": batch_id})
    if actor.name != batch.created_by and actor.role < Role.OWNER:
        raise Forbidden(
            f"batch {batch_id!r} is {batch.created_by}'s; only they or an owner may change it.",
            {"created_by": batch.created_by},
        )
    return batch


def _require_state(batch: BatchModel, action: str, states: Sequence[str]) -> None:
    if batch.state not in states:
        raise Conflict(
            f"cannot {action} batch {batch.id!r}: it is {batch.state}; "
            f"that can be done while it is {', '.join(states)}.",
            {"state": batch.state},
        )


def _check_numbers(priority: int, weight: int, cap_usd: Decimal | None) -> None:
    checks: tuple[tuple[str, bool, str], ...] = (
        ("priority", 0 <= priority <= HIGHEST_PRIORITY, f"must be 0 to {HIGHEST_PRIORITY}"),
        ("weight", 1 <= weight <= 100, "must be 1 to 100"),
        ("cloud_cap_usd", cap_usd is None or 0 <= cap_usd <= MICRO, "must be 0 to 1,000,000"),
    )
    faults = [{"field": name, "message": words} for name, fits, words in checks if not fits]
    if faults:
        said = "; ".join(f"{fault['field']}: {fault['message']}" for fault in faults)
        raise InvalidRequest(said, {"errors": faults})


def _microusd(usd: Decimal | None) -> int | None:
    return None if usd is None else int((usd * MICRO).to_integral_value(ROUND_FLOOR))
